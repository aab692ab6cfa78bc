"""Diagnostics in other processes, with a second model, and in the Trainer of the package's old name."""

import pickle

import pytest
import torch
from helpers.ddp import run_ranks
from helpers.every_diagnostic import every_diagnostic
from helpers.toy_ssl import QUIET, ToySSL, clean_loader, fit, view_loader
from lightning.pytorch import Trainer

from lightning_ssl_theory import ContrastiveSSL
from lightning_ssl_theory.callbacks import CollapseMonitor, CovarianceOperators, LatentTreeMonitor
from lightning_ssl_theory.callbacks.flow_overlay import FlowOverlay
from lightning_ssl_theory.losses import InfoNCELoss


def read(batch):
    return batch


@pytest.mark.parametrize("name", ["pickle", "cloudpickle"])
def test_diagnostics_are_pickled(name):
    package = pytest.importorskip(name)
    callbacks = [*every_diagnostic(), LatentTreeMonitor(), CollapseMonitor(read_batch=read, name="read")]
    fit(ToySSL(), every := every_diagnostic(), val=clean_loader())
    for callback in (*callbacks, *every):
        copied = pickle.loads(package.dumps(callback))
        assert copied.state_key == callback.state_key
        assert copied.values == callback.values
    copied = pickle.loads(package.dumps(every[4]))
    fit(ToySSL(), [copied], val=clean_loader())
    assert copied.values.keys() == every[4].values.keys()


def spawn(rank, world_size):
    """From a process of its own, as a user's script starts it."""
    trainer = Trainer(
        **QUIET | {"devices": 2, "strategy": "ddp_spawn"}, max_epochs=1, callbacks=every_diagnostic()
    )
    trainer.fit(ToySSL(), view_loader(), clean_loader())
    return {key: float(value) for key, value in trainer.callback_metrics.items()}


@pytest.mark.ddp
@pytest.mark.slow
@pytest.mark.all_cases
def test_spawned_processes():
    (found,) = run_ranks(spawn_alone, 1, init=False, timeout=240.0)
    assert {key.split("/")[0] for key in found} >= {
        "covariance",
        "selectivity",
        "probe",
        "collapse",
        "orthogonality",
    }


def spawn_alone(rank, world_size):
    import multiprocessing
    import os

    multiprocessing.current_process()._config["daemon"] = False  # it has children of its own
    for name in (
        "RANK",
        "LOCAL_RANK",
        "WORLD_SIZE",
        "LOCAL_WORLD_SIZE",
        "GROUP_RANK",
        "MASTER_ADDR",
        "MASTER_PORT",
    ):
        os.environ.pop(name, None)
    for name in [name for name in os.environ if name.startswith("TORCHELASTIC_")]:
        del os.environ[name]
    return spawn(rank, world_size)


def test_a_second_model_starts_fresh():
    callback = CollapseMonitor(every_n_steps=4)
    fit(ToySSL(), [callback], max_epochs=2)
    _, logger = fit(ToySSL(), [callback], max_epochs=2)
    assert [step for step, _ in logger.looks("collapse/")] == [0, 4, 8]
    spectral = CovarianceOperators(every_n_steps=2, spectra_layers=["projector.out"])
    fit(ToySSL(), [spectral])
    assert spectral.spectra
    spectral.setup(None, ToySSL(), "fit")
    assert (spectral.spectra, spectral.values) == ({}, {})


def test_a_second_model_restarts_the_flow():
    x = torch.randn(12, 4)
    overlay = FlowOverlay([x, x + 0.1 * torch.randn(12, 4)], "stiefel", contrastive=True)
    product = torch.eye(4)[:2]
    overlay.compare(product, overlay.images @ product.mT)
    overlay.time = 3.0
    overlay.compare(product, overlay.images @ product.mT)
    overlay.restart()
    assert overlay.compare(product, overlay.images @ product.mT).distance == pytest.approx(0.0, abs=1e-6)


def old_name():
    return pytest.importorskip(
        "pytorch_lightning", reason="needs the package of the old name, pytorch_lightning"
    )


def old_module(package):
    class Old(package.LightningModule):
        def __init__(self):
            super().__init__()
            inner = ToySSL()
            self.backbone, self.projector, self.loss = inner.backbone, inner.projector, inner.loss

        def embed(self, images):
            self.log("not_mine", 1.0)
            return self.projector(self.backbone(images))

        forward = embed

        def training_step(self, batch, batch_idx):
            return self.loss(*[self.embed(view) for view in batch[0][:2]])

        def validation_step(self, batch, batch_idx):
            self.embed(batch[0])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.05)

    return Old()


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_callbacks_work_in_the_trainer_of_the_old_name(tmp_path):
    package = old_name()
    from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint

    def run(callbacks):
        torch.manual_seed(0)
        module = old_module(package)
        trainer = package.Trainer(
            **QUIET | {"enable_checkpointing": True, "default_root_dir": tmp_path},
            max_epochs=2,
            callbacks=callbacks,
        )
        trainer.fit(module, view_loader(), clean_loader())
        return trainer, module

    key = "collapse/output/effective_rank"
    saver, stopper = ModelCheckpoint(tmp_path, monitor=key), EarlyStopping(key, patience=9)
    trainer, watched = run([*every_diagnostic(), saver, stopper])
    sections = {key.split("/")[0] for key in trainer.callback_metrics}
    assert sections >= {"covariance", "selectivity", "feature_norms", "probe", "collapse", "orthogonality"}
    assert (
        trainer.checkpoint_callback.best_model_score == trainer.callback_metrics[key] or saver.best_model_path
    )
    _, plain = run([])
    for name, value in plain.state_dict().items():
        assert torch.equal(value, watched.state_dict()[name]), name


def test_our_modules_in_the_trainer_of_the_old_name_get_a_sentence():
    package = old_name()
    from lightning_ssl_theory import ContrastiveSSL
    from lightning_ssl_theory.losses import InfoNCELoss

    inner = ToySSL()
    module = ContrastiveSSL(inner.backbone, inner.projector, InfoNCELoss())
    with pytest.raises(TypeError, match=r"`model` must be a `LightningModule` .*, got `ContrastiveSSL`"):
        package.Trainer(**QUIET).fit(module, view_loader())


def test_our_modules_are_refused_by_the_trainer_of_the_old_name_before_anything_runs():
    module = ContrastiveSSL(torch.nn.Linear(2, 2), torch.nn.Identity(), InfoNCELoss())
    with pytest.raises(TypeError, match=r"must be a `LightningModule` .*got `ContrastiveSSL`"):
        old_name().Trainer(**QUIET).fit(module, view_loader())
