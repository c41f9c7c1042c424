"""``plmsearch delete``: take records out of a database."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from plmsearch.cli import options as o
from plmsearch.cli.console import handles_errors, note
from plmsearch.wording import counted

__all__ = ["delete"]


@handles_errors
def delete(
    database: Annotated[Path, typer.Argument(metavar="DB", help="Database directory.")],
    record_ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID...]", help="Ids of the records to delete.")
    ] = None,
    from_file: Annotated[
        str | None, typer.Option(help="File with one id a line; - is stdin.", metavar="FILE")
    ] = None,
    where: o.Where = None,
    ignore_missing: Annotated[
        bool, typer.Option("--ignore-missing", help="Pass over ids that are not in the database.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    lock_timeout: o.LockTimeout = 60.0,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Delete records by id or by condition: all that are named, or on an error none.

    They are gone from every search at once. Asks first on a terminal; elsewhere --yes is needed.
    """
    from plmsearch.database import open_database
    from plmsearch.formats.ids import read_ids

    wanted = [*(record_ids or ()), *(read_ids(from_file) if from_file is not None else ())]
    if bool(wanted) == (where is not None):
        raise typer.BadParameter("give ids, a file of ids with --from-file, or a condition with --where")
    with open_database(database, lock_timeout_s=lock_timeout) as db:
        n_most = len(wanted) if where is None else db.select(where).n_records
        if not yes:
            if not sys.stdin.isatty():
                raise typer.BadParameter(
                    f"this deletes up to {counted(n_most, 'record')}: confirm with --yes"
                )
            typer.confirm(f"Delete up to {n_most} of {counted(len(db), 'record')}?", abort=True, err=True)
        n_deleted = db.delete(wanted, where=where, ignore_missing=ignore_missing)
        n_left = len(db)
    if not quiet:
        deleted, left = counted(n_deleted, "record"), counted(n_left, "record")
        note(f"{deleted} deleted; the database now holds {left}")
