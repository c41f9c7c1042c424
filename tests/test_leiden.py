"""Leiden communities: against every partition of small graphs, and against what an optimum has to hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction

import networkx as nx
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from plmsearch.analysis.grouping import by_communities
from plmsearch.analysis.leiden import communities

DENSITIES = (Fraction(1, 2), Fraction(1, 4), Fraction(3, 4), Fraction(1, 3), Fraction(1))


def graph(n: int, share: float, seed: int) -> np.ndarray:
    """A random graph as a matrix."""
    links = np.triu(np.random.default_rng(seed).random((n, n)) < share, 1)
    return (links | links.T).astype(int)


def found(matrix: np.ndarray, density: Fraction, seed: int = 0) -> list[int]:
    return communities([np.flatnonzero(row).tolist() for row in matrix], density, seed)


def quality(matrix: np.ndarray, labels: Sequence[int], density: Fraction) -> Fraction:
    """Links inside communities, less the density times the pairs inside them: the definition."""
    same = np.equal.outer(np.array(labels), np.array(labels))
    inside, sizes = int((matrix * same).sum()) // 2, np.unique(labels, return_counts=True)[1]
    return inside - density * int((sizes * (sizes - 1) // 2).sum())


def partitions(n: int) -> Iterator[list[int]]:
    def extended(start: list[int]) -> Iterator[list[int]]:
        if len(start) == n:
            yield start
            return
        for label in range(max(start, default=-1) + 2):
            yield from extended([*start, label])

    return extended([])


graphs = st.builds(graph, st.integers(1, 40), st.floats(0, 1), st.integers(0, 999))


@settings(max_examples=60)
@given(graphs, st.sampled_from(DENSITIES), st.integers(0, 3))
def test_no_move_of_a_node_and_no_union_of_two_communities_is_better(matrix, density, seed):
    labels = found(matrix, density, seed)
    best = quality(matrix, labels, density)
    names = sorted(set(labels))
    for node in range(len(labels)):
        for name in [*names, -1]:
            assert quality(matrix, [*labels[:node], name, *labels[node + 1 :]], density) <= best
    for one in names:
        for other in names:
            assert quality(matrix, [one if x == other else x for x in labels], density) <= best


@settings(max_examples=60)
@given(graphs, st.sampled_from(DENSITIES))
def test_communities_are_connected_and_named_by_their_smallest_node(matrix, density):
    labels = found(matrix, density)
    whole = nx.from_numpy_array(matrix)
    for name in set(labels):
        members = [node for node, label in enumerate(labels) if label == name]
        assert name == members[0]
        assert nx.is_connected(whole.subgraph(members))


def test_small_graphs_get_the_best_of_all_partitions_or_nearly():
    n_best = 0
    for seed in range(60):
        matrix, density = graph(6, 0.2 + seed % 7 / 10, seed), DENSITIES[seed % 5]
        best = max(quality(matrix, p, density) for p in partitions(6))
        got = quality(matrix, found(matrix, density), density)
        n_best += got == best
        assert got >= best - 1
    assert n_best >= 54


def test_planted_communities_are_found():
    rng = np.random.default_rng(7)
    truth = np.arange(200) // 20
    share = np.where(np.equal.outer(truth, truth), 0.9, 0.03)
    links = np.triu(rng.random((200, 200)) < share, 1)
    labels = found((links | links.T).astype(int), Fraction(1, 2))
    assert labels == (truth * 20).tolist()


def test_the_same_seed_gives_the_same_communities():
    matrix = graph(60, 0.15, 4)
    assert found(matrix, Fraction(1, 4), 3) == found(matrix, Fraction(1, 4), 3)


def test_another_component_moves_nothing():
    one, other = graph(30, 0.2, 1), graph(25, 0.3, 2)
    links = [np.nonzero(np.triu(one)), np.array(np.nonzero(np.triu(other))) + 30]
    names = [f"{i:02d}" for i in np.random.default_rng(0).permutation(55)]
    alone, _ = by_communities(iter(links[:1]), names[:30], Fraction(1, 3), 0)
    together, _ = by_communities(iter(links), names, Fraction(1, 3), 0)
    np.testing.assert_array_equal(together[:30], alone)


def test_nobody_is_in_no_community():
    assert communities([], Fraction(1, 2)) == []
    assert communities([[]], Fraction(1, 2)) == [0]
    assert communities([[], []], Fraction(1, 2)) == [0, 1]
