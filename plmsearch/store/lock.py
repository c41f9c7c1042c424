"""One writer at a time, across processes.

The lock is `flock(2)` on the file ``LOCK``: the kernel drops it when the process ends, however it
ends, so a stale lock cannot happen.

Limitations
-----------
``flock`` is advisory and needs a file system that honours it; on some network file systems it does
not reach other machines.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from plmsearch.errors import DatabaseLocked, DatabaseNotWritable

__all__ = ["DEFAULT_LOCK_TIMEOUT_S", "writer_lock"]

DEFAULT_LOCK_TIMEOUT_S = 60.0
_POLL_S = 0.1


@contextmanager
def writer_lock(
    directory: Path,
    *,
    timeout_s: float = DEFAULT_LOCK_TIMEOUT_S,
    on_wait: Callable[[], None] | None = None,
) -> Iterator[None]:
    """Hold the writer's lock of a database directory.

    Parameters
    ----------
    directory : Path
        An existing directory.
    timeout_s : float
        Seconds to wait for another writer.
    on_wait : callable, optional
        Called once if there is another writer, so that the user can be told.

    Raises
    ------
    DatabaseLocked
        If the other writer was still there after `timeout_s`.
    DatabaseNotWritable
        If the lock file cannot be opened for writing.
    """
    path = directory / "LOCK"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as exc:
        raise DatabaseNotWritable(directory, exc.strerror or str(exc)) from exc
    try:
        _acquire(descriptor, directory, timeout_s, on_wait)
        yield
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, directory: Path, timeout_s: float, on_wait: Callable[[], None] | None) -> None:
    started = time.monotonic()
    while not _try_lock(descriptor):
        waited = time.monotonic() - started
        if waited >= timeout_s:
            raise DatabaseLocked(directory, waited)
        if on_wait is not None:
            on_wait()
            on_wait = None
        time.sleep(_POLL_S)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        if exc.errno in {errno.EWOULDBLOCK, errno.EACCES}:
            return False
        raise
    return True
