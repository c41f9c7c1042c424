"""``plmsearch backup`` and ``plmsearch restore``: a checked copy, and back again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from plmsearch.cli import options as o
from plmsearch.cli.console import handles_errors, note

__all__ = ["backup", "restore"]


@handles_errors
def backup(
    database: Annotated[Path, typer.Argument(metavar="DB", help="Database directory.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="Directory to make; must not exist.")],
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Copy a database as one commit left it, also while another process writes to it.

    OUT is a database without derived files, plus SHA256SUMS, which sha256sum -c can check.
    """
    from plmsearch.backup import backup as make
    from plmsearch.database import open_database

    with open_database(database) as db:
        generation = make(db, target)
    if not quiet:
        note(f"{target}: generation {generation} of {database}")


@handles_errors
def restore(
    source: Annotated[Path, typer.Argument(metavar="BACKUP", help="What plmsearch backup wrote.")],
    target: Annotated[Path, typer.Argument(metavar="DB", help="Directory to make; must not exist.")],
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Check every file of a backup against its manifest, and make a database from it."""
    from plmsearch.backup import restore as make

    generation = make(source, target)
    if not quiet:
        note(f"{target}: generation {generation} of {source}")
