"""A look of LatentTreeMonitor as a table: one row a level, of numbers."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from lightning_ssl_theory.checks import check_instance
from lightning_ssl_theory.data.latent_tree_sampler import root_correlations

from .latent_tree_monitor import LatentLevel


def latent_tree_rows(
    levels: Mapping[str, LatentLevel], polarities: Sequence[Tensor]
) -> list[dict[str, float]]:
    r"""What the levels of a latent tree know, and whether Theorem 6 holds of them.

    Args:
        levels: `LatentTreeMonitor.levels`, the lowest first.
        polarities: Of the tree, `LatentTreeDataModule.polarities`.

    Returns:
        A row for each level:

        - `level`: 1 for the parents of the leaves;
        - `nc`, `log_operator_norm`: mean correlation over the latents, and log10 of their mean ||OP_mu||_F;
        - `lucky`: number of latents with a lucky node; `lucky_with_largest_nc`, `lucky_with_largest_alignment`: of
          those whose lucky node has the largest correlation now, or the largest :math:`w_j^\top a_\mu`;
        - `leading_share`, `cosine_with_a`, `error_of_size`: of Theorem 6, rank one, direction :math:`a_\mu` and size
          :math:`\rho_{0\mu}^2 \|a_\mu\|^2` of the children's covariance over roots, in the latent where each is worst;
          the error is relative.

    References: Y. Tian, L. Yu, X. Chen, S. Ganguli, "Understanding Self-supervised Learning with Dual Deep
    Networks", 2020, Sections 5 and 6.
    """
    check_instance(levels, "levels", Mapping)
    to_root = root_correlations(polarities)[-2 : -2 - len(levels) : -1]  # from above the leaves up
    rows = []
    for number, (seen, correlations) in enumerate(zip(levels.values(), to_root, strict=True), start=1):
        is_known = seen.lucky_node >= 0
        strongest = seen.alignment.argmax(1)
        numbers = {
            "nc": seen.normalized_correlation.mean(),
            "log_operator_norm": seen.operator_norm.mean().log10(),
            "lucky": is_known.sum(),
            "lucky_with_largest_nc": (is_known & (seen.lucky_node == seen.best_node)).sum(),
            "lucky_with_largest_alignment": (is_known & (seen.lucky_node == strongest)).sum(),
            "leading_share": seen.rank_one_share.min(),
            "cosine_with_a": seen.rank_one_cosine.min(),
            "error_of_size": (seen.rank_one_scale / correlations.square() - 1).abs().max(),
        }
        rows.append({"level": number} | {name: value.item() for name, value in numbers.items()})
    return rows
