"""``plmsearch models``: which models there are, getting their weights, checking them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from plmsearch.cli import options as o
from plmsearch.cli.console import handles_errors, note, shown_bytes

__all__ = ["models_app"]

models_app = typer.Typer(
    help="List models, fetch and verify their weights.",
    no_args_is_help=True,
    epilog="Example: plmsearch models list",
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Model name.")]


@models_app.command("list", epilog="Example: plmsearch models list --weights ~/checkpoints")
@handles_errors
def list_models(weights: o.Weights = None, debug: o.Debug = False) -> None:
    """Print every model: layers, dimensions, longest sequence, licence, and whether its weights are here."""
    from plmsearch.embedding.listing import model_rows
    from plmsearch.formats.hits import write_hits
    from plmsearch.formats.output import STDOUT

    columns = ("model", "layers", "dim", "max_residues", "default_layer", "licence", "at_hand", "weights")
    kind = "table" if sys.stdout.isatty() else "tsv"
    write_hits(model_rows(weights), columns, kind, STDOUT)


@models_app.command("fetch", epilog="Example: plmsearch models fetch esm2_t6_8M_UR50D")
@handles_errors
def fetch_model(
    name: Name,
    directory: Annotated[
        Path | None, typer.Option("--dir", help="Where to; the torch hub cache if left out.", metavar="DIR")
    ] = None,
    sha256: Annotated[str | None, typer.Option(help="What the file must hash to.", metavar="HEX")] = None,
    debug: o.Debug = False,
) -> None:
    """Download the weights of an ESM model; interrupted, the same command continues."""
    from plmsearch.embedding.fetch import fetch
    from plmsearch.embedding.weights import hub_checkpoints

    with shown_bytes(name) as progress:
        path = fetch(name, directory or hub_checkpoints(), sha256=sha256, progress=progress)
    note(f"{name}: {path}")


@models_app.command("verify", epilog="Example: plmsearch models verify antiberty")
@handles_errors
def verify_model(name: Name, weights: o.Weights = None, debug: o.Debug = False) -> None:
    """Hash the weights of a model anew, compare with the recorded hash, and load them."""
    from plmsearch.embedding.fetch import verify

    found = verify(name, weights)
    place = "" if found.path is None else f" ({found.path})"
    checked = " matches the record" if found.expected else " (no hash was recorded to compare with)"
    sha256 = f"; SHA-256 {found.sha256}{checked}" if found.sha256 else ""
    note(f"{found.model_id}{place} loads; weights digest {found.weights_digest}{sha256}")
