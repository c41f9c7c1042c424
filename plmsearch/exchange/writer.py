"""Store rows with the vectors they bring: no model, large segments, one commit for each.

A segment is written straight from the array that was read, by a second thread, while the first fills
the catalog; the commit waits for both.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import repeat

import numpy as np

from plmsearch.errors import VectorConflict
from plmsearch.exchange.agreement import SAME_VECTOR, agree, is_near
from plmsearch.exchange.domains import DomainCopier
from plmsearch.exchange.pages import BarePage, PreparedPage
from plmsearch.ingest.batch import Batch
from plmsearch.ingest.domain_names import DomainNames
from plmsearch.ingest.prepare import Prepared
from plmsearch.ingest.report import AddReport, OnDuplicate, Progress
from plmsearch.ingest.resolve import Resolution, Resolver
from plmsearch.sequences import absent_sequence_hash
from plmsearch.slices import slices
from plmsearch.store.directory import Layout
from plmsearch.store.rankings import StoredSpace
from plmsearch.store.repository import Repository
from plmsearch.store.rows import (
    NewSegment,
    StoredSegment,
    VectorRow,
)
from plmsearch.store.vector_files import VectorFiles, publish_segment
from plmsearch.types import Float1D, Float2D

__all__ = ["VectorWriter", "rows_of_segment"]

_MAX_ROWS = 250_000
_MAX_BYTES = 512 << 20
_LOOK_UP = 10_000


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
    space : StoredSpace or None
        Of the vectors; None: of no row there is one.
    on_duplicate : {"rename", "error", "skip"}
        An id that is taken by a different record.
    progress : Progress
    """

    def __init__(
        self,
        repository: Repository,
        layout: Layout,
        space: StoredSpace | None,
        on_duplicate: OnDuplicate,
        progress: Progress,
    ) -> None:
        self.report = AddReport(spaces=[] if space is None else [space.spec.name])
        self._repository, self._layout, self._space = repository, layout, space
        self._progress = progress
        self._resolver = Resolver(repository, on_duplicate)
        self._files = VectorFiles(layout)
        self._segments = self._segments_now()
        self._rankings = repository.rankings()
        self._batch = Batch(repository, self.report)
        self._domains = DomainCopier(repository, self._batch)
        self._names = DomainNames(repository)
        self._is_first = self._batch.next_key == 1
        self._max_rows = _MAX_ROWS if space is None else rows_of_segment(space.spec.dim)
        self._clear()

    def _clear(self) -> None:
        self._waiting: dict[int, Float1D] = {}
        self._vector_rows: list[VectorRow] = []
        self._parts: list[Float2D] = []

    def write(
        self,
        run_id: int,
        number: int,
        pages: Iterable[PreparedPage | BarePage],
        columns: Mapping[str, str],
    ) -> None:
        """Store the pages of one input, whose ids are distinct.

        Parameters
        ----------
        run_id, number : int
            Of the run, and of the input within it.
        pages : iterable of PreparedPage or BarePage
            The latter are committed one by one: of `rows_of_segment` rows they are stored fastest.
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
            if isinstance(page, BarePage):
                self._flush(run_id, columns)
                self._take_bare(number, page)
                self._flush(run_id, columns)
            else:
                self._take(number, page)
                if self._batch.n_rows >= self._max_rows:
                    self._flush(run_id, columns)
        self._flush(run_id, columns)
        self._is_first = False

    # --- Rows of nothing but an id ---------------------------------------------------------------

    def _take_bare(self, number: int, page: BarePage) -> None:
        """Take all rows at once if all are new, which none is that has a record or had one."""
        hashes = [bytes.fromhex(absent_sequence_hash(one)) for one in page.ids]
        if not self._is_first and self._any_known(page.ids, hashes):
            self._take(number, page.prepared())
            return
        sequence_ids = self._batch.add_new(number, page.ids, hashes, page.first_row)
        places = range(len(page.ids))
        self._vector_rows.extend(map(VectorRow, sequence_ids, places, repeat(1), repeat(0), repeat(0)))
        self._parts.append(page.vectors)

    def _any_known(self, ids: Iterable[str], hashes: Iterable[bytes]) -> bool:
        repository = self._repository
        return any(map(repository.records_by_id, slices(ids, _LOOK_UP))) or any(
            map(repository.sequence_ids, slices(hashes, _LOOK_UP))
        )

    # --- Rows one by one -------------------------------------------------------------------------

    def _take(self, number: int, page: PreparedPage) -> None:
        rows = page.rows
        if not self._is_first:
            self._resolver.load([r.record.record_id for r in rows])
        known = self._known(rows)
        vectors = self._known_vectors(known.values())
        if page.domains is not None:
            self._domains.load(
                ((r.residues, found) for r, found in zip(rows, page.domains, strict=True)), known
            )
            self._names.load(r.record.record_id for r in rows)
        kept: list[int] = []
        for place, given in enumerate(rows):
            row = given
            resolution = self._resolve(row, known, vectors, page.vectors[place])
            if resolution.outcome != "skipped":
                if resolution.record_id != row.record.record_id and not row.residues:
                    row = replace(row, hash_hex=absent_sequence_hash(resolution.record_id))
                    own = self._known([row])
                    known.update(own)
                    vectors.update(self._known_vectors(own.values()))
                sequence_id = self._batch.sequence_id(row, known)
                if page.domains is not None:
                    self._domains.take(sequence_id, row.residues, page.domains[place], known)
                has_vector = page.has_vector(place)
                if has_vector and self._needs_vector(sequence_id, row, vectors, page.vectors[place]):
                    kept.append(place)
                    self._add_vector(sequence_id, row, page.facts[place] if page.facts else None)
                if resolution.outcome != "present":
                    self._batch.add_record(row, resolution, sequence_id)
                    if page.domains is not None:
                        found = page.domains[place] or ()
                        self._names.add(resolution.record_id, len(found), row.record)
            self._batch.note(number, row, resolution)
        if kept:
            self._parts.append(page.vectors if len(kept) == len(rows) else page.vectors[kept])

    def _known(self, rows: Iterable[Prepared]) -> dict[str, int]:
        """Return the ids of the sequences that are stored or wait to be, by hash."""
        # The first input's ids are new, and so is what stands for its absent sequences.
        return self._batch.known(r for r in rows if r.residues or not self._is_first)

    def _known_vectors(self, sequence_ids: Iterable[int]) -> dict[int, Float1D]:
        wanted = list(sequence_ids)
        waiting = {i: self._waiting[i] for i in wanted if i in self._waiting}
        places = {}
        if wanted and self._space is not None:
            places = self._repository.vector_places(self._space.space_id, wanted)
        stored = self._files.rows(self._segments, list(places.values()))
        return {**waiting, **dict(zip(places, stored, strict=True))}

    def _resolve(
        self, row: Prepared, known: Mapping[str, int], vectors: Mapping[int, Float1D], vector: Float1D
    ) -> Resolution:
        if self._is_first and not row.reason:
            return Resolution("added", row.record.record_id, self._batch.next_key)
        if not row.reason and not row.residues and not self._is_stored(row, known, vectors, vector):
            # Its vector is all that tells such a record from another of the same id.
            row = replace(row, hash_hex=hashlib.sha256(vector.tobytes()).hexdigest())
        return self._resolver.resolve(row, self._batch.next_key)

    def _is_stored(
        self, row: Prepared, known: Mapping[str, int], vectors: Mapping[int, Float1D], vector: Float1D
    ) -> bool:
        """Tell whether a record without a sequence is there under its id, or was and lost its vector."""
        sequence_id = known.get(row.hash_hex)
        stored = None if sequence_id is None else vectors.get(sequence_id)
        return sequence_id is not None and (stored is None or is_near(vector, stored, SAME_VECTOR))

    def _needs_vector(
        self, sequence_id: int, row: Prepared, vectors: dict[int, Float1D], vector: Float1D
    ) -> bool:
        """Tell whether a sequence has no vector yet; refuse one that has another."""
        stored = vectors.get(sequence_id)
        if stored is None:
            vectors[sequence_id] = self._waiting[sequence_id] = vector
            return True
        assert self._space is not None
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
        place, n_residues = len(self._vector_rows), len(row.residues)
        made = (1, n_residues, 0) if facts is None else facts[2:]
        self._vector_rows.append(VectorRow(sequence_id, place, *made))

    # --- Commit ----------------------------------------------------------------------------------

    def _flush(self, run_id: int, columns: Mapping[str, str]) -> None:
        n_rows = self._batch.n_rows
        if not n_rows:
            return
        with ThreadPoolExecutor(1) as beside:
            written = [self._begin_segment(beside)] if self._vector_rows else []
            segments = (future.result() for future in written)
            self._batch.commit(run_id, segments, columns, self._domains.loci, self._domains.new)
        self._segments = self._segments_now()
        self._resolver.committed()
        self._domains.committed()
        self._names.committed()
        self._clear()
        self._progress.advance(n_rows)

    def _segments_now(self) -> list[StoredSegment]:
        return [] if self._space is None else self._repository.segments(self._space.space_id)

    def _begin_segment(self, beside: ThreadPoolExecutor) -> Future[NewSegment]:
        """Let another thread write what waits."""
        vectors = self._parts[0] if len(self._parts) == 1 else np.concatenate(self._parts)
        assert self._space is not None
        space_id, segment_id = self._space.space_id, self._batch.new_segment_id()
        return beside.submit(
            publish_segment, self._layout, space_id, segment_id, vectors, self._vector_rows, self._rankings
        )
