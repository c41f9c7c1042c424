"""The score of a p-value: the inverse of the p-values of scores."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plmsearch.search.cutoffs import IDENTICAL, cutoffs, scores_at
from plmsearch.search.nulls import Sample
from plmsearch.search.significance import NullDistribution, fit_null

RNG = np.random.default_rng(3)


def unit(n: int, dim: int = 12) -> np.ndarray:
    vectors = RNG.standard_normal((n, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


VECTORS = unit(400)
NULL = fit_null(VECTORS, np.arange(400), None)
assert isinstance(NULL, NullDistribution)
QUERIES = unit(25)


@settings(max_examples=50)
@given(st.floats(1e-9, 1))
def test_the_p_value_of_the_cutoff_is_the_one_asked_for(pvalue):
    nulls = NULL.of(QUERIES, VECTORS, None, np.full(25, -1, np.float32))
    scores = scores_at(nulls, pvalue)
    got = nulls.pvalues(scores[:, None])[:, 0]
    far = scores < IDENTICAL
    np.testing.assert_allclose(got[far], pvalue, rtol=1e-5)
    assert (got[~far] <= pvalue).all()


@pytest.mark.parametrize("pvalue", [1e-6, 1e-3, 0.02, 0.03, 0.5])
def test_exactly_the_hits_with_no_larger_p_value_reach_the_cutoff(pvalue):
    nulls = NULL.of(QUERIES, VECTORS, None, np.full(25, -1, np.float32))
    scores = np.sort(np.append(RNG.uniform(-1, 1, (25, 300)), np.ones((25, 1)), axis=1))
    reached = scores >= cutoffs(Sample(NULL, VECTORS, [], False), QUERIES, [""] * 25, pvalue)[:, None]
    assert reached.any() and not reached.all()
    np.testing.assert_array_equal(reached, nulls.pvalues(scores) <= pvalue)


def test_a_query_without_a_null_has_no_cutoff():
    few = Sample(NULL, VECTORS[:50], [], False)
    assert np.isnan(cutoffs(few, QUERIES, [""] * 25, 0.01)).all()
