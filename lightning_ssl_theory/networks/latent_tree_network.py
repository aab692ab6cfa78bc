"""The network of the latent tree theory: one group of neurons for each latent, wired like the tree."""

from torch import Tensor, nn
from torch.nn.functional import normalize

from lightning_ssl_theory.checks import check_flag, check_integer, check_shape, check_tree, check_word
from lightning_ssl_theory.networks.activations import ActivationName, activation_layer
from lightning_ssl_theory.networks.block_linear import BlockLinear


class LatentTreeNetwork(nn.Module):
    r"""Groups of neurons on a tree: each sees the groups of its children only, and the root's group is the output.

    .. math:: \tilde f_\mu = W_\mu f_{ch(\mu)} + b_\mu, \quad f_\mu = \varphi(\tilde f_\mu)

    The leaves are the input; the output has no activation. Level 1 holds the parents of the leaves, level `depth`
    the root; level l has C^(depth - l) groups of |N_mu| neurons and is one batched product. The children are
    `level_1`, `norm_1` (with `batch_norm`), `activation_1`, `level_2`, …; `level_l` puts out pre-activations.

    Args:
        depth: Number of levels below the root, >= 1.
        num_children: C >= 2.
        group_size: |N_mu|, number of neurons of each latent.
        bias: Whether the levels have biases.
        batch_norm: Whether a BatchNorm stands between a level and its activation.
        activation: phi; the theory has "relu" or "leaky_relu".
        is_normalized: Whether the output is divided by its length.

    Attributes:
        num_features: |N_mu|, number of outputs.
        depth: As given.

    Raises:
        InputError: If a number is out of its range, or the activation is unknown.

    References: Y. Tian, L. Yu, X. Chen, S. Ganguli, "Understanding Self-supervised Learning with Dual Deep
    Networks", 2020, Section 5.

    Example:
        >>> import torch
        >>> network = LatentTreeNetwork(3, group_size=4)
        >>> network.level_1.weight.shape, network(torch.zeros(2, 8)).shape
        (torch.Size([16, 2, 1]), torch.Size([2, 4]))
    """

    def __init__(
        self,
        depth: int = 5,
        num_children: int = 2,
        *,
        group_size: int = 10,
        bias: bool = True,
        batch_norm: bool = False,
        activation: ActivationName = "relu",
        is_normalized: bool = False,
    ) -> None:
        super().__init__()
        check_tree(depth, num_children)
        check_integer(group_size, "group_size")
        for name, flag in {"bias": bias, "batch_norm": batch_norm, "is_normalized": is_normalized}.items():
            check_flag(flag, name)
        check_word(activation, "activation", ActivationName)
        self.depth, self.num_leaves = depth, num_children**depth
        self.num_features = group_size
        self.is_normalized = is_normalized
        for level in range(1, depth + 1):
            num_groups = num_children ** (depth - level)
            num_inputs = num_children * (1 if level == 1 else group_size)
            self.add_module(f"level_{level}", BlockLinear(num_groups, num_inputs, group_size, bias=bias))
            if level == depth:
                break
            if batch_norm:
                self.add_module(f"norm_{level}", nn.BatchNorm1d(num_groups * group_size))
            self.add_module(f"activation_{level}", activation_layer(activation))

    def forward(self, leaves: Tensor) -> Tensor:
        """Output of the root's group.

        Args:
            leaves: (N, C^depth), floating; the leaves below a node next to each other.

        Returns:
            (N, |N_mu|).

        Raises:
            InputError: If the number of leaves is another.
        """
        features = self.root_features(leaves)
        return normalize(features) if self.is_normalized else features

    def root_features(self, leaves: Tensor) -> Tensor:
        """Output of the root's group, not divided by its length.

        Args:
            leaves: (N, C^depth), floating.

        Returns:
            (N, |N_mu|).

        Raises:
            InputError: If the number of leaves is another.
        """
        check_shape(leaves, "leaves", f"N {self.num_leaves}")
        features = leaves
        for layer in self.children():
            features = layer(features)
        return features
