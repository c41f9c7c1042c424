"""Keep the derived files and file stamps of a database right; only the holder of the lock may."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from plmsearch.errors import SegmentDamaged
from plmsearch.numbering import chain_locus
from plmsearch.store.directory import Layout, storage_errors
from plmsearch.store.rankings import StoredRanking
from plmsearch.store.repository import Repository
from plmsearch.store.rows import StoredSegment
from plmsearch.store.segments import FileStamp, Segment, open_segment, read_stamp
from plmsearch.store.vector_files import VectorFiles, has_scales, loci_of, publish_derived

__all__ = ["refresh_files", "remove_unknown"]

_log = logging.getLogger(__name__)

_LOCI_AT_ONCE = 5000


def refresh_files(repository: Repository, layout: Layout, *, full: bool = False) -> list[str]:
    """Write derived files that are missing or damaged, and note files that were copied or moved.

    So a ranking gets its files: after this, each segment has one for every ranking of its space.

    A copied file has a new inode, so each process that opens it reads and checks its whole body. Here
    that is done once, and the new stamp is stored. A damaged segment is left as it is: `verify` names
    it.

    Parameters
    ----------
    repository : Repository
        Opened for writing.
    layout : Layout
    full : bool
        Check the body of every file, also of those that were not touched.

    Returns
    -------
    list of str
        Derived files that were written.

    Raises
    ------
    StorageError
        If the operating system refuses a step.
    """
    written: list[str] = []
    rankings, files = repository.rankings(), VectorFiles(layout)
    _look_for_loci(repository, rankings)
    for space in repository.spaces():
        of_space = [r for r in rankings if r.space.space_id == space.space_id]
        with storage_errors(layout.root):
            for segment in repository.segments(space.space_id):
                if _is_whole(repository, layout, segment, full):
                    for ranking in of_space:
                        written.extend(_refresh(repository, layout, files, ranking, segment, full))
    return written


def remove_unknown(repository: Repository, layout: Layout) -> None:
    """Remove files in ``derived/`` that no ranking has any more."""
    known = repository.derived_files()
    with storage_errors(layout.root):
        for file in layout.derived.iterdir():
            if file.name not in known:
                file.unlink()


def _look_for_loci(repository: Repository, rankings: Sequence[StoredRanking]) -> None:
    """Store the locus of every chain whose vectors are compared by locus; domains were stored with theirs."""
    for space_id in {r.space.space_id for r in rankings if r.needs_locus and not r.reads_domains}:
        while part := repository.sequences_without_locus(space_id, _LOCI_AT_ONCE):
            repository.set_loci({i: chain_locus(residues) for i, residues in part})


def _is_whole(repository: Repository, layout: Layout, segment: StoredSegment, full: bool) -> bool:
    """Tell whether a segment is what was written, and store its stamp if that changed."""

    def restamp(stamp: FileStamp) -> None:
        repository.set_segment_stamp(segment.segment_id, stamp)

    return _checked(layout.segments / segment.file, segment.stamp, full, restamp) is not None


def _refresh(
    repository: Repository,
    layout: Layout,
    files: VectorFiles,
    ranking: StoredRanking,
    segment: StoredSegment,
    full: bool,
) -> list[str]:
    derived = segment.derived.get(ranking.ranking_id)

    def restamp(stamp: FileStamp) -> None:
        assert derived is not None
        repository.set_derived(segment.segment_id, replace(derived, stamp=stamp))

    if (
        derived is not None
        and not (ranking.keeps_vectors and has_scales(derived))
        and _checked(layout.derived / derived.file, derived.stamp, full, restamp) is not None
    ):
        return []
    try:
        raw, ids = files.raw_rows(repository, ranking, segment)
    except SegmentDamaged:  # of another space of the ranking: that one is named by `verify`
        return []
    by_domain = ranking.reads_domains
    loci = loci_of(repository, ids.tolist(), by_domain=by_domain) if ranking.needs_locus else None
    made = publish_derived(layout, segment.segment_id, ranking, raw, ids, loci)
    repository.set_derived(segment.segment_id, made)
    _log.info("wrote derived/%s", made.file)
    return [f"derived/{made.file}"]


def _checked(
    path: Path, stamp: FileStamp, full: bool, restamp: Callable[[FileStamp], None]
) -> Segment | None:
    """Open a vector file and store its stamp if that changed; None if it is not what was written."""
    try:
        opened = open_segment(path, stamp, full=full)
    except (FileNotFoundError, SegmentDamaged):
        return None
    found = read_stamp(path, stamp.digest)
    if found != stamp:
        restamp(found)
    return opened
