"""Data modules whose training batches hold several views of each sample, and the readers of such batches."""

from lightning_ssl_theory.data.batch import read_images, read_labels, read_views
from lightning_ssl_theory.data.digits import DigitsDataModule

__all__ = ["DigitsDataModule", "read_images", "read_labels", "read_views"]
