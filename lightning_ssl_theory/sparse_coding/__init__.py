r"""The theory of sparse coding worlds, x = M z + xi: dictionaries, growth of norms, and what readouts can know."""

from lightning_ssl_theory.sparse_coding.dictionaries import check_dictionary, random_dictionary
from lightning_ssl_theory.sparse_coding.downstream_bounds import (
    bayes_r2,
    best_soft_threshold,
    linear_r2,
    soft_threshold_r2,
)
from lightning_ssl_theory.sparse_coding.growth_of_norms import (
    GrowthRates,
    dense_start_std,
    growth_rates,
    largest_dense_growth,
    minibatch_floor,
    stage_one_norms,
)
from lightning_ssl_theory.sparse_coding.law import check_law, theorem_law

__all__ = [
    "GrowthRates",
    "bayes_r2",
    "best_soft_threshold",
    "check_dictionary",
    "check_law",
    "dense_start_std",
    "growth_rates",
    "largest_dense_growth",
    "linear_r2",
    "minibatch_floor",
    "random_dictionary",
    "soft_threshold_r2",
    "stage_one_norms",
    "theorem_law",
]
