"""The vectors of a space, as arrays mapped from its files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from plmsearch.errors import SegmentDamaged, StorageError
from plmsearch.index.base import Block
from plmsearch.store.directory import Layout, publish, storage_errors
from plmsearch.store.rows import NewSegment, StoredSegment, VectorRow
from plmsearch.store.segments import FileStamp, Segment, open_segment, write_segment
from plmsearch.types import Float2D, Int1D
from plmsearch.vectors import unit_vectors

__all__ = ["VectorFiles", "publish_segment", "publish_vectors"]


def publish_vectors(
    layout: Layout, final: Path, vectors: Float2D, ids: Int1D, *, unit: bool = False
) -> FileStamp:
    """Write a vector file so that it is whole under its name or not there, and in ``segments/`` durable.

    Parameters
    ----------
    layout : Layout
    final : Path
        In ``segments/`` or ``derived/``; replaced if it exists.
    vectors : ndarray, dtype=float32, shape=(n, d)
    ids : ndarray, dtype=int64, shape=(n,)
    unit : bool
        Write the vectors at unit length.

    Returns
    -------
    FileStamp
    """
    temporary = layout.tmp / final.name
    stamp = write_segment(temporary, vectors, ids, unit=unit)
    if final.parent == layout.derived:
        temporary.rename(final)  # a name that a power cut takes away is made again by the next writer
    else:
        publish(temporary, final)
    return stamp


def publish_segment(
    layout: Layout, space_id: int, segment_id: int, vectors: Float2D, rows: Sequence[VectorRow]
) -> NewSegment:
    """Write a segment and its copy of unit length, so that a commit can make them part of the database.

    Parameters
    ----------
    layout : Layout
    space_id, segment_id : int
    vectors : ndarray, dtype=float32, shape=(n, d)
    rows : sequence of VectorRow
        One per vector, in order.

    Returns
    -------
    NewSegment

    Raises
    ------
    StorageError
        If the operating system refuses a step.
    """
    ids = np.fromiter((r.sequence_id for r in rows), dtype=np.int64, count=len(rows))
    file, unit_file = f"{segment_id:08d}.vec", f"{segment_id:08d}-unit.vec"
    with storage_errors(layout.root):
        stamp = publish_vectors(layout, layout.segments / file, vectors, ids)
        unit_stamp = publish_vectors(layout, layout.derived / unit_file, vectors, ids, unit=True)
    return NewSegment(segment_id, space_id, file, stamp, rows, unit_file, unit_stamp)


class VectorFiles:
    """Opens each file once and keeps it mapped.

    Parameters
    ----------
    layout : Layout
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._raw: dict[int, Segment] = {}
        self._unit: dict[int, Block] = {}

    def raw(self, segment: StoredSegment) -> Segment:
        """Return a segment as it was written.

        Raises
        ------
        SegmentDamaged
            If the file is missing or is not what was written.
        StorageError
            If the operating system refuses to read it.
        """
        opened = self._raw.get(segment.segment_id)
        if opened is None:
            path = self._layout.segments / segment.file
            try:
                opened = open_segment(path, segment.stamp)
            except FileNotFoundError as exc:
                raise SegmentDamaged(path, "it is missing") from exc
            except OSError as exc:
                raise StorageError(path, exc.strerror or str(exc)) from exc
            self._raw[segment.segment_id] = opened
        return opened

    def unit_blocks(self, segments: Sequence[StoredSegment], dead: Int1D | None = None) -> list[Block]:
        """Return the vectors of segments at unit length, those of `dead` sequences marked.

        They come from the derived files; where one is missing or damaged they are computed from the
        segment and held in memory, for a query never writes.
        """
        blocks = [self._unit_block(s) for s in segments]
        if dead is None or not len(dead):
            return blocks
        return [Block(b.vectors, b.ids, b.ids[np.isin(b.ids, dead)]) for b in blocks]

    def _unit_block(self, segment: StoredSegment) -> Block:
        block = self._unit.get(segment.segment_id)
        if block is None:
            block = self._derived_block(segment)
            if block is None:
                raw = self.raw(segment)
                block = Block(unit_vectors(raw.vectors, raw.vectors.shape[1]), raw.ids)
            self._unit[segment.segment_id] = block
        return block

    def _derived_block(self, segment: StoredSegment) -> Block | None:
        if segment.unit_file is None or segment.unit_stamp is None:
            return None
        try:
            unit = open_segment(self._layout.derived / segment.unit_file, segment.unit_stamp)
        except (OSError, SegmentDamaged):
            # It is a cache: any fault in it is mended from the segment.
            return None
        return Block(unit.vectors, unit.ids)

    def rows(self, segments: Sequence[StoredSegment], places: Sequence[tuple[int, int]]) -> Float2D:
        """Gather raw vectors by (segment id, row).

        Returns
        -------
        ndarray, dtype=float32, shape=(len(places), d)
            A copy, in the order of `places`.
        """
        by_id = {s.segment_id: s for s in segments}
        if not places:
            return np.empty((0, 0), dtype=np.float32)
        return np.stack([self.raw(by_id[segment_id]).vectors[row] for segment_id, row in places])
