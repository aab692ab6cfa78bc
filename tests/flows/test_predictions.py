"""What the flow says of points: the trained network's outputs, on its data and on new points."""

import pytest
import torch
from torch.testing import assert_close

from flows.oracles import descend, orthonormal, tangent_step
from lightning_ssl_theory.flows import (
    eigenbasis,
    flow_loss,
    flow_outputs,
    stiefel_flow,
    trace_matrix,
)
from lightning_ssl_theory.losses import TraceLoss


def test_outputs_of_a_trained_network_at_new_points():
    draws = torch.Generator().manual_seed(0)
    x, noise, new = torch.randn(3, 20, 4, generator=draws, dtype=torch.float64)
    matrix = trace_matrix(x, x + 0.1 * noise, x.roll(-1, 0))
    basis = eigenbasis(matrix)
    hidden, output = orthonormal(6, 4, draws), orthonormal(6, 2, draws)
    trained = descend(hidden, output, matrix, tangent_step("stiefel", 2e-4), 500)
    times = torch.tensor([0.0, 0.1])
    path = stiefel_flow(output.mT @ hidden @ basis.eigenvectors, basis.eigenvalues, times)
    found = flow_outputs(path, basis.eigenvectors, new.view(20, 2, 2))
    assert found.shape == (2, 20, 2)
    assert_close(found[0], new @ (output.mT @ hidden).mT, rtol=0, atol=1e-12)
    assert_close(found[1], new @ trained.mT, rtol=0, atol=2e-3)
    assert (found[1] - found[0]).norm() > 0.1  # it moved
    outputs = flow_outputs(path[1], basis.eigenvectors, torch.cat([x, x + 0.1 * noise, x.roll(-1, 0)])).split(
        20
    )
    assert_close(TraceLoss()(*outputs), flow_loss(path, basis.eigenvalues)[1], rtol=0, atol=1e-12)


def test_rejects():
    with pytest.raises(ValueError, match=r"`points` of shape \(N, 4\), got \(5, 3\)"):
        flow_outputs(torch.zeros(2, 4), torch.eye(4), torch.zeros(5, 3))
    with pytest.raises(
        ValueError, match=r"`trajectory` of shape \(\*, z, 4\), got \(2, 3\); pass what a flow"
    ):
        flow_outputs(torch.zeros(2, 3), torch.eye(4), torch.zeros(5, 4))
