"""``plmsearch columns``: the columns of a database, and indexes on those of the metadata."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from plmsearch.cli import options as o
from plmsearch.cli.console import handles_errors

__all__ = ["columns"]


@handles_errors
def columns(
    database: Annotated[Path, typer.Argument(metavar="DB", help="Database directory.")],
    index: Annotated[
        list[str] | None,
        typer.Option("--index", help="Make an index on a column; may be repeated.", metavar="COLUMN"),
    ] = None,
    drop_index: Annotated[
        list[str] | None,
        typer.Option("--drop-index", help="Drop the index of a column; may be repeated.", metavar="COLUMN"),
    ] = None,
    lock_timeout: o.LockTimeout = 60.0,
    debug: o.Debug = False,
) -> None:
    """Print the columns of records with their types, which have an index, and which are derived.

    A column with an index is filtered by (--where) without reading every record. That pays where few
    records match, and costs a little at each write.

    Derived columns follow from residues and calls: the regions of variable domains (cdr3_aa), and the
    genes that a call lists (v_gene). They are filtered by and shown as any other (docs/columns.md).
    """
    from plmsearch.database import open_database
    from plmsearch.formats.hits import write_hits
    from plmsearch.formats.output import STDOUT

    with open_database(database, lock_timeout_s=lock_timeout) as db:
        if index or drop_index:
            db.index_columns(index or (), drop=drop_index or ())
        rows = [
            {"column": c.name, "type": c.kind, "indexed": c.is_indexed, "derived": c.is_derived}
            for c in db.columns()
        ]
    write_hits(iter(rows), ["column", "type", "indexed", "derived"], "tsv", STDOUT)
