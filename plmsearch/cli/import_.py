"""``plmsearch import``: vectors that were computed elsewhere."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from plmsearch.cli import options as o
from plmsearch.cli.console import EXIT_LEFT_OUT, handles_errors, note, print_left_out, remarks, shown
from plmsearch.wording import counted

if TYPE_CHECKING:
    from plmsearch.ingest.report import AddReport

__all__ = ["import_"]


@handles_errors
def import_(
    database: Annotated[Path, typer.Argument(metavar="DB", help="Database directory; created if absent.")],
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help=".npz, .npy, Parquet or HDF5: one vector per record.")
    ],
    records: Annotated[
        Path | None,
        typer.Option(
            help="Table with the ids of the rows, in order, and sequences and metadata where known. "
            "Needed for .npy.",
            metavar="TABLE",
        ),
    ] = None,
    space: Annotated[
        str | None,
        typer.Option(help="A space of the database, or what to call a new external one.", metavar="NAME"),
    ] = None,
    model: o.Model = None,
    layers: o.Layers = None,
    pool: o.Pool = None,
    id_col: o.IdCol = None,
    seq_col: o.SeqCol = None,
    vector_col: Annotated[
        str | None, typer.Option(help="Column with the vectors of a Parquet file.", metavar="NAME")
    ] = None,
    on_duplicate: Annotated[
        str,
        typer.Option(
            help="An id taken by a different record: error, rename (X_2, X_3...) or skip.", metavar="POLICY"
        ),
    ] = "error",
    weights: o.Weights = None,
    lock_timeout: o.LockTimeout = 60.0,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Store vectors without running a model; safe to repeat, and to interrupt.

    The space is the one the file names, or --model with --layers. Without either it is external: it is
    searched by --id or by vector, not with sequences. Every row is checked before any is stored. A
    record may be without a sequence. Exit code 3: some rows were left out, each named with its reason.
    """
    from plmsearch.database import open_database
    from plmsearch.exchange.importing import ImportOptions, import_vectors
    from plmsearch.formats.vectors import open_vectors

    request = o.space_request(model, layers, pool)
    wishes = ImportOptions(space, request, on_duplicate)  # type: ignore[arg-type]
    running = o.model_options(weights, "cpu", "auto", None, 4096)
    with ExitStack() as stack:
        opened = open_vectors(file, records=records, id_col=id_col, seq_col=seq_col, vector_col=vector_col)
        db = stack.enter_context(
            open_database(database, create=True, model_options=running, lock_timeout_s=lock_timeout)
        )
        progress = stack.enter_context(shown(quiet=quiet))
        report = import_vectors(db, opened, wishes, progress=progress)
        n_records = len(db)
    _print_report(report, n_records, opened.reader.dtype, quiet=quiet)


def _print_report(report: AddReport, n_records: int, dtype: str, *, quiet: bool) -> None:
    print_left_out(report.skipped)
    if not quiet:
        note(
            f"{counted(report.n_rows, 'vector')}: {report.n_added} added, {report.n_renamed} renamed, "
            f"{report.n_present} already present, {report.n_skipped} left out "
            f"in {report.seconds:.1f} s ({', '.join(report.spaces)})"
        )
        if dtype == "float64":
            note("float64 rounded to float32")
        for text in remarks(report):
            note(text)
        note(f"the database now holds {counted(n_records, 'record')}")
    if report.n_skipped:
        raise typer.Exit(EXIT_LEFT_OUT)
