"""Mend what can be mended: rebuild derived files, and embed anew what a damaged segment held.

Sequences are in the catalog, so a lost vector is computed again by the model of its space; the result
is the same up to rounding (1e-5 relative). The damaged file is kept in ``quarantine/``.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

from plmsearch.database import Database
from plmsearch.embedding.spec import EmbeddingSpec, SpaceRequest
from plmsearch.errors import CatalogDamaged, SegmentDamaged
from plmsearch.indexing import IndexOptions, build_index
from plmsearch.ingest.report import Progress
from plmsearch.nulls import refresh_nulls
from plmsearch.store import audit
from plmsearch.store.connection import open_catalog
from plmsearch.store.directory import Layout, read_format, storage_errors, sync_directory
from plmsearch.store.lock import DEFAULT_LOCK_TIMEOUT_S, writer_lock
from plmsearch.store.rankings import StoredSpace
from plmsearch.store.repository import Repository
from plmsearch.store.rows import StoredSegment
from plmsearch.store.seal import break_seal, seal
from plmsearch.store.segments import check_file, open_segment
from plmsearch.store.session import open_writer
from plmsearch.store.upkeep import refresh_files
from plmsearch.store.whole import link_or_copy

__all__ = ["Quarantined", "RepairReport", "accept_catalog", "repair"]


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A damaged segment.

    Parameters
    ----------
    file : str
        Where it lies now.
    reason : str
    record_ids : list of str
        Live records whose vector it held.
    is_external : bool
        Its vectors were imported, and no model here makes them.
    """

    file: str
    reason: str
    record_ids: list[str]
    is_external: bool = False


@dataclass(slots=True)
class RepairReport:
    """What a repair did.

    Attributes
    ----------
    rebuilt : list of str
        Derived files that were written anew.
    quarantined : list of Quarantined
    n_embedded : int
        Sequences that were embedded anew.
    lost : list of str
        Ids of live records whose vector was imported and cannot be made again.
    """

    rebuilt: list[str] = field(default_factory=list)
    quarantined: list[Quarantined] = field(default_factory=list)
    n_embedded: int = 0
    lost: list[str] = field(default_factory=list)


def repair(database: Database, *, progress: Progress | None = None) -> RepairReport:
    """Read every byte, take damaged files away, and make their vectors again.

    Safe to interrupt and to repeat.

    Parameters
    ----------
    database : Database
    progress : Progress, optional

    Returns
    -------
    RepairReport

    Raises
    ------
    EmbeddingSpecMismatch, ModelUnavailableError
        If the model of a damaged segment is not at hand. What was taken away stays away, and the
        space is not searched until a repeated repair has completed it.
    """
    report = RepairReport()
    show = progress or Progress()
    database.close()
    with open_writer(database.path) as repository:
        for space in repository.spaces():
            for segment in repository.segments(space.space_id):
                reason = _damage(Layout(database.path).segments / segment.file, segment)
                if reason:
                    report.quarantined.append(_quarantine(repository, database.path, space, segment, reason))
        report.rebuilt = refresh_files(repository, Layout(database.path), full=True)
        report.rebuilt += _indexes(repository, Layout(database.path), show)
        refresh_nulls(repository, Layout(database.path))
        incomplete = [s.spec for s in repository.spaces() if not s.is_complete]
        report.lost = [r for q in report.quarantined if q.is_external for r in q.record_ids]
    for spec in incomplete:
        if not spec.is_external:
            show.say(f"embedding what is missing in {spec.name}")
            report.n_embedded += _complete(database, spec, show)
    # In the space of a model, only records without a sequence are lost.
    absent = audit.records_without_any_vector(database.repository)
    report.lost.extend(r for r in absent if r not in report.lost)
    return report


def accept_catalog(path: Path, *, lock_timeout_s: float = DEFAULT_LOCK_TIMEOUT_S) -> None:
    """Take a catalog that something other than plmsearch changed for what it is now.

    Parameters
    ----------
    path : Path
        The database directory.
    lock_timeout_s : float
        Seconds to wait for another writer.

    Raises
    ------
    CatalogDamaged
        If it is not whole: what SQLite's ``integrity_check`` or the sequences' hashes find.
    DatabaseNotFound, NotADatabase, DatabaseLocked, StorageError
    """
    layout = Layout(path)
    read_format(layout)
    with writer_lock(path, timeout_s=lock_timeout_s):
        with closing(Repository(open_catalog(layout.catalog, writable=False))) as repository:
            problems = audit.sqlite_problems(repository, full=True) + audit.broken_references(repository)
            problems += [f"sequence {i} does not have its hash" for i in audit.wrong_hashes(repository)]
        if problems:
            raise CatalogDamaged(layout.catalog, problems[0])
        break_seal(layout)
        seal(layout)


def _damage(path: Path, segment: StoredSegment) -> str:
    """Say what is wrong with a segment's file; empty if nothing is."""
    try:
        open_segment(path, segment.stamp, full=True)
    except FileNotFoundError:
        return "it is missing"
    except SegmentDamaged as error:
        return error.reason
    return ""


def _quarantine(
    repository: Repository, path: Path, space: StoredSpace, segment: StoredSegment, reason: str
) -> Quarantined:
    """Give a file a name in ``quarantine/``, forget it, and take its old name away.

    In this order it has a durable name at any time: after a crash in between it has both, and the next
    writer removes the old one.
    """
    layout = Layout(path)
    source, kept = layout.segments / segment.file, layout.quarantine / segment.file
    with storage_errors(path):
        layout.quarantine.mkdir(exist_ok=True)
        sync_directory(path)
        if source.exists():
            kept.unlink(missing_ok=True)
            link_or_copy(source, kept)
            sync_directory(layout.quarantine)
    record_ids = repository.drop_segment(segment.segment_id)
    with storage_errors(path):
        source.unlink(missing_ok=True)
    return Quarantined(f"quarantine/{segment.file}", reason, record_ids, space.spec.is_external)


def _indexes(repository: Repository, layout: Layout, progress: Progress) -> list[str]:
    """Build approximate indexes anew whose file is missing or damaged."""
    rebuilt = []
    for ranking in repository.rankings():
        stored = repository.index_of(ranking.ranking_id)
        if stored is None:
            continue
        try:
            check_file(layout.derived / stored.file, stored.stamp, full=True)
        except (FileNotFoundError, SegmentDamaged):
            facts = stored.facts
            options = IndexOptions(facts.kind, facts.recall_asked, facts.seed)
            build_index(repository, layout, ranking, options, progress.say)
            rebuilt.append(f"derived/{stored.file}")
    return rebuilt


def _complete(database: Database, spec: EmbeddingSpec, progress: Progress) -> int:
    request = SpaceRequest(spec.model_id, str(spec.layer), spec.pooling, preset="whole")
    if spec.reads_domains:
        request = replace(request, preset="antibody", regions=spec.region)
    return database.embed(request, long=spec.long, progress=progress).n_embedded
