"""Small trainings: seeds that leave no trace, full batches as by hand, looks where they were asked for."""

import pytest
import torch
from lightning.pytorch import LightningModule
from torch import nn
from torch.testing import assert_close
from torch.utils.data import DataLoader

from lightning_ssl_theory import OrthogonalSSL
from lightning_ssl_theory.report import History, full_batch_steps, quiet_trainer, seeded


class Line(LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def training_step(self, batch, batch_idx):
        return self.layer(batch).square().mean()

    def validation_step(self, batch, batch_idx):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def loader(num_batches):
    return DataLoader(torch.ones(num_batches, 1), batch_size=1)


def test_seeded_draws_leave_the_generator_alone():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    first = torch.rand(1)
    with seeded(0):
        inside = torch.rand(4)
    torch.testing.assert_close(torch.cat([first, torch.rand(1)]), expected)
    with seeded(0):
        assert torch.equal(torch.rand(4), inside)


def test_full_batch_steps_are_those_of_a_loop():
    views = list(torch.randn(2, 20, 2, generator=torch.Generator().manual_seed(0)))

    def build():
        with seeded(0):
            return OrthogonalSSL(2, 5, 1, constraint="polar", lr=0.05)

    module, other = build(), build()
    seen = [(step, module.network.product().detach()) for step in full_batch_steps(module, views, 3)]
    assert [step for step, _ in seen] == [0, 1, 2, 3]
    assert_close(seen[0][1], other.network.product())
    optimizer = other.configure_optimizers()
    for _, product in seen[1:]:
        optimizer.zero_grad()
        other.loss(other(views[0]), other(views[1])).backward()
        optimizer.step()
        assert_close(product, other.network.product())


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_history_looks_at_the_steps_asked_for():
    module = Line()
    start = module.layer.weight.detach().clone()
    history = History(
        lambda trainer, module: (trainer.global_step, module.layer.weight.item()), steps={0, 2, 5}
    )
    quiet_trainer(history, max_steps=5, max_epochs=-1).fit(module, loader(3), loader(1))
    assert [step for step, _ in history.looks] == [0, 2, 5]
    assert history.looks[0][1] == start.item()
    assert history.looks[-1][1] == module.layer.weight.item()


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_history_looks_at_validations_by_default():
    history = History(lambda trainer, _: trainer.global_step)
    trainer = quiet_trainer(history, max_epochs=2, num_sanity_val_steps=0)
    module, batches = Line(), loader(3)
    trainer.validate(module, batches, verbose=False)
    trainer.fit(module, batches, batches)
    assert history.looks == [0, 3, 6]


def test_quiet_trainer_leaves_no_files(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    quiet_trainer(max_steps=1).fit(Line(), loader(1))
    assert not list(tmp_path.iterdir())
