"""The other way round from `plmsearch.search.significance`: from a p-value to the score that has it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from plmsearch.search.nulls import Sample, relation
from plmsearch.search.significance import QueryNulls
from plmsearch.types import Float2D

__all__ = ["IDENTICAL", "cutoffs", "scores_at"]

_Float64 = np.ndarray[Any, np.dtype[np.float64]]

#: Scores from here on are 1 within the rounding of float32: their p-value is 0.
IDENTICAL = 1.0 - 1e-6


def scores_at(nulls: QueryNulls, pvalue: float) -> _Float64:
    """Return the score of each query from which on no p-value is larger.

    Parameters
    ----------
    nulls : QueryNulls
        Of n queries.
    pvalue : float
        More than 0. If it is more than k / (N + 1), k the nearest and N the unrelated sequences of a
        query, the nulls have to hold whole samples (`NullDistribution.of` with `lowest` of -1).

    Returns
    -------
    ndarray, dtype=float64, shape=(n,)
        In [-1, `IDENTICAL`]; NaN for queries that are not usable.

    Notes
    -----
    The inverse of `QueryNulls.pvalues`: of the power law in closed form, of the empirical part by the
    same interpolation.
    """
    log_p, at_k = np.log(min(pvalue, 1.0)), nulls.ranks[:, 0]
    power = np.expm1(np.maximum(at_k - log_p, 0.0) / (nulls.facts.shape + nulls.facts.n_nearest - 1))
    logs = nulls.knots[:, 0] - (nulls.facts.rate + nulls.sums) * power
    for row in np.flatnonzero(nulls.usable & (log_p > at_k)):
        logs[row] = np.interp(log_p, nulls.ranks[row], nulls.knots[row])
    found: _Float64 = np.where(nulls.usable, np.clip(1.0 - np.exp(logs), -1.0, IDENTICAL), np.nan)
    return found


def cutoffs(sample: Sample, queries: Float2D, texts: Sequence[str], pvalue: float) -> _Float64:
    """Return the score of each query from which on no p-value is larger.

    Parameters
    ----------
    sample : Sample
    queries : ndarray, dtype=float32, shape=(n, d)
        Unit vectors of the ranking.
    texts : sequence of str
        Of each query, as those of the sample; empty where it is not known.
    pvalue : float
        More than 0.

    Returns
    -------
    ndarray, dtype=float64, shape=(n,)
        NaN for a query that has too few unrelated sequences in the sample.
    """
    facts = sample.null.facts
    is_tail = pvalue <= facts.n_nearest / (len(sample.vectors) + 1)
    lowest = np.full(len(queries), 1.0 if is_tail else -1.0, dtype=np.float32)
    related = relation(texts, sample.texts, by_cdr3=sample.by_cdr3)
    return scores_at(sample.null.of(queries, sample.vectors, related, lowest), pvalue)
