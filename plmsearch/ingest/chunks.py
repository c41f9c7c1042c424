"""Embed and commit, chunk by chunk.

A chunk is bounded in rows, in residues and in time: its size follows the rate measured on the chunk
before, so that a commit comes about every 10 seconds whatever the model and the machine. Memory is
bounded by the chunk, not by the input.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from plmsearch.embedding.base import Embedder
from plmsearch.embedding.embed import Embedded, embed_sequences, plan_of
from plmsearch.ingest.prepare import Prepared, prepare
from plmsearch.ingest.report import AddOptions, AddReport, Progress, SkippedRow
from plmsearch.ingest.resolve import Resolution, Resolver
from plmsearch.ingest.scan import Input
from plmsearch.slices import slices
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
from plmsearch.store.vector_files import publish_vectors
from plmsearch.types import Int1D
from plmsearch.vectors import unit_vectors

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
        self._options, self._progress = options, progress
        self._resolver = Resolver(repository, options.on_duplicate)
        self._max_residues = min(s.spec.max_residues for g in groups for s in g.spaces)
        self._columns: Mapping[str, str] = {}
        self._run_id = 0
        self._budget = _FIRST_RESIDUES
        counters = repository.counters()
        self._next_sequence_id = counters.sequence_id
        self._next_key = counters.record_key
        self._next_segment_id = counters.segment_id
        self._clear()

    def _clear(self) -> None:
        self._rows: list[tuple[int, Prepared, Resolution, int | None]] = []
        self._new_sequences: dict[str, NewSequence] = {}
        self._new_records: list[NewRecord] = []
        self._buried: list[int] = []
        self._residues = 0
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
        known = self._known_sequences(good)
        for group in self._groups:
            group.look_up(self._repository, list(known.values()))
        for row in rows:
            resolution = self._resolve(row)
            sequence_id = None
            if resolution.outcome != "skipped":
                sequence_id = self._sequence_id(row, known)
                self._need(sequence_id, row)
            if resolution.outcome in {"added", "renamed", "replaced"}:
                self._add_record(row, resolution, sequence_id)
            self._rows.append((number, row, resolution, sequence_id))
            if self._is_due():
                self._flush()

    def _known_sequences(self, rows: Sequence[Prepared]) -> dict[str, int]:
        stored = self._repository.sequence_ids({bytes.fromhex(r.hash_hex) for r in rows})
        known = {hash_bytes.hex(): sequence_id for hash_bytes, sequence_id in stored.items()}
        known.update({h: s.sequence_id for h, s in self._new_sequences.items()})
        return known

    def _resolve(self, row: Prepared) -> Resolution:
        if row.reason:
            return Resolution("skipped", row.record.record_id, reason=row.reason)
        return self._resolver.resolve(row, self._next_key)

    def _sequence_id(self, row: Prepared, known: dict[str, int]) -> int:
        sequence_id = known.get(row.hash_hex)
        if sequence_id is None:
            sequence_id = known[row.hash_hex] = self._next_sequence_id
            self._next_sequence_id += 1
            new = NewSequence(sequence_id, bytes.fromhex(row.hash_hex), row.residues)
            self._new_sequences[row.hash_hex] = new
        return sequence_id

    def _need(self, sequence_id: int, row: Prepared) -> None:
        n_needing = sum(group.need(sequence_id, row.residues) for group in self._groups)
        if n_needing:
            self._residues += len(row.residues)

    def _add_record(self, row: Prepared, resolution: Resolution, sequence_id: int | None) -> None:
        assert sequence_id is not None
        if resolution.replaces is not None:
            self._bury(resolution.replaces)
        self._new_records.append(
            NewRecord(
                self._next_key, resolution.record_id, sequence_id, row.record.description, row.metadata_json
            )
        )
        self._next_key += 1

    def _bury(self, key: int) -> None:
        """Give a record its tombstone, whether it is committed or comes with this chunk."""
        place = len(self._new_records) - (self._next_key - key)
        if place < 0:
            self._buried.append(key)
        else:
            self._new_records[place] = self._new_records[place]._replace(is_buried=True)

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
        self._repository.commit(
            Chunk(
                run_id=self._run_id,
                counters=Counters(self._next_sequence_id, self._next_key, self._next_segment_id),
                sequences=list(self._new_sequences.values()),
                records=self._new_records,
                buried=self._buried,
                segments=segments,
                ledger=[self._ledger_row(r, made) for r in self._rows],
                columns=self._columns,
            )
        )
        _log.info(
            "committed %d rows, %d new sequences, %d vectors in %.2f s",
            len(self._rows),
            len(self._new_sequences),
            sum(len(s.rows) for s in segments),
            time.monotonic() - started,
        )
        self._count_rows()
        self.report.n_embedded += len(set().union(*(g.missing for g in self._groups)))
        self._progress.advance(max(0, len(self._rows) - n_advanced))
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
        for space in group.spaces:
            present = group.present[space.space_id]
            keep = np.array([i not in present for i in ids.tolist()])
            if keep.any():
                yield self._write_segment(space, embedded, ids, keep)

    def _write_segment(self, space: StoredSpace, embedded: Embedded, ids: Int1D, keep: Int1D) -> NewSegment:
        vectors = embedded.vectors[space.spec.layer][keep]
        segment_id = self._next_segment_id
        self._next_segment_id += 1
        file, unit_file = f"{segment_id:08d}.vec", f"{segment_id:08d}-unit.vec"
        facts = zip(
            ids[keep].tolist(),
            embedded.n_windows[keep].tolist(),
            embedded.n_used[keep].tolist(),
            embedded.n_unknown[keep].tolist(),
            strict=True,
        )
        with storage_errors(self._layout.root):
            stamp = publish_vectors(self._layout, self._layout.segments / file, vectors, ids[keep])
            unit = unit_vectors(vectors, space.spec.dim)
            unit_stamp = publish_vectors(self._layout, self._layout.derived / unit_file, unit, ids[keep])
        return NewSegment(
            segment_id=segment_id,
            space_id=space.space_id,
            file=file,
            stamp=stamp,
            rows=[VectorRow(i, row, w, u, x) for row, (i, w, u, x) in enumerate(facts)],
            unit_file=unit_file,
            unit_stamp=unit_stamp,
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

    def _ledger_row(
        self, entry: tuple[int, Prepared, Resolution, int | None], made: Mapping[int, Mapping[str, int]]
    ) -> LedgerRow:
        number, row, resolution, sequence_id = entry
        notes = {**row.notes, **(made.get(sequence_id, {}) if sequence_id is not None else {})}
        return LedgerRow(
            input=number,
            row=row.record.row or 0,
            input_id=row.record.record_id,
            outcome=resolution.outcome,
            record_key=resolution.key,
            reason=resolution.reason,
            notes=json.dumps(notes, sort_keys=True) if notes else "",
        )

    def _count_rows(self) -> None:
        report = self.report
        for _, row, resolution, _ in self._rows:
            report.n_rows += 1
            report.changes.update(dict.fromkeys(row.notes, 1))
            match resolution.outcome:
                case "added":
                    report.n_added += 1
                case "renamed":
                    report.n_renamed += 1
                case "replaced":
                    report.n_replaced += 1
                case "present":
                    report.n_present += 1
                case "skipped":
                    report.n_skipped += 1
                    r = row.record
                    report.skipped.append(SkippedRow(r.source, r.row, r.record_id, resolution.reason))


def _silent(_: int) -> None:
    """Show nothing: the rows of this chunk were counted by another group."""
