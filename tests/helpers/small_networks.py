"""Small layers and networks of every supported kind, and views of samples to look at them with."""

import pytest
import torch
from torch import Tensor, nn

F64 = torch.float64


def with_statistics(layer: nn.Module) -> nn.Module:
    """Running statistics that differ from 0 and 1, where a layer has them."""
    for name, buffer in layer.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.uniform_(0.5, 2.0)
    return layer


DENSE_LAYERS = [
    pytest.param(lambda: nn.Linear(4, 3), (4,), id="linear"),
    pytest.param(lambda: nn.Linear(4, 3, bias=False), (5, 4), id="linear-tokens"),
    pytest.param(lambda: nn.Linear(2, 3), (3, 2, 2), id="linear-4d"),
    pytest.param(lambda: nn.Linear(9, 8), (2, 9), id="linear-wide"),
    pytest.param(lambda: nn.Conv1d(2, 3, 3), (2, 7), id="conv1d"),
    pytest.param(lambda: nn.Conv1d(4, 6, 3, groups=2, stride=2, dilation=2, padding=3), (4, 9), id="conv1d-all"),
    pytest.param(lambda: nn.Conv1d(2, 3, 4, padding="same", padding_mode="circular"), (2, 6), id="conv1d-same-circular"),
    pytest.param(lambda: nn.Conv2d(2, 3, 3, padding=1, bias=False), (2, 4, 5), id="conv2d"),
    pytest.param(lambda: nn.Conv2d(4, 6, (3, 2), groups=2, stride=(1, 2), dilation=(2, 1)), (4, 6, 5), id="conv2d-all"),
    pytest.param(lambda: nn.Conv2d(4, 4, 3, groups=4, padding=(0, 1)), (4, 4, 4), id="conv2d-depthwise"),
    pytest.param(lambda: nn.Conv2d(2, 3, (2, 4), padding="same"), (2, 4, 5), id="conv2d-same-even"),
    pytest.param(lambda: nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect"), (2, 4, 4), id="conv2d-reflect"),
    pytest.param(lambda: nn.Conv2d(2, 3, 3, padding=(2, 1), padding_mode="replicate"), (2, 4, 4), id="conv2d-replicate"),
    pytest.param(lambda: nn.Conv2d(2, 3, 1, stride=2, padding=1, padding_mode="circular"), (2, 5, 4), id="conv2d-point"),
    pytest.param(lambda: nn.Conv2d(4, 6, 1, groups=2, stride=(2, 1)), (4, 5, 4), id="conv2d-point-groups"),
    pytest.param(lambda: nn.Conv2d(5, 4, 3), (5, 3, 3), id="conv2d-one-position"),
]  # fmt: skip

NORM_LAYERS = [
    pytest.param(lambda: nn.BatchNorm1d(4), (4,), id="batch-norm-1d"),
    pytest.param(lambda: nn.BatchNorm1d(4), (4, 3), id="batch-norm-1d-positions"),
    pytest.param(lambda: nn.BatchNorm2d(3), (3, 2, 4), id="batch-norm-2d"),
    pytest.param(lambda: nn.SyncBatchNorm(3), (3, 2, 2), id="sync-batch-norm"),
    pytest.param(lambda: nn.LayerNorm(5), (5,), id="layer-norm"),
    pytest.param(lambda: nn.LayerNorm(5), (3, 5), id="layer-norm-tokens"),
    pytest.param(lambda: nn.LayerNorm((3, 4)), (2, 3, 4), id="layer-norm-2d"),
    pytest.param(lambda: nn.LayerNorm(4, bias=False), (4,), id="layer-norm-no-bias"),
    pytest.param(lambda: nn.GroupNorm(2, 4), (4, 3, 2), id="group-norm"),
    pytest.param(lambda: nn.GroupNorm(2, 4), (4,), id="group-norm-vectors"),
    pytest.param(lambda: nn.InstanceNorm2d(3, affine=True), (3, 2, 2), id="instance-norm"),
    pytest.param(lambda: nn.InstanceNorm1d(3, affine=True, track_running_stats=True), (3, 4), id="instance-norm-running"),
    pytest.param(lambda: nn.RMSNorm(5), (5,), id="rms-norm"),
    pytest.param(lambda: nn.RMSNorm(4, eps=0.1), (3, 4), id="rms-norm-tokens"),
]  # fmt: skip


def built(build, seed: int = 1) -> nn.Module:
    """A module in float64 from its builder, norm weights and running statistics drawn at random."""
    torch.manual_seed(seed)
    model = build().double()
    for module in model.modules():
        if "Norm" in type(module).__name__ and getattr(module, "weight", None) is not None:
            nn.init.normal_(module.weight)
            if getattr(module, "bias", None) is not None:
                nn.init.normal_(module.bias)
    return with_statistics(model)


def draw_views(
    shape: tuple[int, ...],
    num_samples: int = 5,
    num_views: int = 2,
    strength: float = 0.5,
    seed: int = 2,
    dtype: torch.dtype = F64,
) -> Tensor:
    """Samples with noise as their augmentation, (N, A, *shape)."""
    generator = torch.Generator().manual_seed(seed)
    base = torch.randn(num_samples, 1, *shape, dtype=F64, generator=generator)
    noise = torch.randn(num_samples, num_views, *shape, dtype=F64, generator=generator)
    return (base + strength * noise).to(dtype)


def biased_mlp(num_outputs: int = 3) -> nn.Module:
    """5 -> 7 -> num_outputs with biases."""
    return built(lambda: nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, num_outputs)))


def bias_free_mlp(num_outputs: int = 3) -> nn.Module:
    """5 -> 7 -> num_outputs without biases: K^T w = f."""
    return built(
        lambda: nn.Sequential(
            nn.Linear(5, 7, bias=False), nn.LeakyReLU(0.1), nn.Linear(7, num_outputs, bias=False)
        )
    )


class ResidualNet(nn.Module):
    """A convolution, a block beside a skip connection, pooling and a head; in-place activations."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.inner = nn.Conv2d(4, 4, 3, padding=1, groups=2, bias=False)
        self.inner_norm = nn.GroupNorm(2, 4)
        self.outer = nn.Conv2d(4, 4, 1)
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        """(S, 2, H, W) -> (S, 3)."""
        x = self.norm(self.stem(x)).relu_()
        x = (x + self.outer(self.inner_norm(self.inner(x)).relu_())).relu_()
        return self.head(self.pool(x).mean((2, 3)))


IMAGE_SHAPE = (2, 4, 4)


def residual_net() -> nn.Module:
    """`ResidualNet` in training mode: its BatchNorm takes the statistics of the look."""
    return built(ResidualNet)


def held_copy(model: nn.Module, inputs: Tensor) -> nn.Module:
    """The residual net in evaluation mode, with the statistics of a batch as its running ones."""
    from copy import deepcopy

    held = deepcopy(model).eval()
    hidden = held.stem(inputs).detach()
    held.norm.running_mean.copy_(hidden.mean((0, 2, 3)))
    held.norm.running_var.copy_(hidden.var((0, 2, 3), unbiased=False))
    return held
