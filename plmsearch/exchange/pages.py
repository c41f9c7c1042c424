"""Rows with their vectors, page by page, on their way into or out of a database."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import TypeVar

from plmsearch.errors import SegmentDamaged, StorageError
from plmsearch.filters.tree import Condition
from plmsearch.ingest.prepare import Prepared
from plmsearch.metadata import metadata_json
from plmsearch.reader import Reader
from plmsearch.sequences import SequenceRecord, absent_sequence_hash
from plmsearch.slices import slices
from plmsearch.store.directory import Layout
from plmsearch.store.rankings import StoredSpace
from plmsearch.store.rows import (
    StoredRecord,
    VectorRow,
)
from plmsearch.store.vector_files import VectorFiles
from plmsearch.types import Float2D

__all__ = [
    "BarePage",
    "Extent",
    "PreparedPage",
    "StoredPage",
    "as_prepared",
    "changed_meanwhile",
    "extent_of",
    "stored_pages",
    "stored_records",
    "undisturbed",
]

_PAGE_ROWS = 1000

T = TypeVar("T")


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
class BarePage:
    """Vectors that are to be stored, of records of which nothing is known but the id.

    Parameters
    ----------
    ids : sequence of str
        Distinct.
    vectors : ndarray, dtype=float32, shape=(n, d)
    source : str
        Name of the input, for messages.
    first_row : int
        Place of the first row in the input, counted from 1.
    """

    ids: Sequence[str]
    vectors: Float2D
    source: str
    first_row: int

    def prepared(self) -> PreparedPage:
        """Return the same page row by row."""
        rows = [
            Prepared(SequenceRecord(one, "", source=self.source, row=row), hash_hex=absent_sequence_hash(one))
            for row, one in enumerate(self.ids, start=self.first_row)
        ]
        return PreparedPage(rows, self.vectors)


@dataclass(frozen=True, slots=True)
class StoredPage:
    """Live records and their vectors, in order of insertion."""

    records: Sequence[StoredRecord]
    vectors: Float2D
    facts: Sequence[VectorRow]


@dataclass(frozen=True, slots=True)
class Extent:
    """Which records of a database are read: those that were live at one moment.

    Parameters
    ----------
    first_new : int
        Key of the first record that was added later.
    n_records : int
    condition : Condition or None
        Those that meet it.
    """

    first_new: int
    n_records: int
    condition: Condition | None = None


def extent_of(reader: Reader, condition: Condition | None = None) -> Extent:
    """Return the live records of this moment, so that they can be read more than once."""
    repository = reader.repository
    return Extent(repository.counters().record_key, repository.n_records(condition), condition)


def changed_meanwhile(reader: Reader, reason: str = "") -> StorageError:
    """Return the error for a database that another process changed while it was read."""
    said = f"changed while it was read{': ' if reason else ''}{reason}"
    return StorageError(reader.path, said, hint="run the same command again")


def stored_records(reader: Reader, extent: Extent | None = None) -> Iterator[list[StoredRecord]]:
    """Yield the live records that are there now, or were at an earlier moment, page by page.

    Records that another process adds meanwhile are left out.

    Raises
    ------
    StorageError
        At the end, if another process deleted records meanwhile.
    """
    read = extent or extent_of(reader)
    n_seen = 0
    records = reader.repository.all_records(read.condition)
    old = takewhile(lambda record: record.key < read.first_new, records)
    for page in slices(old, _PAGE_ROWS):
        n_seen += len(page)
        yield page
    if n_seen != read.n_records:
        raise changed_meanwhile(reader, f"{read.n_records} records became {n_seen}")


def stored_pages(reader: Reader, space: StoredSpace, extent: Extent | None = None) -> Iterator[StoredPage]:
    """Yield live records that have a vector in a space, with that vector, page by page.

    Every record has one, except those that were imported without a sequence into another space.

    Raises
    ------
    StorageError
        As `stored_records`.
    SegmentDamaged
    """
    files = VectorFiles(Layout(reader.path))
    for records in stored_records(reader, extent):
        page = undisturbed(reader, lambda page=records: _with_vectors(reader, files, space, page))  # type: ignore[misc]
        if page.records:
            yield page


def _with_vectors(
    reader: Reader, files: VectorFiles, space: StoredSpace, page: Sequence[StoredRecord]
) -> StoredPage:
    """Look up the vectors of records; those that have none are left out."""
    repository = reader.repository
    segments = repository.segments(space.space_id)
    places = repository.vector_places(space.space_id, {r.sequence_id for r in page})
    records = [r for r in page if r.sequence_id in places]
    ids = [r.sequence_id for r in records]
    vectors = files.rows(segments, [places[i] for i in ids])
    return StoredPage(records, vectors, repository.vector_rows(space.space_id, ids))


def undisturbed(reader: Reader, look: Callable[[], T]) -> T:
    """Look at vector files; again if another process exchanged them meanwhile.

    Raises
    ------
    SegmentDamaged
        If a file is missing or damaged, and no commit came in between.
    StorageError
        If the catalog contradicts itself.
    """
    while True:
        generation = reader.repository.generation()
        try:
            return look()
        except (SegmentDamaged, KeyError) as error:
            if reader.repository.generation() != generation:
                continue
            if isinstance(error, SegmentDamaged):
                raise
            hint = f"plmsearch verify {reader.path}"
            raise StorageError("catalog.sqlite", f"it has no segment {error}", hint=hint) from error


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
