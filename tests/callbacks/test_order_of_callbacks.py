"""What a look sees does not depend on where in the list its callback stands."""

import itertools

import pytest
import torch
from helpers.every_diagnostic import every_diagnostic
from helpers.toy_ssl import ToySSL, clean_loader, fit, seed_all
from lightning.pytorch import callbacks as of_lightning
from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint

from lightning_ssl_theory.metrics.effective_rank import feature_effective_rank

if not hasattr(of_lightning, "EMAWeightAveraging"):
    pytest.skip("this Lightning has no EMAWeightAveraging", allow_module_level=True)


class Validated(ToySSL):
    """Knows the effective rank of what validation itself saw."""

    def on_validation_epoch_start(self):
        self.seen = []

    def validation_step(self, batch, batch_idx):
        self.seen.append(self.embed(batch[0]))

    def on_validation_epoch_end(self):
        self.rank = float(feature_effective_rank(torch.cat(self.seen)).effective_rank)


def looks(order, folder):
    seed_all()
    module = Validated(lr=0.5)
    diagnostics = every_diagnostic(every_n_epochs=1)
    lightnings = [
        of_lightning.EMAWeightAveraging(decay=0.5),
        EarlyStopping("collapse/output/effective_rank", mode="max", patience=9, check_finite=False),
        LearningRateMonitor(),
        ModelCheckpoint(folder, monitor="collapse/output/effective_rank", save_top_k=1),
    ]
    callbacks = [*diagnostics, *lightnings]
    _, logger = fit(
        module,
        [callbacks[index] for index in order],
        val=clean_loader(40),
        max_epochs=2,
        enable_checkpointing=True,
    )
    rows = {}
    for step, values in logger.rows:
        for key, value in values.items():
            if not key.startswith(("overhead/", "lr-")):
                rows[step, key] = value
    return rows, module.rank


NUM_OURS = len(every_diagnostic())
SIZE, AVERAGING = NUM_OURS + 4, NUM_OURS


def orders():
    forward = list(range(SIZE))
    generator = torch.Generator().manual_seed(0)
    drawn = [torch.randperm(SIZE, generator=generator).tolist() for _ in range(2)]
    return [forward, forward[::-1], [AVERAGING, *(i for i in forward if i != AVERAGING)], *drawn]


def test_every_order_gives_the_same_values(tmp_path):
    found = [looks(order, tmp_path / str(index)) for index, order in enumerate(orders())]
    (first, rank), *others = found
    last = max(step for step, _ in first)
    assert first[last, "collapse/output/effective_rank"] == pytest.approx(rank, rel=1e-5)
    for (other, _), order in zip(others, orders()[1:], strict=True):
        assert other.keys() == first.keys()
        assert other == first, order


def test_averaged_weights_differ_from_those_in_training(tmp_path):
    """The check can fail: without averaging the values are others."""
    averaged, _ = looks(range(SIZE), tmp_path / "a")
    plain, _ = looks([i for i in range(SIZE) if i != AVERAGING], tmp_path / "b")
    differs = {key for key in plain if plain[key] != averaged[key]}
    sections = {key.split("/")[0] for _, key in differs}
    assert sections >= {"collapse", "selectivity", "feature_norms"}


def test_all_orders_of_three(tmp_path):
    """One diagnostic with weights, one with a fit, and the averaging."""
    found = []
    for number, order in enumerate(itertools.permutations([2, 3, 6])):
        found.append(looks(order, tmp_path / str(number))[0])
    assert all(other == found[0] for other in found)
