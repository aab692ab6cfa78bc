"""Data modules whose training batches hold several views of each sample, and the readers of such batches."""

from lightning_ssl_theory.data.affine import random_affine
from lightning_ssl_theory.data.batch import read_images, read_labels, read_views
from lightning_ssl_theory.data.digits import DigitsDataModule
from lightning_ssl_theory.data.images import ImageDataModule
from lightning_ssl_theory.data.multi_view import MultiViewDataset
from lightning_ssl_theory.data.views import clean_image, random_view

__all__ = [
    "DigitsDataModule",
    "ImageDataModule",
    "MultiViewDataset",
    "clean_image",
    "random_affine",
    "random_view",
    "read_images",
    "read_labels",
    "read_views",
]
