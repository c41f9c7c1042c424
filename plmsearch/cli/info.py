"""``plmsearch info``: what a database holds, and where it came from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from plmsearch.cli import options as o
from plmsearch.cli.console import handles_errors
from plmsearch.wording import counted

if TYPE_CHECKING:
    from plmsearch.overview import DomainOverview, Overview

__all__ = ["info"]


@handles_errors
def info(
    database: Annotated[
        Path, typer.Argument(metavar="DB", envvar="PLMSEARCH_DB", help="Database directory.")
    ],
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    ledger: Annotated[
        int | None,
        typer.Option(help="Print what became of each input row of a run, as TSV.", metavar="RUN"),
    ] = None,
    where: o.Where = None,
    debug: o.Debug = False,
) -> None:
    """Print records, spaces, columns and runs; with --ledger, the fate of every input row of a run."""
    from plmsearch.database import open_database
    from plmsearch.formats.output import STDOUT, open_output
    from plmsearch.overview import LEDGER_COLUMNS, ledger_rows, overview

    with open_database(database) as db:
        if ledger is not None:
            from plmsearch.formats.hits import write_hits

            write_hits(ledger_rows(db, ledger), LEDGER_COLUMNS, "tsv", STDOUT)
            return
        found = overview(db, where=where)
    with open_output(STDOUT) as out:
        out.write((found.to_json() if json else _text(found)) + "\n")


def _domains(found: DomainOverview) -> str:
    counts = ", ".join(f"{n:,} {locus}" for locus, n in found.n_by_locus.items()) or "none"
    without = f"; {counted(found.n_without, 'record', style=',')} without one" if found.n_without else ""
    return f"domains     {counts}{without}"


def _text(found: Overview) -> str:
    lines = [
        f"database    {found.path}  (format {found.format_version}, schema {found.schema}, "
        f"generation {found.generation})",
        f"records     {found.n_records:,}",
        *([] if found.n_matching is None else [f"matching    {found.n_matching:,}"]),
        f"sequences   {found.n_sequences:,} distinct, {found.n_residues:,} residues",
        *([] if found.domains is None else [_domains(found.domains)]),
        f"size        {found.size_bytes / 1e6:,.1f} MB",
    ]
    for space in found.spaces:
        state = "" if space.is_complete else "; NOT COMPLETE: continue with plmsearch embed"
        default = " (default)" if space.is_default else ""
        lines.append(
            f"space       {space.name}{default}: {counted(space.n_vectors, 'vector', style=',')}{state}"
        )
        lines.append(f"            {space.description}")
    for ranking in found.rankings:
        default = " (default)" if ranking.is_default else ""
        lines.append(f"ranking     {ranking.name}{default}: {ranking.description}")
        lines.append(f"            {ranking.index_description}")
        for null in ranking.nulls:
            lines.append(f"            {null.locus + ': ' if null.locus else ''}{null.description}")
        if not ranking.nulls and found.n_records:
            lines.append("            no emb_evalue: no null distribution yet; plmsearch optimize builds it")
    if found.columns:
        lines.append("columns     " + ", ".join(f"{name} ({kind})" for name, kind in found.columns.items()))
    if found.derived_columns:
        lines.append("derived     " + ", ".join(found.derived_columns))
    for run in found.runs:
        what = ", ".join(f"{i['name']}" for i in run.inputs) or "-"
        lines.append(f"run {run.run_id:<8}{run.started[:19]}  {run.command}  {run.status}  {what}")
    return "\n".join(lines)
