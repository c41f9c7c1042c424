"""``plmsearch repair``: mend what can be mended."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from plmsearch.cli import options as o
from plmsearch.cli.console import handles_errors, note, shown
from plmsearch.wording import counted

__all__ = ["repair"]


@handles_errors
def repair(
    database: Annotated[Path, typer.Argument(metavar="DB", help="Database directory.")],
    weights: o.Weights = None,
    device: o.Device = "auto",
    precision: o.Precision = "auto",
    threads: o.Threads = None,
    batch_tokens: o.BatchTokens = 4096,
    accept_catalog: Annotated[
        bool,
        typer.Option(
            "--accept-catalog",
            help="Take catalog.sqlite for what it is now, if it is whole: you changed it yourself.",
        ),
    ] = False,
    lock_timeout: o.LockTimeout = 60.0,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Read every byte; rebuild derived files, and embed anew what a damaged vector file held.

    A damaged file is kept in quarantine/, and the records it held vectors of are named. Safe to
    interrupt and to repeat. A damaged catalog is not mended: restore a backup. If it is called damaged
    because you changed it yourself, with another program, say --accept-catalog.
    """
    from plmsearch.database import open_database
    from plmsearch.repair import accept_catalog as accept
    from plmsearch.repair import repair as mend

    if accept_catalog:
        accept(database, lock_timeout_s=lock_timeout)
    running = o.model_options(weights, device, precision, threads, batch_tokens)
    with (
        open_database(database, model_options=running, lock_timeout_s=lock_timeout) as db,
        shown(quiet=quiet) as progress,
    ):
        report = mend(db, progress=progress)
    for file in report.quarantined:
        note(
            f"damaged: {file.file}: {file.reason}; it held the vectors of "
            f"{counted(len(file.record_ids), 'record')}:"
        )
        for record_id in file.record_ids:
            typer.echo(record_id)
    if report.lost:
        lost = counted(len(report.lost), "record has", "records have")
        note(
            f"{lost} an imported vector that no model here makes again; "
            "import them again, or restore a backup"
        )
    if not quiet:
        note(
            f"{counted(len(report.quarantined), 'vector file')} damaged, "
            f"{counted(report.n_embedded, 'sequence')} embedded anew, "
            f"{counted(len(report.rebuilt), 'derived file')} rebuilt"
        )
