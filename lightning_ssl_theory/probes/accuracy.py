"""Which samples a classifier gets right within its k highest scores."""

import torch
from torch import Tensor

from lightning_ssl_theory.checks import InputError, check_integer, check_shape, check_targets


def top_k_correct(scores: Tensor, targets: Tensor, k: int = 1) -> Tensor:
    """Whether the true class is among the k highest scores of each sample.

    Of equal scores the lower class index counts as the higher one, on every device: constant scores are right
    for k classes only.

    Args:
        scores: Shape (N, C); -inf is allowed, NaN is not.
        targets: Class of each row, shape (N,), integers in 0..C-1.
        k: Number of guesses, in 1..C.

    Returns:
        Shape (N,), bool; its sum adds over batches and ranks. O(N C) time and memory.

    Raises:
        InputError: If k lies outside 1..C or a score is NaN.

    Example:
        >>> top_k_correct(torch.tensor([[0.1, 0.9], [0.8, 0.2]]), torch.tensor([1, 1])).tolist()
        [True, False]
    """
    check_shape(scores, "scores", "N C+")
    num_classes = scores.shape[1]
    check_targets(targets, len(scores), num_classes)
    check_integer(k, "k", at_most=num_classes, advice="pass at most the number of classes")
    if scores.isnan().any():
        raise InputError("Expected `scores` without NaN, got some; check the classifier and the features.")
    column = targets.to(scores.device).long()[:, None]  # (N, 1)
    of_target = scores.gather(1, column)
    num_above = (scores > of_target).sum(1)
    is_lower_class = torch.arange(num_classes, device=scores.device) < column
    num_tied_before = ((scores == of_target) & is_lower_class).sum(1)
    return num_above + num_tied_before < k
