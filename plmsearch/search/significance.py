"""What the score of an embedding is worth: p-values and E-values against unrelated sequences.

Concepts
--------
A *null* is a sample of distinct sequences of the database, with their vectors in one ranking. A query is
compared with the sample; its relatives there, told by their residues (`plmsearch.search.relatives`), are left
out. What remains are the query's own distances d = 1 - cosine to unrelated sequences, so that a query from a
crowded corner of the space has another null than one that stands alone.

Down to the k-th nearest of them, k = 10, p is the share that is not farther. Below, where the sample ends,
the distances of a query are taken to follow a power law, P(d <= x) proportional to x**m: the extreme-value
form for a minimum that is bounded by 0; m is the local intrinsic dimensionality (Amsaleg et al. 2015,
doi:10.1145/2783258.2783405). Then log(d_k / d_i), i < k, are exponential with rate m, and their sum S is
gamma distributed; (k - 1) / S is the estimate of m by Hill (1975), and by Levina and Bickel (2004, NIPS 17).

Nine values know m to a third only. So they are joined with what other queries have: over queries, m is taken
as gamma distributed, with shape a and rate b from the method of moments (empirical Bayes). The p-value is the
predictive one, the power law averaged over what m may be, given S:

    p(x) = k / (N + 1) * (1 + log(d_k / x) / (b + S)) ** -(a + k - 1)

Few neighbours so cost certainty of a single p-value, but not calibration: if the law holds, one of n
unrelated sequences has p <= 1/n on average over queries. E is p times the number of distinct sequences that
were searched. This is an analogy with the E-value of an alignment; no theory of Karlin and Altschul is
behind it.

Limitations
-----------
A small p says "nearer than unrelated sequences of this database are": neither homology nor clonality.
Relatives in the sample that the rule does not recognise make p too large. A cluster with fewer than about k
members in the sample (a rare V gene) is not seen by the null, and p is too small inside it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np

from plmsearch.types import Bool1D, Float1D, Float2D, Int1D
from plmsearch.wording import counted

__all__ = [
    "MAX_SAMPLE",
    "MIN_UNRELATED",
    "N_NEAREST",
    "NoNull",
    "NullDistribution",
    "NullFacts",
    "QueryNulls",
    "Relation",
    "draw_sample",
    "evalues",
    "fit_null",
]

Float64: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]

#: ``related(query, rows)``: which of these rows of the sample are relatives of the query.
Relation: TypeAlias = Callable[[int, Int1D], Bool1D]

#: k. The fewer, the less is left to the power law, which is local: m grows towards small distances.
N_NEAREST = 10
#: Unrelated sequences that a query needs: with fewer, even the k-th nearest is no tail.
MIN_UNRELATED = 100
#: Sequences of the sample. 10 MB at 512 dimensions; a search of 200,000 compares 40 times as many.
MAX_SAMPLE = 5000

_MAX_FITTED = 500  # members that are taken as queries to learn how m varies; their mean is then known to 3%
_AT_ONCE = 50  # members; whether half of them have relatives only is looked at after so many,
_FIRST = 10  # and whether all have after these: each relative may have cost an alignment
_LEAST_FITTED = 100  # members, where they have so many relatives that more would take minutes:
_MANY_RELATIVES = 100_000
_COMPARED_AT_ONCE = 256  # queries: their scores with a sample of 5,000 are 5 MB
_ROUNDING = 1e-6  # of a cosine in float32: nearer than this is identical
_NOBODY: Int1D = np.empty(0, dtype=np.int64)
_N_KNOTS = 48  # of the empirical part; neighbouring ones differ by 14% in p for a sample of 5,000


@dataclass(frozen=True, slots=True)
class NoNull:
    """Why a null distribution cannot be built.

    Parameters
    ----------
    reason : str
        For people; one clause.
    n_sample : int
        Sequences that were looked at.
    """

    reason: str
    n_sample: int


@dataclass(frozen=True, slots=True)
class NullFacts:
    """What a null is, but for the vectors of its sample.

    Parameters
    ----------
    shape, rate : float
        Of the gamma distribution of m over queries: mean shape / rate, variance shape / rate**2.
    n_nearest : int
        k.
    n_fitted : int
        Members of the sample from which `shape` and `rate` were found.
    n_sample : int
        Sequences of the sample.
    median_distance : float
        Of the k-th nearest unrelated sequence.
    """

    shape: float
    rate: float
    n_nearest: int
    n_fitted: int
    n_sample: int
    median_distance: float

    @property
    def exponent(self) -> float:
        """Mean of m."""
        return self.shape / self.rate


@dataclass(frozen=True, slots=True)
class QueryNulls:
    """The null distributions of some queries.

    Parameters
    ----------
    facts : NullFacts
    knots : ndarray, dtype=float64, shape=(n, w)
        Logarithms of distances, ascending; the first is that of the k-th nearest unrelated sequence.
    ranks : ndarray, dtype=float64, shape=(n, w)
        Logarithms of the shares of unrelated sequences that are not farther.
    sums : ndarray, dtype=float64, shape=(n,)
        S.
    n_unrelated : ndarray, dtype=int64, shape=(n,)
        Unrelated sequences of the sample.
    usable : ndarray, dtype=bool, shape=(n,)
        False where they are fewer than `MIN_UNRELATED`, or k of them are identical to the query.
    """

    facts: NullFacts
    knots: Float64
    ranks: Float64
    sums: Float64
    n_unrelated: Int1D
    usable: Bool1D

    def pvalues(self, scores: np.ndarray) -> Float64:
        """Return how often unrelated sequences score so high, or higher.

        Parameters
        ----------
        scores : ndarray, dtype=float32 or float64, shape=(n, h)
            Cosines; row i belongs to query i.

        Returns
        -------
        ndarray, dtype=float64, shape=(n, h)
            In [0, 1]; the higher the score, the smaller; 0 for a score of 1, within the rounding of
            float32; NaN for queries that are not usable.
        """
        distances = 1.0 - np.asarray(scores, dtype=np.float64)
        with np.errstate(divide="ignore"):
            logs = np.log(np.where(distances < _ROUNDING, 0.0, distances))
        out = np.full(logs.shape, np.nan)
        out[self.usable] = self.ranks[self.usable, :1]
        farther = self.usable & (logs > self.knots[:, :1]).any(axis=1)
        for row in np.flatnonzero(farther):
            out[row] = np.interp(logs[row], self.knots[row], self.ranks[row])
        below = np.maximum(self.knots[:, :1] - logs, 0.0)
        tail = np.log1p(below / (self.facts.rate + self.sums)[:, None])
        return np.exp(out - (self.facts.shape + self.facts.n_nearest - 1) * tail)


@dataclass(frozen=True, slots=True)
class NullDistribution:
    """A null that queries can be compared with.

    Parameters
    ----------
    facts : NullFacts
    ids : ndarray, dtype=int64, shape=(N,)
        Vector ids of the sample.
    """

    facts: NullFacts
    ids: Int1D

    def of(
        self,
        queries: Float2D,
        vectors: Float2D,
        related: Relation | None,
        lowest: Float1D | None = None,
    ) -> QueryNulls:
        """Return the null of each query.

        Parameters
        ----------
        queries : ndarray, dtype=float32, shape=(n, d)
            Unit vectors of the ranking.
        vectors : ndarray, dtype=float32, shape=(N, d)
            Those of the sample, in the order of `ids`.
        related : Relation or None
            None: nothing is known, so that relatives in the sample make p larger.
        lowest : ndarray, dtype=float32, shape=(n,), optional
            Of the scores that each query is asked about. A query needs its whole sample sorted only where
            that is lower than the score of its k-th nearest unrelated sequence; p-values of scores that are
            lower than `lowest` are then wrong.

        Returns
        -------
        QueryNulls
            Costs n N d multiplications, and up to n sorts of N numbers.
        """
        return _query_nulls(queries, vectors, related, self.facts, lowest)


def draw_sample(ids: Int1D, seed: int, size: int = MAX_SAMPLE) -> Int1D:
    """Choose the sequences of a null.

    Parameters
    ----------
    ids : ndarray, dtype=int64, shape=(n,)
        Of all distinct sequences that may be unrelated to a query: for antibodies those of one locus.
    seed : int
    size : int
        At most so many.

    Returns
    -------
    ndarray, dtype=int64, shape=(min(n, size),)
        Ascending; the same for the same set of ids and seed.

    Examples
    --------
    >>> draw_sample(np.array([9, 4, 7]), seed=0)
    array([4, 7, 9])
    """
    known = np.unique(ids)
    if len(known) <= size:
        return known
    chosen: Int1D = np.sort(np.random.default_rng(seed).choice(known, size, replace=False))
    return chosen


def fit_null(
    vectors: Float2D, ids: Int1D, related: Relation | None, *, seed: int = 0
) -> NullDistribution | NoNull:
    """Learn from a sample how the distances of unrelated sequences fall off.

    Parameters
    ----------
    vectors : ndarray, dtype=float32, shape=(N, d)
        Unit vectors of the sample (`draw_sample`) in the ranking.
    ids : ndarray, dtype=int64, shape=(N,)
    related : Relation or None
        Asked of members of the sample as queries; that a member is related to itself is known.
    seed : int
        Chooses the members taken as queries, where there are more than 500.

    Returns
    -------
    NullDistribution or NoNull
        NoNull where most of the members have fewer than `MIN_UNRELATED` unrelated sequences, or all
        distances are the same.
    """
    n_sample = len(ids)
    if n_sample <= MIN_UNRELATED:
        return NoNull(f"{counted(n_sample, 'distinct sequence')}, fewer than {MIN_UNRELATED + 1}", n_sample)
    rows = np.random.default_rng(seed).permutation(n_sample)[:_MAX_FITTED]
    facts = NullFacts(1.0, 0.0, N_NEAREST, 0, n_sample, 0.0)
    parts: list[QueryNulls] = []
    for start, end in pairwise([0, _FIRST, *range(_AT_ONCE, len(rows), _AT_ONCE), len(rows)]):
        part = rows[start:end]
        as_members, nothing = _as_members(part, related), np.ones(len(part), dtype=np.float32)
        parts.append(_query_nulls(vectors[part], vectors, as_members, facts, lowest=nothing))
        n_unrelated = np.concatenate([n.n_unrelated for n in parts])
        few = int(np.median(n_unrelated))
        if few < MIN_UNRELATED and (end == _AT_ONCE or (end == _FIRST and n_unrelated.max() < MIN_UNRELATED)):
            reason = f"half of the sequences have {few} unrelated ones or fewer, {MIN_UNRELATED} are needed"
            return NoNull(reason, n_sample)
        if end >= _LEAST_FITTED and (n_sample - n_unrelated).sum() > _MANY_RELATIVES:
            break
    usable = np.concatenate([n.usable for n in parts])
    sums = np.concatenate([n.sums for n in parts])[usable]
    if 2 * len(sums) < len(usable) or np.median(sums) < _ROUNDING:
        return NoNull("the distances of unrelated sequences do not vary", n_sample)
    shape, rate = _gamma_prior(sums)
    median = float(np.exp(np.median(np.concatenate([n.knots[:, 0] for n in parts])[usable])))
    return NullDistribution(NullFacts(shape, rate, N_NEAREST, len(sums), n_sample, median), ids)


def evalues(pvalues: np.ndarray, n_searched: int) -> Float64:
    """Return how many unrelated sequences are expected to score so high in the whole search.

    Parameters
    ----------
    pvalues : ndarray, dtype=float64
    n_searched : int
        Distinct sequences that were searched, after filters.

    Returns
    -------
    ndarray, dtype=float64
        At least 0; NaN where p is.

    Examples
    --------
    >>> evalues(np.array([0.0, 1e-4]), 5000)
    array([0. , 0.5])
    """
    expected: Float64 = np.asarray(pvalues, dtype=np.float64) * n_searched
    return expected


# --- Inside --------------------------------------------------------------------------------------


def _as_members(rows: Int1D, related: Relation | None) -> Relation:
    """Return the relation of members of the sample, numbered as in `rows`; each is related to itself."""

    def of_member(query: int, others: Int1D) -> Bool1D:
        itself: Bool1D = others == rows[query]
        return itself if related is None else itself | related(int(rows[query]), others)

    return of_member


def _query_nulls(
    queries: Float2D,
    vectors: Float2D,
    related: Relation | None,
    facts: NullFacts,
    lowest: Float1D | None = None,
) -> QueryNulls:
    """Compare queries with the sample, some at a time; takes what `NullDistribution.of` does."""
    n = len(queries)
    nulls = QueryNulls(
        facts,
        knots=np.zeros((n, _N_KNOTS + 1)),
        ranks=np.zeros((n, _N_KNOTS + 1)),
        sums=np.ones(n),
        n_unrelated=np.full(n, len(vectors), dtype=np.int64),
        usable=np.zeros(n, dtype=np.bool_),
    )
    if len(vectors) < MIN_UNRELATED:
        return nulls
    for start in range(0, n, _COMPARED_AT_ONCE):
        rows = slice(start, start + _COMPARED_AT_ONCE)
        _fill(nulls, rows, queries[rows] @ vectors.T, related, None if lowest is None else lowest[rows])
    return nulls


def _fill(
    nulls: QueryNulls, rows: slice, scores: Float2D, related: Relation | None, lowest: Float1D | None
) -> None:
    """Enter some queries, by their scores with the sample."""
    k = nulls.facts.n_nearest
    relatives: list[Int1D] = [_NOBODY] * len(scores)
    if related is None:
        nearest = np.sort(1 - np.partition(scores, scores.shape[1] - k, axis=1)[:, -k:], axis=1)
    else:
        nearest = np.empty((len(scores), k), dtype=np.float32)
        for row in range(len(scores)):
            strangers, relatives[row] = _told_apart(1 - scores[row], rows.start + row, related, k)
            nearest[row] = np.append(strangers[:k], np.zeros(k, dtype=np.float32))[:k]
            nulls.n_unrelated[rows.start + row] -= len(relatives[row])
    logs = _logs(nearest)
    nulls.sums[rows] = (logs[:, -1:] - logs[:, :-1]).sum(axis=1)
    nulls.knots[rows] = logs[:, -1:]
    nulls.ranks[rows] = np.log(k / (nulls.n_unrelated[rows] + 1))[:, None]
    usable = (nulls.n_unrelated[rows] >= MIN_UNRELATED) & (nearest[:, -1] >= _ROUNDING)
    nulls.usable[rows] = usable
    wanted = usable if lowest is None else usable & (1 - lowest > nearest[:, -1])
    for row in np.flatnonzero(wanted).tolist():
        unrelated = np.sort(np.delete(1 - scores[row], relatives[row]))
        nulls.knots[rows.start + row], nulls.ranks[rows.start + row] = _knots(unrelated, k)


def _logs(distances: Float1D | Float2D) -> Float64:
    """Return logarithms; distances within rounding of 0 count as the rounding."""
    logs: Float64 = np.log(np.maximum(distances, _ROUNDING), dtype=np.float64)
    return logs


def _told_apart(distances: Float1D, query: int, related: Relation, k: int) -> tuple[Float1D, Int1D]:
    """Return the distances of the nearest strangers, ascending, and the rows of all relatives found.

    Only the nearest are asked whether they are relatives, until k are not and relatives have become rare:
    the farther ones would hardly change p, and the question may cost an alignment.
    """
    step = 2 * k
    order = np.argpartition(distances, step - 1)[:step]
    order = order[np.argsort(distances[order], kind="stable")]
    strangers: list[Int1D] = []
    relatives: list[Int1D] = []
    at, found, rare = 0, 0, False
    while at < len(distances) and (found < k or not rare):
        if at == len(order):
            rest = np.setdiff1d(np.arange(len(distances)), order, assume_unique=True)
            order = np.concatenate([order, rest[np.argsort(distances[rest], kind="stable")]])
        candidates = order[at : at + step]
        is_relative = related(query, candidates)
        relatives.append(candidates[is_relative])
        strangers.append(candidates[~is_relative])
        found += len(strangers[-1])
        rare = len(strangers[-1]) >= 0.9 * len(candidates)
        at, step = at + step, 2 * step
    return distances[np.concatenate(strangers)], np.concatenate(relatives)


def _knots(distances: Float1D, k: int) -> tuple[Float64, Float64]:
    """Thin sorted distances out to ranks that are evenly spaced in the logarithm; the last knot is (2, 1)."""
    n = len(distances)
    ranks = np.round(np.geomspace(k, n, _N_KNOTS)).astype(np.int64)
    logs = _logs(distances[ranks - 1])
    return np.append(logs, max(np.log(2.0), logs[-1])), np.append(np.log(ranks / (n + 1)), 0.0)


def _gamma_prior(sums: Float64) -> tuple[float, float]:
    """Return shape and rate of the gamma distribution of m, from the S of many queries, by moments.

    S is gamma distributed with shape c = k - 1 and rate m: (c - 1) / S has mean m, variance m**2 / (c - 2).
    """
    c = N_NEAREST - 1
    estimates = (c - 1) / np.maximum(sums, _ROUNDING)
    mean = float(estimates.mean())
    spread = (float(estimates.var()) * (c - 2) - mean**2) / (c - 1)
    spread = max(spread, 1e-3 * mean**2)  # sampling error may leave less than 0; 3% is then as good as none
    return mean**2 / spread, mean / spread
