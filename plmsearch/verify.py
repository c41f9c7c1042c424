"""Check that everything is there, whole, and consistent with everything else.

The fast check reads the catalog, and of every vector file its size, header and footer. The full
check also reads every byte, compares every checksum, and looks at every number.

Nothing is written. It may run while another process writes: a finding made while a commit came in
between is looked at again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np

from plmsearch.errors import CatalogDamaged, InvalidVectorError, SegmentDamaged, StorageError
from plmsearch.ingest.spaces import embed_command
from plmsearch.reader import Reader
from plmsearch.search.nulls import read_null
from plmsearch.store import audit
from plmsearch.store.audit_domains import domain_problems
from plmsearch.store.directory import Layout
from plmsearch.store.rankings import StoredRanking, StoredSpace
from plmsearch.store.repository import Repository
from plmsearch.store.rows import (
    RunRow,
    StoredSegment,
)
from plmsearch.store.seal import check_seal, is_sealed
from plmsearch.store.segments import FileStamp, Segment, check_file, open_segment
from plmsearch.store.vector_files import VectorFiles, compared_vectors, has_scales, loci_of, scales_of
from plmsearch.types import Float2D
from plmsearch.vectors import check_vectors, unit_error

__all__ = ["Finding", "verify"]

Severity = Literal["damage", "rebuildable", "note"]

#: Between two commits of a writer at work lie seconds, so a check is soon undisturbed.
_ATTEMPTS = 5
#: A unit vector is computed once and stored; computing it again gives the same up to rounding.
_UNIT_TOLERANCE = 1e-6
_ROWS_AT_ONCE = 16_384
#: Files looked at at once: checksums are a matter of the processor, reading of the disk.
_THREADS = 2


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be.

    Parameters
    ----------
    severity : {"damage", "rebuildable", "note"}
        Data that was acknowledged is wrong or missing; a derived file is; nothing is lost.
    where : str
        File or table.
    problem : str
    remedy : str
        The command that mends it.
    """

    severity: Severity
    where: str
    problem: str
    remedy: str


def verify(reader: Reader, *, full: bool = False) -> list[Finding]:
    """Check a database.

    Parameters
    ----------
    reader : Reader
    full : bool
        Read every byte.

    Returns
    -------
    list of Finding
        Empty if all is well.
    """
    for _ in range(_ATTEMPTS):
        generation = reader.repository.generation()
        findings = list(_readable(reader, full=full))
        if not findings or reader.repository.generation() == generation:
            break
    return findings


def _readable(reader: Reader, *, full: bool) -> Iterator[Finding]:
    """Yield what is found up to where the catalog cannot be read on."""
    try:
        yield from _findings(reader, full=full)
    except StorageError as error:
        restore = f"plmsearch restore BACKUP {reader.path}"
        yield Finding("damage", "catalog.sqlite", f"it cannot be read: {error.reason}", restore)


def _findings(reader: Reader, *, full: bool) -> Iterator[Finding]:
    repository, layout = reader.repository, Layout(reader.path)
    restore = f"plmsearch restore BACKUP {reader.path}"
    mend = f"plmsearch repair {reader.path}"
    yield from _seal(layout, restore, full=full)
    for problem in audit.sqlite_problems(repository, full=full):
        yield Finding("damage", "catalog.sqlite", problem, restore)
    for problem in audit.broken_references(repository):
        yield Finding("damage", "catalog.sqlite", problem, restore)
    n_misplaced = audit.misplaced_vectors(repository)
    if n_misplaced:
        yield Finding(
            "damage", "catalog.sqlite", f"{n_misplaced} vectors in a segment of another space", restore
        )
    if full:
        for sequence_id in audit.wrong_hashes(repository):
            problem = f"the residues of sequence {sequence_id} do not have the hash that is stored"
            yield Finding("damage", "catalog.sqlite", problem, restore)
    for problem in domain_problems(repository, full=full):
        yield Finding("damage", "catalog.sqlite", problem, restore)
    yield from _ledger(repository, restore)
    lost = audit.records_without_any_vector(repository)
    if lost:
        problem = f"{len(lost)} records without a sequence have no vector, such as {lost[0]!r}"
        yield Finding("damage", "catalog.sqlite", problem, f"plmsearch import {reader.path} FILE")
    rows = audit.segment_rows(repository)
    known: set[str] = set()
    rankings = repository.rankings()
    for ranking in rankings:
        yield from _index(repository, layout, ranking, reader.path, full=full)
        yield from _nulls(repository, ranking, reader.path)
    for space in reader.spaces():
        segments = repository.segments(space.space_id)
        known.update(s.file for s in segments)
        yield from _coverage(repository, space, reader.path)
        of_space = [r for r in rankings if r.space.space_id == space.space_id]
        check = partial(_segment, repository, layout, space, of_space, rows=rows, full=full, remedy=mend)
        with ThreadPoolExecutor(_THREADS) as pool:
            yield from chain.from_iterable(pool.map(check, segments))
    yield from _orphans(layout, known)


def _seal(layout: Layout, remedy: str, *, full: bool) -> Iterator[Finding]:
    """Compare the catalog's file with what its last writer left."""
    try:
        check_seal(layout, full=full)
    except CatalogDamaged as error:
        yield Finding("damage", "catalog.sqlite", error.reason, remedy)
    if not is_sealed(layout):
        problem = "no checksums: a writer is at work or was interrupted; the next one to finish makes them"
        yield Finding("note", layout.seal.name, problem, "none needed")


def _ledger(repository: Repository, remedy: str) -> Iterator[Finding]:
    """Every input row of a finished run must have one line."""
    counts = audit.ledger_counts(repository)
    for run in repository.runs():
        if run.status == "finished" and run.summary is not None:
            yield from _run(run, counts.get(run.run_id, {}), remedy)


def _run(run: RunRow, found: Mapping[str, int], remedy: str) -> Iterator[Finding]:
    summary = json.loads(run.summary or "{}")
    for outcome in ("added", "renamed", "replaced", "present", "skipped"):
        expected = summary.get(f"n_{outcome}", 0)
        if found.get(outcome, 0) != expected:
            problem = (
                f"run {run.run_id}: {found.get(outcome, 0)} ledger rows {outcome}, {expected} were counted"
            )
            yield Finding("damage", "catalog.sqlite", problem, remedy)


def _coverage(repository: Repository, space: StoredSpace, path: Path) -> Iterator[Finding]:
    """Every live sequence must have a vector in every space that is complete."""
    n_missing = repository.n_without_vector(space.space_id)
    spec = space.spec
    what = "variable domains" if spec.reads_domains else "sequences"
    command = embed_command(spec, path)
    if spec.is_external:
        command = f"plmsearch import {path} FILE"
    if n_missing and space.is_complete:
        yield Finding("damage", spec.name, f"{n_missing} {what} have no vector", f"plmsearch repair {path}")
    elif not space.is_complete:
        yield Finding("note", spec.name, f"not complete: {n_missing} {what} have no vector yet", command)


def _segment(
    repository: Repository,
    layout: Layout,
    space: StoredSpace,
    rankings: Sequence[StoredRanking],
    segment: StoredSegment,
    *,
    rows: Mapping[int, audit.SegmentRows],
    full: bool,
    remedy: str,
) -> list[Finding]:
    where = f"segments/{segment.file}"
    opened = _open(layout.segments / segment.file, segment.stamp, full=full)
    if isinstance(opened, str):
        return [Finding("damage", where, opened, remedy)]
    problems = _contradictions(space, segment, opened, rows.get(segment.segment_id))
    found = [Finding("damage", where, problem, remedy) for problem in problems]
    if full:
        if not _has_its_ids(repository, segment, opened):
            problem = "its rows belong to other sequences than the catalog says"
            found.append(Finding("damage", where, problem, remedy))
        try:
            check_vectors(opened.vectors)
        except InvalidVectorError as error:
            return [*found, Finding("damage", where, str(error), remedy)]
    return [*found, *_derived(repository, layout, rankings, segment, full=full, remedy=remedy)]


def _has_its_ids(repository: Repository, segment: StoredSegment, opened: Segment) -> bool:
    """Compare the ids of a file with those of the catalog, row by row."""
    ids = opened.ids
    within = (int(ids.min()), int(ids.max())) if len(ids) else None
    return np.array_equal(ids, audit.vector_ids(repository, segment.segment_id, within))


def _open(path: Path, stamp: FileStamp, *, full: bool) -> Segment | str:
    """Open a vector file, or say what is wrong with it."""
    try:
        return open_segment(path, stamp, full=full)
    except FileNotFoundError:
        return "it is missing"
    except SegmentDamaged as error:
        return error.reason
    except OSError as error:
        return f"it cannot be read: {error.strerror}"


def _contradictions(
    space: StoredSpace, segment: StoredSegment, opened: Segment, rows: audit.SegmentRows | None
) -> Sequence[str]:
    """Compare a file with what the catalog says of it."""
    n = len(opened.ids)
    problems = []
    if opened.vectors.shape != (segment.n_vectors, space.spec.dim):
        problems.append(f"it holds {opened.vectors.shape}, not {(segment.n_vectors, space.spec.dim)}")
    expected = audit.SegmentRows(n, n, 0, n - 1, int(opened.ids.sum()))
    if rows != expected:
        problems.append(f"the catalog has other rows for it: {rows}, the file {expected}")
    return problems


def _derived(
    repository: Repository,
    layout: Layout,
    rankings: Sequence[StoredRanking],
    segment: StoredSegment,
    *,
    full: bool,
    remedy: str,
) -> Iterator[Finding]:
    """Check what is derived from a segment for each ranking of its space."""
    files = VectorFiles(layout)
    for ranking in rankings:
        derived = segment.derived.get(ranking.ranking_id)
        if derived is None:
            problem = f"it has no derived file for the ranking {ranking.name}"
            yield Finding("rebuildable", f"segments/{segment.file}", problem, remedy)
            continue
        where = f"derived/{derived.file}"
        found = _open(layout.derived / derived.file, derived.stamp, full=full)
        if isinstance(found, str):
            yield Finding("rebuildable", where, found, remedy)
            continue
        try:
            raw, ids = files.raw_rows(repository, ranking, segment)
        except SegmentDamaged:  # of another space of the ranking, where it is named
            continue
        dim = 2 if has_scales(derived) else ranking.dim
        if found.vectors.shape != (len(ids), dim) or not np.array_equal(found.ids, ids):
            yield Finding("rebuildable", where, "it is not made from its segment", remedy)
        elif full and has_scales(derived):
            if not _compare_scales(repository, ranking, found, raw) <= _UNIT_TOLERANCE:
                yield Finding("rebuildable", where, "its scales are not those of its segment", remedy)
        elif full and not _compare(repository, ranking, found, raw) <= _UNIT_TOLERANCE:
            yield Finding("rebuildable", where, "its vectors are not those of its segment", remedy)


def _compare(repository: Repository, ranking: StoredRanking, found: Segment, raw: Float2D) -> float:
    """Return how far a derived file's vectors are from those that are computed now."""
    if ranking.is_raw:
        return unit_error(found.vectors, raw)
    by_domain = ranking.reads_domains
    loci = loci_of(repository, found.ids.tolist(), by_domain=by_domain) if ranking.needs_locus else None
    largest = 0.0
    for start in range(0, len(raw), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        now = compared_vectors(ranking, raw[rows], None if loci is None else loci[rows])
        largest = max(largest, float(np.abs(found.vectors[rows] - now).max()))
    return largest


def _compare_scales(repository: Repository, ranking: StoredRanking, found: Segment, raw: Float2D) -> float:
    """Return how far the scales of a file are from those computed now; infinity if a centre is another."""
    by_domain = ranking.reads_domains
    loci = loci_of(repository, found.ids.tolist(), by_domain=by_domain) if ranking.needs_locus else None
    now = scales_of(ranking, raw, loci)
    if now is None or not np.array_equal(found.vectors[:, 1], now[:, 1]):
        return np.inf
    return float(np.abs(found.vectors[:, 0] / now[:, 0] - 1).max(initial=0))


def _index(
    repository: Repository, layout: Layout, ranking: StoredRanking, path: Path, *, full: bool
) -> Iterator[Finding]:
    """Check the file of a ranking's approximate index."""
    stored = repository.index_of(ranking.ranking_id)
    if stored is None:
        return
    where, remedy = f"derived/{stored.file}", f"plmsearch repair {path}"
    try:
        check_file(layout.derived / stored.file, stored.stamp, full=full)
    except FileNotFoundError:
        yield Finding("rebuildable", where, "it is missing", remedy)
    except SegmentDamaged as error:
        yield Finding("rebuildable", where, error.reason, remedy)


def _nulls(repository: Repository, ranking: StoredRanking, path: Path) -> Iterator[Finding]:
    """Check that the null distributions of a ranking can be read."""
    for stored in repository.nulls(ranking.ranking_id):
        try:
            read_null(stored)
        except ValueError as error:
            yield Finding("rebuildable", f"ranking {ranking.name}", str(error), f"plmsearch optimize {path}")


def _orphans(layout: Layout, known: set[str]) -> Iterator[Finding]:
    """Files of no commit: a writer at work has some, an interrupted one leaves some."""
    for file in sorted(layout.segments.iterdir()):
        if file.name not in known:
            problem = "no commit refers to it; the next writer removes it"
            yield Finding("note", f"segments/{file.name}", problem, "none needed")
