"""When a diagnostic looks, and where its values arrive."""

import csv

import pytest
import torch
from helpers.ddp import run_ranks
from helpers.every_diagnostic import SECTIONS, every_diagnostic
from helpers.toy_ssl import QUIET, ToySSL, clean_loader, fit, toy_images, view_loader
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader, TensorDataset

from lightning_ssl_theory.callbacks import CollapseMonitor, CovarianceOperators, Diagnostic, NeuronSelectivity
from lightning_ssl_theory.data.batch import read_images

STEPS_AN_EPOCH = 5


class Sums(Diagnostic):
    """A diagnostic with known answers: how many images it saw, and their sum."""

    section = "sums"

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seen, self.total = 0, 0.0

    def open(self, pl_module):
        self.seen, self.total = 0, 0.0

    def observe(self, pl_module, batch, rows):
        self.seen += len(rows)
        self.total += float(read_images(batch)[rows].sum())

    def measure(self, trainer, pl_module):
        return {"images/seen": self.seen, "images/total": self.total}


class TrainingSums(Sums):
    looks_at_training = True


def seen_at(callback, *, val="clean", **arguments):
    """Steps of the looks and how many images each saw."""
    loader = clean_loader() if val == "clean" else val
    _, logger = fit(ToySSL(), [callback], val=loader, **({"max_epochs": 4} | arguments))
    return [(step, values["sums/images/seen"]) for step, values in logger.looks("sums/")]


def test_every_n_steps_sees_the_training_batch():
    assert seen_at(TrainingSums(every_n_steps=7)) == [(0, 8), (7, 8), (14, 8)]


def test_every_epoch_sees_all_of_validation():
    assert seen_at(Sums()) == [(5, 13), (10, 13), (15, 13), (20, 13)]
    assert seen_at(Sums(every_n_epochs=2, num_samples=6)) == [(10, 6), (20, 6)]


def test_without_validation_an_epoch_ends_with_its_last_batch():
    assert seen_at(TrainingSums(every_n_epochs=2), val=None) == [(0, 8), (10, 8), (20, 8)]


def test_looks_at_training_gather_the_latest_batches():
    assert seen_at(Sums(every_n_steps=7)) == [(0, 8), (7, 56), (14, 112)]  # all until there are 256
    assert seen_at(Sums(every_n_steps=7, num_samples=20)) == [(0, 8), (7, 20), (14, 20)]
    assert seen_at(Sums(every_n_steps=1, num_samples=20), max_epochs=1)[1:] == [
        (1, 8),
        (2, 16),
        (3, 20),
        (4, 20),
        (5, 20),
    ]
    assert seen_at(Sums(every_n_epochs=2, num_samples=30), val=None) == [(10, 30), (20, 30)]
    assert seen_at(Sums(num_samples=6), val=None) == [(5, 6), (10, 6), (15, 6), (20, 6)]


def test_training_diagnostics_start_untrained_whatever_the_cadence():
    assert seen_at(TrainingSums(every_n_epochs=2)) == [(0, 8), (10, 8), (20, 8)]
    assert seen_at(TrainingSums(every_n_epochs=2), max_epochs=1) == [(0, 8)]


def test_rare_validation_is_waited_for():
    assert seen_at(Sums(), check_val_every_n_epoch=2, num_sanity_val_steps=0) == [(10, 13), (20, 13)]


def test_accumulated_batches_count_as_one_step():
    # five batches an epoch make three steps; a look falls on the batch that completes the step
    steps = [step for step, _ in seen_at(Sums(every_n_steps=2), accumulate_grad_batches=2)]
    assert steps == [0, 2, 4, 6, 8, 10, 12]


def test_two_optimisers_count_twice_and_lose_no_look():
    class Two(ToySSL):
        def __init__(self):
            super().__init__(is_manual=True)

        def configure_optimizers(self):
            return [
                torch.optim.SGD(self.backbone.parameters(), 0.1),
                torch.optim.SGD(self.projector.parameters(), 0.1),
            ]

        def training_step(self, batch, batch_idx):
            loss = self.loss(*[self.embed(view) for view in batch[0]])
            for optimizer in self.optimizers():
                optimizer.zero_grad()
            self.manual_backward(loss)
            for optimizer in self.optimizers():
                optimizer.step()

    _, logger = fit(Two(), [Sums(every_n_steps=3)])
    assert [step for step, _ in logger.looks("sums/")] == [
        0,
        4,
        6,
        10,
    ]  # 2 steps a batch: the first at or past 3, 6, 9


def test_the_same_callback_serves_several_runs():
    callback, module = Sums(), ToySSL()
    trainer, logger = fit(module, [callback], val=clean_loader(), max_epochs=1)
    (first,) = trainer.validate(module, clean_loader(6), verbose=False)
    assert first["sums/images/seen"] == 6
    trainer.fit_loop.max_epochs = 2
    trainer.fit(module, view_loader(), clean_loader())
    seen = [(step, values["sums/images/seen"]) for step, values in logger.looks("sums/")]
    assert seen == [(5, 13), (5, 6), (10, 13)]  # Lightning logs what trainer.validate found, too


def test_validate_returns_values_and_fit_is_not_disturbed():
    module, callbacks = ToySSL(), every_diagnostic(every_n_epochs=1)
    trainer = Trainer(**QUIET, callbacks=callbacks)
    (values,) = trainer.validate(module, clean_loader(), verbose=False)
    sections = {key.split("/")[0] for key in values}
    assert sections == {*SECTIONS, "overhead"} - {"covariance", "orthogonality"}
    trainer.fit_loop.max_epochs = 1
    trainer.fit(module, view_loader(), clean_loader())  # metrics made under inference mode are not in the way
    assert {key.split("/")[0] for key in trainer.callback_metrics} == {*SECTIONS, "overhead"}


def test_only_the_first_of_several_validation_loaders_is_seen():
    class TwoLoaders(ToySSL):
        def validation_step(self, batch, batch_idx, dataloader_idx=0):
            self.embed(batch[0])

    for loaders in ([clean_loader(13), clean_loader(6)], {"a": clean_loader(13), "b": clean_loader(6)}):
        _, logger = fit(TwoLoaders(), [Sums()], val=loaders)
        assert [values["sums/images/seen"] for _, values in logger.looks("sums/")] == [13]


def test_csv_has_a_row_at_every_look(tmp_path):
    """Also between Lightning's own rows, of which 50 steps apart there would be none."""
    logger = CSVLogger(tmp_path, name="run", version="")
    trainer = Trainer(
        **{**QUIET, "logger": logger},
        max_epochs=2,
        log_every_n_steps=50,
        callbacks=[*every_diagnostic(every_n_steps=3), CollapseMonitor(["backbone.conv"])],
    )
    trainer.fit(ToySSL(), view_loader(), clean_loader())
    with open(tmp_path / "run" / "metrics.csv") as file:
        rows = list(csv.DictReader(file))
    for key in (
        "covariance/backbone.conv/trace",
        "probe/backbone/ridge_top1",
        "orthogonality/projector.out/drift",
    ):
        assert [int(row["step"]) for row in rows if row[key]] == [0, 3, 6, 9]
        assert all(float(row[key]) >= 0 for row in rows if row[key])
    assert [int(row["step"]) for row in rows if row["collapse/backbone.conv/rankme"]] == [5, 10]
    timings = [row for row in rows if row["overhead/CovarianceOperators/seconds"]]
    assert len(timings) == 4
    seconds = [float(row["overhead/CovarianceOperators/seconds"]) for row in timings]
    assert seconds == sorted(seconds)
    assert all(0 < float(row["overhead/CovarianceOperators/share"]) <= 1 for row in timings)


def test_the_users_own_reader_of_batches():
    images, labels = toy_images(12)
    loader = DataLoader([{"pixels": images[i], "species": labels[i]} for i in range(12)], 4)

    class Own(ToySSL):
        def training_step(self, batch, batch_idx):
            return self.embed(batch["pixels"]).square().mean()

        def validation_step(self, batch, batch_idx):
            self.embed(batch["pixels"])

    def read(batch):
        return batch["pixels"], batch["species"]

    callback = NeuronSelectivity(["backbone.conv"], num_classes=3, read_batch=read)
    fit(Own(), [callback], train=loader, val=loader)
    reference = NeuronSelectivity(["backbone.conv"], num_classes=3)
    fit(ToySSL(lr=0.0), [reference], val=DataLoader(TensorDataset(images, labels), 4))
    assert callback.values.keys() == reference.values.keys() != set()

    def pair(batch):
        return [batch["pixels"], batch["pixels"] + 1], batch["species"]

    _, logger = fit(Own(), [CovarianceOperators(["projector.out"], read_batch=pair)], train=loader)
    assert logger.looks("covariance/")


def test_a_broken_off_validation_leaves_nothing_open():
    class Breaks(ToySSL):
        is_broken = True

        def validation_step(self, batch, batch_idx):
            if self.is_broken and batch_idx == 2:
                raise RuntimeError("broken off")

    callback, module = Sums(every_n_epochs=1), Breaks()
    trainer = Trainer(**QUIET, max_epochs=1, num_sanity_val_steps=0, callbacks=[callback])
    with pytest.raises(RuntimeError, match="broken off"):
        trainer.fit(module, view_loader(), clean_loader())
    module.is_broken = False
    callback.values = {}
    trainer = Trainer(**QUIET, max_epochs=1, max_steps=1, num_sanity_val_steps=2, callbacks=[callback])
    trainer.fit(module, view_loader(), clean_loader())
    assert (
        callback.values == {}
    )  # one step, no end of an epoch: neither was the sanity check taken for a look


class Clock:
    """Each look takes 0.1 s of a time that also goes on by a second for every training batch."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


class Slow(TrainingSums):
    def __init__(self, clock, **kwargs):
        super().__init__(**kwargs)
        self.clock = clock

    def measure(self, trainer, pl_module):
        self.clock.now += 0.1
        return super().measure(trainer, pl_module)

    def on_train_batch_end(self, trainer, *args):
        self.clock.now += (
            0.5 if trainer.global_rank == 0 else 1e-3
        )  # by the second rank's own clock never affordable
        super().on_train_batch_end(trainer, *args)


def slow_looks(monkeypatch, max_overhead, **arguments):
    clock = Clock()
    monkeypatch.setattr("lightning_ssl_theory.callbacks.overhead.time.perf_counter", clock)
    callback = Slow(clock, every_n_steps=1, max_overhead=max_overhead)
    _, logger = fit(ToySSL(), [callback], max_epochs=2, **arguments)
    return [step for step, _ in logger.looks("sums/")], logger.rows[-1][1]


def test_max_overhead_leaves_looks_out(monkeypatch):
    steps, last = slow_looks(monkeypatch, None)
    assert steps == list(range(11))
    assert last["overhead/Slow/seconds"] == pytest.approx(1.1)
    assert last["overhead/Slow/share"] == pytest.approx(1.1 / (1.1 + 10 * 0.5))
    # 0.1 s a look, 0.5 s a batch: affordable when looks will have taken at most 5 % of the time with one more.
    steps, last = slow_looks(monkeypatch, 0.05)
    spent, now, expected = 0.1, 0.1, [0]
    for step in range(1, 11):
        now += 0.5
        if spent + 0.1 <= 0.05 * (now + 0.1):
            expected.append(step)
            spent, now = spent + 0.1, now + 0.1
    assert steps == expected
    assert 1 < len(steps) < 5
    assert last["overhead/Slow/share"] <= 0.05


def on_each_rank(rank, world_size):
    with pytest.MonkeyPatch.context() as monkeypatch:
        return slow_looks(monkeypatch, 0.05, strategy="ddp", devices=world_size)[0]


@pytest.mark.ddp
def test_the_first_rank_decides_for_all(monkeypatch):
    first, second = run_ranks(on_each_rank, 2, init=False)
    assert first == second
    alone = slow_looks(monkeypatch, 0.05, train=view_loader(20))[0]
    assert first == alone


def test_two_of_one_class_keep_their_states_apart():
    one, other = CollapseMonitor(["backbone"]), CollapseMonitor(["output"])
    assert one.state_key != other.state_key
    one.load_state_dict({"values": {"a": 1.0}, "last_step": 3})
    assert one.state_dict() == {"values": {"a": 1.0}, "last_step": 3}


def test_embed_is_looked_at_where_there_is_one():
    class Plain(LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(16, 2)

        def forward(self, images):
            return self.layer(images.flatten(1))

        def training_step(self, batch, batch_idx):
            return self(batch[0][0]).square().mean()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.0)

    plain, ours = CollapseMonitor(every_n_steps=1), CollapseMonitor(every_n_steps=1)
    fit(Plain(), [plain], max_steps=1)
    fit(ToySSL(), [ours], max_steps=1)
    assert plain.values["collapse/output/rankme"] <= 2
    assert ours.values["collapse/output/rankme"] <= 3  # embed; forward has 16 outputs
