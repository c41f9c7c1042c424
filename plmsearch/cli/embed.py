"""``plmsearch embed``: one more space for a database, or an input to a NumPy archive."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from plmsearch.cli import options as o
from plmsearch.cli.console import EXIT_LEFT_OUT, handles_errors, print_left_out, remarks, shown
from plmsearch.wording import counted

__all__ = ["embed"]


@handles_errors
def embed(
    target: Annotated[
        str, typer.Argument(metavar="DB|INPUT", help="A database directory, or sequences in a file or stdin.")
    ],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="NumPy archive (.npz) to write, for an INPUT.")
    ] = None,
    model: o.Model = None,
    layers: o.Layers = None,
    pool: o.Pool = None,
    preset: o.Preset = None,
    regions: o.Regions = None,
    weights_by_region: o.WeightsByRegion = None,
    id_col: o.IdCol = None,
    seq_col: o.SeqCol = None,
    translate: o.Translate = False,
    contigs: o.Contigs = None,
    on_invalid: o.OnInvalid = "error",
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
    """Add embedding spaces to a database from its stored sequences, or embed an input to .npz.

    For a DB, each layer becomes a space; interrupted, the same command continues. For an INPUT, ids
    and one array per layer are written to --output.
    """
    from plmsearch.database import open_database
    from plmsearch.formats.read import STDIN
    from plmsearch.ingest.embed_file import embed_inputs, write_npz
    from plmsearch.ingest.report import AddOptions
    from plmsearch.store.directory import is_database, storage_errors

    request = o.space_request(model, layers, pool, preset, regions, weights_by_region)
    running = o.model_options(weights, device, precision, threads, batch_tokens)
    policy = AddOptions(on_invalid, long=long)  # type: ignore[arg-type]
    with ExitStack() as stack:
        progress = stack.enter_context(shown(quiet=quiet))
        with storage_errors(Path(target)):
            is_input = target == STDIN or Path(target).is_file()
        if not is_input and output is not None and is_database(Path(target)):
            raise typer.BadParameter("--output is for an INPUT; a database keeps its own vectors")
        if not is_input and (translate or contigs):
            raise typer.BadParameter("--translate and --contigs are for an INPUT")
        if not is_input and output is None:
            db = stack.enter_context(
                open_database(target, model_options=running, lock_timeout_s=lock_timeout)
            )
            genes = o.gene_options(germlines, species, no_germlines)
            report = db.embed(request, long=policy.long, genes=genes, progress=progress)
            done = counted(report.n_embedded, "sequence")
            progress.say(f"{done} embedded; spaces: {', '.join(report.spaces)}")
            return
        if output is None:
            raise typer.BadParameter("give --output for an INPUT")
        files = o.opened(
            [target], stack, id_col=id_col, seq_col=seq_col, translate=translate, contigs=contigs
        )
        embedded = embed_inputs(files, request, policy, running, progress)
        write_npz(embedded, output)
        for text in remarks(embedded.report):
            progress.say(text)
    print_left_out(embedded.report.skipped)
    if embedded.report.skipped:
        raise typer.Exit(EXIT_LEFT_OUT)
