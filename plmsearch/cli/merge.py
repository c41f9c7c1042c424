"""``plmsearch merge``: one database of several, without running a model."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from plmsearch.cli import options as o
from plmsearch.cli.console import (
    EXIT_INTERRUPTED,
    EXIT_LEFT_OUT,
    handles_errors,
    note,
    print_left_out,
    remarks,
    shown,
)
from plmsearch.wording import counted

if TYPE_CHECKING:
    from plmsearch.ingest.report import AddReport

__all__ = ["merge"]


@handles_errors
def merge(
    databases: Annotated[
        list[Path], typer.Argument(metavar="DB...", help="Database directories; they are only read.")
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Directory to make; must not exist.", metavar="OUT")
    ],
    on_duplicate: Annotated[
        str,
        typer.Option(
            help="An id taken by a different record: error, rename (X_2, X_3...) or skip.", metavar="POLICY"
        ),
    ] = "error",
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Make a database of the records of several, with their stored vectors; no model is run.

    All must have the same embedding spaces. Records come in the order of the databases; what was
    deleted does not. A sequence is stored once, with its vector of the first database that has it. OUT
    appears when it is whole, or not at all. Exit code 3: some records were left out, each named with
    its reason.
    """
    from plmsearch.database import open_database
    from plmsearch.exchange.merging import merge as make

    if len(databases) < 2:
        raise typer.BadParameter("give two databases or more")
    with ExitStack() as stack:
        opened = [stack.enter_context(open_database(path)) for path in databases]
        progress = stack.enter_context(shown(quiet=quiet))
        try:
            report = make(opened, output, on_duplicate=on_duplicate, progress=progress)  # type: ignore[arg-type]
        except KeyboardInterrupt:
            note(f"interrupted; {output} was not made, the same command begins anew")
            raise typer.Exit(EXIT_INTERRUPTED) from None
    _print_report(report, output, quiet=quiet)


def _print_report(report: AddReport, output: Path, *, quiet: bool) -> None:
    print_left_out(report.skipped)
    if not quiet:
        note(
            f"{counted(report.n_rows, 'record')}: {report.n_added} added, {report.n_renamed} renamed, "
            f"{report.n_present} already present, {report.n_skipped} left out "
            f"in {report.seconds:.1f} s ({', '.join(report.spaces)})"
        )
        for text in remarks(report):
            note(text)
        note(f"{output} holds {counted(report.n_added + report.n_renamed, 'record')}")
    if report.n_skipped:
        raise typer.Exit(EXIT_LEFT_OUT)
