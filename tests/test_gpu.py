"""What runs on a GPU gives the numbers of the CPU, in float64, and leaves training there alone."""

import pytest
import torch
from helpers.every_diagnostic import SECTIONS, every_diagnostic
from helpers.toy_ssl import NUM_CLASSES, ToySSL, clean_loader, fit, seed_all, toy_images, view_loader
from torch.testing import assert_close

from lightning_ssl_theory import losses, metrics
from lightning_ssl_theory.operators import covariance_scalars, covariance_spectra

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
DEVICE, ACCELERATOR = "cuda", "gpu"
NUM_FEATURES = 6
RTOL = 1e-8  # sums in another order


def assert_same(found, expected):
    assert_close(found, expected, rtol=RTOL, atol=1e-10, check_device=False)


def pair(num_samples=24) -> list[torch.Tensor]:
    """Two views of features, the second near the first."""
    first = torch.randn(num_samples, NUM_FEATURES, dtype=torch.float64)
    return [first, first + 0.3 * torch.randn_like(first)]


def scalars_and_spectra(device):
    images = toy_images(12)[0].double()
    views = torch.stack([images, images.flip(-1)], dim=1).to(device)
    model = ToySSL().double().to(device)
    scalars = covariance_scalars(
        model,
        views,
        output=model.embed,
        loss=losses.SimpleContrastiveLoss(),
        generator=torch.Generator().manual_seed(0),
    )
    spectra = covariance_spectra(model, views, ["projector.out"], output=model.embed, num_eigenvalues=2)
    return scalars, {name: spectrum.eigenvalues for name, spectrum in spectra.items()}


def test_scalars_and_eigenvalues_of_every_layer():
    assert_same(scalars_and_spectra(DEVICE), scalars_and_spectra("cpu"))


@pytest.mark.parametrize("name", sorted(set(losses.__all__) - {"PairwiseLoss"}))
def test_losses_and_their_gradients(name):
    views = pair()
    found = {}
    for device in ("cpu", DEVICE):
        z1, z2 = (view.to(device).requires_grad_() for view in views)
        value = getattr(losses, name)().to(device)(z1, z2)
        found[device] = (value, *torch.autograd.grad(value, (z1, z2), allow_unused=True))
    assert_same(found[DEVICE], found["cpu"])


@pytest.mark.parametrize(
    ("make", "num_views", "has_labels"),
    [
        (lambda: metrics.Selectivity(NUM_FEATURES, NUM_CLASSES), 1, True),
        (lambda: metrics.FeatureNorms(torch.eye(NUM_FEATURES)), 1, False),
        (lambda: metrics.ActivationSparsity(NUM_FEATURES), 1, False),
        (lambda: metrics.EffectiveRank(NUM_FEATURES), 1, False),
        (lambda: metrics.Uniformity(), 1, False),
        (lambda: metrics.Alignment(), 2, False),
    ],
    ids=["selectivity", "feature norms", "sparsity", "effective rank", "uniformity", "alignment"],
)
def test_metrics_of_tensors_on_the_gpu(make, num_views, has_labels):
    labels = [torch.arange(24) % NUM_CLASSES] * has_labels
    arguments = [*pair()[:num_views], *labels]
    found = {}
    for device in ("cpu", DEVICE):
        metric = make().to(device)
        for rows in (slice(0, 10), slice(10, 24)):
            metric.update(*(argument[rows].to(device) for argument in arguments))
        found[device] = metric.compute()
    assert_same(found[DEVICE], found["cpu"])


def trained(accelerator, *, is_watched):
    """The state after eight steps, and what each section logged at its first look."""
    seed_all()
    module = ToySSL()
    _, logger = fit(
        module,
        every_diagnostic(every_n_steps=4) if is_watched else [],
        train=view_loader(),
        val=clean_loader(),
        max_steps=8,
        max_epochs=-1,
        precision="64-true",
        accelerator=accelerator,
    )
    looks = {section: logger.looks(f"{section}/") for section in SECTIONS}
    state = {name: value.cpu() for name, value in module.state_dict().items()}
    return state, {section: rows[0] for section, rows in looks.items() if rows}


@pytest.mark.filterwarnings("ignore")
def test_diagnostics_watch_a_training_on_the_gpu(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    plain, _ = trained(ACCELERATOR, is_watched=False)
    watched, looks = trained(ACCELERATOR, is_watched=True)
    for name, value in plain.items():
        assert torch.equal(value, watched[name]), name
    _, expected = trained("cpu", is_watched=True)
    assert looks.keys() == expected.keys() == set(SECTIONS)
    for section, (step, values) in looks.items():
        # at the first step: dropout then draws other masks on a GPU than on a CPU
        assert (step, values.keys()) == (0, expected[section][1].keys())
        assert_close(values, expected[section][1], rtol=1e-6, atol=1e-8)
