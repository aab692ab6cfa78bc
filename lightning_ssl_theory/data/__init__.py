"""Data modules whose training batches hold several views of each sample, and the readers of such batches."""

from lightning_ssl_theory.data.affine import random_affine
from lightning_ssl_theory.data.batch import read_images, read_labels, read_latents, read_views
from lightning_ssl_theory.data.batch_views import random_views
from lightning_ssl_theory.data.digits import DigitsDataModule
from lightning_ssl_theory.data.four_rotations import four_rotations
from lightning_ssl_theory.data.gaussian_pretext import GaussianPretextDataModule, PretextSamples
from lightning_ssl_theory.data.half_moons import HalfMoonsDataModule
from lightning_ssl_theory.data.images import ImageDataModule
from lightning_ssl_theory.data.latent_tree import LatentTreeDataModule
from lightning_ssl_theory.data.latent_tree_sampler import (
    random_polarities,
    root_correlations,
    sample_latents,
    sample_roots,
)
from lightning_ssl_theory.data.multi_view import MultiViewDataset
from lightning_ssl_theory.data.pretext_moments import (
    PretextMoments,
    boosted_minimiser,
    conditional_moment,
    excess_risk_gap,
    feasibility_gap,
    largest_boost_weight,
    pretext_moments,
    processed_error,
)
from lightning_ssl_theory.data.pretext_targets import read_downstream, read_pretext
from lightning_ssl_theory.data.pretext_worlds import gaussian_pretext_moments
from lightning_ssl_theory.data.random_mask import random_mask
from lightning_ssl_theory.data.sparse_coding import SparseCodingDataModule
from lightning_ssl_theory.data.sparse_coding_samples import (
    SparseCodingSamples,
    random_task,
    sparse_coding_samples,
    task_labels,
)
from lightning_ssl_theory.data.views import clean_image, random_view
from lightning_ssl_theory.sparse_coding import (
    bayes_r2,
    best_soft_threshold,
    linear_r2,
    soft_threshold_r2,
    theorem_law,
)

__all__ = [
    "DigitsDataModule",
    "GaussianPretextDataModule",
    "HalfMoonsDataModule",
    "ImageDataModule",
    "LatentTreeDataModule",
    "MultiViewDataset",
    "PretextMoments",
    "PretextSamples",
    "SparseCodingDataModule",
    "SparseCodingSamples",
    "bayes_r2",
    "best_soft_threshold",
    "boosted_minimiser",
    "clean_image",
    "conditional_moment",
    "excess_risk_gap",
    "feasibility_gap",
    "four_rotations",
    "gaussian_pretext_moments",
    "largest_boost_weight",
    "linear_r2",
    "pretext_moments",
    "processed_error",
    "random_affine",
    "random_mask",
    "random_polarities",
    "random_task",
    "random_view",
    "random_views",
    "read_downstream",
    "read_images",
    "read_labels",
    "read_latents",
    "read_pretext",
    "read_views",
    "root_correlations",
    "sample_latents",
    "sample_roots",
    "soft_threshold_r2",
    "sparse_coding_samples",
    "task_labels",
    "theorem_law",
]
