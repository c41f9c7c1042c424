"""Take single syncs away, to show that a power cut would then do harm: a test of the test."""

from __future__ import annotations

import errno
import os
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from plmsearch.store import connection, space_left

SQLITE = "sqlite"
#: Nobody looks at the free space first, so that the disk is full amid an operation.
UNCHECKED = "unchecked space"
#: Each place that syncs, by the functions it is reached through, innermost first, and where two of a
#: function are told apart, by the name of what is synced; and the operation in which leaving it out shows.
PLACES = {
    "segments.write_segment:*[0-9].vec": "create",
    "segments.write_segment:*-unit.vec": "create",
    "directory.sync_directory directory.publish:segments": "create",
    "directory.sync_directory directory.publish:db": "create",
    "directory.mark": "create",
    "directory.sync_directory directory.mark": "create",
    "directory.sync_directory directory.make_directory": "create",
    "directory.sync_directory seal.break_seal": "add",
    "directory.sync_directory repair._quarantine:db": "repair",
    "directory.sync_directory repair._quarantine:quarantine": "repair",
    "directory.sync_file whole.sync_tree:plmsearch.json": "backup",
    "directory.sync_file whole.sync_tree:catalog.sqlite": "backup",
    "directory.sync_file whole.sync_tree:catalog.seal": "backup",
    "directory.sync_file whole.sync_tree:SHA256SUMS": "backup",
    "directory.sync_file whole.sync_tree:*.vec": "backup",
    "directory.sync_directory whole.sync_tree:segments": "backup",
    "directory.sync_directory whole.sync_tree:.*.incomplete": "backup",
    "directory.sync_directory whole.make_whole": "backup",
    "directory.sync_file whole.link_or_copy": "repair",
    "output._finish": "export",
    "output._sync_and_replace": "export",
    "fetch._finish:*.part": "fetch",
    "fetch._finish:*.sha256": "fetch",
    "fetch._sync_directory": "fetch",
    SQLITE: "create",
}


def callers() -> list[str]:
    """Module and name of the functions that led here, innermost first."""
    frame = sys._getframe(2)
    names = []
    while frame is not None:
        names.append(f"{Path(frame.f_code.co_filename).stem}.{frame.f_code.co_name}")
        frame = frame.f_back  # type: ignore[assignment]
    return names


def mutate(place: str) -> None:
    """Leave out the syncs of one place, in this process."""
    if place == SQLITE:
        _sqlite_does_not_sync()
        return
    if place == UNCHECKED:
        space_left._free_bytes = lambda _: None
        return
    if "link_or_copy" in place:
        os.link = _refused
    functions, _, name = place.partition(":")
    real, wanted = os.fsync, functions.split()

    def fsync(descriptor: int) -> None:
        here = callers()[: len(wanted)] == wanted
        if not here or (name and not fnmatch(Path(f"/proc/self/fd/{descriptor}").readlink().name, name)):
            real(descriptor)

    os.fsync = fsync


def _refused(*_: Any) -> None:
    """Be a file system without hard links: only there does something have to be copied."""
    raise OSError(errno.EPERM, "no hard links here")


def _sqlite_does_not_sync() -> None:
    real = connection._pragmas_for

    def pragmas_for(writable: bool) -> Any:
        set_pragmas = real(writable)

        def then_normal(raw: Any, record: object) -> None:
            set_pragmas(raw, record)
            raw.execute("PRAGMA synchronous=NORMAL")

        return then_normal

    connection._pragmas_for = pragmas_for
