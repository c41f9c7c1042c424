"""Questions that `plmsearch verify` asks of the catalog; none of them changes anything."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from sqlalchemy import func, select, text

from plmsearch.sequences import absent_sequence_hash
from plmsearch.store import tables as t
from plmsearch.store.rankings import StoredSpace
from plmsearch.store.repository import Repository
from plmsearch.types import Int1D

__all__ = [
    "SegmentRows",
    "broken_references",
    "ledger_counts",
    "misplaced_vectors",
    "records_without_any_vector",
    "segment_rows",
    "sqlite_problems",
    "vector_ids",
    "wrong_hashes",
]

_OUTCOMES = ("added", "renamed", "replaced", "present", "skipped", "deleted")
_HASHED_AT_ONCE = 5000


@dataclass(frozen=True, slots=True)
class SegmentRows:
    """What the catalog says of the rows of one segment, in sums that a file can be compared with.

    Parameters
    ----------
    n : int
        Rows.
    n_distinct, first, last : int
        Distinct row numbers, the smallest and the largest.
    sum_of_ids : int
        Of the sequence ids.
    """

    n: int
    n_distinct: int
    first: int
    last: int
    sum_of_ids: int


def sqlite_problems(repository: Repository, *, full: bool) -> list[str]:
    """Return what SQLite itself finds wrong; ``integrity_check`` if `full`, else ``quick_check``."""
    check = "integrity_check" if full else "quick_check"
    with repository.begin() as connection:
        rows = connection.execute(text(f"PRAGMA {check}")).scalars().all()
    return [str(row) for row in rows if row != "ok"]


def broken_references(repository: Repository) -> list[str]:
    """Return tables with rows that point to rows which are not there."""
    with repository.begin() as connection:
        rows = connection.execute(text("PRAGMA foreign_key_check")).all()
    return sorted({f"{row[0]} refers to rows of {row[2]} that are not there" for row in rows})


def segment_rows(repository: Repository) -> dict[int, SegmentRows]:
    """Return, per segment id, what the catalog says of its rows."""
    c = t.vectors.c
    query = select(
        c.segment_id,
        func.count(),
        func.count(c.row.distinct()),
        func.min(c.row),
        func.max(c.row),
        func.sum(c.sequence_id),
    ).group_by(c.segment_id)
    with repository.begin() as connection:
        return {
            row[0]: SegmentRows(row[1], row[2], row[3], row[4], row[5]) for row in connection.execute(query)
        }


def vector_ids(repository: Repository, segment_id: int, within: tuple[int, int] | None = None) -> Int1D:
    """Return the sequence ids of a segment in order of row.

    Parameters
    ----------
    repository : Repository
    segment_id : int
    within : (int, int), optional
        The smallest and the largest id that are returned. Without them every vector of the catalog is
        looked at.

    Returns
    -------
    ndarray, dtype=int64, shape=(n,)
    """
    c = t.vectors.c
    query = select(c.sequence_id).where(c.segment_id == segment_id).order_by(c.row)
    if within is not None:
        space = select(t.segments.c.space_id).where(t.segments.c.id == segment_id).scalar_subquery()
        query = query.where(c.space_id == space, c.sequence_id.between(*within))
    with repository.begin() as connection:
        return np.fromiter(connection.execute(query).scalars(), dtype=np.int64)


def misplaced_vectors(repository: Repository) -> int:
    """Count vectors whose segment belongs to another space."""
    joined = t.vectors.join(t.segments)
    query = select(func.count()).select_from(joined).where(t.vectors.c.space_id != t.segments.c.space_id)
    with repository.begin() as connection:
        return int(connection.execute(query).scalar_one())


def ledger_counts(repository: Repository) -> dict[int, dict[str, int]]:
    """Return, per run, how many ledger rows have each outcome."""
    c = t.ledger.c
    # In the order of the table: to group by outcome too, SQLite would sort every row.
    query = select(c.run_id, *(func.count().filter(c.outcome == o) for o in _OUTCOMES)).group_by(c.run_id)
    with repository.begin() as connection:
        return {row[0]: dict(zip(_OUTCOMES, row[1:], strict=True)) for row in connection.execute(query)}


def wrong_hashes(repository: Repository) -> Iterator[int]:
    """Yield the ids of sequences whose residues do not have the hash that is stored."""
    s, r = t.sequences.c, t.records.c
    # What stands for a sequence that is not known is made from the id of its records.
    joined = t.sequences.outerjoin(t.records, (r.sequence_id == s.id) & (s.residues == ""))
    query = select(s.id, s.hash, s.residues, s.n_residues, r.record_id).select_from(joined)
    with repository.begin() as connection:
        last = connection.execute(select(func.max(s.id))).scalar_one() or 0
    for first in range(1, last + 1, _HASHED_AT_ONCE):
        with repository.begin() as connection:
            page = connection.execute(query.where(s.id.between(first, first + _HASHED_AT_ONCE - 1))).all()
        right = {row[0] for row in page if _has_its_hash(*row[1:])}
        yield from sorted({row[0] for row in page} - right)


def _has_its_hash(stored: bytes, residues: str, n_residues: int, record_id: str | None) -> bool:
    if residues:
        return hashlib.sha256(residues.encode()).digest() == stored and len(residues) == n_residues
    return record_id is not None and n_residues == 0 and absent_sequence_hash(record_id) == stored.hex()


def records_without_any_vector(
    repository: Repository, spaces: Sequence[StoredSpace] | None = None
) -> list[str]:
    """Return the ids of live records whose sequence is not known and which have no vector in some spaces.

    Parameters
    ----------
    repository : Repository
    spaces : sequence of StoredSpace, optional
        Of the database; all of them if None.
    """
    r, s, v = t.records.c, t.sequences.c, t.vectors.c
    space_ids = [space.space_id for space in (repository.spaces() if spaces is None else spaces)]
    if any(map(repository.has_every_vector, space_ids)):
        return []
    # Space by space, for that is how the index of vectors begins.
    none = [
        ~select(v.sequence_id).where(v.space_id == space_id, v.sequence_id == r.sequence_id).exists()
        for space_id in space_ids
    ]
    query = (
        select(r.record_id)
        .select_from(t.records.join(t.sequences))
        .where(s.residues == "", r.deleted.is_(None), *none)
        .order_by(r.key)
    )
    with repository.begin() as connection:
        return list(connection.execute(query).scalars())
