"""``plmsearch export``: records and vectors, for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from plmsearch.cli import options as o
from plmsearch.cli.console import handles_errors, note

__all__ = ["export"]


@handles_errors
def export(
    database: Annotated[Path, typer.Argument(metavar="DB", help="Database directory.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="File; its ending decides: .tsv, .parquet, .npz or .h5.")
    ],
    space: Annotated[str | None, typer.Option(help="Embedding space, by name.", metavar="NAME")] = None,
    where: o.Where = None,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Write the live records, their raw vectors, or both; import reads each of these files again.

    .tsv: records with their metadata. .parquet: records with metadata and a column of vectors. .npz:
    arrays ids, embeddings and spec. .h5: a dataset per record.
    """
    from plmsearch.database import open_database
    from plmsearch.exchange.exporting import export as write

    with open_database(database) as db:
        n = write(db, output, space=space, where=where)
        n_records = len(db) if where is None else db.select(where).n_records
    if not quiet:
        note(f"{output}: {n} records")
        if n < n_records:
            note(f"{n_records - n} records have no sequence, and no vector in this space: left out")
