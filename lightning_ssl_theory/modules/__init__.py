"""LightningModules that compose networks and losses, and a learning rate; evaluation is left to the callbacks."""

from lightning_ssl_theory.modules.contrastive import ContrastiveSSL
from lightning_ssl_theory.modules.cosine_warmup import CosineWarmup
from lightning_ssl_theory.modules.feature_decoupling import FeatureDecouplingSSL
from lightning_ssl_theory.modules.momentum_contrast import MomentumContrastSSL
from lightning_ssl_theory.modules.orthogonal import OrthogonalSSL
from lightning_ssl_theory.modules.predictor import PredictorSSL
from lightning_ssl_theory.modules.pretext import PretextSSL

__all__ = [
    "ContrastiveSSL",
    "CosineWarmup",
    "FeatureDecouplingSSL",
    "MomentumContrastSSL",
    "OrthogonalSSL",
    "PredictorSSL",
    "PretextSSL",
]
