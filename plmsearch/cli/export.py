"""``plmsearch export``: records and vectors, for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from plmsearch.cli import options as o
from plmsearch.cli.console import handles_errors, note
from plmsearch.wording import counted

__all__ = ["export"]


@handles_errors
def export(
    database: Annotated[Path, typer.Argument(metavar="DB", help="Database directory.")],
    output: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            help="File; its ending decides: .tsv, .parquet, .npz or .h5. Or - for stdout, as .tsv.",
        ),
    ],
    space: Annotated[str | None, typer.Option(help="Embedding space, by name.", metavar="NAME")] = None,
    where: o.Where = None,
    format: Annotated[
        str | None,
        typer.Option(
            help="airr: an AIRR Rearrangement table, a row for each variable domain.", metavar="NAME"
        ),
    ] = None,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Write the live records, their raw vectors, or both; import reads each of these files again.

    .tsv: records with their metadata. .parquet: records with metadata and a column of vectors. .npz:
    arrays ids, embeddings and spec. .h5: a dataset per record. A space of variable domains has a row for
    each domain, called id#2 where a record has several.

    --format airr writes a .tsv that AIRR tools read: values of the input as they were, and what it left out
    (junction_aa, cdr3_aa and the other regions, locus) from the residues.
    """
    from plmsearch.database import open_database
    from plmsearch.exchange.airr_export import export_airr
    from plmsearch.exchange.exporting import export as write
    from plmsearch.formats.output import STDOUT

    if format not in {None, "airr"}:
        raise typer.BadParameter(
            f"--format {format}: it is airr, or left out: the ending of the file decides"
        )
    name = "standard output" if str(output) == STDOUT else output
    if format == "airr":
        if space is not None:
            raise typer.BadParameter("--format airr has no vectors: leave out --space")
        with open_database(database) as db:
            written = export_airr(db, output, where=where)
        if not quiet:
            note(f"{name}: {counted(written.n_records, 'record')}, {counted(written.n_rows, 'row')}")
            if written.renamed:
                columns = ", ".join(written.renamed.values())
                note(f"called otherwise, for AIRR's fields of these names hold something else: {columns}")
        return
    with open_database(database) as db:
        done = write(db, output, space=space, where=where)
        n_records = len(db) if where is None else db.select(where).n_records
    if not quiet:
        domains = f", {counted(done.n_rows, 'variable domain')}" if done.n_rows != done.n_records else ""
        note(f"{name}: {counted(done.n_records, 'record')}{domains}")
        if done.n_records < n_records:
            lacking = counted(n_records - done.n_records, "record has", "records have")
            note(f"{lacking} no vector in this space: left out")
