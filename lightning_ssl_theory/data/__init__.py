"""Data modules whose training batches hold several views of each sample, and the readers of such batches."""

from lightning_ssl_theory.data.affine import random_affine
from lightning_ssl_theory.data.batch import read_images, read_labels, read_latents, read_views
from lightning_ssl_theory.data.digits import DigitsDataModule
from lightning_ssl_theory.data.images import ImageDataModule
from lightning_ssl_theory.data.latent_tree import LatentTreeDataModule
from lightning_ssl_theory.data.latent_tree_sampler import (
    random_polarities,
    root_correlations,
    sample_latents,
    sample_roots,
)
from lightning_ssl_theory.data.multi_view import MultiViewDataset
from lightning_ssl_theory.data.views import clean_image, random_view

__all__ = [
    "DigitsDataModule",
    "ImageDataModule",
    "LatentTreeDataModule",
    "MultiViewDataset",
    "clean_image",
    "random_affine",
    "random_polarities",
    "random_view",
    "read_images",
    "read_labels",
    "read_latents",
    "read_views",
    "root_correlations",
    "sample_latents",
    "sample_roots",
]
