"""Make one database of several that have the same embedding spaces; no model is run.

The new database is built beside its place and appears there whole or not at all. The others are only
read, each as it was at one moment: what another process adds meanwhile is left out.

Records come in the order of the databases, and within each in that of insertion. They are stored with
their variable domains, and their vectors in the *leading* space: the first of chains in which every record
without a sequence has one, for its vector is all that tells such a record from another. Then each other space
is filled. Where all spaces are of domains none leads.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path

from plmsearch.embedding.spec import EmbeddingSpec
from plmsearch.errors import (
    DatabaseSpacesMismatch,
    EmbeddingError,
    ParameterError,
    SegmentDamaged,
    StorageError,
    VectorConflict,
)
from plmsearch.exchange.filling import SpaceFiller
from plmsearch.exchange.ledger import LedgerLines
from plmsearch.exchange.pages import (
    Extent,
    PreparedPage,
    changed_meanwhile,
    extent_of,
    record_pages,
    stored_pages,
    undisturbed,
)
from plmsearch.exchange.rankings import copy_rankings
from plmsearch.exchange.writer import VectorWriter
from plmsearch.ingest.provenance import record_run
from plmsearch.ingest.report import AddReport, OnDuplicate, Progress, check_choice
from plmsearch.ingest.spaces import embed_command
from plmsearch.metadata import widen
from plmsearch.nulls import refresh_nulls
from plmsearch.reader import Reader
from plmsearch.sequences import SequenceRecord, absent_sequence_hash, sequence_hash
from plmsearch.store.audit import records_without_any_vector
from plmsearch.store.directory import Layout, storage_errors
from plmsearch.store.rankings import StoredSpace
from plmsearch.store.repository import Repository
from plmsearch.store.rows import StoredRecord
from plmsearch.store.seal import check_seal
from plmsearch.store.segments import open_segment
from plmsearch.store.session import open_writer
from plmsearch.store.upkeep import refresh_files
from plmsearch.store.whole import make_whole, sync_tree, work_path

__all__ = ["MERGE_DUPLICATES", "merge"]

#: Policies for an id that an earlier database has for a different record.
MERGE_DUPLICATES: tuple[OnDuplicate, ...] = ("error", "rename", "skip")


@dataclass(frozen=True, slots=True)
class _Source:
    """A database that is read: the records of one moment, and its spaces by hash."""

    reader: Reader
    extent: Extent
    spaces: Mapping[str, StoredSpace]

    format = "plmsearch"

    @property
    def name(self) -> str:
        return str(self.reader.path)

    @property
    def size_bytes(self) -> int:
        layout, repository = Layout(self.reader.path), self.reader.repository
        segments = chain.from_iterable(repository.segments(s.space_id) for s in self.spaces.values())
        return layout.catalog.stat().st_size + sum(s.stamp.size_bytes for s in segments)

    def sha256(self) -> None:
        """Return None: it is not one file."""

    def __iter__(self) -> Iterator[SequenceRecord]:
        return iter(())


def merge(
    readers: Sequence[Reader],
    target: Path,
    *,
    on_duplicate: OnDuplicate = "error",
    progress: Progress | None = None,
) -> AddReport:
    """Make a database of the live records of several, with their stored vectors.

    Parameters
    ----------
    readers : sequence of Reader
        Two or more. The default space is that of the first.
    target : Path
        A directory that does not exist yet.
    on_duplicate : {"error", "rename", "skip"}
        An id that an earlier database has for a different record: for another sequence, description,
        metadata or, without a sequence, another vector.
    progress : Progress, optional

    Returns
    -------
    AddReport
        `n_present` counts records that an earlier database has too.

    Raises
    ------
    DatabaseSpacesMismatch
        If the databases do not have the same embedding spaces.
    EmbeddingError
        If a space is not complete, or a database has none.
    DuplicateRecordError
        If the policy is ``error`` and an id is taken.
    VectorConflict
        If a sequence has different vectors in two of the databases.
    ParameterError
        If there are fewer than two databases, one is given twice, or the target is inside of one.
    SegmentDamaged, CatalogDamaged, StorageError
        If a database is damaged, or another process deleted records of it meanwhile; if the target
        exists. On any error nothing is left under its name.
    """
    started = time.monotonic()
    show = progress or Progress()
    check_choice("on_duplicate", on_duplicate, MERGE_DUPLICATES)
    _refuse_places([r.path for r in readers], target)
    sources = _opened(readers)

    def make(work: Path) -> AddReport:
        for source in sources:
            undisturbed(source.reader, lambda one=source: _check_files(one))  # type: ignore[misc]
        report = _Merging(sources, on_duplicate, show).into(work, started)
        sync_tree(work)
        return report

    return make_whole(target, make)


# --- What can be merged --------------------------------------------------------------------------


def _refuse_places(paths: Sequence[Path], target: Path) -> None:
    """Refuse a database that is given twice, and a target that would change one."""
    if len(paths) < 2:
        raise ParameterError("databases", [str(p) for p in paths], "two or more")
    places = [p.resolve() for p in paths]
    for number, place in enumerate(places):
        if place in places[:number]:
            raise ParameterError("database", str(paths[number]), "given once")
        within = {target.resolve(), *target.resolve().parents}
        made_here = work_path(target).resolve()
        if place in within and target.resolve() != place:
            raise ParameterError("output", str(target), f"outside of {paths[number]}")
        if made_here in {place, *place.parents}:
            raise ParameterError("database", str(paths[number]), f"moved first: {target} is made there")


def _opened(readers: Sequence[Reader]) -> list[_Source]:
    sources: list[_Source] = []
    for reader in readers:
        reader.connect()
        # Raises where there is no space, or one is not complete.
        reader.space()
        spaces = [reader.space(s.spec.name) for s in reader.spaces()]
        source = _Source(reader, extent_of(reader), {s.spec.space_hash: s for s in spaces})
        if sources:
            _refuse_other_spaces(sources[0], source)
        _refuse_lost_vectors(source)
        sources.append(source)
    return sources


def _refuse_other_spaces(first: _Source, other: _Source) -> None:
    if first.spaces.keys() == other.spaces.keys():
        return
    specs = [[s.spec for s in source.spaces.values()] for source in (first, other)]
    described = ["; ".join(spec.describe() for spec in one) for one in specs]
    commands = [
        embed_command(spec, source.name)
        for source, there, here in ((first, specs[1], specs[0]), (other, specs[0], specs[1]))
        for spec in there
        if spec.space_hash not in source.spaces and _can_be_added(spec, here)
    ]
    n_missing = len(first.spaces.keys() ^ other.spaces.keys())
    hint = "add what is missing: " + ", and ".join(commands)
    if len(commands) < n_missing:
        hint = (
            "vectors of different spaces are never mixed: index or import one of the two anew like the other"
        )
    raise DatabaseSpacesMismatch(first.name, other.name, *described, hint=hint)


def _can_be_added(spec: EmbeddingSpec, here: Sequence[EmbeddingSpec]) -> bool:
    """Tell whether `embed` could add a space: by a model, and under a name that is not taken."""
    return not spec.is_external and spec.name not in {s.name for s in here}


def _refuse_lost_vectors(source: _Source) -> None:
    repository, path = source.reader.repository, source.reader.path
    for space in source.spaces.values():
        n_missing = repository.n_without_vector(space.space_id)
        if n_missing:
            reason = f"{n_missing} sequences have no vector in {space.spec.name}"
            raise StorageError(path, reason, hint=f"run: plmsearch repair {path}")
    lost = records_without_any_vector(repository)
    if lost:
        reason = f"{len(lost)} records without a sequence have no vector, such as {lost[0]!r}"
        raise StorageError(path, reason, hint=f"run: plmsearch import {path} FILE")


def _check_files(source: _Source) -> None:
    """Read every byte that has a checksum: in the new database a flipped bit would be the truth."""
    layout = Layout(source.reader.path)
    check_seal(layout, full=True)
    for space in source.spaces.values():
        for segment in source.reader.repository.segments(space.space_id):
            path = layout.segments / segment.file
            with storage_errors(path):
                try:
                    open_segment(path, segment.stamp, full=True)
                except FileNotFoundError as exc:
                    raise SegmentDamaged(path, "it is missing") from exc


# --- Merging -------------------------------------------------------------------------------------


class _Merging:
    def __init__(self, sources: Sequence[_Source], on_duplicate: OnDuplicate, progress: Progress) -> None:
        self._sources, self._on_duplicate, self._progress = sources, on_duplicate, progress
        self._specs = [s.spec for s in sources[0].spaces.values()]

    def into(self, work: Path, started: float) -> AddReport:
        """Make the database in an empty directory."""
        types, widened = self._columns()
        with open_writer(work) as repository:
            repository.add_first_spaces(self._specs)
            spaces = {s.spec.space_hash: s for s in repository.spaces()}
            first = self._leading()
            leading = None if first is None else spaces.pop(first.space_hash)
            layout = Layout(work)
            copy_rankings(self._sources[0].reader, repository)
            writer = VectorWriter(repository, layout, leading, self._on_duplicate, self._progress)
            report = writer.report
            report.spaces, report.widened = [s.name for s in self._specs], widened
            with record_run(repository, "merge", self._parameters(), self._sources, report) as run_id:
                self._progress.start(sum(s.extent.n_records for s in self._sources) * len(self._specs))
                for number, source in enumerate(self._sources):
                    try:
                        writer.write(run_id, number, _prepared_pages(source, leading), types)
                    except VectorConflict as error:
                        assert leading is not None
                        raise self._conflict(error, error.row, number, leading) from error
                if leading is not None:
                    self._refuse_lacking(repository, leading)
                for space in spaces.values():
                    self._fill(repository, SpaceFiller(repository, layout, space, run_id), run_id, space)
                refresh_files(repository, layout)
                report.seconds = time.monotonic() - started
            refresh_nulls(repository, layout)
        return report

    def _columns(self) -> tuple[dict[str, str], dict[str, tuple[str, str]]]:
        """Return the types of the metadata columns, and those that had to be widened."""
        first: dict[str, str] = {}
        types: dict[str, str] = {}
        for source in self._sources:
            for name, kind in source.reader.repository.metadata_columns().items():
                first.setdefault(name, kind)
                types[name] = widen(types.get(name, kind), kind)
        return types, {n: (before, types[n]) for n, before in first.items() if types[n] != before}

    def _leading(self) -> EmbeddingSpec | None:
        """Return the first space of chains in which every record without a sequence has a vector."""
        of_chains = [spec for spec in self._specs if not spec.reads_domains]
        for spec in of_chains:
            if not any(_lacks_unknown(s, spec) for s in self._sources):
                return spec
        if not of_chains:
            return None
        raise EmbeddingError(
            "there is no embedding space in which every record without a sequence has a vector: those of the "
            "databases are of different spaces",
            hint=f"merge fewer of them: {', '.join(s.name for s in self._sources)}",
        )

    def _parameters(self) -> dict[str, object]:
        return {
            "options": {"on_duplicate": self._on_duplicate},
            "spaces": [asdict(spec) for spec in self._specs],
            "databases": [
                {
                    "path": s.name,
                    "generation": s.reader.repository.generation(),
                    "n_records": s.extent.n_records,
                }
                for s in self._sources
            ],
        }

    def _fill(self, repository: Repository, filler: SpaceFiller, run_id: int, space: StoredSpace) -> None:
        """Copy the vectors of one more space for every record that was taken."""
        lines = LedgerLines(repository.ledger(run_id))
        for number, source in enumerate(self._sources):
            for page in stored_pages(source.reader, source.spaces[space.spec.space_hash], source.extent):
                found = [lines.of(number, r, source.reader) for r in page.records]
                kept = [n for n, (_, stored_as) in enumerate(found) if stored_as is not None]
                records = [page.records[n] for n in kept]
                hashes = [_unit_hash(r, str(found[n][1])) for n, r in zip(kept, records, strict=True)]
                ids = repository.sequence_ids(set(hashes))
                facts = [page.facts[n] for n in kept]
                try:
                    filler.take(records, [ids[h] for h in hashes], page.vectors[kept], facts)
                except VectorConflict as error:
                    row = next(e.row for e, _ in found if e.input_id == error.record_id)
                    raise self._conflict(error, row, number, space) from error
                self._progress.advance(page.n_records)
        filler.flush()
        self._refuse_lacking(repository, space)

    def _refuse_lacking(self, repository: Repository, space: StoredSpace) -> None:
        """Raise if vectors were lost while they were read."""
        if repository.n_without_vector(space.space_id):
            lacking = [s for s in self._sources if _lacks(s, space)]
            raise changed_meanwhile((lacking or self._sources)[0].reader)

    def _conflict(
        self, error: VectorConflict, row: int | None, number: int, space: StoredSpace
    ) -> VectorConflict:
        """Say which of the databases disagree."""
        source = self._sources[number]
        stored = source.reader.repository.records_by_id([error.record_id]).get(error.record_id)
        earlier = (s.name for s in self._sources[:number] if stored and _has(s, stored.sequence_hash))
        first = next(earlier, "an earlier database")
        return VectorConflict(
            error.record_id,
            f"the same sequence in {first}, in space {space.spec.name}",
            source=source.name,
            row=row,
            hint="one of the two was not made by this space's model: look with plmsearch query --id, and "
            "delete the record there or leave the database out",
        )


def _lacks(source: _Source, space: StoredSpace) -> bool:
    repository = source.reader.repository
    return repository.n_without_vector(source.spaces[space.spec.space_hash].space_id) > 0


def _lacks_unknown(source: _Source, spec: EmbeddingSpec) -> bool:
    """Tell whether a record without a sequence has no vector in a space."""
    return bool(records_without_any_vector(source.reader.repository, [source.spaces[spec.space_hash]]))


def _prepared_pages(source: _Source, space: StoredSpace | None) -> Iterator[PreparedPage]:
    own = None if space is None else source.spaces[space.spec.space_hash]
    with_domains = any(s.spec.reads_domains for s in source.spaces.values())
    for page in record_pages(source.reader, source.extent, own, with_domains=with_domains):
        if any(not row.residues and not page.has_vector(place) for place, row in enumerate(page.rows)):
            raise changed_meanwhile(source.reader)
        yield page


def _unit_hash(record: StoredRecord, stored_as: str) -> bytes:
    """Return the hash of what owns a record's vector in the new database."""
    if record.domain is not None:
        return bytes.fromhex(sequence_hash(record.unit_residues))
    return bytes.fromhex(record.sequence_hash if record.residues else absent_sequence_hash(stored_as))


def _has(source: _Source, hash_hex: str) -> bool:
    """Tell whether a live record of a database has a sequence."""
    repository = source.reader.repository
    found = repository.sequence_ids([bytes.fromhex(hash_hex)])
    return bool(repository.records_of_sequences(found.values()))
