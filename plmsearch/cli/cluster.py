"""``plmsearch cluster``: clusters of the records of a database by their embeddings."""

from __future__ import annotations

import sys
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
    shown,
)

if TYPE_CHECKING:
    from plmsearch.analysis.clusters import Clusters

__all__ = ["FORMATS", "cluster"]

FORMATS = ("table", "tsv", "csv", "jsonl", "parquet", "mmseqs")


@handles_errors
def cluster(
    database: Annotated[Path, typer.Argument(metavar="DB", help="Database directory.")],
    method: Annotated[
        str,
        typer.Option(
            help="components (all that is linked, directly or through others) or leiden (its dense parts).",
            metavar="METHOD",
        ),
    ] = "components",
    threshold: Annotated[
        float | None,
        typer.Option(
            min=-1, max=1, help="Lowest score of a link, instead of the automatic one.", metavar="SCORE"
        ),
    ] = None,
    max_emb_evalue: Annotated[
        float | None,
        typer.Option(
            help="Largest emb_evalue of a link, from both sides: how many unrelated sequences a sequence is "
            "expected to be linked to. 0.01 unless --threshold is given.",
            metavar="E",
        ),
    ] = None,
    resolution: Annotated[
        float,
        typer.Option(
            help="Of leiden: pairs inside a cluster are linked at this share or more, above 0 and up to 1.",
            metavar="SHARE",
        ),
    ] = 0.5,
    seed: Annotated[int, typer.Option(help="Of leiden.")] = 0,
    where: o.Where = None,
    ranking: Annotated[
        str | None,
        typer.Option(
            help="Ranking, by name, or put together: SPACE[+TRANSFORM][=WEIGHT],...; see plmsearch info.",
            metavar="NAME",
        ),
    ] = None,
    space: Annotated[str | None, typer.Option(help="Embedding space, by name.", metavar="NAME")] = None,
    output: Annotated[str, typer.Option("-o", "--output", help="File; - is stdout.")] = "-",
    format: Annotated[
        str | None,
        typer.Option(
            help="table (a terminal's default), tsv (a pipe's), csv, jsonl, parquet or mmseqs "
            "(representative and member, no header).",
        ),
    ] = None,
    threads: o.Threads = None,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    debug: o.Debug = False,
) -> None:
    """Cluster the records of a database by their embeddings, one row for each record.

    Two sequences are linked where their score is so high that a sequence is expected to be linked to at
    most 0.01 unrelated ones in the whole database, from both sides; the scores are printed. A ranking without
    a null distribution (see plmsearch info) needs --threshold. Antibodies of different loci are never linked.

    cluster_id is the id of the cluster's oldest record, representative its medoid: the member with the
    highest mean score to the others. Records that share a sequence are in one cluster. Exit code 3: some
    records could not be compared; each is named with its reason, and its row is empty.

    A cluster says that embeddings are near each other. It is no clonal family (see plmsearch clones).
    """
    from plmsearch.analysis.clusters import ClusterOptions
    from plmsearch.analysis.clusters import cluster as find_clusters
    from plmsearch.database import open_database
    from plmsearch.ingest.report import check_choice

    kind = format or ("table" if output == "-" and sys.stdout.isatty() else "tsv")
    check_choice("format", kind, FORMATS)
    options = ClusterOptions(method, threshold, max_emb_evalue, resolution, seed, where)
    with ExitStack() as stack:
        db = stack.enter_context(open_database(database))
        progress = stack.enter_context(shown(quiet=quiet, doing="comparing"))
        try:
            found = find_clusters(
                db, options, ranking=ranking, space=space, threads=threads, progress=progress
            )
        except KeyboardInterrupt:
            note("interrupted; nothing was written, the same command begins anew")
            raise typer.Exit(EXIT_INTERRUPTED) from None
    _write(found, kind, output)
    print_left_out(found.left_out)
    for line in found.summary() if not quiet else ():
        note(line)
    if found.left_out:
        raise typer.Exit(EXIT_LEFT_OUT)


def _write(found: Clusters, kind: str, output: str) -> None:
    from plmsearch.analysis.clusters import CLUSTER_COLUMNS
    from plmsearch.formats.hits import write_hits
    from plmsearch.formats.output import open_output
    from plmsearch.formats.pairs import write_pairs

    if kind == "mmseqs":
        with open_output(output) as out:
            write_pairs(found.pairs(), out)
    else:
        write_hits(found.rows(), list(CLUSTER_COLUMNS), kind, output, types=CLUSTER_COLUMNS)
