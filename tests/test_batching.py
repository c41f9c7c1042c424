"""Windows cover every residue once in sum; batches hold every sequence once and keep the budget."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from plmsearch.embedding.batching import coverage_weights, default_overlap, token_batches, windows

SPECIAL_TOKENS = 2


@st.composite
def cuts_to_make(draw):
    max_residues = draw(st.integers(1, 600))
    overlap = draw(st.integers(0, max_residues - 1))
    n_most = 40 * (max_residues - overlap) + max_residues
    return draw(st.integers(1, n_most)), max_residues, overlap


# --- Windows -------------------------------------------------------------------------------------


@given(cuts_to_make())
@example((511, 510, 127))
@example((510, 510, 127))
@example((3, 1, 0))
def test_windows_are_in_order_of_one_length_and_end_with_the_sequence(case):
    n_residues, max_residues, overlap = case
    cuts = windows(n_residues, max_residues, overlap)
    assert {stop - start for start, stop in cuts} == {min(n_residues, max_residues)}
    assert (cuts[0][0], cuts[-1][1]) == (0, n_residues)
    for (start, stop), (next_start, _) in pairwise(cuts):
        assert start < next_start
        assert stop - next_start >= overlap


@given(cuts_to_make())
def test_no_fewer_windows_could_share_that_many_residues(case):
    n_residues, max_residues, overlap = case
    n_windows = len(windows(n_residues, max_residues, overlap))
    reach_of_one_fewer = (n_windows - 1) * (max_residues - overlap) + overlap
    assert n_windows == 1 or reach_of_one_fewer < n_residues


@given(cuts_to_make())
def test_the_weights_of_every_residue_sum_to_one(case):
    cuts = windows(*case)
    sums = np.zeros(case[0], dtype=np.float64)
    for (start, stop), weights in zip(cuts, coverage_weights(cuts), strict=True):
        assert weights.dtype == np.float32
        sums[start:stop] += weights
    np.testing.assert_allclose(sums, 1, rtol=1e-6)
    assert sums.sum() == pytest.approx(case[0], rel=1e-6)


def test_a_residue_in_three_windows_counts_a_third_in_each():
    weights = coverage_weights([(0, 4), (2, 6), (3, 7)])
    assert [w[i] for w, i in zip(weights, (3, 1, 0), strict=True)] == [np.float32(Fraction(1, 3))] * 3


@given(st.integers(1, 100_000))
def test_neighbouring_windows_share_a_quarter_and_always_advance(max_residues):
    overlap = default_overlap(max_residues)
    assert overlap < max_residues
    assert abs(overlap - max_residues / 4) < 1


# --- Batches -------------------------------------------------------------------------------------

LENGTHS = st.lists(st.integers(1, 300), max_size=60)
BUDGETS = st.integers(1, 3000)


def padded(lengths, batch):
    return len(batch) * (max(lengths[i] for i in batch) + SPECIAL_TOKENS)


@given(LENGTHS, BUDGETS)
def test_every_sequence_is_in_exactly_one_batch(lengths, budget):
    batches = list(token_batches(lengths, budget))
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    assert all(batches)


@given(LENGTHS, BUDGETS)
def test_a_batch_of_several_keeps_the_budget_with_its_padding(lengths, budget):
    for batch in token_batches(lengths, budget):
        assert len(batch) == 1 or padded(lengths, batch) <= budget


@given(LENGTHS, BUDGETS)
def test_a_batch_ends_only_where_one_more_would_break_the_budget(lengths, budget):
    batches = list(token_batches(lengths, budget))
    for batch, following in pairwise(batches):
        assert padded(lengths, [*batch, following[0]]) > budget


@given(LENGTHS, BUDGETS)
def test_the_longest_come_first_and_equals_keep_their_order(lengths, budget):
    order = [i for batch in token_batches(lengths, budget) for i in batch]
    assert order == sorted(order, key=lambda i: (-lengths[i], i))


def test_nothing_makes_no_batch():
    assert list(token_batches([], 100)) == []
