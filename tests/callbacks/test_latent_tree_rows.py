"""A look at a latent tree as a table, against loops over latents."""

import pytest
import torch

from lightning_ssl_theory.callbacks import latent_tree_rows
from lightning_ssl_theory.callbacks.latent_tree_monitor import LatentLevel

POLARITIES = [
    torch.tensor([0.5, -0.8]),
    torch.tensor([0.9, 1.0, -0.7, 0.6]),
]  # a root, two latents, four leaves


def level(num_latents, generator):
    def draw(*shape):
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    nodes = torch.randint(-1, 3, (2, num_latents), generator=generator)
    return LatentLevel(
        normalized_correlation=draw(num_latents),
        selectivity=draw(num_latents, 3),
        alignment=draw(num_latents, 3),
        best_node=nodes[0].abs(),
        lucky_node=nodes[1],
        rank_one_share=draw(num_latents),
        rank_one_cosine=draw(num_latents),
        rank_one_scale=draw(num_latents),
        operator_trace=draw(num_latents),
        operator_norm=draw(num_latents),
    )


@pytest.mark.parametrize("seed", range(5))
def test_rows_are_those_of_a_loop(seed):
    generator = torch.Generator().manual_seed(seed)
    levels = {"level_1": level(2, generator), "level_2": level(1, generator)}
    rows = latent_tree_rows(levels, POLARITIES)
    to_root = {1: [0.5, -0.8], 2: [1.0]}
    assert [row["level"] for row in rows] == [1, 2]
    for row, seen in zip(rows, levels.values(), strict=True):
        latents = range(len(seen.lucky_node))
        known = [i for i in latents if seen.lucky_node[i] >= 0]
        assert row["nc"] == pytest.approx(sum(float(x) for x in seen.normalized_correlation) / len(latents))
        assert 10 ** row["log_operator_norm"] == pytest.approx(
            sum(map(float, seen.operator_norm)) / len(latents)
        )
        assert row["lucky"] == len(known)
        assert row["lucky_with_largest_nc"] == sum(
            int(seen.lucky_node[i]) == int(seen.best_node[i]) for i in known
        )
        assert row["lucky_with_largest_alignment"] == sum(
            float(seen.alignment[i, seen.lucky_node[i]]) == max(map(float, seen.alignment[i])) for i in known
        )
        assert row["leading_share"] == min(map(float, seen.rank_one_share))
        assert row["cosine_with_a"] == min(map(float, seen.rank_one_cosine))
        errors = [abs(float(seen.rank_one_scale[i]) / to_root[row["level"]][i] ** 2 - 1) for i in latents]
        assert row["error_of_size"] == pytest.approx(max(errors), rel=1e-5)
