"""Refuse at once what cannot fit on the disk, instead of failing after hours.

All sizes are lower bounds: nothing is refused that would fit. What is refused here was not begun; a disk that
fills up later is a `StorageError`, and everything committed until then is kept.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from plmsearch.errors import NotEnoughSpace
from plmsearch.store.rankings import StoredRanking
from plmsearch.store.rows import StoredSegment

__all__ = ["bytes_of_files", "bytes_of_vectors", "require_space", "spaces_written_out"]


def require_space(target: Path, needed_bytes: int, task: str) -> None:
    """Compare what is to be written with the free space of its file system.

    Parameters
    ----------
    target : Path
        What is to be written; it, or what is above it, exists.
    needed_bytes : int
        A lower bound.
    task : str
        What needs the room, for the message.

    Raises
    ------
    NotEnoughSpace
        If it does not fit. Where the operating system does not say what is free, nothing is refused.
    """
    free = _free_bytes(target)
    if free is not None and needed_bytes > free:
        raise NotEnoughSpace(target, task, needed_bytes, free)


def _free_bytes(target: Path) -> int | None:
    try:
        place = next(p for p in (target, *target.absolute().parents) if p.exists())
        status = os.statvfs(place)
    except (OSError, StopIteration, ValueError):
        return None
    # Some network file systems report no size at all.
    return status.f_bavail * status.f_frsize if status.f_blocks else None


def bytes_of_vectors(n: int, dim: int, *, written_out: bool) -> int:
    """Return the size of `n` stored vectors: float32, as the model gave them.

    Once more if a ranking of their space alone has them `written_out` as it compares them.
    """
    return max(0, n) * dim * 4 * (2 if written_out else 1)


def spaces_written_out(rankings: Iterable[StoredRanking]) -> set[int]:
    """Return the spaces whose vectors are written out as a ranking compares them, by id."""
    return {part.space.space_id for r in rankings if r.keeps_vectors for part in r.parts}


def bytes_of_files(segments: Iterable[StoredSegment]) -> int:
    """Return the size of vector files."""
    return sum(s.stamp.size_bytes for s in segments)
