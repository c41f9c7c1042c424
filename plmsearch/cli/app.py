"""The command table and the exit codes.

0 ok; 1 a `PlmsearchError`; 2 usage; 3 finished, but some input was left out; 130 interrupted.
"""

from __future__ import annotations

import atexit
import gc
import inspect
import sys
from typing import Annotated

import typer

from plmsearch._version import __version__
from plmsearch.cli.backup import backup, restore
from plmsearch.cli.clones import clones
from plmsearch.cli.cluster import cluster
from plmsearch.cli.columns import columns
from plmsearch.cli.console import EXIT_ERROR, note
from plmsearch.cli.delete import delete
from plmsearch.cli.doctor import doctor
from plmsearch.cli.embed import embed
from plmsearch.cli.export import export
from plmsearch.cli.import_ import import_
from plmsearch.cli.index import index
from plmsearch.cli.info import info
from plmsearch.cli.merge import merge
from plmsearch.cli.models import models_app
from plmsearch.cli.optimize import optimize
from plmsearch.cli.query import query
from plmsearch.cli.repair import repair
from plmsearch.cli.repertoire import repertoire
from plmsearch.cli.upgrade import upgrade
from plmsearch.cli.verify import verify

__all__ = ["app", "main"]

app = typer.Typer(
    name="plmsearch",
    help="Embedding database and similarity search for proteins and antibodies.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: plmsearch index db/ seqs.fasta && plmsearch query db/ query.fasta -k 10",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"plmsearch {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


app.command(epilog="Example: plmsearch index db/ heavy.tsv --id-col Name --seq-col VH")(index)
app.command(epilog="Example: plmsearch query db/ query.fasta -k 10 --format tsv -o hits.tsv")(query)
app.command(epilog="Example: plmsearch embed db/ --model antiberty --layers 4,6,8")(embed)
app.command(epilog="Example: plmsearch clones airr.tsv -o clones.tsv")(clones)
app.command(epilog="Example: plmsearch cluster db/ -o clusters.tsv")(cluster)
app.command(epilog="Example: plmsearch repertoire clones.tsv -o report/ --count umi_count")(repertoire)
app.command(epilog="Example: plmsearch info db/")(info)
app.command(epilog="Example: plmsearch columns db/ --index v_call")(columns)
app.command(epilog="Example: plmsearch delete db/ AB123 AB124 --yes")(delete)
app.command(epilog="Example: plmsearch optimize db/")(optimize)
app.command(epilog="Example: plmsearch verify db/ --full")(verify)
app.command(epilog="Example: plmsearch repair db/")(repair)
app.command(epilog="Example: plmsearch backup db/ db-backup/")(backup)
app.command(epilog="Example: plmsearch restore db-backup/ db/")(restore)
app.command(epilog="Example: plmsearch upgrade db/")(upgrade)
app.command(epilog="Example: plmsearch export db/ -o db.parquet")(export)
app.command("import", epilog="Example: plmsearch import db/ per-protein.h5 --space prott5")(import_)
app.command(epilog="Example: plmsearch merge heavy.db/ light.db/ -o both.db/")(merge)
app.command(epilog="Example: plmsearch doctor")(doctor)
app.add_typer(models_app, name="models")


def _let_help_flow(group: typer.Typer) -> None:
    """Join the lines of help texts, which rich would break where the source does, in any terminal."""
    for command in group.registered_commands:
        paragraphs = (inspect.getdoc(command.callback) or "").split("\n\n")
        command.help = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


_let_help_flow(app)
_let_help_flow(models_app)


def main() -> None:
    """Run the command line."""
    # A command lives for seconds, with a heap of modules that are never garbage: looking through them
    # again and again, and once more at exit, took a second of a query's three.
    gc.set_threshold(100_000, 50, 100)
    atexit.register(gc.freeze)
    # A pipe closed by its reader (``| head``) ends the program quietly, as in other tools.
    try:
        app()
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except OSError as error:
        note(f"error: standard output: {(error.strerror or str(error)).lower()}")
        sys.exit(EXIT_ERROR)
