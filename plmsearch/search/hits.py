"""A hit is a neighbour joined to a record, ranked.

One sequence may carry many records, so one neighbour may become many hits; k counts hits, that is
records. Hits of a query are sorted by (-score, vector id, insertion order).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from plmsearch.store.rows import StoredRecord
from plmsearch.types import Float1D, Int1D

__all__ = ["Hit", "Query", "SearchOptions", "make_hits"]


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
    """

    k: int = 10
    min_score: float | None = None
    exclude_self: bool = False
    exclude_identical: bool = False
    where: str | None = None
    index: str = "auto"


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
    """

    query_id: str
    sequence_hash: str = ""
    residues: str = ""


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
        Cosine similarity in [-1, 1]; larger is nearer.
    description : str
        Of the target.
    metadata : mapping of str to str
        Of the target, as text.
    residues : str
        Of the target.
    emb_pvalue, emb_evalue : float or None
        None: no null distribution has been built for the space.
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


def make_hits(
    query: Query,
    scores: Float1D,
    ids: Int1D,
    records: Mapping[int, Sequence[StoredRecord]],
    options: SearchOptions,
) -> list[Hit]:
    """Join the neighbours of one query to their records.

    Parameters
    ----------
    query : Query
    scores : ndarray, dtype=float32, shape=(m,)
        Falling.
    ids : ndarray, dtype=int64, shape=(m,)
        Vector ids.
    records : mapping of int to sequence of StoredRecord
        The live records of each vector id, in insertion order.
    options : SearchOptions

    Returns
    -------
    list of Hit
        At most `options.k`, ranked from 1.
    """
    hits: list[Hit] = []
    for score, vector_id in zip(scores.tolist(), ids.tolist(), strict=True):
        if options.min_score is not None and score < options.min_score:
            break
        for record in records.get(vector_id, ()):
            if len(hits) == options.k:
                return hits
            if not _excluded(query, record, options):
                hits.append(_hit(query, record, len(hits) + 1, score))
    return hits


def _excluded(query: Query, record: StoredRecord, options: SearchOptions) -> bool:
    if record.sequence_hash != query.sequence_hash:
        return False
    same_record = options.exclude_self and record.record_id == query.query_id
    return options.exclude_identical or same_record


def _hit(query: Query, record: StoredRecord, rank: int, score: float) -> Hit:
    return Hit(
        query=query.query_id,
        target=record.record_id,
        rank=rank,
        score=score,
        description=record.description,
        metadata=record.metadata,
        residues=record.residues,
    )
