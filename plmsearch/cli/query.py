"""``plmsearch query``: nearest neighbours of new or stored sequences."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from plmsearch.cli import options as o
from plmsearch.cli.console import EXIT_LEFT_OUT, handles_errors, note, print_left_out, remarks

if TYPE_CHECKING:
    from plmsearch.ingest.report import AddReport
    from plmsearch.ingest.scan import Input
    from plmsearch.search.hits import Hit, Query

__all__ = ["query"]


@handles_errors
def query(
    database: Annotated[Path, typer.Argument(metavar="DB", help="Database directory.")],
    inputs: Annotated[
        list[str] | None,
        typer.Argument(metavar="[INPUT...]", help="FASTA, CSV, TSV, Parquet or AIRR; - is stdin."),
    ] = None,
    seq: Annotated[list[str] | None, typer.Option(help="Residues to search with.", metavar="STRING")] = None,
    record: Annotated[
        list[str] | None,
        typer.Option("--id", help="Search with the stored vector of a record.", metavar="RECORD_ID"),
    ] = None,
    k: Annotated[int, typer.Option("-k", "--top-k", min=1, help="Most hits per query.")] = 10,
    min_score: Annotated[float | None, typer.Option(min=-1, max=1, help="Lowest cosine similarity.")] = None,
    exclude_self: Annotated[bool, typer.Option("--exclude-self", help="Leave out the same record.")] = False,
    exclude_identical: Annotated[
        bool, typer.Option("--exclude-identical", help="Leave out records of the same sequence.")
    ] = False,
    where: o.Where = None,
    index: Annotated[
        str, typer.Option(help="auto (the quickest), exact, hnsw or ivf.", metavar="KIND")
    ] = "auto",
    explain: Annotated[
        bool, typer.Option("--explain", help="Say how the search is done, and among how many records.")
    ] = False,
    output: Annotated[str, typer.Option("-o", "--output", help="File; - is stdout.")] = "-",
    format: Annotated[
        str | None,
        typer.Option(help="table (a terminal's default), tsv (a pipe's), csv, jsonl, parquet or fasta."),
    ] = None,
    format_output: Annotated[
        str | None,
        typer.Option(
            help="Columns, such as query,target,score,v_call; meta.* is all metadata.", metavar="LIST"
        ),
    ] = None,
    space: Annotated[str | None, typer.Option(help="Embedding space, by name.", metavar="NAME")] = None,
    model: o.Model = None,
    layers: o.Layers = None,
    pool: o.Pool = None,
    id_col: o.IdCol = None,
    seq_col: o.SeqCol = None,
    on_invalid: o.OnInvalid = "error",
    long: o.Long = None,
    weights: o.Weights = None,
    device: o.Device = "auto",
    precision: o.Precision = "auto",
    threads: o.Threads = None,
    batch_tokens: o.BatchTokens = 4096,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    debug: o.Debug = False,
) -> None:
    """Find the records nearest to each query, by exact search or by an index that optimize built.

    The score is the cosine similarity of the embeddings, in [-1, 1]. Output order is input order; hits
    of a query are ranked from 1. Fewer than k hits exist: fewer rows. Exit code 3: some queries were
    left out, each named with its reason.
    """
    from plmsearch.database import open_database
    from plmsearch.formats.hits import DEFAULT_HIT_COLUMNS, hit_format, write_hits
    from plmsearch.formats.read import open_input
    from plmsearch.ingest.queries import QUERIES_AT_ONCE
    from plmsearch.ingest.report import AddOptions, AddReport
    from plmsearch.ingest.scan import RecordList
    from plmsearch.search.columns import choose_columns, column_types, header, hit_rows
    from plmsearch.search.hits import SearchOptions
    from plmsearch.sequences import SequenceRecord

    kind = hit_format(format or ("table" if output == "-" and sys.stdout.isatty() else "tsv")).name
    if sum(map(bool, (inputs, seq, record))) != 1:
        raise typer.BadParameter("give exactly one of INPUT, --seq and --id")
    policy = AddOptions(on_invalid, long=long)  # type: ignore[arg-type]
    wishes = SearchOptions(k, min_score, exclude_self, exclude_identical, where, index)
    running = o.model_options(weights, device, precision, threads, batch_tokens)
    report = AddReport()
    tally = _Tally(report)
    with ExitStack() as stack:
        db = stack.enter_context(open_database(database, model_options=running))
        searched = db.space(space, o.space_request(model, layers, pool))
        if where is not None:
            db.select(where)
        metadata = db.repository.metadata_columns()
        columns = choose_columns(format_output or ",".join(DEFAULT_HIT_COLUMNS), metadata)
        if record:
            results = db.search_stored(record, searched, wishes)
        else:
            given = [SequenceRecord(f"query_{n}", s) for n, s in enumerate(seq or (), start=1)]
            files = [stack.enter_context(open_input(i, id_col=id_col, seq_col=seq_col)) for i in inputs or ()]
            sources: Sequence[Input] = files or [RecordList(given, "--seq")]
            results = db.search_inputs(sources, searched, wishes, policy=policy, report=report)
        if explain:
            for line in db.explain(searched, wishes, len(seq or record or ()) or QUERIES_AT_ONCE):
                note(line)
        rows = hit_rows(tally.watch(results), columns, metadata, as_types=kind in {"jsonl", "parquet"})
        write_hits(rows, header(columns), kind, output, types=column_types(columns, metadata))
    tally.print(quiet=quiet)


class _Tally:
    """Counts queries on their way through, and says what no row of output can say."""

    def __init__(self, report: AddReport) -> None:
        self._report = report
        self._n_queries = 0
        self._n_without = 0

    def watch(self, results: Iterator[tuple[Query, list[Hit]]]) -> Iterator[tuple[Query, list[Hit]]]:
        for result in results:
            self._n_queries += 1
            self._n_without += not result[1]
            yield result

    def print(self, *, quiet: bool) -> None:
        """Name the queries that were left out; end with exit code 3 if there were any."""
        print_left_out(self._report.skipped)
        if not quiet:
            for text in remarks(self._report):
                note(text)
            if self._n_without:
                note(f"{self._n_without} of {self._n_queries} queries have no hit")
        if self._report.skipped:
            raise typer.Exit(EXIT_LEFT_OUT)
