"""Take single syncs away, to show that a power cut would then do harm: a test of the test."""

from __future__ import annotations

import os
import sys
from typing import Any

from plmsearch.store import connection

#: Each place that syncs, by the functions it is reached through, innermost first; and SQLite's own.
SQLITE = "sqlite"
PLACES = (
    "write_segment",
    "sync_directory publish",
    "mark",
    "sync_directory mark",
    "sync_directory _quarantine",
    "sync_file _sync_tree",
    "sync_directory _sync_tree",
    "sync_directory _made_whole",
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
    real, wanted = os.fsync, place.split()

    def fsync(descriptor: int) -> None:
        if callers()[: len(wanted)] != wanted:
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
