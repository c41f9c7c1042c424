"""Keep the derived files and file stamps of a database right; only the holder of the lock may."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from plmsearch.errors import SegmentDamaged
from plmsearch.store.directory import Layout, storage_errors
from plmsearch.store.repository import Repository
from plmsearch.store.rows import StoredSegment
from plmsearch.store.segments import FileStamp, Segment, open_segment, read_stamp
from plmsearch.store.vector_files import publish_vectors

__all__ = ["refresh_files"]

_log = logging.getLogger(__name__)


def refresh_files(repository: Repository, layout: Layout, *, full: bool = False) -> list[str]:
    """Write derived files that are missing or damaged, and note files that were copied or moved.

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
    for space in repository.spaces():
        for segment in repository.segments(space.space_id):
            with storage_errors(layout.root):
                written.extend(_refresh(repository, layout, segment, full))
    return written


def _refresh(repository: Repository, layout: Layout, segment: StoredSegment, full: bool) -> list[str]:
    def restamp(stamp: FileStamp) -> None:
        repository.set_segment_stamp(segment.segment_id, stamp)

    raw = _checked(layout.segments / segment.file, segment.stamp, full, restamp)
    if raw is None:
        return []

    def restamp_unit(stamp: FileStamp) -> None:
        repository.set_unit(segment.segment_id, unit_file, stamp)

    unit_file = segment.unit_file or f"{segment.segment_id:08d}-unit.vec"
    path = layout.derived / unit_file
    if segment.unit_stamp is not None and _checked(path, segment.unit_stamp, full, restamp_unit) is not None:
        return []
    restamp_unit(publish_vectors(layout, path, raw.vectors, raw.ids, unit=True))
    _log.info("wrote %s anew", path)
    return [f"derived/{unit_file}"]


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
