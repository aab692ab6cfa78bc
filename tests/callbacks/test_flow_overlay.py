"""OrthogonalityMonitor beside a reduced flow: distances by formula, first order, resumed runs, several ranks."""

import pytest
import torch
from helpers.ddp import run_ranks
from helpers.toy_ssl import MemoryLogger, fit
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader

from lightning_ssl_theory.callbacks import OrthogonalityMonitor
from lightning_ssl_theory.callbacks.flow_overlay import FlowOverlay
from lightning_ssl_theory.flows import eigenbasis, stiefel_flow, trace_matrix
from lightning_ssl_theory.losses import TraceLoss
from lightning_ssl_theory.modules import OrthogonalSSL

LAYERS = ["network.hidden", "network.output"]
pytestmark = pytest.mark.filterwarnings("ignore")


def reference(num_samples=30, width=4):
    generator = torch.Generator().manual_seed(0)
    x, noise = torch.randn(2, num_samples, width, generator=generator)
    return [x, x + 0.3 * noise]


def full_batches(views=None):
    """The reference set itself, as one batch an epoch: with it, training is gradient descent on Tr(W C W^T)."""
    return DataLoader([(reference() if views is None else views, torch.zeros(30))], batch_size=None)


def monitor(**arguments):
    return OrthogonalityMonitor(LAYERS, reference=reference(), **({"every_n_steps": 5} | arguments))


def trained(lr, steps, *callbacks, constraint="stiefel", activation="identity", **arguments):
    torch.manual_seed(0)
    model = OrthogonalSSL(4, 7, 2, activation, constraint, lr=lr, **arguments.pop("model", {}))
    _, logger = fit(model, callbacks, train=full_batches(), max_epochs=steps, **arguments)
    return model, logger.looks("orthogonality/")


def test_values_by_formula():
    callback = monitor(every_n_steps=10)
    model, looks = trained(0.02, 20, callback)
    x, positives = (view.double() for view in reference())
    values, vectors = eigenbasis(trace_matrix(x, positives, x.roll(-1, 0)))
    torch.manual_seed(0)
    start = OrthogonalSSL(4, 7, 2, lr=0.02).network.product().detach().double()
    q = stiefel_flow(start @ vectors, values, torch.tensor([0.4]))[0]
    step, last = looks[-1]
    assert step == 20
    predicted = x @ vectors @ q.mT
    with torch.no_grad():
        measured = model(x.float()).double()
        positive = model(positives.float()).double()
    distance = (measured - predicted).norm() / predicted.norm()
    assert 0 < distance < 0.1
    assert last["orthogonality/output/flow_distance"] == pytest.approx(distance.item(), rel=1e-3)
    assert last["orthogonality/flow/trace_loss"] == pytest.approx(
        (q.square() * values).sum().item(), abs=1e-6
    )
    assert last["orthogonality/network/trace_loss"] == pytest.approx(
        TraceLoss()(measured, positive).item(), abs=1e-5
    )
    first = looks[0][1]
    assert first["orthogonality/output/flow_distance"] < 1e-6
    assert first["orthogonality/network/trace_loss"] == pytest.approx(
        first["orthogonality/flow/trace_loss"], abs=1e-5
    )
    assert last["orthogonality/network/trace_loss"] < first["orthogonality/network/trace_loss"] - 0.1


@pytest.mark.parametrize(
    ("constraint", "flow"),
    [
        ("stiefel", "stiefel"),
        ("polar", "stiefel"),
        ("grassmann", "grassmann"),
        ("parametrization", "canonical"),
    ],
)
def test_distance_falls_with_the_learning_rate(constraint, flow):
    distances = []
    for lr, steps in ((0.02, 10), (0.01, 20)):
        _, looks = trained(lr, steps, monitor(flow=flow, every_n_steps=steps), constraint=constraint)
        distances.append(looks[-1][1]["orthogonality/output/flow_distance"])
    assert distances[1] < 0.02
    if constraint != "parametrization":  # it leaves the canonical flow as it leaves its base point
        assert 1.8 < distances[0] / distances[1] < 2.2


def test_another_flow_another_loss_and_another_network_are_far():
    def last(callback, **arguments):
        return trained(0.01, 40, callback, **arguments)[1][-1][1]["orthogonality/output/flow_distance"]

    own = last(monitor())
    assert last(monitor(flow="canonical")) > 3 * own
    assert last(monitor(), activation="relu") > 10 * own
    assert last(monitor(contrastive=False)) > 3 * own
    assert last(monitor(contrastive=False), model={"loss": TraceLoss(contrastive=False)}) < 2 * own


def test_a_resumed_run_logs_the_same(tmp_path):
    _, whole = trained(0.02, 10, monitor())
    saver = ModelCheckpoint(tmp_path, save_last=True)
    trained(0.02, 5, monitor(), saver, enable_checkpointing=True)
    _, resumed = trained(0.02, 10, monitor(), ckpt_path=str(tmp_path / "last.ckpt"))
    assert resumed[-1][0] == whole[-1][0] == 10
    assert resumed[-1][1] == pytest.approx(whole[-1][1], rel=1e-5)


def test_training_is_not_disturbed():
    plain, _ = trained(0.02, 6)
    watched, _ = trained(0.02, 6, monitor(every_n_steps=1))
    for name, weight in plain.state_dict().items():
        assert torch.equal(watched.state_dict()[name], weight)


def _on_ranks(rank, world_size):
    views = [view[:7] if rank == 0 else view[7:] for view in reference()] if world_size > 1 else reference()
    torch.manual_seed(0)
    model, logger = OrthogonalSSL(4, 7, 2, lr=0.02), MemoryLogger()
    strategy = {"strategy": "ddp", "devices": world_size} if world_size > 1 else {}
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=4,
        logger=logger,
        callbacks=[monitor(every_n_steps=4)],
        use_distributed_sampler=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **strategy,
    )
    trainer.fit(model, full_batches(views))
    return logger.looks("orthogonality/")


@pytest.mark.ddp
def test_two_ranks_with_uneven_data_log_what_one_does():
    ((_, first), (step, last)) = _on_ranks(0, 1)
    assert step == 4
    assert abs(last["orthogonality/network/trace_loss"] - first["orthogonality/network/trace_loss"]) > 0.01
    for looks in run_ranks(_on_ranks, 2, init=False):
        assert looks[-1][0] == 4
        # the negative of a rank's last sample lies on the next rank, as in one process
        assert looks[-1][1] == pytest.approx(last, rel=1e-3, abs=1e-6)


def test_rejects():
    with pytest.raises(
        ValueError, match="`flow` to be one of grassmann, stiefel, canonical, got 'qr'; choose one"
    ):
        monitor(flow="qr")
    with pytest.raises(
        ValueError, match=r"Expected two `layers` beside a `reference`, W_1 and W_2, got 1; name both"
    ):
        OrthogonalityMonitor(LAYERS[:1], reference=reference())
    with pytest.raises(ValueError, match=r"at least 2 views of every sample"):
        OrthogonalityMonitor(LAYERS, reference=reference()[0])
    with pytest.raises(
        ValueError, match=r"weights \(H, 4\) and \(Z, H\) for the reference set, got \(2, 7\) and \(7, 4\)"
    ):
        trained(0.1, 1, OrthogonalityMonitor(LAYERS[::-1], reference=reference()))


class WithOptimizer(OrthogonalSSL):
    def configure_optimizers(self):
        return self.build(self.parameters())


def test_rejects_what_is_no_plain_descent():
    for build, words in (
        (lambda p: torch.optim.Adam(p, 0.1), "got Adam with betas"),
        (
            lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=1e-4),
            "got SGD with momentum, weight_decay",
        ),
        (
            lambda p: torch.optim.SGD([{"params": [w], "lr": 0.1 * i} for i, w in enumerate(p, 1)]),
            "got SGD and 2 learning rates",
        ),
    ):
        model = WithOptimizer(4, 7, 2)
        model.build = build
        with pytest.raises(
            ValueError, match=f"Expected plain gradient descent .*{words}; leave `reference` out"
        ):
            fit(model, [monitor()], train=full_batches())
    model.build = lambda p: torch.optim.SGD(p, 0.01)
    _, logger = fit(model, [monitor()], train=full_batches())
    assert logger.looks("orthogonality/")


@pytest.mark.parametrize("flow", ["grassmann", "stiefel", "canonical"])
def test_float32_weights_of_equal_widths_stay_on_the_sphere(flow):
    """With C positive definite the flow would leave it, and vanish, by what float32 rounds away."""
    torch.manual_seed(0)
    x = torch.randn(30, 4)
    overlay = FlowOverlay([[x, -x], torch.zeros(30)], flow, contrastive=False)
    hidden, output = (torch.linalg.qr(torch.randn(4, width))[0] for width in (4, 2))
    product = output.mT @ hidden
    overlay.compare(product, overlay.images @ product.mT)
    overlay.time = 100.0
    late = overlay.compare(product, overlay.images @ product.mT)
    lowest = eigenbasis(trace_matrix(x, -x)).eigenvalues[:2]
    assert late.flow_loss == pytest.approx(lowest.sum().item(), rel=1e-6)
