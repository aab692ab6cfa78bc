"""The simple contrastive loss: weights by hand, and no matrix of pairs."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from lightning_ssl_theory.losses import SimpleContrastiveLoss


def test_pair_weight_by_hand() -> None:
    weight = SimpleContrastiveLoss().pair_weight(torch.zeros(3, 3))
    assert weight.tolist() == [[0.0, 1.5, 1.5], [1.5, 0.0, 1.5], [1.5, 1.5, 0.0]]


class LargestTensor(TorchDispatchMode):
    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor):
            self.numel = max(self.numel, out.numel())
        return out


def test_no_tensor_is_larger_than_its_inputs() -> None:
    z = torch.randn(64, 2, requires_grad=True)
    with LargestTensor() as largest:
        SimpleContrastiveLoss()(z, 2 * z).backward()
    assert largest.numel == 2 * z.numel()
