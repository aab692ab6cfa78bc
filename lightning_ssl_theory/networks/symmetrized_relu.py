"""The one-layer learner of the sparse coding theory, and the rule by which its biases grow."""

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from lightning_ssl_theory.checks import check_instance, check_integer, check_positive, check_shape


class SymmetrizedReLU(nn.Module):
    r"""One layer of neurons that are silent between -b and b, and linear beyond.

    .. math:: f_i(x) = \mathrm{ReLU}(\langle w_i, x \rangle - b_i) - \mathrm{ReLU}(-\langle w_i, x \rangle - b_i)

    With :math:`b_i = 0` it is linear, :math:`f(x) = W x`; with :math:`b_i > 0` it is soft thresholding. The
    weights start as independent Gaussians. The biases are a buffer, not trained by gradients: the theory sets them
    by hand, as the callback `BiasSchedule` does.

    Args:
        in_features: d1, length of an input.
        num_neurons: m.
        init_std: Standard deviation of the weights at the start, > 0.
        generator: Of the weights; None is torch's.

    Attributes:
        linear: The layer W x, for those who look at its covariance operator.
        bias: b_i, shape (m,), zero at the start.
        num_features: m, number of outputs.

    Raises:
        InputError: If a number is not positive.

    References:
        Z. Wen, Y. Li, "Toward Understanding the Feature Learning Process of Self-supervised Contrastive
        Learning", 2021, section 2.2.

    Example:
        >>> network = SymmetrizedReLU(2, 1, init_std=1.0)
        >>> _ = network.weight.data.copy_(torch.tensor([[1.0, 0.0]])), network.bias.fill_(0.5)
        >>> network(torch.tensor([[2.0, 9.0], [-2.0, 9.0], [0.25, 9.0]])).flatten().tolist()
        [1.5, -1.5, 0.0]
    """

    bias: Tensor

    def __init__(
        self,
        in_features: int,
        num_neurons: int,
        *,
        init_std: float,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        check_integer(in_features, "in_features")
        check_integer(num_neurons, "num_neurons")
        check_instance(generator, "generator", torch.Generator, or_none=True)
        check_positive(init_std, "init_std")
        self.linear = nn.utils.skip_init(nn.Linear, in_features, num_neurons, bias=False)
        self.linear.weight.data.normal_(0.0, init_std, generator=generator)
        self.register_buffer("bias", torch.zeros(num_neurons))
        self.num_features = num_neurons

    @property
    def weight(self) -> nn.Parameter:
        """Neurons w_i as rows, shape (m, d1)."""
        return self.linear.weight

    def forward(self, inputs: Tensor) -> Tensor:
        r"""Activations.

        Args:
            inputs: Shape (\*, d1).

        Returns:
            Shape (\*, m).
        """
        check_shape(inputs, "inputs", f"* {self.linear.in_features}")
        drives = self.linear(inputs)
        return relu(drives - self.bias) - relu(-drives - self.bias)


def next_biases(bias: Tensor, norms: Tensor, previous_norms: Tensor, *, growth: float, cap: float) -> Tensor:
    r"""Biases after a step of training.

    .. math:: b_i \leftarrow \min\Big( \max\big( (1 + g)\, b_i, \;
        b_i \|w_i(t+1)\| / \|w_i(t)\| \big), \; c\, \|w_i(t+1)\| \Big)

    Args:
        bias: b_i, shape (m,).
        norms: ||w_i(t+1)||, shape (m,).
        previous_norms: ||w_i(t)||, shape (m,).
        growth: g; the theory's is the learning rate over the number of atoms.
        cap: c.

    Returns:
        Shape (m,).

    Example:
        >>> one = torch.ones(3)
        >>> next_biases(0.3 * one, torch.tensor([1.0, 1.5, 0.5]), one, growth=0.1, cap=0.5).tolist()
        [0.33000001311302185, 0.45000001788139343, 0.25]
    """
    tiny = torch.finfo(norms.dtype).tiny
    ratio = norms / previous_norms.clamp(min=tiny)
    return torch.minimum(bias * ratio.clamp(min=1 + growth), cap * norms)
