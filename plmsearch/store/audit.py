"""Questions that `plmsearch verify` asks of the catalog; none of them changes anything."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import func, select, text

from plmsearch.sequences import absent_sequence_hash
from plmsearch.store import tables as t
from plmsearch.store.repository import Repository

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


def vector_ids(repository: Repository, segment_id: int) -> list[int]:
    """Return the sequence ids of a segment in order of row."""
    c = t.vectors.c
    query = select(c.sequence_id).where(c.segment_id == segment_id).order_by(c.row)
    with repository.begin() as connection:
        return list(connection.execute(query).scalars())


def misplaced_vectors(repository: Repository) -> int:
    """Count vectors whose segment belongs to another space."""
    joined = t.vectors.join(t.segments)
    query = select(func.count()).select_from(joined).where(t.vectors.c.space_id != t.segments.c.space_id)
    with repository.begin() as connection:
        return int(connection.execute(query).scalar_one())


def ledger_counts(repository: Repository) -> dict[int, dict[str, int]]:
    """Return, per run, how many ledger rows have each outcome."""
    c = t.ledger.c
    query = select(c.run_id, c.outcome, func.count()).group_by(c.run_id, c.outcome)
    counts: dict[int, dict[str, int]] = {}
    with repository.begin() as connection:
        for run_id, outcome, n in connection.execute(query):
            counts.setdefault(run_id, {})[outcome] = n
    return counts


def wrong_hashes(repository: Repository) -> Iterator[int]:
    """Yield the ids of sequences whose residues do not have the hash that is stored."""
    c = t.sequences.c
    last = 0
    while True:
        query = select(c.id, c.hash, c.residues, c.n_residues).where(c.id > last).order_by(c.id).limit(5000)
        with repository.begin() as connection:
            page = connection.execute(query).all()
        if not page:
            return
        absent = _hashes_of_absent(repository, [row[0] for row in page if not row[2]])
        for row in page:
            expected = {hashlib.sha256(row[2].encode()).digest()}
            if not row[2]:
                expected = absent.get(row[0], set())
            if row[1] not in expected or len(row[2]) != row[3]:
                yield int(row[0])
        last = page[-1][0]


def _hashes_of_absent(repository: Repository, sequence_ids: list[int]) -> dict[int, set[bytes]]:
    """Return what the hash of each sequence that is not known may be: by the ids of its records."""
    hashes: dict[int, set[bytes]] = {}
    if not sequence_ids:
        return hashes
    c = t.records.c
    query = select(c.sequence_id, c.record_id).where(c.sequence_id.between(sequence_ids[0], sequence_ids[-1]))
    with repository.begin() as connection:
        for sequence_id, record_id in connection.execute(query):
            hashes.setdefault(sequence_id, set()).add(bytes.fromhex(absent_sequence_hash(record_id)))
    return hashes


def records_without_any_vector(repository: Repository) -> list[str]:
    """Return the ids of live records whose sequence is not known and which have no vector left."""
    r, s, v = t.records.c, t.sequences.c, t.vectors.c
    # Space by space, for that is how the index of vectors begins.
    none = [
        ~select(v.sequence_id).where(v.space_id == space.space_id, v.sequence_id == r.sequence_id).exists()
        for space in repository.spaces()
    ]
    query = (
        select(r.record_id)
        .select_from(t.records.join(t.sequences))
        .where(s.residues == "", r.deleted.is_(None), *none)
        .order_by(r.key)
    )
    with repository.begin() as connection:
        return list(connection.execute(query).scalars())
