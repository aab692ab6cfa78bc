"""LatentTreeNetwork is a tree of small linear layers, each seeing its children's groups only."""

import pytest
import torch
from torch.testing import assert_close

from lightning_ssl_theory import ContrastiveSSL
from lightning_ssl_theory.losses import InfoNCELoss, SimpleContrastiveLoss, SoftTripletLoss
from lightning_ssl_theory.networks import BlockLinear, LatentTreeNetwork


def network_by_recursion(network, x, depth, num_children, size):
    """Pre-activations of one node of the tree from those of its children, one sample and one node at a time."""

    def pre_activation(level, index, sample):
        if level == 0:
            return x[sample, index : index + 1]
        children = [pre_activation(level - 1, index * num_children + k, sample) for k in range(num_children)]
        inputs = torch.cat([child.clamp(min=0) for child in children])
        layer = getattr(network, f"level_{level}")
        rows = slice(index * size, (index + 1) * size)
        return layer.weight[rows, :, 0] @ inputs + (0 if layer.bias is None else layer.bias[rows])

    return torch.stack([pre_activation(depth, 0, sample) for sample in range(len(x))])


@pytest.mark.parametrize(
    ("depth", "children", "size", "bias"),
    [(3, 2, 4, True), (2, 3, 2, False), (1, 2, 3, True), (4, 2, 1, True)],
)
def test_matches_recursion(depth, children, size, bias):
    network = LatentTreeNetwork(depth, children, group_size=size, bias=bias).double()
    x = torch.randint(0, 2, (5, children**depth)).double()
    expected = network_by_recursion(network, x, depth, children, size)
    assert_close(network(x), expected)
    unit = LatentTreeNetwork(depth, children, group_size=size, bias=bias, is_normalized=True).double()
    unit.load_state_dict(network.state_dict())
    assert_close(unit(x) * unit.root_features(x).norm(dim=1, keepdim=True), expected)
    assert_close(unit.root_features(x), expected)


def test_one_layer_a_level():
    network = LatentTreeNetwork(4, 3, group_size=2)
    layers = {name: layer for name, layer in network.named_children() if isinstance(layer, BlockLinear)}
    assert {name: layer.groups for name, layer in layers.items()} == {
        "level_1": 27,
        "level_2": 9,
        "level_3": 3,
        "level_4": 1,
    }
    assert [layer.weight.shape[1] for layer in layers.values()] == [3, 6, 6, 6]
    assert not hasattr(network, "activation_4")
    assert network.num_features == 2


def test_batch_norm_and_activation():
    network = LatentTreeNetwork(3, group_size=4, batch_norm=True, activation="leaky_relu")
    assert [name for name, _ in network.named_children()] == [
        *("level_1", "norm_1", "activation_1", "level_2", "norm_2", "activation_2", "level_3")
    ]
    assert isinstance(network.activation_1, torch.nn.LeakyReLU)
    network(torch.rand(6, 8))
    assert network.norm_2.running_mean.any()


def test_a_group_depends_on_its_own_leaves_only():
    network = LatentTreeNetwork(3, group_size=4)
    outputs = {}
    network.level_2.register_forward_hook(lambda module, args, output: outputs.setdefault("level_2", output))
    x = torch.rand(1, 8, requires_grad=True)
    network(x)
    (gradient,) = torch.autograd.grad(outputs["level_2"][:, :4].sum(), x)  # the first of two groups
    assert gradient[0, :4].any()
    assert not gradient[0, 4:].any()


@pytest.mark.parametrize(
    "loss", [InfoNCELoss(0.5), SoftTripletLoss(), SimpleContrastiveLoss(distance="cosine")]
)
def test_trains_with_every_pairwise_loss(loss):
    module = ContrastiveSSL(LatentTreeNetwork(2, group_size=3), torch.nn.Identity(), loss)
    views = [torch.randint(0, 2, (8, 4)).float() for _ in range(2)]
    module.log = module.log_dict = lambda *args, **kwargs: None
    module.training_step((views, torch.zeros(8)), 0).backward()
    assert all(parameter.grad.isfinite().all() for parameter in module.parameters())
    assert any(parameter.grad.any() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depth": 0}, "Expected `depth` of at least 1, got 0"),
        ({"num_children": 1}, "Expected `num_children` of at least 2, got 1"),
        ({"group_size": 0}, "Expected `group_size` of at least 1, got 0"),
        ({"activation": "sine"}, r"Expected `activation` to be one of"),
    ],
)
def test_rejected_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        LatentTreeNetwork(**arguments)


def test_rejects_other_numbers_of_leaves():
    with pytest.raises(ValueError, match=r"Expected `leaves` of shape \(N, 8\), got \(2, 4\)"):
        LatentTreeNetwork(3)(torch.zeros(2, 4))
