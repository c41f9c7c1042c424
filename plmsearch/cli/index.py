"""``plmsearch index``: create a database, or add to it."""

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

__all__ = ["index"]


@handles_errors
def index(
    database: Annotated[Path, typer.Argument(metavar="DB", help="Database directory; created if absent.")],
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="INPUT...", help="FASTA, CSV, TSV, Parquet, AIRR, 10x or OAS; - is stdin."),
    ],
    model: o.Model = None,
    layers: o.Layers = None,
    pool: o.Pool = None,
    preset: o.Preset = None,
    regions: o.Regions = None,
    weights_by_region: o.WeightsByRegion = None,
    id_col: o.IdCol = None,
    seq_col: o.SeqCol = None,
    heavy_col: o.HeavyCol = None,
    light_col: o.LightCol = None,
    pair_by: o.PairBy = None,
    translate: o.Translate = False,
    contigs: o.Contigs = None,
    on_invalid: o.OnInvalid = "error",
    on_duplicate: Annotated[
        str,
        typer.Option(
            help="An id taken by a different record: rename (X_2, X_3...), error, skip, or replace it.",
            metavar="POLICY",
        ),
    ] = "rename",
    long: o.Long = None,
    germlines: o.Germlines = None,
    species: o.Species = None,
    no_germlines: o.NoGermlines = False,
    weights: o.Weights = None,
    device: o.Device = "auto",
    precision: o.Precision = "auto",
    threads: o.Threads = None,
    batch_tokens: o.BatchTokens = 4096,
    lock_timeout: o.LockTimeout = 60.0,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    debug: o.Debug = False,
) -> None:
    """Embed sequences and store them; safe to repeat, and to interrupt.

    Without --model a new database looks at a sample of the input: antibodies get antiberty, other
    proteins the largest ESM-2 whose weights are on this machine. All other columns of a table become
    metadata. Exit code 3: some rows were left out, each named with its reason.

    Rows of AIRR, 10x and OAS tables are translated where they hold nucleotides only; residue_source says
    from which column. FASTA and plain tables of nucleotides need --translate.
    """
    from plmsearch.database import open_database
    from plmsearch.indexing import index_is_due
    from plmsearch.ingest.report import AddOptions

    policy = AddOptions(
        on_invalid,  # type: ignore[arg-type]
        on_duplicate,  # type: ignore[arg-type]
        long,  # type: ignore[arg-type]
        o.gene_options(germlines, species, no_germlines),
    )
    pairing = o.pairing(heavy_col, light_col, pair_by)
    running = o.model_options(weights, device, precision, threads, batch_tokens)
    with ExitStack() as stack:
        db = stack.enter_context(
            open_database(database, create=True, model_options=running, lock_timeout_s=lock_timeout)
        )
        files = o.opened(
            inputs,
            stack,
            id_col=id_col,
            seq_col=seq_col,
            translate=translate,
            contigs=contigs,
            pairing=pairing,
        )
        progress = stack.enter_context(shown(quiet=quiet))
        request = o.space_request(model, layers, pool, preset, regions, weights_by_region)
        report = db.add_inputs(files, request=request, options=policy, progress=progress)
        n_records = len(db)
        is_due = any(index_is_due(r.n_vectors, db.index_facts(r)) for r in db.rankings() if r.keeps_vectors)
    _print_report(report, n_records, quiet=quiet)
    if is_due and not quiet:
        note(f"many vectors are searched exactly: plmsearch optimize {database} builds an index")
    if report.n_skipped:
        raise typer.Exit(EXIT_LEFT_OUT)


def _print_report(report: AddReport, n_records: int, *, quiet: bool) -> None:
    print_left_out(report.skipped)
    if quiet:
        return
    replaced = f"{report.n_replaced} replaced, " if report.n_replaced else ""
    note(
        f"{counted(report.n_rows, 'row')}: {report.n_added} added, {report.n_renamed} renamed, {replaced}"
        f"{report.n_present} already present, {report.n_skipped} left out"
    )
    embedded = counted(report.n_embedded, "new sequence")
    note(f"{embedded} embedded in {report.seconds:.1f} s ({', '.join(report.spaces)})")
    for text in remarks(report):
        note(text)
    note(f"the database now holds {counted(n_records, 'record')}")
