r"""Supervised contrast: the samples of an anchor's class are its positives."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from lightning_ssl_theory.checks import InputError, check_positive, check_targets
from lightning_ssl_theory.distributed import RowPlaces, all_gather_rows, all_sum_with_grad, row_places
from lightning_ssl_theory.losses.batch_moments import two_views
from lightning_ssl_theory.losses.negatives import contrast_with_all
from lightning_ssl_theory.losses.pairwise import check_contrast
from lightning_ssl_theory.losses.sample_rows import unit_rows


class SupervisedContrastiveLoss(nn.Module):
    r"""Mean log-loss of finding an anchor's class mates, in both views, among all other outputs.

    .. math::
        L = \mathrm{mean}_i\, \frac{-1}{|P(i)|} \sum_{p \in P(i)}
        \log \frac{e^{z_i \cdot z_p / \tau}}{\sum_{a \ne i} e^{z_i \cdot z_a / \tau}}

    over the 2N outputs i of both views, divided by their lengths, where P(i) are the other outputs of i's class, its
    own other view among them. A sample without a label, marked by -1, is a class of its own: its positive
    is its other view alone, and all others are its negatives. Without any labels the loss is therefore `InfoNCELoss`.

    Classes are those of the samples of all ranks: the value is equal on each, and the parameters' gradients, once
    DistributedDataParallel has averaged them, are those of one process on the concatenated batch. Half precision is
    computed in float32.

    Cost: O(n_r N D) time and O((N + C) D) memory a rank, C the number of classes present: positives enter by the sums
    of their classes, negatives by blocks.

    Args:
        temperature: :math:`\tau > 0`.

    Raises:
        InputError: If the temperature is not positive.

    References:
        Khosla et al., "Supervised Contrastive Learning", 2020, eq. 2 (the sum over positives outside the logarithm).

    Example:
        >>> z = torch.tensor([[3.0, 0.0], [0.0, 2.0]])
        >>> loss = SupervisedContrastiveLoss(temperature=1.0)
        >>> round(float(loss(z, z, torch.tensor([0, 1]))), 6)  # log(1 + 2 e^-1), as of InfoNCE
        0.551445
        >>> round(float(loss(z, z, torch.tensor([0, 0]))), 6)  # log(e + 2) - 1/3
        1.218111
    """

    takes_labels: ClassVar[bool] = True

    def __init__(self, temperature: float = 0.1) -> None:
        super().__init__()
        check_positive(temperature, "temperature")
        self.temperature = temperature

    def forward(self, z1: Tensor, z2: Tensor, labels: Tensor) -> Tensor:
        """Value of the loss.

        Args:
            z1: First views of the n_r samples of this rank, shape (n_r, D).
            z2: Second views of the same samples, shape (n_r, D).
            labels: Their classes, integers of shape (n_r,); -1 for a sample without label.

        Returns:
            Scalar: mean over the anchors of all ranks.

        Raises:
            InputError: If shapes differ, labels are no classes, or there are less than two samples over all ranks.
        """
        return self._similarity_and_loss(z1, z2, labels)[1]

    def parts(self, z1: Tensor, z2: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """The pull to the outputs of one's class and the push from all; together they are the loss.

        Args:
            z1: As in `forward`.
            z2: As in `forward`.
            labels: As in `forward`.

        Returns:
            "alignment", the mean over anchors and their positives of one minus the cosine, over the temperature, and
            "regularization", the rest.

        Raises:
            InputError: As in `forward`.
        """
        similarity, loss = self._similarity_and_loss(z1, z2, labels)
        alignment = 1 / self.temperature - similarity
        return {"alignment": alignment, "regularization": loss - alignment}

    def _similarity_and_loss(self, z1: Tensor, z2: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        z1, z2 = two_views(z1, z2)
        labels = _checked_labels(labels, len(z1))
        places = row_places(z1)
        check_contrast(places.total, "samples over all ranks")
        with torch.autocast(z1.device.type, enabled=False):
            z1, z2 = views = unit_rows(torch.stack([z1, z2]))
            # finds the other view; another positive costs the difference of their similarities
            contrast = contrast_with_all(views, places, temperature=self.temperature)
            other_view = 2 * (z1 * z2).sum() / self.temperature
            positive = _mean_positive(z1, z2, labels.to(z1.device), places).sum() / self.temperature
            sums = torch.stack([positive, contrast + other_view - positive])
            similarity, loss = (all_sum_with_grad(sums) / (2 * places.total)).unbind()
            return similarity, loss


def _mean_positive(z1: Tensor, z2: Tensor, labels: Tensor, places: RowPlaces) -> Tensor:
    # Mean inner product of each output with the other ones of its class, (2 n_r,).
    classes, own, counts = _classes(labels, places)
    both, own, is_labelled = torch.cat([z1, z2]), own.repeat(2), (labels >= 0).repeat(2)
    sums = both.new_zeros(len(classes), both.shape[1]).index_add(0, own[is_labelled], both[is_labelled])
    sums = all_sum_with_grad(sums)
    with_class = (both * sums[own]).sum(1) - both.square().sum(1)
    return torch.where(
        is_labelled, with_class / (2 * counts[own] - 1).clamp(min=1), (z1 * z2).sum(1).repeat(2)
    )


def _classes(labels: Tensor, places: RowPlaces) -> tuple[Tensor, Tensor, Tensor]:
    # Labels present on any rank, all unlabelled samples as one; index of each own sample's, and how many have it.
    everyone = all_gather_rows(labels, places)
    classes, index, counts = everyone.unique(return_inverse=True, return_counts=True)
    return classes, index[places.first : places.first + len(labels)], counts


def _checked_labels(labels: Tensor, num_rows: int) -> Tensor:
    is_integer = isinstance(labels, Tensor) and not labels.is_complex() and not labels.is_floating_point()
    are_classes = is_integer and labels.dtype != torch.bool
    check_targets(labels.clamp(min=0) if are_classes else labels, num_rows, None, "labels")
    labels = labels.long()  # in 8 bits without a sign no label would compare with -1
    if (labels < -1).any():
        raise InputError(
            f"Expected `labels` of at least -1, got {int(labels.min())}; number classes from 0, and mark samples "
            "without label by -1."
        )
    return labels
