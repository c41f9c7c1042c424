"""Rows with their vectors, page by page, on their way into or out of a database."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from typing import TypeVar

import numpy as np

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
    StoredDomain,
    StoredRecord,
    VectorRow,
)
from plmsearch.store.vector_files import VectorFiles
from plmsearch.types import Bool1D, Float2D

__all__ = [
    "BarePage",
    "Extent",
    "PreparedPage",
    "StoredPage",
    "as_prepared",
    "changed_meanwhile",
    "extent_of",
    "record_pages",
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
    present : ndarray, dtype=bool, shape=(n,), or None
        Rows that have a vector; None: all of them.
    domains : sequence or None
        The variable domains of each row, None where nobody looked for them; None: of no row.
    """

    rows: Sequence[Prepared]
    vectors: Float2D
    facts: Sequence[VectorRow] | None = None
    present: Bool1D | None = None
    domains: Sequence[Sequence[StoredDomain] | None] | None = None

    def has_vector(self, place: int) -> bool:
        """Tell whether a row has a vector."""
        return self.present is None or bool(self.present[place])


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
    """Live records and their vectors, in order of insertion; of a space of domains, each domain by itself.

    `names` are the ids of the records, or ``id#2`` where a record has several domains.
    """

    records: Sequence[StoredRecord]
    vectors: Float2D
    facts: Sequence[VectorRow]
    names: Sequence[str]

    @property
    def n_records(self) -> int:
        """Distinct records; all domains of one are on the same page."""
        return len({r.key for r in self.records})


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

    In a space of variable domains each domain of a record comes by itself, as `StoredRecord.domain`. A space
    of chains lacks records of several chains, and those that came without a sequence into another space.

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
    """Look up the vectors of records, or of their domains; those that have none are left out."""
    repository = reader.repository
    segments = repository.segments(space.space_id)
    units = _domains_of(reader, page) if space.spec.reads_domains else page
    n_of = Counter(r.key for r in units)
    places = repository.vector_places(space.space_id, {r.vector_id for r in units})
    records = [r for r in units if r.vector_id in places]
    ids = [r.vector_id for r in records]
    vectors = files.rows(segments, [places[i] for i in ids])
    names = [r.unit_id if n_of[r.key] > 1 else r.record_id for r in records]
    return StoredPage(records, vectors, repository.vector_rows(space.space_id, ids), names)


def _domains_of(reader: Reader, page: Sequence[StoredRecord]) -> list[StoredRecord]:
    """Return each domain of some records as its record with `StoredRecord.domain`."""
    found = reader.repository.domains({r.sequence_id for r in page})
    return [r._replace(domain=d) for r in page for d in found.get(r.sequence_id, ())]


def record_pages(
    reader: Reader, extent: Extent, space: StoredSpace | None, *, with_domains: bool
) -> Iterator[PreparedPage]:
    """Yield all live records as what is to be stored elsewhere, page by page.

    Parameters
    ----------
    reader : Reader
    extent : Extent
    space : StoredSpace or None
        Of chains: records that have a vector there bring it.
    with_domains : bool
        Records bring their variable domains.

    Raises
    ------
    StorageError
        As `stored_records`.
    SegmentDamaged
    """
    files, row = VectorFiles(Layout(reader.path)), 1
    for records in stored_records(reader, extent):
        rows = [as_prepared(r, str(reader.path), n) for n, r in enumerate(records, start=row)]
        row += len(rows)
        domains = reader.repository.domains({r.sequence_id for r in records}) if with_domains else None
        of_rows = None if domains is None else [domains.get(r.sequence_id) for r in records]
        if space is None:
            nothing = np.zeros((len(rows), 0), dtype=np.float32)
            yield PreparedPage(rows, nothing, present=np.zeros(len(rows), dtype=np.bool_), domains=of_rows)
            continue
        look = partial(_with_vectors, reader, files, space, records)
        yield _spread(records, rows, undisturbed(reader, look), of_rows)


def _spread(
    records: Sequence[StoredRecord],
    rows: Sequence[Prepared],
    found: StoredPage,
    domains: Sequence[Sequence[StoredDomain] | None] | None,
) -> PreparedPage:
    """Put the vectors of some of the rows of a page in the places of these."""
    if len(found.records) == len(rows):
        return PreparedPage(rows, found.vectors, found.facts, domains=domains)
    present = np.isin([r.key for r in records], [r.key for r in found.records])
    vectors = np.zeros((len(rows), found.vectors.shape[1]), dtype=np.float32)
    vectors[present] = found.vectors
    made = iter(found.facts)
    facts = [next(made) if has else VectorRow(0, 0, 0, 0, 0) for has in present]
    return PreparedPage(rows, vectors, facts, present, domains)


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
