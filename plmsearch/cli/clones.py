"""``plmsearch clones``: clonal families of a repertoire."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from plmsearch.cli import options as o
from plmsearch.cli.console import EXIT_INTERRUPTED, handles_errors, note

if TYPE_CHECKING:
    from plmsearch.repertoire.clone_table import CloneReport

__all__ = ["clones"]


@handles_errors
def clones(
    source: Annotated[
        str,
        typer.Argument(
            metavar="INPUT", help="AIRR Rearrangement TSV, FASTA, 10x or OAS (.gz, .zst), or - for stdin."
        ),
    ],
    output: Annotated[
        str, typer.Option("-o", "--output", help="TSV to write, or - for stdout.", metavar="OUT")
    ],
    method: Annotated[
        str,
        typer.Option(
            help="auto, junction (V and J gene, junction length, distance of junctions) or cdr3 (the same "
            "without calls). auto: junction, where most heavy chains have calls.",
            metavar="METHOD",
        ),
    ] = "auto",
    threshold: Annotated[
        float | None,
        typer.Option(
            help="Largest share of mismatches of a link, instead of the automatic one.", metavar="SHARE"
        ),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(
            help="Column of the donor; default: subject_id, else donor, else all rows are of one.",
            metavar="COLUMN",
        ),
    ] = None,
    v_call: Annotated[
        str,
        typer.Option(help="Of calls that list several genes: set (any of them) or first.", metavar="WHICH"),
    ] = "set",
    split_light: Annotated[
        bool, typer.Option("--split-light", help="Divide families by V and J gene of the cell's light chain.")
    ] = False,
    productive: Annotated[
        bool, typer.Option("--productive", help="Leave out rows that the input calls not productive.")
    ] = False,
    clone_col: Annotated[str, typer.Option(help="Column to write.", metavar="NAME")] = "clone_id",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the ids of an input that has some.")
    ] = False,
    translate: o.Translate = False,
    contigs: o.Contigs = None,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Find the clonal families of a repertoire, and write the table with a column clone_id.

    Families are found within one donor, never across. Only heavy chains are grouped: a light chain has
    the family of its cell, a T-cell receptor that of its own clonotype. The threshold follows from how
    close unrelated junctions of this input come by chance. Every row and cell of the input is kept;
    clone_status says why a row has no family, and OUT.json how families were found.
    """
    from plmsearch.repertoire.clone_report import report_lines
    from plmsearch.repertoire.clone_table import TableOptions, clone_table
    from plmsearch.repertoire.clones import CloneOptions

    options = CloneOptions(method, threshold, v_call, split_light, productive)  # type: ignore[arg-type]
    read = TableOptions(by, clone_col, overwrite, translate, contigs)
    try:
        report: CloneReport = clone_table(source, output, options, read)
    except KeyboardInterrupt:
        note("interrupted; nothing was written, the same command begins anew")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    for line in report_lines(report, options) if not quiet else ():
        note(line)
