"""A hit is a neighbour joined to a record, ranked.

One sequence may carry many records, so one neighbour may become many hits; k counts hits, that is
records. Hits of a query are sorted by (-score, vector id, insertion order), until they are re-ranked
(`plmsearch.search.rerank`).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np

from plmsearch.errors import ParameterError
from plmsearch.search.alignment import Alignment
from plmsearch.store.rows import StoredDomain, StoredRecord
from plmsearch.types import Float1D, Int1D

__all__ = [
    "RERANKERS",
    "SORTS",
    "Found",
    "Hit",
    "PairFacts",
    "Query",
    "SearchOptions",
    "is_excluded",
    "make_hits",
]

#: Ways to re-rank hits.
RERANKERS = ("align",)
#: What hits can be sorted by; all but the first need an alignment.
SORTS = ("score", "evalue", "bits", "fident")

# Candidates to align: this many for each hit wanted, and no fewer than this.
_CANDIDATES_PER_HIT = 10
_MIN_CANDIDATES = 100


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """What a search returns.

    Parameters
    ----------
    k : int
        Most hits per query, at least 1.
    min_score : float or None
        Leave out hits below this cosine similarity.
    exclude_self : bool
        Leave out the record that has the query's id and sequence.
    exclude_identical : bool
        Leave out every record that has the query's sequence.
    where : str or None
        Search only among the records that meet this condition (`plmsearch.filters.parse`).
    index : {"auto", "exact", "hnsw", "ivf"}
        How to search; ``auto`` takes the way that is expected to be quickest. Only ``exact`` finds all
        neighbours for sure, and ``auto`` the share that was measured (`plmsearch info`).
    threshold : float or None
        Return every record of at least this cosine similarity, however many: `k` does not count then.
        The search is exact.
    unique : bool
        Return one record per distinct sequence, the one that was stored first.
    rerank : {"align"} or None
        Align the query with the candidates, and sort these anew.
    n_candidates : int or None
        Records that are aligned for each query, the first by score, never fewer than `k`; None: 10 k, at
        least 100.
    max_evalue : float or None
        Leave out hits whose alignment has a larger E-value, or that have no alignment.
    sort : {"score", "evalue", "bits", "fident"} or None
        None: ``evalue`` if hits are re-ranked, else ``score``.
    max_emb_evalue : float or None
        Leave out hits whose embedding has a larger E-value (`Hit`), or that have none.
    significance : bool or None
        Give hits their p-values and E-values, where the database has a null distribution. None: to queries
        whose residues are known. Of a vector they are not, so its relatives are taken for strangers, and
        p is too large.
    cosines : bool
        Give hits the cosine similarity of each region of the ranking (`Hit.cosines`).
    across_loci : bool
        Let a ranking that compares by locus find targets of other loci too; such scores mean little.

    Raises
    ------
    ParameterError
        If there is no such way to re-rank or to sort, a number is out of its range, or something that
        needs an alignment is asked for without `rerank`.
    """

    k: int = 10
    min_score: float | None = None
    exclude_self: bool = False
    exclude_identical: bool = False
    where: str | None = None
    index: str = "auto"
    threshold: float | None = None
    unique: bool = False
    rerank: str | None = None
    n_candidates: int | None = None
    max_evalue: float | None = None
    sort: str | None = None
    max_emb_evalue: float | None = None
    significance: bool | None = None
    across_loci: bool = False
    cosines: bool = False

    def __post_init__(self) -> None:
        if self.rerank is not None and self.rerank not in RERANKERS:
            raise ParameterError("rerank", self.rerank, f"one of: {', '.join(RERANKERS)}")
        if self.sort is not None and self.sort not in SORTS:
            raise ParameterError("sort", self.sort, f"one of: {', '.join(SORTS)}")
        if self.threshold is not None:
            if not -1 <= self.threshold <= 1:
                raise ParameterError("threshold", self.threshold, "between -1 and 1")
            if self.rerank is not None or self.index not in {"auto", "exact"}:
                raise ParameterError("threshold", self.threshold, "left out with rerank, hnsw or ivf")
        if self.n_candidates is not None and self.n_candidates < 1:
            raise ParameterError("candidates", self.n_candidates, "at least 1")
        if self.max_evalue is not None and not self.max_evalue >= 0:
            raise ParameterError("max_evalue", self.max_evalue, "0 or more")
        is_off = self.significance is False
        if self.max_emb_evalue is not None and (is_off or not self.max_emb_evalue >= 0):
            expected = "left out where significance is" if is_off else "0 or more"
            raise ParameterError("max_emb_evalue", self.max_emb_evalue, expected)
        needs_alignment = (
            ("candidates", self.n_candidates),
            ("max_evalue", self.max_evalue),
            ("sort", self.sort if self.sort != "score" else None),
        )
        for name, value in needs_alignment:
            if value is not None and self.rerank is None:
                raise ParameterError(name, value, "left out, or asked for with rerank 'align'")

    def judges(self, query: Query) -> bool:
        """Whether hits of a query are to have p-values and E-values."""
        if self.significance is None:
            return bool(query.residues) or self.max_emb_evalue is not None
        return self.significance

    @property
    def order(self) -> str:
        """What hits are sorted by."""
        return self.sort or ("score" if self.rerank is None else "evalue")

    @property
    def n_wanted(self) -> int:
        """Most records per query that are looked up: `k`, or the candidates of re-ranking."""
        if self.threshold is not None:
            return sys.maxsize
        if self.rerank is None:
            return self.k
        return max(self.k, self.n_candidates or max(_CANDIDATES_PER_HIT * self.k, _MIN_CANDIDATES))


@dataclass(frozen=True, slots=True)
class Query:
    """What hits need to know of a query.

    Parameters
    ----------
    query_id : str
    sequence_hash : str
        Empty for a query that is a vector.
    residues : str
        Empty for a query that is a vector.
    locus : str or None
        Of its variable domain, such as ``IGH``, or '' for none; None: looked for in the residues where it
        matters.
    domain : StoredDomain or None
        Where a variable domain searches: which of its record; `residues` and `sequence_hash` are its own.
    record_id, record_hash : str
        Of the record that the domain was cut from; empty for a whole sequence.
    cdr3 : str
        Where nothing else of the query is known.
    metadata : mapping of str to str
        Of the record.
    row : int or None
        Of the record in its input.
    """

    query_id: str
    sequence_hash: str = ""
    residues: str = ""
    locus: str | None = None
    domain: StoredDomain | None = None
    record_id: str = ""
    record_hash: str = ""
    cdr3: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    row: int | None = None


class Found(NamedTuple):
    """The neighbours of one query.

    Parameters
    ----------
    scores : ndarray, dtype=float32, shape=(m,)
        Falling.
    ids : ndarray, dtype=int64, shape=(m,)
        Vector ids.
    pvalues, evalues : ndarray, dtype=float64, shape=(m,), or None
        NaN where there is no null distribution for query and target; None: for none of them.
    cosines : mapping of str to ndarray, dtype=float32, shape=(m,), or None
        Cosine similarities by region, of the spaces of the ranking; None: not asked for.
    """

    scores: Float1D
    ids: Int1D
    pvalues: np.ndarray[Any, np.dtype[np.float64]] | None = None
    evalues: np.ndarray[Any, np.dtype[np.float64]] | None = None
    cosines: Mapping[str, Float1D] | None = None


@dataclass(frozen=True, slots=True)
class PairFacts:
    """What a hit of a pair has besides.

    Parameters
    ----------
    query_light, target_light : str
        The light chains: ids of records, or ``id#2`` in the record of the heavy chain.
    score_heavy, score_light : float
        Cosine similarity of the chains; `Hit.score` is their mean.
    n_heavy, n_light : int
        Distinct productive chains of the kind in the target's cell, or domains in its record.
    """

    query_light: str
    target_light: str
    score_heavy: float
    score_light: float
    n_heavy: int
    n_light: int


@dataclass(frozen=True, slots=True)
class Hit:
    """One record near a query.

    Parameters
    ----------
    query, target : str
        Record ids.
    rank : int
        From 1, within the query.
    score : float
        Cosine similarity in [-1, 1]; larger is nearer. NaN: query or target was not embedded, where they were
        compared otherwise (`plmsearch.cdr3_searcher`).
    description : str
        Of the target.
    metadata : mapping of str to str
        Of the target, as text.
    residues : str
        Of the target.
    emb_pvalue : float or None
        How often sequences that are not related to the query score so high, or higher
        (`plmsearch.search.significance`): neither homology nor clonality. None: there is no null
        distribution for the ranking, or none for this query and target.
    emb_evalue : float or None
        How many of them are expected in the whole search: the p-value times the distinct sequences that were
        searched, of the query's locus where the ranking compares by locus.
    alignment : Alignment or None
        None: hits were not re-ranked, the record has no sequence, or no two residues score above 0.
    emb_only : bool or None
        True: near by embedding, and alignment sees nothing (`plmsearch.search.rerank`). None: hits were
        not re-ranked, or the record has no sequence.
    domain : StoredDomain or None
        The variable domain of the target that was found, where domains are searched; `residues` are then its
        own, and `target` is the record's id all the same.
    cosines : mapping of str to float or None
        Cosine similarities by region, where they were asked for.
    pair : PairFacts or None
        Where pairs of a heavy and a light chain are searched: `target`, `domain` and metadata are those of
        the heavy chain, `residues` of both.
    """

    query: str
    target: str
    rank: int
    score: float
    description: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    residues: str = ""
    emb_pvalue: float | None = None
    emb_evalue: float | None = None
    alignment: Alignment | None = None
    emb_only: bool | None = None
    domain: StoredDomain | None = None
    cosines: Mapping[str, float] | None = None
    pair: PairFacts | None = None


def make_hits(
    query: Query,
    found: Found,
    records: Mapping[int, Sequence[StoredRecord]],
    options: SearchOptions,
) -> list[Hit]:
    """Join the neighbours of one query to their records.

    Parameters
    ----------
    query : Query
    found : Found
    records : mapping of int to sequence of StoredRecord
        The live records of each vector id, in insertion order.
    options : SearchOptions

    Returns
    -------
    list of Hit
        At most `options.n_wanted`, ranked from 1 by score.
    """
    hits: list[Hit] = []
    seen: set[int] = set()  # records whose nearest domain was found
    n_wanted, may_exclude = options.n_wanted, options.exclude_self or options.exclude_identical
    scores, ids = found.scores.tolist(), found.ids.tolist()
    largest = options.max_emb_evalue
    pvalues, evalues = _values(found.pvalues), _values(found.evalues)
    for score, vector_id, p, e, cosines in zip(scores, ids, pvalues, evalues, _cosines(found)):  # noqa: B905
        if options.min_score is not None and score < options.min_score:
            break
        if largest is not None and (e is None or e > largest):
            continue
        for r in records.get(vector_id, ()):
            if len(hits) == n_wanted:
                return hits
            if may_exclude and is_excluded(query, r, options):
                continue
            if r.domain is not None:
                if r.key in seen:
                    continue
                seen.add(r.key)
            # By position: by name it takes half as long again, ten thousand times in a search.
            rank, residues = len(hits) + 1, r.residues if r.domain is None else r.unit_residues
            hit = Hit(query.query_id, r.record_id, rank, score, r.description, r.metadata, residues, p, e)
            is_plain = r.domain is None and cosines is None
            hits.append(hit if is_plain else replace(hit, domain=r.domain, cosines=cosines))
            if options.unique:
                break
    return hits


def _cosines(found: Found) -> Iterable[Mapping[str, float] | None]:
    """Return the cosine similarities of each neighbour; None without end where there are none."""
    if found.cosines is None:
        return repeat(None)
    columns = [values.tolist() for values in found.cosines.values()]
    return [dict(zip(found.cosines, values, strict=True)) for values in zip(*columns, strict=True)]


def _values(
    found: np.ndarray[Any, np.dtype[np.float64]] | None,
) -> Iterable[float | None]:
    """Return numbers, None for each that is NaN; None without end where there are none."""
    if found is None:
        return repeat(None)
    return [None if value != value else value for value in found.tolist()]


def is_excluded(query: Query, record: StoredRecord, options: SearchOptions) -> bool:
    """Tell whether a record is the query's own, or has its sequence, and such are left out."""
    if record.domain is None:
        is_same = record.sequence_hash == query.sequence_hash
        return is_same and (options.exclude_identical or record.record_id == query.query_id)
    is_own = (record.record_id, record.sequence_hash) == (query.record_id, query.record_hash)
    is_identical = bool(query.residues) and record.unit_residues == query.residues
    return (options.exclude_self and is_own) or (options.exclude_identical and is_identical)
