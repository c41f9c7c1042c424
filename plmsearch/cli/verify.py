"""``plmsearch verify``: is a database whole."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from plmsearch.cli import options as o
from plmsearch.cli.console import EXIT_ERROR, handles_errors

__all__ = ["verify"]


@handles_errors
def verify(
    database: Annotated[
        Path, typer.Argument(metavar="DB", envvar="PLMSEARCH_DB", help="Database directory.")
    ],
    full: Annotated[bool, typer.Option("--full", help="Read every byte and compare every checksum.")] = False,
    debug: o.Debug = False,
) -> None:
    """Check the catalog, every vector file and every reference between them; write nothing.

    Prints one line per finding: severity, where, what is wrong and the command that mends it. Exit code
    1 if something is damaged or has to be rebuilt.
    """
    from plmsearch.database import open_database
    from plmsearch.verify import verify as find

    with open_database(database) as db:
        findings = find(db, full=full)
    for f in findings:
        typer.echo(f"{f.severity}\t{f.where}\t{f.problem}\t{f.remedy}")
    if any(f.severity != "note" for f in findings):
        raise typer.Exit(EXIT_ERROR)
    typer.echo(f"{database}: {'every checksum' if full else 'catalog, headers and references'} in order")
