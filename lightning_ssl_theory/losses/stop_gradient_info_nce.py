r"""InfoNCE on inner products, whose gradient flows through the anchor only."""

import torch
from torch import Tensor, nn

from lightning_ssl_theory.checks import check_positive, check_shape
from lightning_ssl_theory.distributed import all_gather_rows, all_sum_with_grad, row_places
from lightning_ssl_theory.losses.pairwise import check_contrast


class StopGradientInfoNCELoss(nn.Module):
    r"""Cross-entropy of finding the anchor's other view among negatives, by inner products.

    .. math:: \mathrm{Sim}(x, x') = \langle f(x), \mathrm{stopgrad} f(x') \rangle, \qquad
        L = -\tau\, \mathrm{mean}_i \log \frac{e^{\mathrm{Sim}(x_{i+}, x_{i++}) / \tau}}
        {e^{\mathrm{Sim}(x_{i+}, x_{i++}) / \tau} + \sum_{j \ne i} e^{\mathrm{Sim}(x_{i+}, x_j) / \tau}}

    The negatives of an anchor are the other samples of all ranks: as they are, where `negatives` is given, else
    their second views. Departures from InfoNCELoss: (1) similarities are inner products, not distances, so the
    lengths of features are free and are bounded by weight decay; (2) only the first view is an anchor, and
    no gradient reaches the second view or the negatives; (3) negatives may be views of another kind.

    Cost: O(n_r N D) time and O(n_r N + N D) memory a rank. The value is the mean over the anchors of all ranks,
    equal on each; the parameters' gradients, once DistributedDataParallel has averaged them, are those of one
    process on the concatenated batch. Half precision is computed in float32.

    Args:
        temperature: :math:`\tau > 0`.

    Raises:
        InputError: If the temperature is not positive.

    References:
        Z. Wen, Y. Li, "Toward Understanding the Feature Learning Process of Self-supervised Contrastive
        Learning", 2021, section 2.2.

    Example:
        >>> z = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> loss = StopGradientInfoNCELoss()(z, z)  # log(1 + e^-1): similarity 1 to its positive, else 0
        >>> round(float(loss), 6)
        0.313262
    """

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__()
        check_positive(temperature, "temperature")
        self.temperature = temperature

    def forward(self, z1: Tensor, z2: Tensor, negatives: Tensor | None = None) -> Tensor:
        """Value of the loss.

        Args:
            z1: Anchors, the first views of the n_r samples of this rank, shape (n_r, D).
            z2: Their second views, shape (n_r, D).
            negatives: Features of the same samples, shape (n_r, D), row i a negative of all anchors but i; None
                takes `z2`.

        Returns:
            Scalar: mean over the anchors of all ranks.
        """
        return self._similarity_and_loss(z1, z2, negatives)[1]

    def parts(self, z1: Tensor, z2: Tensor, negatives: Tensor | None = None) -> dict[str, Tensor]:
        """The pull to the second view and the push from all candidates; together they are the loss.

        Args:
            z1: Anchors, shape (n_r, D).
            z2: Their second views, shape (n_r, D).
            negatives: As in `forward`.

        Returns:
            "alignment", minus the mean similarity to the second view, and "regularization", the rest.
        """
        similarity, loss = self._similarity_and_loss(z1, z2, negatives)
        return {"alignment": -similarity, "regularization": loss + similarity}

    def _similarity_and_loss(self, z1: Tensor, z2: Tensor, negatives: Tensor | None) -> tuple[Tensor, Tensor]:
        negatives = z2 if negatives is None else negatives
        check_shape(z1, "z1", "N D")
        for rows, name in ((z2, "z2"), (negatives, "negatives")):
            check_shape(rows, name, f"{z1.shape[0]} {z1.shape[1]}")
        places = row_places(z1)
        first, count = places.first, places.total
        check_contrast(count, "samples over all ranks")
        dtype = torch.promote_types(z1.dtype, torch.float32)
        with torch.autocast(z1.device.type, enabled=False):
            anchors = z1.to(dtype)
            positive = (anchors * z2.detach().to(dtype)).sum(1)
            candidates = all_gather_rows(negatives.detach().to(dtype), places)
            logits = (anchors / self.temperature) @ candidates.mT
            own = torch.arange(first, first + len(z1), device=z1.device).unsqueeze(1)
            logits = logits.scatter(1, own, (positive / self.temperature).unsqueeze(1))
            push = self.temperature * logits.logsumexp(1).sum()
            similarity, pushed = (all_sum_with_grad(torch.stack([positive.sum(), push])) / count).unbind()
            return similarity, pushed - similarity
