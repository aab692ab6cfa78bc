"""ModelCheckpoint and EarlyStopping follow any diagnostic, on one and on two processes."""

import pytest
from helpers.ddp import run_ranks
from helpers.every_diagnostic import every_diagnostic
from helpers.toy_ssl import ToySSL, clean_loader, fit, seed_all
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from lightning_ssl_theory.callbacks import CovarianceOperators

MONITORED = {
    "covariance/projector.out/trace": "max",
    "selectivity/backbone/mean": "max",
    "feature_norms/output/mean_norm": "min",
    "probe/backbone/ridge_top1": "max",
    "collapse/output/effective_rank": "min",
    "orthogonality/projector.out/drift": "min",
}
BEST = {"min": min, "max": max}


def best_of_three_epochs(folder, **arguments):
    """For every key the best score of both callbacks and of the log, and whether a checkpoint was kept."""
    seed_all()
    savers = [
        ModelCheckpoint(folder / str(i), monitor=key, mode=mode)
        for i, (key, mode) in enumerate(MONITORED.items())
    ]
    stoppers = [EarlyStopping(key, mode=mode, patience=9) for key, mode in MONITORED.items()]
    _, logger = fit(
        ToySSL(),
        [*stoppers, *every_diagnostic(every_n_epochs=1), *savers],
        val=clean_loader(),
        max_epochs=3,
        enable_checkpointing=True,
        **arguments,
    )
    found = {}
    for (key, mode), saver, stopper in zip(MONITORED.items(), savers, stoppers, strict=True):
        logged = [values[key] for step, values in logger.looks(key) if step > 0]
        assert len(logged) == 3
        assert len(set(logged)) > 1, f"{key} does not change"
        found[key] = (
            float(saver.best_model_score),
            float(stopper.best_score),
            BEST[mode](logged),
            saver.best_model_path,
        )
    return found


def steps_of_a_hopeless_run(folder, **arguments):
    """The step at which EarlyStopping gives up, and the monitored checkpoint's score, by steps."""
    seed_all()
    key = "covariance/projector.out/signal_ratio"
    trainer, logger = fit(
        ToySSL(),
        [
            CovarianceOperators(every_n_steps=2),
            EarlyStopping(key, mode="max", min_delta=9.0, patience=1, check_on_train_epoch_end=True),
            ModelCheckpoint(folder / "steps", monitor=key, mode="max", every_n_train_steps=2),
        ],
        max_epochs=9,
        enable_checkpointing=True,
        **arguments,
    )
    scores = [values[key] for step, values in logger.looks(key) if step > 0]
    return trainer.current_epoch, float(trainer.checkpoint_callbacks[0].best_model_score), max(scores)


def check(found):
    for saved, stopped, logged, path in found.values():
        assert saved == pytest.approx(logged, rel=1e-6)
        assert stopped == pytest.approx(logged, rel=1e-6)
        assert path


def test_one_process(tmp_path):
    check(best_of_three_epochs(tmp_path))
    epochs, saved, logged = steps_of_a_hopeless_run(tmp_path)
    assert epochs == 2
    assert saved == pytest.approx(logged, rel=1e-6)


def on_each_rank(rank, world_size, folder):
    arguments = {"strategy": "ddp", "devices": world_size}
    return best_of_three_epochs(folder, **arguments), steps_of_a_hopeless_run(folder, **arguments)


@pytest.mark.ddp
def test_two_processes(tmp_path):
    (first, first_stop), (second, second_stop) = run_ranks(on_each_rank, 2, tmp_path, init=False)
    check(first)
    assert second == first
    assert second_stop == first_stop
    assert first_stop[0] == 2
