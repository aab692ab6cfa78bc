"""Size of the largest clique of a graph, between a clique that is found and a colouring that is.

A clique needs as many colours as it has nodes, so the two bound each other; where they meet both are exact.
"""

import time
from typing import NamedTuple

import networkx as nx
import numpy as np
from numpy.typing import NDArray

Adjacency = NDArray[np.bool_]
"""Symmetric (n, n), with an empty diagonal."""


class CliqueSize(NamedTuple):
    """Bounds of the number of nodes of a graph's largest clique.

    Attributes:
        lower: Nodes of a clique.
        upper: Colours of a colouring, or `lower` where every maximal clique was tried.
    """

    lower: int
    upper: int


def clique_size(
    adjacency: Adjacency, *, num_starts: int = 8, exact_nodes: int = 100, seconds: float = 1.0
) -> CliqueSize:
    """Bounds of the largest clique.

    Args:
        adjacency: Of n nodes.
        num_starts: Most greedy cliques, from the nodes with most neighbours.
        exact_nodes: Graphs of at most so many nodes are searched for all maximal cliques where the bounds differ.
        seconds: Time for such a search, after which the bounds stay apart.

    Returns:
        The bounds. O((s + 1) n^2) time for s starts, beside the search.
    """
    count = len(adjacency)
    if not count:
        return CliqueSize(0, 0)
    starts = np.argsort(-adjacency.sum(1), kind="stable")[:num_starts]
    upper, lower = num_colours(adjacency), 0
    for start in starts:
        lower = max(lower, greedy_clique(adjacency, start))
        if lower == upper:
            return CliqueSize(lower, upper)
    if count <= exact_nodes:
        deadline = time.monotonic() + seconds
        for clique in nx.find_cliques(nx.from_numpy_array(adjacency)):
            lower = max(lower, len(clique))
            if lower == upper or time.monotonic() > deadline:
                return CliqueSize(lower, upper)
        return CliqueSize(lower, lower)
    return CliqueSize(lower, upper)


def greedy_clique(adjacency: Adjacency, start: int) -> int:
    """Nodes of a clique that grows from one by the candidate with most neighbours among the candidates."""
    is_candidate = adjacency[start].copy()
    kept, size = adjacency[:, is_candidate].sum(1), 1
    while is_candidate.any():
        chosen = np.where(is_candidate, kept, -1).argmax()
        dropped = is_candidate & ~adjacency[chosen]
        kept -= adjacency[:, dropped].sum(1)
        is_candidate &= adjacency[chosen]
        size += 1
    return size


def num_colours(adjacency: Adjacency) -> int:
    """Colours of a greedy colouring; next comes the node whose neighbours have most colours, then most neighbours."""
    count = len(adjacency)
    is_taken = np.zeros((count, count), dtype=bool)  # colour, node
    urgency, num_used = adjacency.sum(1), 0
    for _ in range(count):
        node = urgency.argmax()
        colour = int(is_taken[:, node].argmin())
        num_used = max(num_used, colour + 1)
        urgency += count * (adjacency[node] & ~is_taken[colour])
        is_taken[colour] |= adjacency[node]
        urgency[node] = -2 * count * count - 1  # more than neighbours can add: never again
    return num_used
