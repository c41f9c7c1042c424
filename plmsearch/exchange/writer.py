"""Store rows with the vectors they bring: no model, large segments, one commit for each.

A segment is written straight from the array that was read; its copy of unit length is made and
written by a second thread meanwhile, and the catalog's rows are prepared by the first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from plmsearch.errors import VectorConflict
from plmsearch.exchange.agreement import SAME_VECTOR, agree, is_near
from plmsearch.exchange.pages import PreparedPage
from plmsearch.ingest.prepare import Prepared
from plmsearch.ingest.report import AddReport, OnDuplicate, Progress, SkippedRow
from plmsearch.ingest.resolve import Resolution, Resolver
from plmsearch.sequences import absent_sequence_hash
from plmsearch.store.directory import Layout, storage_errors
from plmsearch.store.repository import Repository
from plmsearch.store.rows import (
    Chunk,
    Counters,
    LedgerRow,
    NewRecord,
    NewSegment,
    NewSequence,
    StoredSpace,
    VectorRow,
)
from plmsearch.store.segments import FileStamp
from plmsearch.store.vector_files import VectorFiles, publish_vectors
from plmsearch.types import Float1D, Float2D, Int1D
from plmsearch.vectors import unit_vectors

__all__ = ["VectorWriter", "rows_of_segment"]

_MAX_ROWS = 250_000
_MAX_BYTES = 512 << 20
#: Rows scaled at once: float64 in between, so that much more would leave the cache.
_UNIT_ROWS = 4096


def rows_of_segment(dim: int) -> int:
    """Return how many rows of `dim` components one segment takes."""
    return max(1, min(_MAX_ROWS, _MAX_BYTES // (dim * 4)))


class VectorWriter:
    """Takes pages in order and commits them.

    Parameters
    ----------
    repository : Repository
        Opened for writing, under the lock.
    layout : Layout
    space : StoredSpace
        The only space of the database.
    on_duplicate : {"rename", "error", "skip"}
        An id that is taken by a different record.
    progress : Progress
    """

    def __init__(
        self,
        repository: Repository,
        layout: Layout,
        space: StoredSpace,
        on_duplicate: OnDuplicate,
        progress: Progress,
    ) -> None:
        self.report = AddReport(spaces=[space.spec.name])
        self._repository, self._layout, self._space = repository, layout, space
        self._progress = progress
        self._resolver = Resolver(repository, on_duplicate)
        self._files = VectorFiles(layout)
        self._segments = repository.segments(space.space_id)
        counters = repository.counters()
        self._next_sequence_id, self._next_key = counters.sequence_id, counters.record_key
        self._next_segment_id = counters.segment_id
        self._is_first = counters.record_key == 1
        self._has_sequences = counters.sequence_id > 1
        self._max_rows = rows_of_segment(space.spec.dim)
        self._clear()

    def _clear(self) -> None:
        self._ledger: list[LedgerRow] = []
        self._sequences: list[NewSequence] = []
        self._records: list[NewRecord] = []
        self._ids_by_hash: dict[str, int] = {}
        self._waiting: dict[int, Float1D] = {}
        self._vector_rows: list[VectorRow] = []
        self._parts: list[Float2D] = []

    def write(
        self, run_id: int, number: int, pages: Iterable[PreparedPage], columns: Mapping[str, str]
    ) -> None:
        """Store the pages of one input, whose ids are distinct.

        Parameters
        ----------
        run_id, number : int
            Of the run, and of the input within it.
        pages : iterable of PreparedPage
        columns : mapping of str to str
            Type of each metadata column.

        Raises
        ------
        DuplicateRecordError
            If the policy is ``error`` and an id is taken.
        VectorConflict
            If a sequence that is stored comes with another vector.
        """
        for page in pages:
            self._take(number, page)
            if len(self._ledger) >= self._max_rows:
                self._flush(run_id, columns)
        self._flush(run_id, columns)
        self._is_first = False

    # --- Rows ------------------------------------------------------------------------------------

    def _take(self, number: int, page: PreparedPage) -> None:
        rows = page.rows
        if not self._is_first:
            self._resolver.load([r.record.record_id for r in rows])
        known = self._known(rows)
        vectors = self._known_vectors(known.values())
        kept: list[int] = []
        for place, given in enumerate(rows):
            row = given
            resolution = self._resolve(row, known, vectors, page.vectors[place])
            if resolution.outcome != "skipped":
                if resolution.record_id != row.record.record_id and not row.residues:
                    row = replace(row, hash_hex=absent_sequence_hash(resolution.record_id))
                    known.update(self._known([row]))
                    vectors.update(self._known_vectors(self._known([row]).values()))
                sequence_id = self._sequence(row, known)
                if self._needs_vector(sequence_id, row, vectors, page.vectors[place]):
                    kept.append(place)
                    self._add_vector(sequence_id, row, page.facts[place] if page.facts else None)
                if resolution.outcome != "present":
                    self._add_record(row, resolution, sequence_id)
            self._count(number, row, resolution)
        if kept:
            self._parts.append(page.vectors if len(kept) == len(rows) else page.vectors[kept])

    def _known(self, rows: Sequence[Prepared]) -> dict[str, int]:
        """Return the ids of the sequences that are stored or wait to be, by hash."""
        known = {r.hash_hex: i for r in rows if (i := self._ids_by_hash.get(r.hash_hex)) is not None}
        if self._has_sequences:
            # The first input's ids are new, and so is what stands for its absent sequences.
            wanted = (r.hash_hex for r in rows if r.residues or not self._is_first)
            asked = {bytes.fromhex(hash_hex) for hash_hex in wanted if hash_hex}
            known.update({h.hex(): i for h, i in self._repository.sequence_ids(asked).items()})
        return known

    def _known_vectors(self, sequence_ids: Iterable[int]) -> dict[int, Float1D]:
        wanted = list(sequence_ids)
        waiting = {i: self._waiting[i] for i in wanted if i in self._waiting}
        places = self._repository.vector_places(self._space.space_id, wanted) if wanted else {}
        stored = self._files.rows(self._segments, list(places.values()))
        return {**waiting, **dict(zip(places, stored, strict=True))}

    def _resolve(
        self, row: Prepared, known: Mapping[str, int], vectors: Mapping[int, Float1D], vector: Float1D
    ) -> Resolution:
        if row.reason:
            return Resolution("skipped", row.record.record_id, reason=row.reason)
        if self._is_first:
            return Resolution("added", row.record.record_id, self._next_key)
        if not row.residues and not self._is_stored(row, known, vectors, vector):
            # Its vector is all that tells such a record from another of the same id.
            row = replace(row, hash_hex=hashlib.sha256(vector.tobytes()).hexdigest())
        return self._resolver.resolve(row, self._next_key)

    def _is_stored(
        self, row: Prepared, known: Mapping[str, int], vectors: Mapping[int, Float1D], vector: Float1D
    ) -> bool:
        """Tell whether a record without a sequence is there under its id, or was and lost its vector."""
        sequence_id = known.get(row.hash_hex)
        stored = None if sequence_id is None else vectors.get(sequence_id)
        return sequence_id is not None and (stored is None or is_near(vector, stored, SAME_VECTOR))

    def _sequence(self, row: Prepared, known: dict[str, int]) -> int:
        """Return the id of a row's sequence, which may be new."""
        sequence_id = known.get(row.hash_hex)
        if sequence_id is None:
            sequence_id = known[row.hash_hex] = self._ids_by_hash[row.hash_hex] = self._next_sequence_id
            self._next_sequence_id += 1
            self._sequences.append(NewSequence(sequence_id, bytes.fromhex(row.hash_hex), row.residues))
        return sequence_id

    def _needs_vector(
        self, sequence_id: int, row: Prepared, vectors: dict[int, Float1D], vector: Float1D
    ) -> bool:
        """Tell whether a sequence has no vector yet; refuse one that has another."""
        stored = vectors.get(sequence_id)
        if stored is None:
            vectors[sequence_id] = self._waiting[sequence_id] = vector
            return True
        if not agree(self._space.spec, row.residues, vector, stored):
            raise self._another_vector(row)
        return False

    def _another_vector(self, row: Prepared) -> VectorConflict:
        record, owner = row.record, "a deleted record of this id"
        hint = f"drop what was deleted: plmsearch optimize {self._layout.root}"
        if row.residues:
            owner, hint = "its sequence", "leave the sequences out, and each record keeps its own vector"
        return VectorConflict(record.record_id, owner, source=record.source, row=record.row, hint=hint)

    def _add_vector(self, sequence_id: int, row: Prepared, facts: VectorRow | None) -> None:
        place = len(self._vector_rows)
        if facts is None:
            facts = VectorRow(sequence_id, place, 1, len(row.residues), 0)
        self._vector_rows.append(facts._replace(sequence_id=sequence_id, row=place))

    def _add_record(self, row: Prepared, resolution: Resolution, sequence_id: int) -> None:
        new = NewRecord(
            self._next_key, resolution.record_id, sequence_id, row.record.description, row.metadata_json
        )
        self._records.append(new)
        self._next_key += 1

    def _count(self, number: int, row: Prepared, resolution: Resolution) -> None:
        record, report, outcome = row.record, self.report, resolution.outcome
        self._ledger.append(
            LedgerRow(number, record.row or 0, record.record_id, outcome, resolution.key, resolution.reason)
        )
        report.n_rows += 1
        if outcome == "added":
            report.n_added += 1
        elif outcome == "renamed":
            report.n_renamed += 1
        elif outcome == "present":
            report.n_present += 1
        else:
            report.n_skipped += 1
            skipped = SkippedRow(record.source, record.row, record.record_id, resolution.reason)
            report.skipped.append(skipped)

    # --- Commit ----------------------------------------------------------------------------------

    def _flush(self, run_id: int, columns: Mapping[str, str]) -> None:
        if not self._ledger:
            return
        n_rows = len(self._ledger)
        self._repository.commit(
            Chunk(
                run_id=run_id,
                segments=[self._write_segment()] if self._vector_rows else [],
                counters=Counters(self._next_sequence_id, self._next_key, self._next_segment_id),
                sequences=self._sequences,
                records=self._records,
                ledger=self._ledger,
                columns=columns,
            )
        )
        self._segments = self._repository.segments(self._space.space_id)
        self._has_sequences = self._next_sequence_id > 1
        self._resolver.committed()
        self._clear()
        self._progress.advance(n_rows)

    def _write_segment(self) -> NewSegment:
        vectors = self._parts[0] if len(self._parts) == 1 else np.concatenate(self._parts)
        ids = np.array([r.sequence_id for r in self._vector_rows], dtype=np.int64)
        segment_id = self._next_segment_id
        self._next_segment_id += 1
        file, unit_file = f"{segment_id:08d}.vec", f"{segment_id:08d}-unit.vec"
        with storage_errors(self._layout.root), ThreadPoolExecutor(1) as second:
            unit: Future[FileStamp] = second.submit(self._write_unit, unit_file, vectors, ids)
            stamp = publish_vectors(self._layout, self._layout.segments / file, vectors, ids)
            unit_stamp = unit.result()
        return NewSegment(
            segment_id, self._space.space_id, file, stamp, self._vector_rows, unit_file, unit_stamp
        )

    def _write_unit(self, file: str, vectors: Float2D, ids: Int1D) -> FileStamp:
        unit = np.empty_like(vectors)
        for start in range(0, len(vectors), _UNIT_ROWS):
            part = slice(start, start + _UNIT_ROWS)
            unit[part] = unit_vectors(vectors[part], vectors.shape[1])
        return publish_vectors(self._layout, self._layout.derived / file, unit, ids)
