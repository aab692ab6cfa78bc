"""Data modules whose training batches hold several views of each sample, and the readers of such batches."""

from lightning_ssl_theory.data.affine import random_affine
from lightning_ssl_theory.data.batch import read_images, read_labels, read_latents, read_views
from lightning_ssl_theory.data.batch_views import random_views
from lightning_ssl_theory.data.digits import DigitsDataModule
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
    "HalfMoonsDataModule",
    "ImageDataModule",
    "LatentTreeDataModule",
    "MultiViewDataset",
    "SparseCodingDataModule",
    "SparseCodingSamples",
    "bayes_r2",
    "best_soft_threshold",
    "clean_image",
    "linear_r2",
    "random_affine",
    "random_mask",
    "random_polarities",
    "random_task",
    "random_view",
    "random_views",
    "read_images",
    "read_labels",
    "read_latents",
    "read_views",
    "root_correlations",
    "sample_latents",
    "sample_roots",
    "soft_threshold_r2",
    "sparse_coding_samples",
    "task_labels",
    "theorem_law",
]
