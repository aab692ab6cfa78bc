"""A linear layer whose weight is to stay orthonormal, and says so when nobody keeps it."""

import warnings

import torch
from torch import Tensor, nn

from lightning_ssl_theory.checks import check_integer, check_shape, check_word
from lightning_ssl_theory.manifolds.orthonormal_columns import orthogonality_drift
from lightning_ssl_theory.manifolds.orthonormal_steps import OrthonormalConstraint

_LARGEST_DRIFT = 1e-4


class OrthonormalLinear(nn.Linear):
    r"""Linear map y = W x without bias, W (H, D) with orthonormal columns, or orthonormal rows where H < D.

    At the start W is uniformly distributed among such matrices. :func:`keep_orthonormal` lets any optimizer keep it so;
    a training pass that finds that none does warns once. (Under `torch.compile` nothing is looked at; nor are changes
    made through `weight.data` seen before the first other one. `OrthogonalityMonitor` sees both.)

    Args:
        in_features: D.
        out_features: H.
        constraint: how it is kept: "grassmann", "stiefel" or "polar", see `manifolds.orthonormal_steps`.

    Raises:
        InputError: If a width is not positive or the constraint is unknown.

    Example:
        >>> layer = OrthonormalLinear(2, 5)
        >>> bool(orthogonality_drift(layer.weight.detach()) < 1e-6)
        True
    """

    def __init__(
        self, in_features: int, out_features: int, constraint: OrthonormalConstraint = "stiefel"
    ) -> None:
        check_integer(in_features, "in_features")
        check_integer(out_features, "out_features")
        check_word(constraint, "constraint", OrthonormalConstraint)
        self._has_warned = False
        super().__init__(in_features, out_features, bias=False)
        self.constraint: OrthonormalConstraint = constraint

    def reset_parameters(self) -> None:
        """Draw the weight anew."""
        nn.init.orthogonal_(self.weight)
        self.note_orthonormal()

    def note_orthonormal(self) -> None:
        """Remember that the weight is orthonormal as it is now."""
        self._known = self._state_of_weight()

    def forward(self, input: Tensor) -> Tensor:
        r"""The map.

        Args:
            input: (\*, D).

        Returns:
            (\*, H).

        Raises:
            InputError: If the input has another width.
        """
        check_shape(input, "input", f"* {self.in_features}")
        if self.training and torch.is_grad_enabled() and not torch.compiler.is_compiling():
            self._look_at_drift()
        return super().forward(input)

    # Costs nothing where the weight was not touched since it was known to be orthonormal, by its version; what another
    # library puts in the weight's place for a pass (no parameter) is its own matter.
    def _look_at_drift(self) -> None:
        weight = self.weight
        if self._has_warned or not isinstance(weight, nn.Parameter) or not weight.requires_grad:
            return
        if self._known == self._state_of_weight() or weight.is_meta or weight.ndim != 2:
            return
        drift = orthogonality_drift(weight.detach()).item()
        self.note_orthonormal()
        if not drift <= _LARGEST_DRIFT:
            self._has_warned = True
            warnings.warn(
                f"Expected an orthonormal weight in a layer OrthonormalLinear(constraint={self.constraint!r}), got "
                f"||W^T W - I|| = {drift:.2g}: its optimizer does not keep it; call "
                "keep_orthonormal(optimizer, module) where the optimizer is made.",
                stacklevel=2,
            )

    def _state_of_weight(self) -> tuple[int, int]:
        # a tensor of inference mode has no version
        return id(self.weight), 0 if self.weight.is_inference() else self.weight._version
