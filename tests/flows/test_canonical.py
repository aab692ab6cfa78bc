"""The canonical flow's closed form: q^T q for every z, over long times, and Oja's flow on orthonormal outputs."""

import pytest
import torch
from torch.testing import assert_close

from flows.oracles import FLOWS, orthonormal, scipy_path
from lightning_ssl_theory import flows
from lightning_ssl_theory.flows import canonical_closed_form, canonical_flow, oja_flow

TIMES = torch.tensor([0.0, 0.05, 0.3, 1.0], dtype=torch.float64)
EIGENVALUES = torch.tensor([-1.3, -0.6, -0.2, 0.4, 0.9, 1.7], dtype=torch.float64)


def start(num_outputs, *, hidden=9):
    draws = torch.Generator().manual_seed(num_outputs)
    return orthonormal(hidden, num_outputs, draws).mT @ orthonormal(hidden, 6, draws)


def gram(path):
    return path.mT @ path


@pytest.mark.parametrize("num_outputs", [1, 2, 4])
def test_gram_equals_scipy_and_the_formula_with_the_inverse(num_outputs):
    q0 = start(num_outputs)
    found = canonical_closed_form(q0, EIGENVALUES, TIMES)
    assert_close(gram(found), gram(scipy_path(q0, EIGENVALUES, TIMES, "canonical")), rtol=0, atol=1e-11)
    for time, q in zip(TIMES, found, strict=True):
        decay = (-4 * time * EIGENVALUES).exp().diag()
        middle = torch.eye(num_outputs) + q0 @ (decay @ decay - torch.eye(6)) @ q0.mT
        expected = decay @ q0.mT @ torch.linalg.inv(middle) @ q0 @ decay
        assert_close(gram(q), expected, rtol=0, atol=1e-11)


def test_one_output_is_the_flow_itself():
    q0 = start(1)
    assert_close(
        canonical_closed_form(q0, EIGENVALUES, TIMES),
        canonical_flow(q0, EIGENVALUES, TIMES),
        rtol=0,
        atol=1e-10,
    )


def test_long_times_keep_every_direction():
    found = canonical_closed_form(start(3), EIGENVALUES, torch.tensor([200.0]))[0]
    assert_close(gram(found), torch.tensor([1.0, 1.0, 1.0, 0, 0, 0]).double().diag(), rtol=0, atol=1e-10)
    vanishing = canonical_closed_form(start(3), EIGENVALUES.abs(), torch.tensor([200.0]))[0]
    assert float(vanishing.norm()) < 1e-30


def test_batches_and_orders():
    q0 = torch.stack([start(2), 0.5 * start(2)])
    found = canonical_closed_form(q0, EIGENVALUES, TIMES.flip(0))
    assert found.shape == (2, 4, 2, 6)
    alone = canonical_closed_form(q0[1], EIGENVALUES, TIMES[[2]])[0]
    assert_close(gram(found[1, 1]), gram(alone), rtol=0, atol=1e-13)
    assert canonical_closed_form(q0, EIGENVALUES, torch.zeros(0)).shape == (2, 0, 2, 6)


@pytest.mark.parametrize("flow", FLOWS)
def test_orthonormal_outputs_follow_oja(flow):
    q0 = start(3, hidden=6)  # the hidden width equals the input width: q q^T = I
    path = getattr(flows, f"{flow}_flow")(q0, EIGENVALUES, TIMES)
    found = oja_flow(q0, EIGENVALUES, TIMES, flow=flow)
    assert_close(gram(found), gram(path), rtol=0, atol=1e-9)
    rate = {"grassmann": 2, "stiefel": 3, "canonical": 4}[flow]
    for time, q in zip(TIMES, found, strict=True):
        basis = torch.linalg.qr((q0 * (-rate * time * EIGENVALUES).exp()).mT)[0]
        assert_close(gram(q), basis @ basis.mT, rtol=0, atol=1e-12)


def test_rejects_what_is_not_orthonormal_and_unknown_flows():
    with pytest.raises(
        ValueError, match=r"orthonormal rows, got \|\|q0 q0\^T - I\|\| = 0\.75; use grassmann_flow"
    ):
        oja_flow(torch.eye(3)[:2] * 0.5, torch.ones(3), TIMES)
    with pytest.raises(ValueError, match="one of grassmann, stiefel, canonical, got 'euclidean'; choose one"):
        oja_flow(torch.eye(3), torch.ones(3), TIMES, flow="euclidean")
    with pytest.raises(ValueError, match="Expected `times` >= 0, got -1"):
        canonical_closed_form(torch.eye(3), torch.ones(3), -torch.ones(1))
