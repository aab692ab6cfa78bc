"""Metrics whose state is sums over samples, or fewer rows than a sum has, so that 1, 2 and 3 ranks agree.

Each is a pure function on tensors and a `torchmetrics.Metric` around it.
"""

from lightning_ssl_theory.metrics.activation_sparsity import (
    ActivationSparsity,
    ActivationSparsityValues,
    activation_sparsity,
)
from lightning_ssl_theory.metrics.alignment import Alignment, alignment
from lightning_ssl_theory.metrics.augmentation_concentration import Concentration, augmentation_concentration
from lightning_ssl_theory.metrics.augmented_distances import (
    NearestViews,
    augmented_distances,
    nearest_views,
)
from lightning_ssl_theory.metrics.conditional_covariance import (
    ConditionalCovariance,
    ConditionalCovarianceValues,
    conditional_covariance,
)
from lightning_ssl_theory.metrics.dimension_alignment import dimension_alignment
from lightning_ssl_theory.metrics.divergence_bounds import DivergenceBounds, PairBounds, divergence_bounds
from lightning_ssl_theory.metrics.effective_rank import (
    EffectiveRank,
    EffectiveRankValues,
    feature_effective_rank,
)
from lightning_ssl_theory.metrics.excess_risk import ExcessRisk, ExcessRiskValues, excess_risk
from lightning_ssl_theory.metrics.feature_norms import (
    DictionaryCoverage,
    FeatureNorms,
    FeatureNormValues,
    dictionary_coverage,
    feature_norms,
)
from lightning_ssl_theory.metrics.generalization_bound import GeneralizationBound, generalization_bound
from lightning_ssl_theory.metrics.latent_selectivity import (
    LatentSelectivity,
    LatentSelectivityValues,
    latent_selectivity,
    lucky_nodes,
)
from lightning_ssl_theory.metrics.linear_cka import linear_cka
from lightning_ssl_theory.metrics.lipschitz import observed_lipschitz, spectral_norm_product
from lightning_ssl_theory.metrics.rank_one import RankOne, RankOneValues, rank_one
from lightning_ssl_theory.metrics.selectivity import Selectivity, SelectivityValues, selectivity
from lightning_ssl_theory.metrics.smallest_bound import SmallestBound, smallest_bound
from lightning_ssl_theory.metrics.sum_metric import SumMetric
from lightning_ssl_theory.metrics.uniformity import Uniformity, uniformity

__all__ = [
    "ActivationSparsity",
    "ActivationSparsityValues",
    "Alignment",
    "Concentration",
    "ConditionalCovariance",
    "ConditionalCovarianceValues",
    "DictionaryCoverage",
    "DivergenceBounds",
    "EffectiveRank",
    "EffectiveRankValues",
    "ExcessRisk",
    "ExcessRiskValues",
    "FeatureNormValues",
    "FeatureNorms",
    "GeneralizationBound",
    "LatentSelectivity",
    "LatentSelectivityValues",
    "NearestViews",
    "PairBounds",
    "RankOne",
    "RankOneValues",
    "Selectivity",
    "SelectivityValues",
    "SmallestBound",
    "SumMetric",
    "Uniformity",
    "activation_sparsity",
    "alignment",
    "augmentation_concentration",
    "augmented_distances",
    "conditional_covariance",
    "dictionary_coverage",
    "dimension_alignment",
    "divergence_bounds",
    "excess_risk",
    "feature_effective_rank",
    "feature_norms",
    "generalization_bound",
    "latent_selectivity",
    "linear_cka",
    "lucky_nodes",
    "nearest_views",
    "observed_lipschitz",
    "rank_one",
    "selectivity",
    "smallest_bound",
    "spectral_norm_product",
    "uniformity",
]
