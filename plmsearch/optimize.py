"""Give back the room of what was deleted, and join small vector files into large ones.

Safe while others read: a reader keeps the files it has mapped, and looks again when one is gone. Safe
to interrupt: each space is exchanged in one commit, and files of no commit are removed by the next
writer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from plmsearch.database import Database
from plmsearch.indexing import IndexOptions, IndexOutcome, build_index
from plmsearch.ingest.provenance import record_run
from plmsearch.ingest.report import AddReport, Progress
from plmsearch.nulls import NullOutcome, refresh_nulls
from plmsearch.rankings import RankingChanges, change_rankings
from plmsearch.store.directory import Layout, storage_errors
from plmsearch.store.rankings import StoredSpace
from plmsearch.store.repository import Repository
from plmsearch.store.rows import StoredSegment
from plmsearch.store.segments import open_segment
from plmsearch.store.session import open_writer
from plmsearch.store.space_left import bytes_of_vectors, require_space
from plmsearch.store.upkeep import refresh_files, remove_unknown
from plmsearch.store.vector_files import publish_segment
from plmsearch.types import Bool1D, Int1D

__all__ = ["OptimizeReport", "optimize"]

#: Size of a joined file: one is read, scaled and written in memory at a time.
_SEGMENT_BYTES = 256 << 20


@dataclass(slots=True)
class OptimizeReport:
    """What an optimization did.

    Attributes
    ----------
    n_records_dropped, n_sequences_dropped : int
        Deleted records, and sequences that no record pointed to any more.
    n_segments_before, n_segments_after : int
    n_bytes_before, n_bytes_after : int
        Of all files of the database.
    indexes : list of IndexOutcome
        One per ranking.
    nulls : list of NullOutcome
        One per ranking and locus.
    """

    n_records_dropped: int = 0
    n_sequences_dropped: int = 0
    n_segments_before: int = 0
    n_segments_after: int = 0
    n_bytes_before: int = 0
    n_bytes_after: int = 0
    indexes: list[IndexOutcome] = field(default_factory=list)
    nulls: list[NullOutcome] = field(default_factory=list)


def optimize(
    database: Database,
    *,
    index: IndexOptions | None = None,
    rankings: RankingChanges | None = None,
    progress: Progress | None = None,
) -> OptimizeReport:
    """Drop tombstones, join vector files, build the indexes that are wanted, and all null distributions.

    Parameters
    ----------
    database : Database
    index : IndexOptions, optional
    rankings : RankingChanges, optional
        Rankings to add, fit, drop or choose.
    progress : Progress, optional

    Returns
    -------
    OptimizeReport

    Raises
    ------
    SegmentDamaged
        If a vector file that has to be rewritten is not what was written; repair it first.
    ParameterError
        If a change of the rankings cannot be made.
    StorageError
        If the operating system refuses a step, or there is no room for a joined file beside those it
        is made of (`NotEnoughSpace`). Nothing is lost then.
    """
    report, show = OptimizeReport(n_bytes_before=_size(database.path)), progress or Progress()
    layout = Layout(database.path)
    database.close()
    with open_writer(database.path) as repository:
        parameters = {
            "segment_bytes": _SEGMENT_BYTES,
            "index": asdict(index or IndexOptions()),
            "rankings": asdict(rankings or RankingChanges()),
        }
        with record_run(repository, "optimize", parameters, [], AddReport()):
            refresh_files(repository, layout)
            change_rankings(repository, layout, rankings or RankingChanges(), show.say)
            for space in repository.spaces():
                by_domain = space.spec.reads_domains
                dead = np.array(repository.dead_sequences(by_domain=by_domain), dtype=np.int64)
                before = repository.segments(space.space_id)
                report.n_segments_before += len(before)
                groups = list(_groups(before, space, dead, layout))
                n_rows = max((sum(s.n_vectors for s in group) for group in groups), default=0)
                n_bytes = bytes_of_vectors(
                    n_rows - len(dead), space.spec.dim, written_out=_is_written_out(repository, space)
                )
                require_space(database.path, n_bytes, "the joined vector file")
                for old in groups:
                    show.say(f"{space.spec.name}: joining {len(old)} vector files")
                    _exchange(repository, layout, space, old, dead)
                report.n_segments_after += len(repository.segments(space.space_id))
            report.n_records_dropped, report.n_sequences_dropped = repository.drop_tombstones()
            refresh_files(repository, layout)  # of new rankings, and what a joined file could not bring along
            remove_unknown(repository, layout)
            for ranking in repository.rankings():
                wanted = index or IndexOptions()
                report.indexes.append(build_index(repository, layout, ranking, wanted, show.say))
            seed = (index or IndexOptions()).seed
            report.nulls = refresh_nulls(repository, layout, anew=True, seed=seed)
        repository.shrink()
    report.n_bytes_after = _size(database.path)
    return report


def _size(path: Path) -> int:
    return sum(p.stat().st_size for p in path.rglob("*") if p.is_file())


def _is_written_out(repository: Repository, space: StoredSpace) -> bool:
    """Tell whether a joined file gets another beside it: its vectors as a ranking compares them."""
    own = [r for r in repository.rankings() if len(r.parts) == 1 and r.space.space_id == space.space_id]
    return any(r.keeps_vectors for r in own)


def _groups(
    segments: Sequence[StoredSegment], space: StoredSpace, dead: Int1D, layout: Layout
) -> Iterator[list[StoredSegment]]:
    """Put neighbouring files together up to the size of one; leave out what would stay as it is."""
    room = max(1, _SEGMENT_BYTES // (space.spec.dim * 4))
    group: list[StoredSegment] = []
    n_rows = 0
    for segment in segments:
        if group and n_rows + segment.n_vectors > room:
            yield from _if_worth_it(group, dead, layout)
            group, n_rows = [], 0
        group.append(segment)
        n_rows += segment.n_vectors
    yield from _if_worth_it(group, dead, layout)


def _if_worth_it(group: list[StoredSegment], dead: Int1D, layout: Layout) -> Iterator[list[StoredSegment]]:
    if len(group) > 1 or any(not _live_rows(layout, s, dead).all() for s in group):
        yield group


def _live_rows(layout: Layout, segment: StoredSegment, dead: Int1D) -> Bool1D:
    ids = open_segment(layout.segments / segment.file, segment.stamp).ids
    live: Bool1D = ~np.isin(ids, dead)
    return live


def _exchange(
    repository: Repository, layout: Layout, space: StoredSpace, old: Sequence[StoredSegment], dead: Int1D
) -> None:
    """Write the live rows of some files into one, commit, and remove those files."""
    opened = [open_segment(layout.segments / s.file, s.stamp, full=True) for s in old]
    live = [~np.isin(segment.ids, dead) for segment in opened]
    ids = np.concatenate([s.ids[rows] for s, rows in zip(opened, live, strict=True)])
    new = None
    if len(ids):
        vectors = np.concatenate([s.vectors[rows] for s, rows in zip(opened, live, strict=True)])
        rows = repository.vector_rows(space.space_id, ids.tolist())
        segment_id = repository.counters().segment_id
        rankings, by_domain = repository.rankings(), space.spec.reads_domains
        needs = any(r.needs_locus and r.space.space_id == space.space_id for r in rankings)
        loci = repository.loci(ids.tolist(), by_domain=by_domain) if needs else None
        known = loci if loci is not None and len(loci) == len(ids) else None
        new = publish_segment(layout, space.space_id, segment_id, vectors, rows, rankings, loci=known)
    repository.exchange_segments([s.segment_id for s in old], new)
    with storage_errors(layout.root):
        for segment in old:
            (layout.segments / segment.file).unlink()
            for derived in segment.derived.values():
                (layout.derived / derived.file).unlink(missing_ok=True)
