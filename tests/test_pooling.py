"""Pooling against plain float64 arithmetic."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from plmsearch.embedding.pooling import combine_mean, max_pool, mean_pool, weighted_sum

VALUES = st.floats(-1000, 1000, width=32)
RESIDUES = hnp.arrays(np.float32, st.tuples(st.integers(1, 30), st.integers(1, 6)), elements=VALUES)


def close(got, expected, scale):
    """Within float32 rounding of a sum whose terms are as large as `scale`."""
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-6 * max(scale, 1))


@given(RESIDUES)
def test_the_mean_counts_every_residue_once(residues):
    close(mean_pool(residues), residues.astype(np.float64).mean(axis=0), np.abs(residues).max())


@given(RESIDUES)
def test_the_maximum_is_taken_component_by_component(residues):
    got = max_pool(residues)
    assert got.dtype == np.float32
    assert got.tolist() == [max(column) for column in residues.T.tolist()]


@given(RESIDUES, st.data())
def test_windows_joined_are_the_weighted_mean_of_all_their_residues(residues, data):
    n = len(residues)
    weights = data.draw(hnp.arrays(np.float32, n, elements=st.sampled_from([0.25, 0.5, 1.0])))
    cut = data.draw(st.integers(0, n))
    parts = [(residues[p], weights[p]) for p in (slice(0, cut), slice(cut, n)) if len(residues[p])]
    got = combine_mean([weighted_sum(r, w) for r, w in parts])
    expected = np.average(residues.astype(np.float64), axis=0, weights=weights)
    close(got, expected, np.abs(residues).max())


@given(RESIDUES)
def test_no_weights_are_weights_of_one(residues):
    bare, ones = weighted_sum(residues, None), weighted_sum(residues, np.ones(len(residues), np.float32))
    assert bare.weight == ones.weight == len(residues)
    close(bare.total, ones.total, np.abs(residues).sum())


@pytest.mark.parametrize("offset", [0.0, 15.0])
def test_a_full_window_of_one_sign_does_not_lose_digits(offset):
    """Language models have components that are far from 0 at every residue."""
    residues = (np.random.default_rng(0).standard_normal((1022, 64)) + offset).astype(np.float32)
    expected = residues.astype(np.float64).mean(axis=0)
    assert np.abs(mean_pool(residues) - expected).max() <= 3e-6 * max(1, offset)


@pytest.mark.parametrize("pool", [mean_pool, max_pool])
def test_pooling_leaves_its_input_alone_and_hands_out_its_own_memory(pool):
    residues = np.arange(6, dtype=np.float32).reshape(3, 2)
    residues.flags.writeable = False
    pooled = pool(residues)
    assert not np.shares_memory(pooled, residues)
    pooled[:] = 0
