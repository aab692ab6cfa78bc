"""Networks that do not run on a batch as a whole: a layer is reached by itself."""

import pytest
from helpers.one_look import assert_unchanged, everything
from helpers.small_networks import built, draw_views
from torch import nn
from torch.testing import assert_close

from lightning_ssl_theory.operators import covariance_scalars
from lightning_ssl_theory.tracing import layer_features

VIEWS = draw_views((5,), num_samples=4)


class WithoutForward(nn.Module):
    """A LightningModule whose submodules are called from its training step only."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(5, 4), nn.Tanh())
        self.head = nn.Linear(4, 3)


class TwoArguments(WithoutForward):
    def forward(self, first, second):
        return self.head(self.backbone(first)), self.head(self.backbone(second))


class BatchAndStage(WithoutForward):
    def forward(self, batch, stage):
        return {"loss": self.head(self.backbone(batch)).sum(), "stage": stage}


class Crossing(WithoutForward):
    """Runs on a batch of another form only."""

    def forward(self, batch):
        first, second = batch
        return self.head(self.backbone(first[None])), second


@pytest.mark.parametrize("build", [WithoutForward, TwoArguments, BatchAndStage, Crossing])
def test_a_layer_of_a_network_that_cannot_run_is_reached_by_itself(build):
    model, x = built(build), VIEWS.flatten(0, 1)
    before = everything(model)
    found = layer_features(model, x, ["backbone", "backbone.0"])
    assert_unchanged(before, everything(model))
    assert_close(found["backbone"], model.backbone(x).detach())
    assert_close(found["backbone.0"], model.backbone[0](x).detach())
    with pytest.raises(ValueError, match=r"takes the batch, \w+ was raised: .*; pass `output=` that calls"):
        layer_features(model, x, ["head"])
    scalars = covariance_scalars(model, VIEWS, "backbone.0", output=model.backbone, num_probes=None)
    expected = covariance_scalars(model.backbone, VIEWS, "0", num_probes=None)
    assert_close(scalars["backbone.0"].trace, expected["0"].trace)
