"""Scalars and spectra of one, two and three processes with uneven data equal those of the whole batch."""

import pytest
import torch
from helpers.ddp import run_ranks
from helpers.small_networks import IMAGE_SHAPE, draw_views, residual_net
from torch import nn
from torch.testing import assert_close

from lightning_ssl_theory.distributed import all_gather_rows, all_sum, identity
from lightning_ssl_theory.losses import InfoNCELoss, SimpleContrastiveLoss, SoftTripletLoss
from lightning_ssl_theory.operators import covariance_scalars, covariance_spectra

NUM_SAMPLES = 8
LOSSES = {"nce": InfoNCELoss(), "triplet": SoftTripletLoss(beta=0.4), "simple": SimpleContrastiveLoss()}
SHARES = {1: [8], 2: [5, 3], 3: [4, 1, 3]}


def look(views, total=all_sum, rows=all_gather_rows):
    """Everything, as tensors by their names; BatchNorm takes the statistics of all ranks."""
    found = {}
    model = residual_net()
    for estimator in ("plugin", "unbiased"):
        for key, loss in LOSSES.items():
            scalars = covariance_scalars(
                model,
                views,
                ["stem", "norm", "inner", "head"],
                loss=loss,
                estimator=estimator,
                num_sketches=8,
                memory_budget=80_000,
                generator=torch.Generator().manual_seed(3),
                all_sum=total,
            )
            found |= {("scalars", estimator, key, n): torch.stack(values) for n, values in scalars.items()}
    for method in ("gram", "lanczos"):
        spectra = covariance_spectra(
            model,
            views,
            ["stem", "norm", "head"],
            num_eigenvalues=3,  # at the last layer each eigenvalue comes once for each of the 3 outputs
            method=method,
            all_sum=total,
            all_gather_rows=rows,
        )
        for name, spectrum in spectra.items():
            found["values", method, name] = spectrum.eigenvalues
            found["cosine", method, name] = spectrum.weight_cosine
            if name != "head":
                found["leading", method, name] = spectrum.eigenvectors[0]
    return found


def on_rank(rank, world_size):
    first = sum(SHARES[world_size][:rank])
    views = draw_views(IMAGE_SHAPE, num_samples=NUM_SAMPLES)
    own = views[first : first + SHARES[world_size][rank]]
    alone = None
    if len(own) > 2 and world_size > 1:
        scalars = covariance_scalars(
            residual_net(), own, ["stem"], generator=torch.Generator().manual_seed(3), all_sum=identity
        )
        alone = scalars["stem"].trace
    try:
        look(own[:, :1])
        sentence = None
    except ValueError as error:
        sentence = str(error)
    return look(own), alone, sentence


@pytest.fixture(scope="module")
def whole():
    return look(draw_views(IMAGE_SHAPE, num_samples=NUM_SAMPLES), identity, identity)


@pytest.mark.ddp
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_ranks_equal_the_whole(world_size, whole):
    results = run_ranks(on_rank, world_size)
    for found, alone, sentence in results:
        assert sentence.startswith(
            f"Expected at least 2 views of at least 2 samples, got 1 views of {NUM_SAMPLES}"
        )
        assert found.keys() == whole.keys()
        for key, expected in whole.items():
            assert_close(found[key], expected, rtol=1e-5, atol=1e-9, msg=lambda m, key=key: f"{key}: {m}")
            assert torch.equal(found[key], results[0][0][key]), key  # the same numbers on every rank
        for name in ("stem", "norm", "inner", "head"):
            assert found["scalars", "plugin", "simple", name][8] < 1e-10  # the residual
        if alone is not None:
            assert abs(alone / whole["scalars", "plugin", "nce", "stem"][0] - 1) > 0.01


def test_the_layers_are_of_both_kinds():
    """Fewer weights than rows and more: sums of products, and rows, cross the ranks."""
    model = residual_net()
    sizes = {name: model.get_submodule(name).weight.numel() for name in ("stem", "head")}
    assert sizes["head"] < NUM_SAMPLES * 3 < sizes["stem"]
    assert isinstance(model.norm, nn.BatchNorm2d)
