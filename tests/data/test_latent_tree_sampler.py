"""The sampler's laws: marginals, correlations along paths, views independent given the root."""

import itertools

import pytest
import torch

from lightning_ssl_theory.data import random_polarities, root_correlations, sample_latents, sample_roots
from lightning_ssl_theory.data.latent_tree_sampler import latents_from_uniforms

NUM_SAMPLES = 40_000
SPREAD = 5 / NUM_SAMPLES**0.5  # five standard deviations of a correlation or a mean of signs


def tree(depth=2, num_children=3, seed=0, **arguments):
    generator = torch.Generator().manual_seed(seed)
    arguments = {"polarity": (0.3, 0.9)} | arguments
    return random_polarities(depth, num_children, **arguments, generator=generator), generator


def path_product(polarities, num_children, a, b):
    """Product of the polarities between two nodes, each (level, index), by walking up from the lower one."""
    product = 1.0
    while a != b:
        if a[0] < b[0]:
            a, b = b, a
        level, index = a
        product *= float(polarities[level - 1][index])
        a = (level - 1, index // num_children)
    return product


def test_walk_by_hand():
    polarities = [torch.tensor([0.5, -0.5]), torch.tensor([0.1, 0.2, 0.3, 0.4])]
    assert path_product(polarities, 2, (2, 0), (2, 3)) == pytest.approx(0.1 * 0.5 * -0.5 * 0.4)
    assert path_product(polarities, 2, (1, 1), (2, 2)) == pytest.approx(0.3)


def test_marginals_and_correlations_are_products_along_the_path():
    polarities, generator = tree()
    levels = sample_latents(sample_roots(NUM_SAMPLES, generator=generator), polarities, generator=generator)
    signs = torch.cat(levels, dim=1).double() * 2 - 1
    assert signs.mean(0).abs().max() < SPREAD  # a uniform root makes every node uniform
    nodes = [(level, index) for level in range(3) for index in range(3**level)]
    found = signs.mT @ signs / NUM_SAMPLES
    for (i, a), (j, b) in itertools.product(enumerate(nodes), repeat=2):
        assert float(found[i, j]) == pytest.approx(path_product(polarities, 3, a, b), abs=SPREAD), (a, b)


def test_root_correlations_are_products_along_the_path():
    polarities, _ = tree(depth=3, num_children=2)
    for level, products in enumerate(root_correlations(polarities)):
        expected = [path_product(polarities, 2, (0, 0), (level, index)) for index in range(2**level)]
        assert products.tolist() == pytest.approx(expected, rel=1e-6)


def test_views_are_independent_given_the_root():
    polarities, generator = tree(polarity=(0.5, 0.7))
    roots = sample_roots(NUM_SAMPLES, generator=generator)
    first, second = (sample_latents(roots, polarities, generator=generator) for _ in range(2))
    assert (first[0] == second[0]).all()
    x, y = (view[-1].double() * 2 - 1 for view in (first, second))
    to_root = root_correlations(polarities)[-1].double()
    across = x.mT @ y / NUM_SAMPLES
    assert (across - to_root[:, None] * to_root).abs().max() < SPREAD  # through the root only
    for root in (False, True):
        given = [view[roots == root] for view in (x, y)]
        x0, y0 = (view - view.mean(0) for view in given)
        assert (x0.mT @ y0 / len(x0)).abs().max() < 5 / len(x0) ** 0.5
    within = x.mT @ x / NUM_SAMPLES
    assert (within - across).abs().max() > 10 * SPREAD, "the views share more than the root"


def test_extreme_polarities_copy_and_oppose():
    roots = torch.tensor([False, True])
    levels = sample_latents(roots, [torch.tensor([1.0, -1.0]), torch.tensor([-1.0, 1.0, 1.0, -1.0])])
    assert levels[2].tolist() == [[True, False, True, False], [False, True, False, True]]


def test_equal_generators_give_equal_trees_and_samples():
    (polarities, first), (again, second) = tree(seed=3), tree(seed=3)
    assert all(torch.equal(a, b) for a, b in zip(polarities, again, strict=True))
    roots = sample_roots(5, generator=first)
    assert torch.equal(roots, sample_roots(5, generator=second))
    other = sample_latents(roots, polarities, generator=torch.Generator().manual_seed(9))
    samples = [sample_latents(roots, polarities, generator=g) for g in (first, second)]
    assert all(torch.equal(a, b) for a, b in zip(*samples, strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(samples[0], other, strict=True))


def test_nothing_is_drawn_from_the_global_generator():
    state = torch.get_rng_state()
    polarities, generator = tree()
    sample_latents(sample_roots(4, generator=generator), polarities, generator=generator)
    assert torch.equal(torch.get_rng_state(), state)


def test_uniforms_decide_one_node_each():
    polarities = [torch.tensor([0.0, 0.5])]  # flips below 1/2 and 1/4
    uniforms = torch.tensor([[0.49, 0.24], [0.51, 0.26]])
    levels = latents_from_uniforms(torch.tensor([False, True]), uniforms, polarities)
    assert levels[1].tolist() == [[True, True], [True, True]]


def test_signs_and_range():
    fixed, _ = tree(depth=6, num_children=2, polarity=(0.9, 1.0), random_signs=False)
    signed, _ = tree(depth=6, num_children=2, polarity=(0.9, 1.0))
    assert [len(level) for level in fixed] == [2**level for level in range(1, 7)]
    assert all((level >= 0.9).all() and (level <= 1).all() for level in fixed)
    values = torch.cat(signed)
    assert ((values.abs() >= 0.9) & (values.abs() <= 1)).all()
    assert 0.3 < (values < 0).double().mean() < 0.7  # 126 signs
    negative, _ = tree(polarity=(-0.5, -0.5), random_signs=False)
    assert all((level == -0.5).all() for level in negative)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0,), "Expected `depth` of at least 1, got 0"),
        ((2, 1), "Expected `num_children` of at least 2, got 1"),
    ],
)
def test_rejected_trees(arguments, message):
    with pytest.raises(ValueError, match=message):
        random_polarities(*arguments)


@pytest.mark.parametrize("polarity", [(-1.1, 0.0), (0.5, 1.5), (0.9, 0.8), (float("nan"), 1.0)])
def test_rejected_ranges(polarity):
    with pytest.raises(ValueError, match=r"Expected `polarity` (to be a range inside|in) \[-1, 1\], got"):
        random_polarities(2, polarity=polarity)


@pytest.mark.parametrize("polarity", [0.9, (0.9,), (0.1, 0.2, 0.3), None])
def test_rejects_what_is_no_range(polarity):
    with pytest.raises(
        TypeError, match=r"Expected `polarity` to be a pair of numbers, got .*; pass \(smallest, largest\)"
    ):
        random_polarities(2, polarity=polarity)


@pytest.mark.parametrize(
    ("polarities", "message"),
    [
        ([], "Expected `polarities` of at least 1 elements, got 0"),
        ([torch.tensor([0.5])], "Expected `num_children` of at least 2, got 1"),
        ([torch.tensor([0.5, -1.5])], r"Expected `polarities` in \[-1, 1\], got -1\.5"),
        ([torch.tensor([0.5, float("nan")])], r"Expected `polarities` in \[-1, 1\], got nan"),
        ([torch.zeros(2), torch.zeros(3)], r"Expected `polarities\[1\]` of shape \(4,\), got \(3,\)"),
    ],
)
def test_rejected_polarities(polarities, message):
    with pytest.raises(ValueError, match=message):
        sample_latents(torch.tensor([True]), polarities)
    with pytest.raises(ValueError, match=message):
        root_correlations(polarities)
