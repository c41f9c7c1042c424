"""Rows with their vectors, page by page, on their way into or out of a database."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile

from plmsearch.errors import StorageError
from plmsearch.filters.tree import Condition
from plmsearch.ingest.prepare import Prepared
from plmsearch.metadata import metadata_json
from plmsearch.reader import Reader
from plmsearch.sequences import SequenceRecord
from plmsearch.slices import slices
from plmsearch.store.directory import Layout
from plmsearch.store.rows import StoredRecord, StoredSegment, StoredSpace, VectorRow
from plmsearch.store.vector_files import VectorFiles
from plmsearch.types import Float2D

__all__ = ["PreparedPage", "StoredPage", "as_prepared", "stored_pages", "stored_records"]

_PAGE_ROWS = 1000


@dataclass(frozen=True, slots=True)
class PreparedPage:
    """Rows that are to be stored.

    Parameters
    ----------
    rows : sequence of Prepared
    vectors : ndarray, dtype=float32, shape=(n, d)
    facts : sequence of VectorRow or None
        How each vector was made, where that is known.
    """

    rows: Sequence[Prepared]
    vectors: Float2D
    facts: Sequence[VectorRow] | None = None


@dataclass(frozen=True, slots=True)
class StoredPage:
    """Live records and their vectors, in order of insertion."""

    records: Sequence[StoredRecord]
    vectors: Float2D
    facts: Sequence[VectorRow]


def stored_records(reader: Reader, condition: Condition | None = None) -> Iterator[list[StoredRecord]]:
    """Yield the live records that are there now and meet a condition, page by page.

    Records that another process adds meanwhile are left out.

    Raises
    ------
    StorageError
        At the end, if another process deleted records meanwhile.
    """
    repository = reader.repository
    first_new, n_expected = repository.counters().record_key, repository.n_records(condition)
    n_seen = 0
    old = takewhile(lambda record: record.key < first_new, repository.all_records(condition))
    for records in slices(old, _PAGE_ROWS):
        n_seen += len(records)
        yield records
    if n_seen != n_expected:
        reason = f"changed while it was read: {n_expected} records became {n_seen}"
        raise StorageError(reader.path, reason, hint="run the same command again")


def stored_pages(
    reader: Reader, space: StoredSpace, condition: Condition | None = None
) -> Iterator[StoredPage]:
    """Yield live records that have a vector in a space and meet a condition, with it, page by page.

    Every record has one, except those that were imported without a sequence into another space.

    Raises
    ------
    StorageError
        As `stored_records`.
    SegmentDamaged
    """
    files, repository = VectorFiles(Layout(reader.path)), reader.repository
    generation, segments = -1, list[StoredSegment]()
    for page in stored_records(reader, condition):
        if generation != (generation := repository.generation()):
            segments = repository.segments(space.space_id)
        places = repository.vector_places(space.space_id, {r.sequence_id for r in page})
        records = [r for r in page if r.sequence_id in places]
        if records:
            ids = [r.sequence_id for r in records]
            vectors = files.rows(segments, [places[i] for i in ids])
            yield StoredPage(records, vectors, repository.vector_rows(space.space_id, ids))


def as_prepared(record: StoredRecord, source: str, row: int) -> Prepared:
    """Return a stored record as one that is to be stored elsewhere."""
    as_read = SequenceRecord(
        record.record_id, record.residues, record.description, record.metadata, source, row
    )
    return Prepared(
        record=as_read,
        residues=record.residues,
        hash_hex=record.sequence_hash,
        metadata=record.metadata,
        metadata_json=metadata_json(record.metadata),
    )
