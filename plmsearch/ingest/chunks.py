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

from plmsearch.domains import CHAIN_SEPARATOR, chains_without, region_places
from plmsearch.embedding.base import Embedder
from plmsearch.embedding.choose import SAMPLE_SIZE
from plmsearch.embedding.regions import EmbeddedUnits, Unit, embed_units, forward_key
from plmsearch.ingest.batch import Batch
from plmsearch.ingest.domain_names import DomainNames
from plmsearch.ingest.domains import (
    DomainFinder,
    disagreements,
    find_domains,
    idle_chains,
    misplaced_chains,
    why_no_domain,
)
from plmsearch.ingest.genes import GeneFinder
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
from plmsearch.types import Bool1D, Int1D

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
        They differ in layer and region only.
    load : callable
        Returns the model; called when the first sequence has to be embedded.
    batch_tokens : int
    """

    spaces: Sequence[StoredSpace]
    load: Callable[[], Embedder]
    batch_tokens: int
    missing: dict[int, Unit] = field(default_factory=dict)
    present: dict[int, set[int]] = field(default_factory=dict)

    @property
    def reads_domains(self) -> bool:
        """Whether its model reads variable domains, not chains."""
        return self.spaces[0].spec.reads_domains

    def look_up(self, repository: Repository, sequence_ids: Sequence[int]) -> None:
        """Learn which of these sequences have a vector, space by space."""
        for space in self.spaces:
            places = repository.vector_places(space.space_id, sequence_ids)
            waiting = self.present.get(space.space_id, set()) & self.missing.keys()
            self.present[space.space_id] = waiting.union(places)

    def need(self, sequence_id: int, unit: Unit) -> bool:
        """Note a sequence if a space lacks it; tell whether it is new to the chunk."""
        wanting = [s for s in self.spaces if not unit.ends or region_places(unit.ends, s.spec.region)]
        complete = all(sequence_id in self.present[s.space_id] for s in wanting)
        if complete or sequence_id in self.missing:
            return False
        self.missing[sequence_id] = unit
        return True

    def done(self) -> None:
        """Forget what was committed."""
        for present in self.present.values():
            present.update(self.missing)
        self.missing = {}


def group_spaces(
    spaces: Sequence[StoredSpace], load: Callable[[StoredSpace], Embedder], batch_tokens: int
) -> list[SpaceGroup]:
    """Put spaces together that come out of the same forward passes."""
    groups: dict[tuple[object, ...], list[StoredSpace]] = {}
    for space in spaces:
        groups.setdefault(forward_key(space.spec), []).append(space)
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
    genes : GeneFinder, optional
        Of variable domains; None: no genes are inferred.
    """

    def __init__(
        self,
        repository: Repository,
        layout: Layout,
        groups: Sequence[SpaceGroup],
        options: AddOptions,
        progress: Progress,
        genes: GeneFinder | None = None,
    ) -> None:
        self.report = AddReport(spaces=[s.spec.name for g in groups for s in g.spaces])
        self._repository, self._layout, self._groups = repository, layout, groups
        self._rankings = repository.rankings()
        self._loci: dict[int, str] = {}
        self._options, self._progress = options, progress
        self._resolver = Resolver(repository, options.on_duplicate)
        of_chains = [s.spec.max_residues for g in groups for s in g.spaces if not g.reads_domains]
        self._max_residues = min(of_chains, default=None)
        self._batch = Batch(repository, self.report)
        self._genes = genes
        looks = any(g.reads_domains for g in groups)
        self._domains = DomainFinder(repository, self._batch, genes) if looks else None
        self._names = None if self._domains is None else DomainNames(repository)
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

    def write(
        self,
        run_id: int,
        inputs: Sequence[Input],
        columns: Mapping[str, str],
        samples: Sequence[Sequence[str]] = (),
    ) -> None:
        """Ingest inputs in order.

        Parameters
        ----------
        run_id : int
        inputs : sequence of Input
        columns : mapping of str to str
            Type of each metadata column.
        samples : sequence of sequence of str, optional
            Residues of each input that its species is inferred from.
        """
        self._run_id, self._columns = run_id, columns
        for number, one in enumerate(inputs):
            self._begin_species(samples[number] if samples else (), one.name if len(inputs) > 1 else "")
            takes_chains = self._domains is not None
            rows = (
                prepare(r, self._options, max_residues=self._max_residues, takes_chains=takes_chains)
                for r in one
            )
            for part in slices(rows, _LOOK_UP):
                self._take(number, part)
        self._flush()

    def _begin_species(self, sample: Sequence[str], source: str = "") -> None:
        """Let the species of rows to come be inferred from a sample; find the genes of those before."""
        if self._domains is not None and self._genes is not None:
            self._domains.find_genes()
            self._genes.begin(lambda: [cut for r in sample for cut in find_domains(r)], source)
            self.report.species = self._genes.evidence

    def _take(self, number: int, rows: Sequence[Prepared]) -> None:
        """Resolve some rows, looking everything up at once."""
        good = [r for r in rows if not r.reason]
        self._resolver.load([r.record.record_id for r in good])
        known = self._batch.known(good)
        needed = list(known.values()) if self._domains is None else self._domains.look(good, known)
        if self._names is not None:
            self._names.load(r.record.record_id for r in good)
        for group in self._groups:
            group.look_up(self._repository, needed)
        for row in rows:
            resolution = self._resolver.resolve(row, self._batch.next_key)
            sequence_id = None
            if resolution.outcome != "skipped":
                sequence_id = self._batch.sequence_id(row, known)
                self._need(sequence_id, row, known)
                if resolution.outcome != "present":
                    self._batch.add_record(row, resolution, sequence_id)
                    self._note_domains(sequence_id, row, resolution)
            self._rows.append((number, row, resolution, sequence_id))
            if self._is_due():
                self._flush()

    def _need(self, sequence_id: int, row: Prepared, known: dict[str, int]) -> None:
        units = {sequence_id: Unit(row.residues)} if CHAIN_SEPARATOR not in row.residues else {}
        domains = {} if self._domains is None else self._domains.units(sequence_id, row, known)
        for group in self._groups:
            for unit_id, unit in (domains if group.reads_domains else units).items():
                if group.need(unit_id, unit):
                    self._residues += len(unit.residues)

    def _note_domains(self, sequence_id: int, row: Prepared, resolution: Resolution) -> None:
        """Count what a new record has no vector of, and where it disagrees with itself."""
        found = [] if self._domains is None else self._domains.of(sequence_id)
        self.report.disagreements.update(disagreements(row.metadata, row.residues, found))
        if self._domains is None:
            return
        name = resolution.record_id
        if self._names is not None:
            self._names.add(name, len(found), row.record)
        if not found:
            self.report.without_domain[name] = why_no_domain(row.residues)
        if idle := idle_chains(row.residues, [domain.start for domain in found]):
            self.report.chains_without_domain[name] = idle
        if misplaced_chains(row.record.chain_kinds, row.residues, found):
            self.report.misplaced.append(name)
        self.report.n_incomplete += sum(not domain.is_complete for domain in found)
        specs = (s.spec for g in self._groups if g.reads_domains for s in g.spaces)
        for spec in specs:
            lacking = [d for d in found if not region_places(d.ends, spec.region)]
            for domain in lacking:
                unit = f"{name}#{domain.number}" if len(found) > 1 else name
                self.report.without_region.setdefault(spec.name, []).append(unit)

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
        if self._domains is not None:
            self._look_at_stored(self._domains)
        while units := self._units_without_vector(space):
            group.look_up(self._repository, list(units))
            for sequence_id, unit in units.items():
                if group.need(sequence_id, unit):
                    self._residues += len(unit.residues)
                if self._is_due():
                    self._flush()
            self._flush()

    def _look_at_stored(self, domains: DomainFinder) -> None:
        """Find what is not known of stored sequences: variable domains, and their genes."""
        looks = [(self._repository.sequences_without_domains, domains.look_at_stored)]
        if self._genes is not None:
            looks.append((self._repository.sequences_without_genes, domains.look_for_genes))
        for ask, look in looks:
            part = ask(_MAX_ROWS)
            if part:
                self._begin_species([residues for _, residues in part[:: 1 + len(part) // SAMPLE_SIZE]])
            while part:
                look(part)
                self._flush()
                part = ask(_MAX_ROWS)

    def _units_without_vector(self, space: StoredSpace) -> dict[int, Unit]:
        """Return the next sequences, or domains, that a space lacks, by id."""
        if not space.spec.reads_domains:
            found = self._repository.sequences_without_vector(space.space_id, _MAX_ROWS)
            return {i: Unit(residues) for i, residues in found}
        domains = self._repository.domains_without_vector(space.space_id, _MAX_ROWS)
        return {i: Unit(residues, ends) for i, residues, ends in domains}

    # --- Commit ----------------------------------------------------------------------------------

    def _flush(self) -> None:
        """Embed what is missing, make it durable, and commit the chunk."""
        if self._domains is not None:
            self._domains.find_genes()
        new_domains = {} if self._domains is None else self._domains.new
        if not self._rows and not new_domains and not any(g.missing for g in self._groups):
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
            notes = self._notes(row, sequence_id, made) if sequence_id else None
            self._batch.note(number, row, resolution, notes)
        n_rows, n_sequences = self._batch.n_rows, self._batch.n_sequences
        self._batch.commit(self._run_id, segments, self._columns, self._loci, new_domains)
        if self._domains is not None:
            self._domains.committed()
        if self._names is not None:
            self._names.committed()
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
        units = list(group.missing.values())
        specs = [s.spec for s in group.spaces]
        embedded = embed_units(embedder, units, specs, group.batch_tokens, on_progress=show)
        self._count_embedded(embedded, units, ids, made)
        loci = self._loci_of(group)
        for space in group.spaces:
            present = group.present[space.space_id]
            keep = np.array([i not in present for i in ids.tolist()]) & embedded.present[space.spec]
            if keep.any():
                yield self._write_segment(space, embedded, ids, keep, loci)

    def _loci_of(self, group: SpaceGroup) -> Mapping[int, str] | None:
        """Return the loci of what a group lacks, by id, if a ranking of its spaces compares by locus."""
        spaces = {s.space_id for s in group.spaces}
        if not any(r.needs_locus and r.space.space_id in spaces for r in self._rankings):
            return None
        if group.reads_domains:
            return None if self._domains is None else self._domains.loci(group.missing)
        found = {i: chain_locus(unit.residues) for i, unit in group.missing.items()}
        self._loci.update(found)
        return found

    def _write_segment(
        self,
        space: StoredSpace,
        embedded: EmbeddedUnits,
        ids: Int1D,
        keep: Bool1D,
        loci: Mapping[int, str] | None,
    ) -> NewSegment:
        facts = zip(
            ids[keep].tolist(),
            embedded.n_windows[keep].tolist(),
            embedded.n_used[keep].tolist(),
            embedded.n_unknown[keep].tolist(),
            strict=True,
        )
        rows = [VectorRow(i, row, w, u, x) for row, (i, w, u, x) in enumerate(facts)]
        vectors = embedded.vectors[space.spec][keep]
        segment_id = self._batch.new_segment_id()
        return publish_segment(
            self._layout, space.space_id, segment_id, vectors, rows, self._rankings, loci=loci
        )

    # --- Counting --------------------------------------------------------------------------------

    def _count_embedded(
        self, embedded: EmbeddedUnits, units: Sequence[Unit], ids: Int1D, made: dict[int, Mapping[str, int]]
    ) -> None:
        lengths = np.array([len(unit.residues) for unit in units])
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

    def _notes(
        self, row: Prepared, sequence_id: int, made: Mapping[int, Mapping[str, int]]
    ) -> dict[str, int]:
        """Return what the ledger says of how a row was embedded."""
        notes = dict(made.get(sequence_id, {}))
        found = [] if self._domains is None else self._domains.of(sequence_id)
        notes |= {f"disagrees_{c}": 1 for c in disagreements(row.metadata, row.residues, found)}
        if self._domains is not None:
            for domain in found:
                for name, number in made.get(domain.sequence_id, {}).items():
                    notes[name] = max(number, notes.get(name, 0))
            if len(found) != 1:
                notes["domains"] = len(found)
            if n_idle := len(chains_without(row.residues, [d.start for d in found])) if found else 0:
                notes["chains_without_domain"] = n_idle
            if n_incomplete := sum(not d.is_complete for d in found):
                notes["incomplete_domains"] = n_incomplete
            if n_misplaced := misplaced_chains(row.record.chain_kinds, row.residues, found):
                notes["chains_in_other_column"] = n_misplaced
        return notes


def _silent(_: int) -> None:
    """Show nothing: the rows of this chunk were counted by another group."""
