"""Dense covariance operators from per-sample Jacobians, one loop a term of the definition: the oracle."""

import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev


def connections_loop(model: nn.Module, views: Tensor, layer: str) -> Tensor:
    """K of every view, (N, A, P, n_L), by a Jacobian for each."""
    name = f"{layer}.weight" if layer else "weight"
    weight = dict(model.named_parameters())[name].detach()
    found = []
    for sample in views:
        for view in sample:

            def output(w: Tensor, view: Tensor = view) -> Tensor:
                return functional_call(model, {name: w}, (view[None],))[0]

            found.append(jacrev(output)(weight).detach().reshape(-1, weight.numel()).T)
    return torch.stack(found).unflatten(0, views.shape[:2])


def plugin_loop(k: Tensor) -> Tensor:
    """1/N sum_i (barK_i - m)(barK_i - m)^T."""
    means = [sum(sample) / len(sample) for sample in k]
    grand = sum(means) / len(means)
    return sum((m - grand) @ (m - grand).T for m in means) / len(means)


def unbiased_loop(k: Tensor) -> Tensor:
    """mean_{i, a != b} K_ia K_ib^T - mean_{i != j; a, b} K_ia K_jb^T."""
    num_samples, num_views = k.shape[:2]
    same, other = [], []
    for i in range(num_samples):
        for j in range(num_samples):
            for a in range(num_views):
                for b in range(num_views):
                    if i == j and a != b:
                        same.append(k[i, a] @ k[i, b].T)
                    if i != j:
                        other.append(k[i, a] @ k[j, b].T)
    return sum(same) / len(same) - sum(other) / len(other)


def weighted_loop(k: Tensor, xi: Tensor) -> Tensor:
    """1/2 mean_ij xi_ij (barK_i - barK_j)(barK_i - barK_j)^T."""
    means = k.mean(1)
    num_samples = len(means)
    total = torch.zeros(k.shape[2], k.shape[2], dtype=k.dtype)
    for i in range(num_samples):
        for j in range(num_samples):
            total += xi[i, j] * (means[i] - means[j]) @ (means[i] - means[j]).T / 2
    return total / num_samples**2


def augmentation_loop(k: Tensor, *, unbiased: bool) -> Tensor:
    """Mean over samples of the covariance over views."""
    num_samples, num_views = k.shape[:2]
    total = torch.zeros(k.shape[2], k.shape[2], dtype=k.dtype)
    for sample in k:
        mean = sample.mean(0)
        for view in sample:
            total += (view - mean) @ (view - mean).T
    return total / (num_samples * (num_views - 1 if unbiased else num_views))
