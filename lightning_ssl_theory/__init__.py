"""PyTorch Lightning plug-ins that make the theory of self-supervised learning live and checkable."""

from typing import TYPE_CHECKING, Any

from lightning_ssl_theory import _checkout as _checkout

if TYPE_CHECKING:
    from lightning_ssl_theory.modules import (
        ContrastiveSSL,
        FeatureDecouplingSSL,
        MomentumContrastSSL,
        OrthogonalSSL,
        PredictorSSL,
        PretextSSL,
    )

__version__ = "0.1.0"

__all__ = [
    "ContrastiveSSL",
    "FeatureDecouplingSSL",
    "MomentumContrastSSL",
    "OrthogonalSSL",
    "PredictorSSL",
    "PretextSSL",
]


def __getattr__(name: str) -> Any:
    """Import the LightningModules on first use, so that `import lightning_ssl_theory` stays light."""
    if name in __all__:
        from lightning_ssl_theory import modules

        return getattr(modules, name)
    raise AttributeError(f"module 'lightning_ssl_theory' has no attribute {name!r}")
