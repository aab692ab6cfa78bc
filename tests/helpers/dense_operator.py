"""Dense covariance operators from per-sample Jacobians, one loop a term of the definition: the oracle."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

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


def jacobians_loop(
    model: nn.Module,
    views: Any,
    weight: str,
    call: Callable[[nn.Module, Any], Tensor] = lambda model, row: model(row),
    part: slice = slice(None),
) -> Tensor:
    """K of every view, (N, A, P, n_L): a fresh copy of the network, one row and one backward pass an output for each.

    The copies keep what a forward writes from the next view; `backward`, unlike `jacrev`, passes through any forward.
    """
    parts = views if isinstance(views, dict) else {"": views}
    num_samples, num_views = next(iter(parts.values())).shape[:2]
    found = []
    for i in range(num_samples):
        for a in range(num_views):
            twin = deepcopy(model)
            leaf = twin.get_parameter(weight).requires_grad_()
            row = {key: value[i, a][None].clone() for key, value in parts.items()}
            output = call(twin, row if isinstance(views, dict) else row[""])[0]
            columns = []
            for entry in output:
                twin.zero_grad()
                entry.backward(retain_graph=True)
                gradient = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
                columns.append(gradient[part].reshape(-1).clone())
            found.append(torch.stack(columns, 1).detach())
    return torch.stack(found).unflatten(0, (num_samples, num_views))


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
