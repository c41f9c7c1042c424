"""``plmsearch repertoire``: statistics of a repertoire, as tables and one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from plmsearch.cli import options as o
from plmsearch.cli.console import EXIT_INTERRUPTED, EXIT_LEFT_OUT, handles_errors, note

__all__ = ["repertoire"]


@handles_errors
def repertoire(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="INPUT...", help="AIRR Rearrangement TSVs (.gz, .zst), or - for stdin."),
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Folder to write, new or empty.", metavar="DIR")
    ],
    count: Annotated[
        str,
        typer.Option(
            help="What is counted: rows, duplicate_count (reads), umi_count (molecules) or cells.",
            metavar="UNIT",
        ),
    ] = "rows",
    by: Annotated[
        str | None,
        typer.Option(
            help="Column of the donor; default: subject_id, else donor, else each table is one donor.",
            metavar="COLUMN",
        ),
    ] = None,
    locus: Annotated[
        str | None,
        typer.Option(help="Locus whose clones are counted; default: IGH, else the most frequent."),
    ] = None,
    productive: Annotated[
        bool, typer.Option("--productive", help="Leave out rows that the input calls not productive.")
    ] = False,
    filtered: o.Filtered = False,
    min_depth: Annotated[
        int, typer.Option(min=1, help="Units below which a sample is not compared with others.")
    ] = 30,
    bootstraps: Annotated[int, typer.Option(min=2, help="Samples redrawn for each confidence band.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="Of the redrawn samples.")] = 1,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Write into a folder that is not empty.")
    ] = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Describe a repertoire: clone sizes, diversity, gene usage, mutation, CDR3 length, sharing.

    Diversity has confidence bands and is compared at equal depth. What samples of one donor share (clones)
    and what several donors have come to (convergence) stand apart. DIR gets one table for each question and
    report.html, which needs no network. Give tables that plmsearch clones has written; without clone_id the
    parts about clones are left out.
    """
    from plmsearch.repertoire.report import check_folder, write_report
    from plmsearch.repertoire.report_notes import report_lines
    from plmsearch.repertoire.statistics import summarise_repertoire
    from plmsearch.repertoire.summary import StatisticsOptions

    options = StatisticsOptions(by, count, productive, locus, min_depth, bootstraps, seed, filtered)  # type: ignore[arg-type]
    try:
        check_folder(output, overwrite=overwrite)
        summary = summarise_repertoire(sources, options)
        written = write_report(summary, output, overwrite=overwrite)
    except KeyboardInterrupt:
        note("interrupted; nothing was written, the same command begins anew")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    for line in report_lines(summary, written) if not quiet else ():
        note(line)
    if summary.n_uncounted:
        raise typer.Exit(EXIT_LEFT_OUT)
