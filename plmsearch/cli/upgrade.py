"""``plmsearch upgrade``: bring an older database to this version."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from plmsearch.cli import options as o
from plmsearch.cli.console import handles_errors, note

__all__ = ["upgrade"]


@handles_errors
def upgrade(
    database: Annotated[Path, typer.Argument(metavar="DB", help="Database directory.")],
    lock_timeout: o.LockTimeout = 60.0,
    debug: o.Debug = False,
) -> None:
    """Bring a database of an older schema to this one, after copying it as it is.

    The copy lies beside the database, as DB.schema-VERSION, and shares its vector files. The null
    distributions behind emb_evalue are built by the next index or optimize.
    """
    from plmsearch.upgrade import upgrade as bring

    report = bring(database, lock_timeout_s=lock_timeout)
    if report.copy is None:
        note(f"{database} is at schema {report.after} already")
    else:
        note(f"{database}: schema {report.before} became {report.after}; as it was: {report.copy}")
