"""What groups have in common."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plmsearch.repertoire.sharing import Members, members_of, shared, tally

GROUP = st.dictionaries(st.integers(0, 12), st.integers(1, 5), min_size=1)


def members(sizes: dict[int, int]) -> Members:
    codes = sorted(sizes)
    return Members(np.array(codes, dtype=np.int32), np.array([sizes[c] for c in codes]))


@given(GROUP, GROUP)
def test_measures_are_those_of_the_definitions(a, b):
    (found,) = shared([members(a), members(b)], 0)
    assert found.jaccard == pytest.approx(len(a.keys() & b.keys()) / len(a.keys() | b.keys()))
    n_a, n_b = sum(a.values()), sum(b.values())
    above = 2 * sum(a[c] * b[c] for c in a.keys() & b.keys())
    below = (sum(x * x for x in a.values()) / n_a**2 + sum(x * x for x in b.values()) / n_b**2) * n_a * n_b
    assert found.morisita_horn == pytest.approx(above / below)
    assert (found.n_first, found.n_second) == (len(a), len(b))


@given(GROUP)
def test_a_group_is_like_itself(a):
    (found,) = shared([members(a), members(a)], 0)
    assert (found.jaccard, found.morisita_horn) == (1, pytest.approx(1))


def test_the_index_at_a_depth_is_that_of_all_samples_of_that_depth():
    a, b, depth = {0: 3, 1: 1, 2: 1}, {0: 1, 2: 2, 3: 1}, 2
    draws = []
    for sizes in (a, b):
        units = [code for code, size in sizes.items() for _ in range(size)]
        draws.append([set(one) for one in combinations(units, depth)])
    both = np.mean([len(x & y) for x in draws[0] for y in draws[1]])
    either = np.mean([len(x | y) for x in draws[0] for y in draws[1]])
    (found,) = shared([members(a), members(b)], depth)
    assert found.jaccard_at_depth == pytest.approx(both / either)
    assert found.depth == depth


def test_there_is_no_index_at_a_depth_that_a_group_does_not_have():
    (found,) = shared([members({0: 9}), members({0: 2})], 5)
    assert found.depth == 0
    assert np.isnan(found.jaccard_at_depth)


@given(st.lists(GROUP, min_size=0, max_size=5))
def test_a_tally_lists_what_is_in_several_groups(groups):
    found = {one.code: (one.groups, one.total) for one in tally([members(g) for g in groups])}
    codes = {code for group in groups for code in group}
    wanted = {}
    for code in codes:
        holders = tuple(i for i, group in enumerate(groups) if code in group)
        if len(holders) > 1:
            wanted[code] = (holders, sum(groups[i][code] for i in holders))
    assert found == wanted


def test_members_are_summed_and_rows_without_one_or_without_weight_are_left_out():
    found = members_of(np.array([3, -1, 3, 1, 2], dtype=np.int32), np.array([2, 5, 1, 4, 0]))
    assert found.codes.tolist() == [1, 3]
    assert found.sizes.tolist() == [4, 3]
