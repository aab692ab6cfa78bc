"""Data modules whose training batches hold several views of each sample, and the readers of such batches."""

from lightning_ssl_theory.data.batch import read_images, read_labels, read_views

__all__ = ["read_images", "read_labels", "read_views"]
