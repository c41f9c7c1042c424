"""Links and medoids of vectors: against numpy over all pairs."""

from __future__ import annotations

from fractions import Fraction

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plmsearch.analysis import grouping
from plmsearch.analysis import medoids as medoids_module
from plmsearch.analysis.grouping import by_communities, by_components
from plmsearch.analysis.links import Rows, exact_links
from plmsearch.analysis.medoids import medoids
from plmsearch.errors import ParameterError
from plmsearch.index.base import Block


def unit(n: int, seed: int, dim: int = 4) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def pairs_of(vectors: np.ndarray, groups: list[np.ndarray], cutoffs: np.ndarray, tile: int) -> set:
    found = [
        tuple(sorted(pair))
        for first, second in exact_links(vectors.__getitem__, groups, cutoffs, tile=tile)
        for pair in zip(first.tolist(), second.tolist(), strict=True)
    ]
    assert len(found) == len(set(found))
    return set(found)


@settings(max_examples=60)
@given(st.integers(0, 40), st.integers(0, 99), st.integers(1, 9), st.integers(1, 3))
def test_links_are_the_pairs_that_reach_both_cutoffs_in_one_group(n, seed, tile, n_groups):
    rng = np.random.default_rng(seed)
    vectors, cutoffs, group = unit(n, seed), rng.uniform(-1, 1, n), rng.integers(0, n_groups, n)
    cutoffs[rng.random(n) < 0.1] = np.nan
    scores = vectors.astype(float) @ vectors.astype(float).T
    most = np.maximum.outer(cutoffs, cutoffs)  # NaN if one is
    near = (scores >= most) & np.equal.outer(group, group) & ~np.isnan(most)
    near &= np.abs(scores - most) > 1e-6
    unsure = np.abs(scores - most) <= 1e-6
    got = pairs_of(vectors, [np.flatnonzero(group == g) for g in range(n_groups)], cutoffs, tile)
    assert {p for p in got if not unsure[p]} == set(zip(*np.nonzero(np.triu(near, 1)), strict=True))


def test_every_row_is_counted_as_done_once():
    done: list[int] = []
    cutoffs = np.array([0.1, np.nan, 0.3, 0.2, np.nan])
    list(exact_links(unit(5, 1).__getitem__, [np.arange(5)], cutoffs, done.append, tile=2))
    assert sum(done) == 5


@settings(max_examples=40)
@given(st.integers(1, 60), st.integers(0, 99), st.floats(-0.5, 1))
def test_components_are_those_of_networkx_however_few_links_are_joined_at_once(n, seed, cutoff):
    vectors = unit(n, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grouping, "_JOINED_AT_ONCE", 1)
        links = exact_links(vectors.__getitem__, [np.arange(n)], np.full(n, cutoff), tile=5)
        labels, n_links = by_components(links, n)
    oracle = nx.Graph()
    oracle.add_nodes_from(range(n))
    oracle.add_edges_from(pairs_of(vectors, [np.arange(n)], np.full(n, cutoff), 7))
    assert n_links == oracle.number_of_edges()
    expected = {min(c): c for c in nx.connected_components(oracle)}
    assert {int(name): set(np.flatnonzero(labels == name).tolist()) for name in set(labels)} == expected


@settings(max_examples=40)
@given(st.integers(3, 40), st.integers(0, 99), st.floats(0, 0.9), st.integers(0, 5))
def test_clusters_do_not_depend_on_the_order_of_rows(n, seed, cutoff, leiden_seed):
    vectors, order = unit(n, seed), np.random.default_rng(seed).permutation(n)
    names = [f"{i:04d}" for i in np.random.default_rng(1).permutation(n)]

    def clusters(rows: np.ndarray) -> set[frozenset[str]]:
        links = exact_links(vectors[rows].__getitem__, [np.arange(n)], np.full(n, cutoff), tile=6)
        of, _ = by_communities(links, [names[i] for i in rows], Fraction(1, 2), leiden_seed)
        return {frozenset(names[i] for i in rows[of == name]) for name in set(of)}

    assert clusters(np.arange(n)) == clusters(order)


@settings(max_examples=60)
@given(st.integers(1, 30), st.integers(1, 20), st.integers(0, 99), st.floats(-0.3, 0.9))
def test_adding_rows_joins_clusters_and_leaves_those_alone_that_it_does_not_touch(n, more, seed, cutoff):
    vectors = unit(n + more, seed)

    def clusters(size: int) -> dict[int, set[int]]:
        links = exact_links(vectors.__getitem__, [np.arange(size)], np.full(size, cutoff))
        labels, _ = by_components(links, size)
        return {int(name): set(np.flatnonzero(labels == name).tolist()) for name in set(labels)}

    before, after = clusters(n), clusters(n + more)
    for name, members in before.items():
        (now,) = {new for new, those in after.items() if members & those}
        assert members <= after[now]
        if after[now] == members:
            assert now == name
        else:  # joined: the oldest of the old names, for old rows come first
            assert now == min(old for old, those in before.items() if those <= after[now])


def test_leiden_refuses_more_links_than_it_holds(monkeypatch):
    monkeypatch.setattr(grouping, "MAX_LINKS", 3)
    links = exact_links(unit(4, 1).__getitem__, [np.arange(4)], np.full(4, -1.0))
    with pytest.raises(ParameterError, match="more than 3 links"):
        by_communities(links, list("abcd"), Fraction(1, 2), 0)


# --- Rows and medoids ----------------------------------------------------------------------------


def test_rows_are_found_wherever_they_lie():
    vectors = unit(6, 2)
    blocks = [Block(vectors[:2], np.array([10, 4])), Block(vectors[2:], np.array([7, 1, 30, 2]))]
    rows = Rows(blocks, np.array([30, 99, 4, 0, 1, 10]))
    assert rows.places.tolist() == [0, 2, 4, 5]
    np.testing.assert_array_equal(rows.take(np.arange(4)), vectors[[4, 1, 3, 0]])
    np.testing.assert_array_equal(rows.take(np.array([2, 0])), vectors[[3, 4]])
    assert len(Rows([], np.array([1, 2]))) == 0


@settings(max_examples=60)
@given(st.integers(1, 50), st.integers(0, 99), st.integers(1, 12), st.integers(2, 60))
def test_the_medoid_has_the_highest_mean_score_to_the_others(n, seed, n_clusters, at_once):
    vectors = unit(n, seed, dim=5)
    labels = np.random.default_rng(seed).integers(0, n_clusters, n)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(medoids_module, "_ROWS_AT_ONCE", at_once)
        medoid, score = medoids(vectors.__getitem__, labels)
    exact = vectors.astype(float) @ vectors.astype(float).T
    for name in set(labels):
        members = np.flatnonzero(labels == name)
        (one,) = set(medoid[members].tolist())
        means = (exact[np.ix_(members, members)].sum(axis=1) - 1) / max(len(members) - 1, 1)
        best = means.max()
        assert one in members and means[members == one][0] >= best - 1e-5
        assert one <= members[means >= best - 1e-8].min()  # of equally near ones the first
        np.testing.assert_allclose(
            score[members], np.where(members == one, 1, exact[members, one]), atol=1e-6
        )


def test_of_two_members_the_first_is_the_medoid():
    for seed in range(30):
        assert medoids(unit(2, seed).__getitem__, np.array([0, 0]))[0].tolist() == [0, 0]
