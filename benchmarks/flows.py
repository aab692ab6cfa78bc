"""One step of the reduced flow against one step of constrained training, and whole trajectories in closed form.

d = 784 inputs, z = 2 outputs, a full batch of 400 samples, as in figure 4 of Esser, Mukherjee, Ghoshdastidar 2023.
A step of training is the loss, its gradient and the constraint on both weights (float32); a step of the flow is one
Euler step of the Grassmann flow (float64). The flow knows neither the hidden width h nor the number of samples.

    python benchmarks/flows.py
"""

import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lightning_ssl_theory.flows import (
    Eigenbasis,
    canonical_closed_form,
    closed_form_flow,
    eigenbasis,
    grassmann_flow,
    grassmann_velocity,
    trace_matrix,
)
from lightning_ssl_theory.losses import TraceLoss
from lightning_ssl_theory.manifolds import ConstrainedSGD
from lightning_ssl_theory.manifolds.constrained_sgd import Constraint
from lightning_ssl_theory.networks import TwoLayerNetwork

WIDTHS, NUM_FEATURES, NUM_OUTPUTS, NUM_SAMPLES = (1000, 2000, 5000, 10000), 784, 2, 400
LEARNING_RATE, REPEATS, FLOW_STEPS = 0.01, 5, 500


def smooth_views() -> list[Tensor]:
    """Samples whose covariance falls like that of images, eigenvalues 10 / k^1.5, and noisy positives."""
    generator = torch.Generator().manual_seed(0)
    scale = 10**0.5 * torch.arange(1, NUM_FEATURES + 1) ** -0.75
    x, noise = torch.randn(2, NUM_SAMPLES, NUM_FEATURES, generator=generator)
    return [x * scale, x * scale + 0.1 * noise]


def seconds(function: Callable[[], object]) -> float:
    """Processor time of one call, by one thread: what else the machine does hardly matters."""
    start = time.process_time()
    function()
    return time.process_time() - start


def basis_of(views: Sequence[Tensor]) -> Eigenbasis:
    """Eigenbasis of C, with the next sample as negative."""
    return eigenbasis(trace_matrix(views[0], views[1], views[0].roll(-1, 0)))


def training_step(
    network: TwoLayerNetwork, views: Sequence[Tensor], constraint: Constraint
) -> Callable[[], None]:
    """One step of gradient descent under the constraint."""
    optimizer, loss = ConstrainedSGD(network.parameters(), LEARNING_RATE, constraint=constraint), TraceLoss()

    def step() -> None:
        optimizer.zero_grad()
        loss(*map(network, views)).backward()
        optimizer.step()

    return step


def flow_steps(q: Tensor, eigenvalues: Tensor) -> Callable[[], None]:
    """FLOW_STEPS Euler steps of the flow: one alone is too short to be timed."""

    def steps() -> None:
        now = q
        for _ in range(FLOW_STEPS):
            now = now + LEARNING_RATE * grassmann_velocity(now, eigenvalues)

    return steps


def step_times(
    views: Sequence[Tensor], widths: Sequence[int], *, num_outputs: int = NUM_OUTPUTS, repeats: int = REPEATS
) -> list[dict[str, float]]:
    """Milliseconds of a step of each kind, the fastest of calls made in turn, for each hidden width."""
    basis = basis_of(views)
    calls: dict[tuple[int, str], Callable[[], object]] = {}
    for width in widths:
        network = TwoLayerNetwork(views[0].shape[1], width, num_outputs)
        q = network.product().detach().double() @ basis.eigenvectors
        calls[width, "qr"] = training_step(network, views, "stiefel")
        calls[width, "polar"] = training_step(network, views, "polar")
        calls[width, "flow"] = flow_steps(q, basis.eigenvalues)
    rounds = [{key: 1e3 * seconds(call) for key, call in calls.items()} for _ in range(repeats)]
    best = {key: min(times[key] for times in rounds) for key in calls}
    return [
        {
            "h": width,
            "qr": best[width, "qr"],
            "polar": best[width, "polar"],
            "flow": best[width, "flow"] / FLOW_STEPS,
        }
        for width in widths
    ]


def trajectory_times(views: Sequence[Tensor], *, repeats: int = 20) -> dict[str, float]:
    """Milliseconds of whole trajectories to t = 1, the fastest of some calls."""
    basis, times = basis_of(views), torch.linspace(0, 1, 11)
    network = TwoLayerNetwork(views[0].shape[1], 1000, NUM_OUTPUTS)
    q = network.product().detach().double() @ basis.eigenvectors
    calls = {
        "Grassmann, z = 1, closed form": lambda: closed_form_flow(q[:1], basis.eigenvalues, times),
        "canonical, z = 2, closed form": lambda: canonical_closed_form(q, basis.eigenvalues, times),
        "Grassmann, z = 2, adaptive steps": lambda: grassmann_flow(q, basis.eigenvalues, times),
    }
    return {name: 1e3 * min(seconds(call) for _ in range(repeats)) for name, call in calls.items()}


def main() -> None:
    torch.set_num_threads(1)  # several threads wait for one another where the machine has other work
    views = smooth_views()
    print(
        f"d = {NUM_FEATURES}, z = {NUM_OUTPUTS}, {NUM_SAMPLES} samples, one thread, ms a step, fastest of {REPEATS}"
    )
    print(
        f"{'h':>6} {'training, QR':>13} {'training, polar':>16} {'flow':>8} {'QR / flow':>10} {'polar / flow':>13}"
    )
    rows = step_times(views, WIDTHS)
    for row in rows:
        qr, polar = (row[name] / row["flow"] for name in ("qr", "polar"))
        print(
            f"{row['h']:6} {row['qr']:13.1f} {row['polar']:16.1f} {row['flow']:8.4f} {qr:10.0f} {polar:13.0f}"
        )
    growth = rows[-1]["polar"] / rows[0]["polar"]
    print(f"training's step grows {growth:.1f} times from h = {WIDTHS[0]} to {WIDTHS[-1]}; linear: 10 times")
    flows = [row["flow"] for row in rows]
    print(
        f"limit: 1000 at h = 10000. The flow's step over h, largest / smallest: {max(flows) / min(flows):.2f}"
    )
    print("\nwhole trajectory to t = 1, 11 times, ms (limit: 10 for a closed form)")
    for name, milliseconds in trajectory_times(views).items():
        print(f"{name:34} {milliseconds:8.2f}")


if __name__ == "__main__":
    main()
