"""Losses over large views and small crops: which pairs each system takes, and where its gradient goes."""

from functools import partial
from itertools import product

import pytest
import torch
from torch import nn

from lightning_ssl_theory import ContrastiveSSL, MomentumContrastSSL, OrthogonalSSL, PredictorSSL
from lightning_ssl_theory.losses import (
    CrossCorrelationLoss,
    InfoNCELoss,
    SpectralContrastiveLoss,
    SupervisedContrastiveLoss,
    VICRegLoss,
    WMSELoss,
)
from lightning_ssl_theory.networks import SmallConvNet

pytestmark = pytest.mark.filterwarnings("ignore:You are trying to", "ignore:Expected an optimiser after")
LARGE, SMALL = 8, 5
LOSSES = [
    InfoNCELoss,
    CrossCorrelationLoss,
    VICRegLoss,
    SpectralContrastiveLoss,
    SupervisedContrastiveLoss,
    partial(WMSELoss, whitening_size=6),
]
LABELS = torch.tensor([0, 1, 0, 1, 2, 2])


def draw(*sizes) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(6, 3, size, size, generator=generator, dtype=torch.float64).requires_grad_()
        for size in sizes
    ]


def system(kind, *parts, **options):
    torch.manual_seed(0)
    return kind(SmallConvNet(3, [4, 6]), nn.Linear(6, 4), *parts, **options).double()


def value(loss, *pair) -> torch.Tensor:
    return loss(*pair, LABELS) if getattr(loss, "takes_labels", False) else loss(*pair)


def assert_gradients(module, loss, expected) -> None:
    """To 1e-12, both of the loss and of its gradients."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    found, wanted = ([one, *torch.autograd.grad(one, trained, allow_unused=True)] for one in (loss, expected))
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "sizes", [(LARGE, LARGE, SMALL, SMALL, SMALL), (SMALL, LARGE, SMALL), (LARGE, SMALL)]
)
@pytest.mark.parametrize("make", LOSSES, ids=lambda make: getattr(make, "func", make).__name__)
def test_contrast_takes_pairs_with_a_large_view(make, sizes):
    module, views = system(ContrastiveSSL, make()), draw(*sizes)
    loss = module.training_step((views, LABELS), 0)
    found = [
        value(module.loss, module.embed(views[a]), module.embed(views[b]))
        for a, b in product(range(len(sizes)), repeat=2)
        if a < b and (sizes[a] == LARGE or sizes[b] == LARGE)
    ]
    assert_gradients(module, loss, sum(found) / len(found))
    for gradient in torch.autograd.grad(module.training_step((views, LABELS), 0), views):
        assert gradient.abs().max() > 0


def test_views_of_one_size_are_compared_in_all_pairs_as_ever():
    views = [view.detach() for view in draw(LARGE, LARGE, LARGE)]
    module = system(ContrastiveSSL, CrossCorrelationLoss())
    z = [module.embed(view) for view in views]
    parts = [module.loss.parts(z[a], z[b]) for a, b in ((0, 1), (0, 2), (1, 2))]
    expected = sum(torch.stack([part[name] for part in parts]).mean() for name in parts[0])
    assert module.training_step((views, LABELS), 0) == expected
    two = system(ContrastiveSSL, InfoNCELoss())
    assert two.training_step((views[:2], LABELS), 0) == sum(
        two.loss.parts(*map(two.embed, views[:2])).values()
    )


@pytest.mark.parametrize("ema", [None, 0.9])
@pytest.mark.parametrize("sizes", [(LARGE, LARGE, SMALL, SMALL), (LARGE, SMALL)])
def test_predictions_of_all_views_meet_large_targets(sizes, ema):
    module, views = system(PredictorSSL, nn.Linear(4, 4), ema=ema), draw(*sizes)
    loss = module.training_step((views, LABELS), 0)
    found = [
        module.loss(module.embed(views[a]), module.target(views[b]).detach())
        for a, b in product(range(len(sizes)), repeat=2)
        if a != b and sizes[b] == LARGE
    ]
    assert_gradients(module, loss, sum(found) / len(found))
    gradients = torch.autograd.grad(module.training_step((views, LABELS), 0), views, allow_unused=True)
    reached = [gradient is not None and bool(gradient.abs().max() > 0) for gradient in gradients]
    assert reached == [
        sizes.count(LARGE) > 1 or size == SMALL for size in sizes
    ]  # one large view: a target only


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("sizes", [(LARGE, LARGE, SMALL, SMALL), (LARGE, SMALL)])
def test_queries_of_all_views_meet_large_keys(sizes, symmetric):
    module, views = system(MomentumContrastSSL, queue_size=12, symmetric=symmetric), draw(*sizes)
    last = max(index for index, size in enumerate(sizes) if size == LARGE)
    queue = torch.randn(12, 4, dtype=torch.float64)
    module.queue.push(queue)
    old = module.queue.keys.clone()
    loss = module.training_step((views, LABELS), 0)
    found = [
        module.loss(module.embed(views[a]), module.target(views[b]), old)
        for a, b in product(range(len(sizes)), repeat=2)
        if a != b and (sizes[b] == LARGE if symmetric else b == last)
    ]
    assert_gradients(module, loss, sum(found) / len(found))
    module.queue.push(queue)
    gradients = torch.autograd.grad(module.training_step((views, LABELS), 0), views, allow_unused=True)
    reached = [gradient is not None and bool(gradient.abs().max() > 0) for gradient in gradients]
    both = symmetric and sizes.count(LARGE) > 1
    assert reached == [both or index != last for index in range(len(sizes))]


class OnlySmall(nn.Module):
    """Refuses large views."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3 * SMALL**2, 2).double()

    def forward(self, images):
        return self.linear(images.flatten(1))


def test_networks_that_refuse_a_size_say_which():
    views = [view.detach() for view in draw(LARGE, LARGE, SMALL)]
    refused = r"Expected a network that takes views of the sizes .*, found one that refuses \(3, {0}, {0}\)"
    keys = MomentumContrastSSL(OnlySmall(), nn.Identity(), queue_size=12)
    with pytest.raises(ValueError, match=refused.format(LARGE)):
        keys.training_step((views, LABELS), 0)
    flat = OrthogonalSSL(3 * LARGE**2, 3 * LARGE**2, 2).double()
    with pytest.raises(
        ValueError, match=refused.format(SMALL) + ": InputError: Expected `inputs` .* one size"
    ):
        flat.training_step((views, LABELS), 0)
