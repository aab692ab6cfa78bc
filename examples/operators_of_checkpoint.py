"""What drives each layer of a network loaded from a file: covariance operators without Trainer or callback."""

# %%
import argparse
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torchvision.transforms import v2

from lightning_ssl_theory.losses import InfoNCELoss
from lightning_ssl_theory.networks import SmallConvNet
from lightning_ssl_theory.operators import covariance_operators, covariance_scalars, covariance_spectra


# %%
def network() -> nn.Module:
    """Your architecture; here a small convolutional network with 16 outputs."""
    return nn.Sequential(SmallConvNet(1, [16, 32]), nn.Linear(32, 16, bias=False))


def two_views(num_samples: int) -> Tensor:
    """Two augmentations of handwritten digits, (N, 2, 1, 8, 8)."""
    images = torch.tensor(load_digits().images[:num_samples], dtype=torch.float32)[:, None] / 16
    augment = v2.RandomAffine(degrees=15, translate=(0.1, 0.1))
    return torch.stack([torch.stack([augment(image), augment(image)]) for image in images])


# %%
def main(checkpoint: Path | None = None, *, num_samples: int = 256) -> dict[str, float]:
    """Print a table of all layers, and return each layer's residual."""
    torch.manual_seed(0)
    model = network()
    if checkpoint is not None:
        model.load_state_dict(torch.load(checkpoint, weights_only=True))
    views = two_views(num_samples)

    scalars = covariance_scalars(model, views, num_probes=16, loss=InfoNCELoss(temperature=0.5))
    print(f"{'layer':12} {'trace':>16} {'signal':>8} {'growth':>8} {'residual':>9} {'cosine':>7}")
    for name, s in scalars.items():
        trace = f"{s.trace:.3g} ± {s.trace_error95:.2g}"
        print(
            f"{name:12} {trace:>16} {s.signal_ratio:8.1%} {s.growth_rate:8.3g} {s.residual:9.4f} {s.cosine:7.4f}"
        )

    first = next(iter(scalars))
    spectrum = covariance_spectra(model, views, first, num_eigenvalues=4)[first]
    print(f"\n{first}: leading eigenvalues", *(f"{value:.2g}" for value in spectrum.eigenvalues))
    print(f"the weight's cosine with their eigenvectors: {spectrum.weight_cosine:.3f}")

    operator = covariance_operators(model, views[:64], ["1"])["1"]  # a symmetric linear map, never formed
    weight = model[1].weight.detach().reshape(-1)
    print(f"1: ||OP w|| / ||w|| = {(operator @ weight).norm() / weight.norm():.2g}, shape {operator.shape}")
    return {name: float(s.residual) for name, s in scalars.items()}


# %%
if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", nargs="?", type=Path, help="state_dict of network(); untrained without")
    residuals = main(parser.parse_args().checkpoint)
    assert all(residual < 1 for residual in residuals.values())
