"""``plmsearch optimize``: give back room, join small files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from plmsearch.cli import options as o
from plmsearch.cli.console import handles_errors, note, shown
from plmsearch.wording import counted

__all__ = ["optimize"]


@handles_errors
def optimize(
    database: Annotated[Path, typer.Argument(metavar="DB", help="Database directory.")],
    index: Annotated[
        str,
        typer.Option(
            help="Approximate index of each ranking that keeps its vectors: auto (kept if fresh, built where "
            "it is large), none, hnsw, hnsw-sq8, ivf or ivf-pq.",
            metavar="KIND",
        ),
    ] = "auto",
    recall: Annotated[
        float, typer.Option(min=0.01, max=1, help="Recall@10 that the index is tuned to reach.")
    ] = 0.99,
    fit_transform: Annotated[
        str | None,
        typer.Option(
            help="Fit a transform on this database's vectors, per locus (centre or whiten), and store the "
            "ranking that uses it.",
            metavar="KIND",
        ),
    ] = None,
    space: Annotated[
        str | None, typer.Option(help="Space that a transform is fitted on.", metavar="NAME")
    ] = None,
    add_ranking: Annotated[
        str | None,
        typer.Option(
            help="Store a ranking, SPACE[+TRANSFORM][=WEIGHT],..., or have the vectors of a stored one "
            "written out and indexed.",
            metavar="RANKING",
        ),
    ] = None,
    drop_ranking: Annotated[
        str | None,
        typer.Option(
            help="Forget a ranking; of one that came with a space, what --add-ranking gave it.",
            metavar="NAME",
        ),
    ] = None,
    default_ranking: Annotated[
        str | None, typer.Option(help="Ranking that is searched when none is named.", metavar="NAME")
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Of the draw of vectors that the recall is measured with, and of samples.")
    ] = 0,
    lock_timeout: o.LockTimeout = 60.0,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Drop what was deleted from the files, join small vector files, rebuild derived ones, index.

    An approximate index answers many queries on a large database sooner. Its recall is measured on
    vectors that were held back, printed, and kept (plmsearch info). Vectors that come later are searched
    exactly until the next optimize.

    The null distributions behind emb_pvalue and emb_evalue are built anew.

    A ranking is what is searched: one or more spaces with weights, each with a transform. Each space comes
    with one; --fit-transform and --add-ranking store more, which query --ranking then uses.

    Safe while others search, and safe to interrupt. Needs room for a second copy of one space.
    """
    from plmsearch.database import open_database
    from plmsearch.indexing import IndexOptions
    from plmsearch.optimize import optimize as improve
    from plmsearch.rankings import RankingChanges

    wanted = IndexOptions(index, recall, seed)
    changes = RankingChanges(fit_transform, space, add_ranking, drop_ranking, default_ranking, seed)
    with open_database(database, lock_timeout_s=lock_timeout) as db, shown(quiet=quiet) as progress:
        report = improve(db, index=wanted, rankings=changes, progress=progress)
    if not quiet:
        note(
            f"{counted(report.n_records_dropped, 'deleted record')} and "
            f"{counted(report.n_sequences_dropped, 'sequence')} dropped; "
            f"{counted(report.n_segments_before, 'vector file')} became {report.n_segments_after}; "
            f"{report.n_bytes_before / 1e6:.1f} MB became {report.n_bytes_after / 1e6:.1f} MB"
        )
        for outcome in report.indexes:
            facts = f": {outcome.facts.describe()}" if outcome.facts else ""
            note(f"index of {outcome.ranking}: {outcome.reason}{facts}")
        for null in report.nulls:
            locus = f", {null.locus}" if null.locus else ""
            note(f"significance of {null.ranking}{locus}: {null.description}")
