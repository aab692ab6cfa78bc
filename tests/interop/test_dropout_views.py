"""SimCSE: a sentence twice, its views apart by dropout alone."""

import pytest
import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from lightning_ssl_theory.callbacks import CovarianceOperators

from .architecture import tokens
from .training import Case, check_training, trained
from .transformers_networks import TEXT, network

pytest.importorskip("transformers", reason="comes with the extra `interop`")


class SimCSE(LightningModule):
    """BERT's pooled output; the batch holds each sentence twice."""

    def __init__(self) -> None:
        super().__init__()
        self.bert = network("BertModel", "BertConfig", TEXT | {"hidden_dropout_prob": 0.3})()

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        return self.bert(**inputs).pooler_output

    def training_step(self, batch, batch_idx):
        first, second = (torch.nn.functional.normalize(self(view), dim=1) for view in batch[0])
        return torch.nn.functional.cross_entropy(first @ second.T / 0.1, torch.arange(len(first)))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def case() -> Case:
    view = tokens(torch.Generator().manual_seed(0))
    return Case(SimCSE, [view, view], lambda module, inputs: module(inputs), validates=False)


def looked(**arguments):
    module = case().untrained()
    return trained(case(), module, [CovarianceOperators(every_n_steps=1, **arguments)])


def ratios(run) -> list[float]:
    return [value for key, value in run.first("covariance").items() if key.endswith("/signal_ratio")]


def test_equal_views_are_named():
    seen = looked()
    assert any("keep_dropout" in sentence for sentence in seen.sentences), seen.sentences
    check_training(case(), seen)


def test_dropout_makes_views_and_disturbs_nothing():
    first, second = looked(keep_dropout=True), looked(keep_dropout=True)
    assert ratios(first)
    assert all(0 < ratio < 0.999 for ratio in ratios(first))
    assert ratios(first) == ratios(second)  # the masks come from the look's own generator
    check_training(case(), first)
