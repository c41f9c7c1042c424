"""A directory that is whole under its name, or not there."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from plmsearch.errors import DatabaseLocked, StorageError
from plmsearch.store.directory import Layout, make_directory, storage_errors, sync_directory, sync_file

__all__ = ["link_or_copy", "make_whole", "sync_tree", "work_path"]

T = TypeVar("T")


def work_path(target: Path) -> Path:
    """Return where a directory is made before it gets its name."""
    return target.with_name(f".{target.name}.incomplete")


def make_whole(target: Path, make: Callable[[Path], T]) -> T:
    """Let `make` fill a directory beside the target, then rename it; on an error leave nothing.

    What a process that was killed left there is removed first.

    Parameters
    ----------
    target : Path
        A directory that does not exist yet.
    make : callable
        Gets the directory to fill, and makes all in it durable.

    Returns
    -------
    object
        What `make` returned.

    Raises
    ------
    StorageError
        If the target exists, or the operating system refuses a step.
    DatabaseLocked
        If another process is making it.
    """
    work = work_path(target)
    with storage_errors(target):
        if target.exists():
            raise StorageError(target, "it exists already", hint="name a directory that does not exist")
        if work.exists():
            with _only_here(work, target):
                shutil.rmtree(work)
        make_directory(work)
        with _only_here(work, target):
            try:
                made = make(work)
                work.rename(target)
            except BaseException:
                shutil.rmtree(work, ignore_errors=True)
                raise
        sync_directory(target.parent)
    return made


@contextmanager
def _only_here(work: Path, target: Path) -> Iterator[None]:
    """Hold a lock on a directory, which the kernel drops when the process ends."""
    descriptor = os.open(work, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DatabaseLocked(target, 0) from None
        yield
    finally:
        os.close(descriptor)


def sync_tree(root: Path) -> None:
    """Make a database directory durable, except what is derived or empty."""
    layout = Layout(root)
    for path in (*sorted(root.iterdir()), *sorted(layout.segments.iterdir())):
        if path.is_file() and path.name != "LOCK":
            sync_file(path)
    sync_directory(layout.segments)
    sync_directory(root)


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name; where the file system has no hard links, a durable copy."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
        sync_file(target)
