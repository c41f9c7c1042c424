"""``plmsearch optimize``: give back room, join small files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from plmsearch.cli import options as o
from plmsearch.cli.console import handles_errors, note, shown

__all__ = ["optimize"]


@handles_errors
def optimize(
    database: Annotated[Path, typer.Argument(metavar="DB", help="Database directory.")],
    lock_timeout: o.LockTimeout = 60.0,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Drop what was deleted from the files, join small vector files, rebuild derived ones.

    Safe while others search, and safe to interrupt. Needs room for a second copy of one space.
    """
    from plmsearch.database import open_database
    from plmsearch.optimize import optimize as improve

    with open_database(database, lock_timeout_s=lock_timeout) as db, shown(quiet=quiet) as progress:
        report = improve(db, progress=progress)
    if not quiet:
        note(
            f"{report.n_records_dropped} deleted records and {report.n_sequences_dropped} sequences dropped; "
            f"{report.n_segments_before} vector files became {report.n_segments_after}; "
            f"{report.n_bytes_before / 1e6:.1f} MB became {report.n_bytes_after / 1e6:.1f} MB"
        )
