"""LightningModules that compose networks and losses; evaluation is left to the callbacks."""

from lightning_ssl_theory.modules.contrastive import ContrastiveSSL

__all__ = ["ContrastiveSSL"]
