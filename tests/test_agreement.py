"""Agreement of groupings against the definitions, pair by pair and row by row."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plmsearch.repertoire.agreement import agreement

groupings = st.integers(1, 12).flatmap(
    lambda n: st.tuples(*(st.lists(st.integers(0, 4), min_size=n, max_size=n) for _ in range(2)))
)


@given(groupings)
def test_measures_are_those_of_their_definitions(pair):
    found, true = pair
    n = len(found)
    pairs = list(itertools.combinations(range(n), 2))
    both = sum(found[a] == found[b] and true[a] == true[b] for a, b in pairs)
    claimed, real = (sum(g[a] == g[b] for a, b in pairs) for g in (found, true))
    result = agreement(found, true)
    assert result.pairwise_precision == pytest.approx(both / claimed if claimed else 1)
    assert result.pairwise_recall == pytest.approx(both / real if real else 1)
    assert result.pairwise_f1 == pytest.approx(2 * both / (claimed + real) if claimed + real else 1)
    shares = []
    for i in range(n):
        own = {k for k in range(n) if found[k] == found[i]}
        shares.append(len({k for k in own if true[k] == true[i]}) / len(own))
    assert result.bcubed_precision == pytest.approx(sum(shares) / n)
    expected = claimed * real / len(pairs) if pairs else 0
    spread = (claimed + real) / 2 - expected
    assert result.ari == pytest.approx((both - expected) / spread if spread else 1)


@given(groupings)
def test_it_is_symmetric_and_one_for_renamed_groups(pair):
    found, true = pair
    forth, back = agreement(found, true), agreement(true, found)
    assert forth.ari == pytest.approx(back.ari)
    assert forth.bcubed_recall == pytest.approx(back.bcubed_precision)
    same = agreement(found, [f"clone {g}" for g in found])
    assert (same.ari, same.pairwise_f1, same.bcubed_f1) == pytest.approx((1, 1, 1))
