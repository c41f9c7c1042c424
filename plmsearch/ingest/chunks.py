"""Embed and commit, chunk by chunk.

A chunk is bounded in rows, in residues and in time: its size follows the rate measured on the chunk
before, so that a commit comes about every 10 seconds whatever the model and the machine. Memory is
bounded by the chunk, not by the input.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from plmsearch.embedding.base import Embedder
from plmsearch.embedding.embed import Embedded, embed_sequences, plan_of
from plmsearch.ingest.batch import Batch
from plmsearch.ingest.prepare import Prepared, prepare
from plmsearch.ingest.report import AddOptions, AddReport, Progress
from plmsearch.ingest.resolve import Resolution, Resolver
from plmsearch.ingest.scan import Input
from plmsearch.numbering import chain_locus
from plmsearch.slices import slices
from plmsearch.store.directory import Layout
from plmsearch.store.rankings import StoredSpace
from plmsearch.store.repository import Repository
from plmsearch.store.rows import (
    NewSegment,
    VectorRow,
)
from plmsearch.store.vector_files import publish_segment
from plmsearch.types import Int1D

__all__ = ["ChunkWriter", "SpaceGroup", "group_spaces"]

_log = logging.getLogger(__name__)

_LOOK_UP = 256
_MAX_ROWS = 4096
#: A first chunk that the slowest model on the slowest machine finishes in seconds.
_FIRST_RESIDUES = 1024
_MAX_RESIDUES = 4_000_000
#: A third of the promise that a chunk is committed at least every 30 s.
_CHUNK_SECONDS = 10.0
#: The rate of a small first chunk includes warming up, so it is trusted only so far.
_MAX_GROWTH = 8


@dataclass(slots=True)
class SpaceGroup:
    """Spaces that come out of the same forward passes.

    Parameters
    ----------
    spaces : sequence of StoredSpace
        They differ in the layer only.
    load : callable
        Returns the model; called when the first sequence has to be embedded.
    batch_tokens : int
    """

    spaces: Sequence[StoredSpace]
    load: Callable[[], Embedder]
    batch_tokens: int
    missing: dict[int, str] = field(default_factory=dict)
    present: dict[int, set[int]] = field(default_factory=dict)

    def look_up(self, repository: Repository, sequence_ids: Sequence[int]) -> None:
        """Learn which of these sequences have a vector, space by space."""
        for space in self.spaces:
            places = repository.vector_places(space.space_id, sequence_ids)
            waiting = self.present.get(space.space_id, set()) & self.missing.keys()
            self.present[space.space_id] = waiting.union(places)

    def need(self, sequence_id: int, residues: str) -> bool:
        """Note a sequence if a space lacks it; tell whether it is new to the chunk."""
        complete = all(sequence_id in self.present[s.space_id] for s in self.spaces)
        if complete or sequence_id in self.missing:
            return False
        self.missing[sequence_id] = residues
        return True

    def done(self) -> None:
        """Forget what was committed."""
        for present in self.present.values():
            present.update(self.missing)
        self.missing = {}


def group_spaces(
    spaces: Sequence[StoredSpace], load: Callable[[StoredSpace], Embedder], batch_tokens: int
) -> list[SpaceGroup]:
    """Put spaces together that differ in the layer only."""
    groups: dict[tuple[str, ...], list[StoredSpace]] = {}
    for space in spaces:
        s = space.spec
        groups.setdefault((s.model_id, s.weights_digest, s.pooling, s.long), []).append(space)
    return [
        SpaceGroup(members, lambda first=members[0]: load(first), batch_tokens)  # type: ignore[misc]
        for members in groups.values()
    ]


class ChunkWriter:
    """Takes rows in order and commits them.

    Parameters
    ----------
    repository : Repository
        Opened for writing, under the lock.
    layout : Layout
    groups : sequence of SpaceGroup
        Every space of the database.
    options : AddOptions
    progress : Progress
    """

    def __init__(
        self,
        repository: Repository,
        layout: Layout,
        groups: Sequence[SpaceGroup],
        options: AddOptions,
        progress: Progress,
    ) -> None:
        self.report = AddReport(spaces=[s.spec.name for g in groups for s in g.spaces])
        self._repository, self._layout, self._groups = repository, layout, groups
        self._rankings = repository.rankings()
        self._loci: dict[int, str] = {}
        self._options, self._progress = options, progress
        self._resolver = Resolver(repository, options.on_duplicate)
        self._max_residues = min(s.spec.max_residues for g in groups for s in g.spaces)
        self._batch = Batch(repository, self.report)
        self._columns: Mapping[str, str] = {}
        self._run_id = 0
        self._budget = _FIRST_RESIDUES
        self._clear()

    def _clear(self) -> None:
        self._rows: list[tuple[int, Prepared, Resolution, int | None]] = []
        self._residues = 0
        self._loci = {}
        self._since = time.monotonic()

    # --- Rows ------------------------------------------------------------------------------------

    def write(self, run_id: int, inputs: Sequence[Input], columns: Mapping[str, str]) -> None:
        """Ingest inputs in order.

        Parameters
        ----------
        run_id : int
        inputs : sequence of Input
        columns : mapping of str to str
            Type of each metadata column.
        """
        self._run_id, self._columns = run_id, columns
        for number, one in enumerate(inputs):
            rows = (prepare(r, self._options, max_residues=self._max_residues) for r in one)
            for part in slices(rows, _LOOK_UP):
                self._take(number, part)
        self._flush()

    def _take(self, number: int, rows: Sequence[Prepared]) -> None:
        """Resolve some rows, looking everything up at once."""
        good = [r for r in rows if not r.reason]
        self._resolver.load([r.record.record_id for r in good])
        known = self._batch.known(good)
        for group in self._groups:
            group.look_up(self._repository, list(known.values()))
        for row in rows:
            resolution = self._resolver.resolve(row, self._batch.next_key)
            sequence_id = None
            if resolution.outcome != "skipped":
                sequence_id = self._batch.sequence_id(row, known)
                self._need(sequence_id, row)
                if resolution.outcome != "present":
                    self._batch.add_record(row, resolution, sequence_id)
            self._rows.append((number, row, resolution, sequence_id))
            if self._is_due():
                self._flush()

    def _need(self, sequence_id: int, row: Prepared) -> None:
        n_needing = sum(group.need(sequence_id, row.residues) for group in self._groups)
        if n_needing:
            self._residues += len(row.residues)

    def _is_due(self) -> bool:
        return (
            len(self._rows) >= _MAX_ROWS
            or self._residues >= self._budget
            or time.monotonic() - self._since > _CHUNK_SECONDS
        )

    # --- Sequences already stored ----------------------------------------------------------------

    def fill(self, run_id: int, space: StoredSpace, n_sequences: int) -> None:
        """Embed the stored sequences that a space lacks."""
        self._run_id = run_id
        self._progress.start(n_sequences)
        (group,) = self._groups
        group.present = {s.space_id: set() for s in group.spaces}
        while part := self._repository.sequences_without_vector(space.space_id, _MAX_ROWS):
            group.look_up(self._repository, [sequence_id for sequence_id, _ in part])
            for sequence_id, residues in part:
                if group.need(sequence_id, residues):
                    self._residues += len(residues)
                if self._is_due():
                    self._flush()
            self._flush()

    # --- Commit ----------------------------------------------------------------------------------

    def _flush(self) -> None:
        """Embed what is missing, make it durable, and commit the chunk."""
        if not self._rows and not any(g.missing for g in self._groups):
            return
        started = time.monotonic()
        n_advanced = 0
        segments: list[NewSegment] = []
        made: dict[int, Mapping[str, int]] = {}
        for group in self._groups:
            if group.missing:
                show = self._progress.advance if n_advanced == 0 else _silent
                segments.extend(self._embed(group, show, made))
                n_advanced = max(n_advanced, len(group.missing))
        for number, row, resolution, sequence_id in self._rows:
            self._batch.note(number, row, resolution, made.get(sequence_id) if sequence_id else None)
        n_rows, n_sequences = self._batch.n_rows, self._batch.n_sequences
        self._batch.commit(self._run_id, segments, self._columns, self._loci)
        _log.info(
            "committed %d rows, %d new sequences, %d vectors in %.2f s",
            n_rows,
            n_sequences,
            sum(len(s.rows) for s in segments),
            time.monotonic() - started,
        )
        self.report.n_embedded += len(set().union(*(g.missing for g in self._groups)))
        self._progress.advance(max(0, n_rows - n_advanced))
        self._resolver.committed()
        for group in self._groups:
            group.done()
        if self._residues:
            rate = self._residues / max(time.monotonic() - started, 1e-3)
            wanted = int(min(rate * _CHUNK_SECONDS, self._budget * _MAX_GROWTH, _MAX_RESIDUES))
            self._budget = max(wanted, _FIRST_RESIDUES)
        self._clear()

    def _embed(
        self, group: SpaceGroup, show: Callable[[int], None], made: dict[int, Mapping[str, int]]
    ) -> Iterator[NewSegment]:
        """Run the model over a group's missing sequences and write a segment per space."""
        embedder = group.load()
        ids = np.array(list(group.missing), dtype=np.int64)
        residues = list(group.missing.values())
        plan = plan_of([s.spec for s in group.spaces], group.batch_tokens)
        embedded = embed_sequences(embedder, residues, plan, on_progress=show)
        self._count_embedded(embedded, residues, ids, made)
        spaces = {s.space_id for s in group.spaces}
        if any(r.needs_locus and r.space.space_id in spaces for r in self._rankings):
            self._loci.update((i, chain_locus(r)) for i, r in group.missing.items())
        for space in group.spaces:
            present = group.present[space.space_id]
            keep = np.array([i not in present for i in ids.tolist()])
            if keep.any():
                yield self._write_segment(space, embedded, ids, keep)

    def _write_segment(self, space: StoredSpace, embedded: Embedded, ids: Int1D, keep: Int1D) -> NewSegment:
        facts = zip(
            ids[keep].tolist(),
            embedded.n_windows[keep].tolist(),
            embedded.n_used[keep].tolist(),
            embedded.n_unknown[keep].tolist(),
            strict=True,
        )
        rows = [VectorRow(i, row, w, u, x) for row, (i, w, u, x) in enumerate(facts)]
        vectors = embedded.vectors[space.spec.layer][keep]
        segment_id, loci = self._batch.new_segment_id(), self._loci or None
        return publish_segment(
            self._layout, space.space_id, segment_id, vectors, rows, self._rankings, loci=loci
        )

    # --- Counting --------------------------------------------------------------------------------

    def _count_embedded(
        self, embedded: Embedded, residues: Sequence[str], ids: Int1D, made: dict[int, Mapping[str, int]]
    ) -> None:
        lengths = np.array([len(r) for r in residues])
        self.report.count_embedded(embedded, lengths)
        for row, sequence_id in enumerate(ids.tolist()):
            notes: dict[str, int] = {}
            if embedded.n_windows[row] > 1:
                notes["windows"] = int(embedded.n_windows[row])
            if embedded.n_used[row] < lengths[row]:
                notes["truncated_to"] = int(embedded.n_used[row])
            if embedded.n_unknown[row]:
                notes["unknown_residues"] = int(embedded.n_unknown[row])
            if notes:
                made[sequence_id] = notes


def _silent(_: int) -> None:
    """Show nothing: the rows of this chunk were counted by another group."""
