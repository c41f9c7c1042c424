"""Take single syncs away, to show that a power cut would then do harm: a test of the test."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from plmsearch.store import connection

#: Each place that syncs, by the functions it is reached through, innermost first, and where two of a
#: function are told apart, by what is synced; and SQLite's own.
#: Not here, for nothing is lost without them: those in ``derived/``, which is rebuilt, and that of the
#: name of ``quarantine/``, which the commit after it makes durable as well; and that of a removed seal,
#: for SQLite syncs the directory when it makes a log, and only a reader that kept the log takes that away.
SQLITE = "sqlite"
PLACES = (
    "write_segment",
    "sync_directory publish:segments",
    "sync_directory publish:db",
    "mark",
    "sync_directory mark",
    "sync_directory _quarantine:quarantine",
    "sync_directory make_directory",
    "sync_file sync_tree",
    "sync_directory sync_tree",
    "sync_directory make_whole",
    SQLITE,
)


def callers() -> list[str]:
    """Names of the functions that led here, innermost first."""
    frame = sys._getframe(2)
    names = []
    while frame is not None:
        names.append(frame.f_code.co_name)
        frame = frame.f_back  # type: ignore[assignment]
    return names


def mutate(place: str) -> None:
    """Leave out the syncs of one place, in this process."""
    if place == SQLITE:
        _sqlite_does_not_sync()
        return
    functions, _, name = place.partition(":")
    real, wanted = os.fsync, functions.split()

    def fsync(descriptor: int) -> None:
        here = callers()[: len(wanted)] == wanted
        if not here or name not in {"", Path(f"/proc/self/fd/{descriptor}").readlink().name}:
            real(descriptor)

    os.fsync = fsync


def _sqlite_does_not_sync() -> None:
    real = connection._pragmas_for

    def pragmas_for(writable: bool) -> Any:
        set_pragmas = real(writable)

        def then_normal(raw: Any, record: object) -> None:
            set_pragmas(raw, record)
            raw.execute("PRAGMA synchronous=NORMAL")

        return then_normal

    connection._pragmas_for = pragmas_for
