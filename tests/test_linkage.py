"""Single linkage against the definition, pair by pair."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plmsearch.repertoire.linkage import (
    NUCLEOTIDES,
    close_pairs,
    components,
    encode,
    forest,
    mismatches,
    most_mismatches,
    nearest,
    single_linkage,
)


def differ(first: str, second: str) -> int:
    return sum(a != b and "N" not in (a, b) for a, b in zip(first, second, strict=True))


def slow_linkage(strings: list[str], most: int) -> list[int]:
    """Flood from each string that has no group yet."""
    groups = [-1] * len(strings)
    for start in range(len(strings)):
        if groups[start] >= 0:
            continue
        waiting = [start]
        while waiting:
            at = waiting.pop()
            groups[at] = start
            waiting += [i for i, g in enumerate(groups) if g < 0 and differ(strings[at], strings[i]) <= most]
    return groups


@st.composite
def junctions(draw, most=30):
    length = draw(st.integers(1, 12))
    return draw(st.lists(st.text("ACGTN", min_size=length, max_size=length), min_size=1, max_size=most))


@given(junctions(), st.integers(0, 6))
def test_groups_are_those_of_the_definition(strings, most):
    assert single_linkage(encode(strings, NUCLEOTIDES), most).tolist() == slow_linkage(strings, most)


@given(junctions(), st.integers(0, 12))
def test_a_forest_holds_the_groups_of_every_distance(strings, most):
    codes = encode(strings, NUCLEOTIDES)
    found = forest(codes, most)
    assert len(found.distance) == len(strings) - len(set(slow_linkage(strings, most)))
    for level in range(most + 1):
        assert found.groups(len(strings), level).tolist() == slow_linkage(strings, level)


def test_a_forest_over_many_tiles_holds_them_too():
    rng = np.random.default_rng(0)
    founders = rng.integers(1, 5, (60, 24)).astype(np.uint8)
    codes = founders[rng.integers(0, 60, 4500)]
    hit = rng.random(codes.shape) < 0.1
    codes[hit] = rng.integers(0, 5, int(hit.sum())).astype(np.uint8)
    found = forest(codes, 5)
    for level in (0, 2, 3, 5):
        assert found.groups(len(codes), level).tolist() == single_linkage(codes, level).tolist()


@pytest.mark.parametrize("n", [49, 300, 2500])
@pytest.mark.parametrize("letters", ["ACGT", "ACGTN"], ids=["known", "with unknown"])
def test_pairs_of_a_large_block_are_those_of_the_definition(n, letters):
    rng = np.random.default_rng(n)
    founders = rng.choice(list(letters), (n // 10, 30))
    rows = founders[rng.integers(0, len(founders), n)].copy()
    hit = rng.random(rows.shape) < 0.08
    rows[hit] = rng.choice(list(letters), int(hit.sum()))
    strings = ["".join(row) for row in rows]
    codes = encode(strings, NUCLEOTIDES)
    found = {
        (int(a), int(b))
        for first, second in close_pairs(codes, 4)
        for a, b in zip(first, second, strict=True)
    }
    first, second = np.triu_indices(n, 1)
    close = (codes[first] != codes[second]) & (codes[first] > 0) & (codes[second] > 0)
    near = close.sum(axis=1) <= 4
    assert found == set(zip(first[near].tolist(), second[near].tolist(), strict=True))
    assert len(found) > n // 10


def test_no_pair_comes_twice():
    codes = encode(["ACGT"] * 100, NUCLEOTIDES)
    assert sum(len(first) for first, _ in close_pairs(codes, 0)) == 100 * 99 // 2


def test_a_string_of_unknown_letters_is_near_to_all():
    strings = ["N" * 5] + ["".join(s) for s in itertools.product("AC", repeat=5)] * 2
    assert set(single_linkage(encode(strings, NUCLEOTIDES), 0).tolist()) == {0}
    assert set(single_linkage(encode(["NNN"] * 60, NUCLEOTIDES), 0).tolist()) == {0}


@given(st.integers(1, 20), st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=40))
def test_components_do_not_depend_on_the_order_of_links(n, links):
    links = [(a % n, b % n) for a, b in links]
    first, second = (np.array([link[i] for link in links], np.int64) for i in (0, 1))
    start = np.arange(n)
    together = components(start, first, second)
    assert components(start, first[::-1], second[::-1]).tolist() == together.tolist()
    assert components(together, first, second).tolist() == together.tolist()
    assert all(together[a] == together[b] for a, b in links)
    assert (together <= start).all()
    assert start.tolist() == list(range(n))


@pytest.mark.parametrize("threshold", [0.0, 0.04, 0.1, 0.15, 0.2, 1 / 3, 0.7, 1.0])
def test_the_threshold_is_met_in_double_precision_as_change_o_does(threshold):
    for length in range(1, 130):
        most = most_mismatches(threshold, length)
        assert most / length <= threshold
        assert most == length or (most + 1) / length > threshold


def test_nearest_leaves_the_row_itself_out():
    codes = encode(["AAAA", "AAAA", "CCCC", "CCCA"], NUCLEOTIDES)
    assert nearest(codes, np.array([0, 2, 3])).tolist() == [0, 1, 1]
    assert mismatches(codes[0], codes[3]) == 3
