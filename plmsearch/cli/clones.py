"""``plmsearch clones``: clonal families of a repertoire."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from plmsearch.cli import options as o
from plmsearch.cli.console import EXIT_INTERRUPTED, handles_errors, note, shown

if TYPE_CHECKING:
    from plmsearch.repertoire.clone_description import CloneReport

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
            help="auto, junction (V and J gene, junction length, distance of junctions), hybrid (junction, "
            "and what V regions say), cdr3 (junction without calls) or embedding (distance of AntiBERTy "
            "vectors, without calls). auto: hybrid, where most heavy chains have calls; no model.",
            metavar="METHOD",
        ),
    ] = "auto",
    threshold: Annotated[
        float | None,
        typer.Option(
            help="Largest share of mismatches of a link, or cosine distance with embedding, instead of the "
            "automatic one.",
            metavar="SHARE",
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
    filtered: o.Filtered = False,
    convergent: Annotated[
        bool,
        typer.Option(
            "--convergent",
            help="Write convergent_cluster (alike junctions over donors), which several donors get anyway.",
        ),
    ] = False,
    vectors: Annotated[
        Path | None,
        typer.Option(
            help="Vectors by sequence_id (.npz, Parquet, HDF5) for method embedding, instead of AntiBERTy's.",
            metavar="FILE",
        ),
    ] = None,
    germlines: Annotated[
        Path | None,
        typer.Option(
            help="Germline genes (FASTA or table) that calls are inferred from, where there are none.",
            metavar="FILE",
        ),
    ] = None,
    species: Annotated[
        str | None, typer.Option(help="Species of the germline genes; inferred if left out.", metavar="NAME")
    ] = None,
    weights: o.Weights = None,
    device: o.Device = "auto",
    threads: o.Threads = None,
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
    from plmsearch.embedding.options import ModelOptions
    from plmsearch.errors import ParameterError
    from plmsearch.repertoire.clone_report import report_lines
    from plmsearch.repertoire.clone_table import TableOptions, clone_table
    from plmsearch.repertoire.clones import CloneOptions
    from plmsearch.repertoire.inferred_calls import Germlines

    options = CloneOptions(method, threshold, v_call, split_light, productive, convergent, filtered)  # type: ignore[arg-type]
    if vectors is not None and method != "embedding":
        raise ParameterError("vectors", str(vectors), "left out but with --method embedding")
    running = ModelOptions(weights, device, threads=threads)
    genes = Germlines(germlines, species)
    table_options = TableOptions(by, clone_col, overwrite, translate, contigs, vectors, running, genes)
    try:
        with shown(quiet=quiet) as progress:
            report: CloneReport = clone_table(source, output, options, table_options, progress)
    except KeyboardInterrupt:
        note("interrupted; nothing was written, the same command begins anew")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    for line in report_lines(report, options) if not quiet else ():
        note(line)
