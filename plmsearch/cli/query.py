"""``plmsearch query``: nearest neighbours of new or stored sequences."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from plmsearch.cli import options as o
from plmsearch.cli.console import EXIT_LEFT_OUT, handles_errors, note, print_left_out, remarks
from plmsearch.wording import counted

if TYPE_CHECKING:
    from plmsearch.cli.ways import ByChain
    from plmsearch.database import Database
    from plmsearch.formats.hits import HitFormat
    from plmsearch.ingest.report import AddReport
    from plmsearch.ingest.scan import Input, RecordList
    from plmsearch.search.hits import Hit, Query, SearchOptions
    from plmsearch.search.judge import Judge
    from plmsearch.store.rankings import StoredRanking

__all__ = ["query"]

_DEFAULT_K = 10
_EMBEDDING_EVALUES = frozenset({"emb_pvalue", "emb_evalue"})


@handles_errors
def query(
    database: Annotated[Path, typer.Argument(metavar="DB", help="Database directory.")],
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[INPUT...]",
            help="FASTA, CSV, TSV, Parquet, AIRR, 10x or OAS; - is stdin. Or a database: search with all its "
            "records.",
        ),
    ] = None,
    seq: Annotated[list[str] | None, typer.Option(help="Residues to search with.", metavar="STRING")] = None,
    record: Annotated[
        list[str] | None,
        typer.Option("--id", help="Search with the stored vector of a record.", metavar="RECORD_ID"),
    ] = None,
    pairs: Annotated[
        bool,
        typer.Option(
            "--pairs",
            help="Search with pairs of a heavy and a light chain, among pairs; the score is the mean of both "
            "chains' scores.",
        ),
    ] = False,
    cell: Annotated[
        list[str] | None,
        typer.Option(help="Search with the stored pair of a cell; implies --pairs.", metavar="CELL_ID"),
    ] = None,
    cdr3: Annotated[
        list[str] | None,
        typer.Option(
            help="Residues of a CDR3, or of a junction (C...W, C...F): the records whose CDR3 is most like "
            "it, without a model.",
            metavar="STRING",
        ),
    ] = None,
    k: Annotated[
        int | None,
        typer.Option(
            "-k",
            "--top-k",
            min=1,
            help="Most hits per query: 10 if left out, and all with --same or --min-cdr3-identity.",
        ),
    ] = None,
    min_cdr3_identity: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Every record whose CDR3 is at least so alike, whatever its score.",
            metavar="SHARE",
        ),
    ] = None,
    same: Annotated[
        str | None,
        typer.Option(
            help="Every record that shares these with the query: v, j, cdr3_length, or several with commas.",
            metavar="LIST",
        ),
    ] = None,
    no_model: Annotated[
        bool,
        typer.Option(
            "--no-model", help="With --same or --min-cdr3-identity: leave score empty, and load no model."
        ),
    ] = False,
    min_score: Annotated[float | None, typer.Option(min=-1, max=1, help="Lowest cosine similarity.")] = None,
    exclude_self: Annotated[bool, typer.Option("--exclude-self", help="Leave out the same record.")] = False,
    exclude_identical: Annotated[
        bool, typer.Option("--exclude-identical", help="Leave out records of the same sequence.")
    ] = False,
    threshold: Annotated[
        float | None,
        typer.Option(
            min=-1, max=1, help="Every record of at least this cosine similarity, instead of the first k."
        ),
    ] = None,
    unique: Annotated[bool, typer.Option("--unique", help="One record per distinct sequence.")] = False,
    where: o.Where = None,
    index: Annotated[
        str, typer.Option(help="auto (the quickest), exact, hnsw or ivf.", metavar="KIND")
    ] = "auto",
    rerank: Annotated[
        str | None,
        typer.Option(help="align: align the best candidates and sort them anew.", metavar="METHOD"),
    ] = None,
    candidates: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Records that are aligned for each query; 10 k, at least 100, if left out.",
            metavar="N",
        ),
    ] = None,
    max_evalue: Annotated[
        float | None,
        typer.Option("-e", "--max-evalue", min=0, help="Largest E-value of the alignment.", metavar="E"),
    ] = None,
    max_emb_evalue: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Largest emb_evalue: how many unrelated sequences are expected to score so high. Neither "
            "homology nor clonality.",
            metavar="E",
        ),
    ] = None,
    no_significance: Annotated[
        bool, typer.Option("--no-significance", help="Leave emb_pvalue and emb_evalue empty.")
    ] = False,
    sort: Annotated[
        str | None,
        typer.Option(
            help="score, or after --rerank: evalue (the default then), bits or fident.", metavar="COLUMN"
        ),
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say how the search is done, and among how many records.")
    ] = False,
    output: Annotated[str, typer.Option("-o", "--output", help="File; - is stdout.")] = "-",
    format: Annotated[
        str | None,
        typer.Option(
            help="table (a terminal's default), tsv (a pipe's), csv, jsonl, parquet or fasta; after --rerank "
            "m8 or pairwise too."
        ),
    ] = None,
    format_output: Annotated[
        str | None,
        typer.Option(
            help="Columns, such as query,target,score,v_call; meta.* is all metadata.", metavar="LIST"
        ),
    ] = None,
    space: Annotated[str | None, typer.Option(help="Embedding space, by name.", metavar="NAME")] = None,
    ranking: Annotated[
        str | None,
        typer.Option(
            help="Ranking, by name, or put together: SPACE[+TRANSFORM][=WEIGHT],...; see plmsearch info.",
            metavar="NAME",
        ),
    ] = None,
    model: o.Model = None,
    layers: o.Layers = None,
    pool: o.Pool = None,
    preset: o.Preset = None,
    weights_by_region: o.WeightsByRegion = None,
    across_loci: Annotated[
        bool,
        typer.Option("--across-loci", help="Find targets of other loci too; such scores mean little."),
    ] = False,
    id_col: o.IdCol = None,
    seq_col: o.SeqCol = None,
    heavy_col: o.HeavyCol = None,
    light_col: o.LightCol = None,
    pair_by: o.PairBy = None,
    translate: o.Translate = False,
    contigs: o.Contigs = None,
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

    emb_pvalue is how often sequences that are not related to the query score so high, emb_evalue how many
    of them are expected in the search. A small one is neither homology nor clonality. Empty: the ranking
    has no null distribution (see plmsearch info), or none for this query.

    A database as INPUT, DB itself or another that has the space, is searched with every stored record, in
    order of insertion and without a model; hits are written as they are found.

    --min-cdr3-identity 0.8 and --same v,j,cdr3_length find every record that fits, exactly: residues and
    genes decide, and the score, if there is one, only orders what is equally alike. --cdr3 STRING finds the
    records whose CDR3 is most like a string.

    --pairs compares every pair of the input with every pair of DB, exactly: the heavy and light domain of one
    record (VH;VL, an scFv, or columns named by --heavy-col and --light-col), or of one cell (cell_id within
    sample_id or repertoire_id). A hit names both records and has the score of each chain.

    --rerank align aligns each query with its best candidates (Smith-Waterman, BLOSUM62, gaps 11/1), adds
    identity, coverage, positions, E-value and bits, and sorts by E-value.
    """
    from plmsearch.cli.query_cdr3 import By, cdr3_wishes
    from plmsearch.database import open_database
    from plmsearch.formats.hits import hit_format, write_hits
    from plmsearch.formats.output import keep_inputs
    from plmsearch.ingest.queries import QUERIES_AT_ONCE
    from plmsearch.ingest.report import AddOptions, AddReport
    from plmsearch.search.columns import column_types, header, hit_rows
    from plmsearch.search.hits import SearchOptions

    kind = hit_format(format or ("table" if output == "-" and sys.stdout.isatty() else "tsv"))
    if sum(map(bool, (inputs, seq, record, cdr3, cell))) != 1:
        raise typer.BadParameter("give exactly one of INPUT, --seq, --id and --cdr3 (or --cell, for pairs)")
    _check_usage(kind, format_output, rerank, candidates, max_evalue, sort)
    keep_inputs(output, [*(inputs or ()), contigs])
    queried = _queried_database(inputs or ())
    if (translate or contigs) and (record or cdr3 or queried is not None):
        raise typer.BadParameter(
            "stored records and --cdr3 are residues: leave out --translate and --contigs"
        )
    policy = AddOptions(on_invalid, long=long)  # type: ignore[arg-type]
    wishes = SearchOptions(
        k=k or _DEFAULT_K,
        min_score=min_score,
        exclude_self=exclude_self,
        exclude_identical=exclude_identical,
        where=where,
        index=index,
        threshold=threshold,
        unique=unique,
        rerank=rerank,
        n_candidates=candidates,
        max_evalue=max_evalue,
        sort=sort,
        max_emb_evalue=max_emb_evalue,
        significance=not no_significance,
        across_loci=across_loci,
        cosines="cosine_" in (format_output or ""),
    )
    exactly = cdr3_wishes(cdr3, min_cdr3_identity, same, k, wishes, no_model=no_model)
    if exactly is not None and (pairs or cell):
        raise typer.BadParameter("--pairs and --cell do not go with --cdr3, --same and --min-cdr3-identity")
    pairing = o.pairing(heavy_col, light_col, pair_by)
    running = o.model_options(weights, device, precision, threads, batch_tokens)
    report = AddReport()
    tally = _Tally(report, aligned_only=bool(kind.columns))
    with ExitStack() as stack:
        db = stack.enter_context(open_database(database, model_options=running))
        request = o.space_request(model, layers, pool, preset, None, weights_by_region)
        searched = db.ranking(ranking, space=space, request=request)
        if where is not None:
            db.select(where, by_domain=searched.reads_domains)
        way = _way(db, searched, wishes, report, is_paired=pairs or bool(cell), quiet=quiet)
        metadata = way.metadata
        by = None
        if exactly is not None:
            by = By(db, exactly, wishes, None if no_model or cdr3 else searched, report)
        default = way.default_columns if by is None else by.default_columns
        columns = _columns(kind, format_output, metadata, default)
        n_queries = len(seq or record or ()) or QUERIES_AT_ONCE
        other = None if queried is None else stack.enter_context(open_database(queried))
        read = () if record or cell or cdr3 or other is not None else inputs or ()
        files = o.opened(
            read,
            stack,
            id_col=id_col,
            seq_col=seq_col,
            translate=translate,
            contigs=contigs,
            pairing=pairing,
        )
        sources: Sequence[Input] = files or [_given(seq or (), translate=translate)]
        if by is not None:
            results = by.results(cdr3 or (), record or (), other, sources, policy)
            by.note(cdr3 or (), explain=explain, quiet=quiet)
        elif record or cell:
            results = way.stored(record or (), cell or ())
        elif other is not None:
            n_queries = max(len(other), 1)
            results = way.database(other)
        else:
            results = way.inputs(sources, policy)
        for line in way.explain(n_queries) if explain and by is None else ():
            note(line)
        if rerank and not quiet:
            _note_unknown(db, searched, wishes)
        rows = hit_rows(tally.watch(results), columns, metadata, as_types=kind.name in {"jsonl", "parquet"})
        write_hits(rows, header(columns), kind.name, output, types=column_types(columns, metadata))
        if not (no_significance or quiet or pairs or cell) and _EMBEDDING_EVALUES.intersection(columns):
            tally.note_significance(db.judge(searched))
    tally.print(quiet=quiet)


def _way(
    db: Database,
    ranking: StoredRanking,
    wishes: SearchOptions,
    report: AddReport,
    *,
    is_paired: bool,
    quiet: bool,
) -> ByChain:
    from plmsearch.cli.ways import ByChain, ByPair

    if not is_paired:
        return ByChain(db, ranking, wishes, report)
    way = ByPair(db, ranking, wishes, report)
    if not quiet:
        way.tell()
    return way


def _queried_database(inputs: Sequence[str]) -> Path | None:
    """Return the database whose records are the queries, if the input is one."""
    from plmsearch.store.directory import is_database

    def is_one(place: str) -> bool:
        try:
            return is_database(Path(place))
        except OSError:  # what cannot be read is told when it is read
            return False

    databases = [one for one in inputs if is_one(one)]
    if databases and len(inputs) > 1:
        raise typer.BadParameter(f"{databases[0]} is a database: give it alone, without other inputs")
    return Path(databases[0]) if databases else None


def _given(seq: Sequence[str], *, translate: bool) -> RecordList:
    """Return what --seq gives as an input."""
    from plmsearch.formats.residues import translated_record
    from plmsearch.ingest.scan import RecordList
    from plmsearch.numbering import ImmunumNumberer
    from plmsearch.sequences import SequenceRecord

    numberer = ImmunumNumberer()
    given = [SequenceRecord(f"query_{n}", s) for n, s in enumerate(seq, start=1)]
    return RecordList([translated_record(r, numberer) for r in given] if translate else given, "--seq")


def _check_usage(
    kind: HitFormat,
    format_output: str | None,
    rerank: str | None,
    candidates: int | None,
    max_evalue: float | None,
    sort: str | None,
) -> None:
    """Refuse what only an alignment can answer where none is asked for."""
    asked = {
        f"--format {kind.name}": bool(kind.columns),
        "--candidates": candidates is not None,
        "-e/--max-evalue": max_evalue is not None,
        f"--sort {sort}": sort not in {None, "score"},
    }
    needing = [flag for flag, is_given in asked.items() if is_given]
    if needing and rerank is None:
        raise typer.BadParameter(f"{needing[0]} needs alignments: add --rerank align")
    if kind.columns and format_output is not None:
        raise typer.BadParameter(f"--format {kind.name} has columns of its own: leave out --format-output")


def _columns(
    kind: HitFormat, format_output: str | None, metadata: Mapping[str, str], default: Sequence[str]
) -> list[str]:
    from plmsearch.search.columns import choose_columns

    if kind.columns:
        return list(kind.columns)
    return choose_columns(format_output or ",".join(default), metadata)


def _note_unknown(db: Database, ranking: StoredRanking, wishes: SearchOptions) -> None:
    """Say what becomes of records that cannot be aligned, if there are any."""
    size = db.searched_size(ranking, wishes.where)
    if size.n_unknown:
        fate = "stay where their score puts them" if wishes.order == "score" else "come after all others"
        if wishes.max_evalue is not None:
            fate = "have no E-value and are left out"
        records = f"{size.n_unknown:,} of {size.n_sequences:,} sequences are not known"
        note(f"{records}: their records cannot be aligned and {fate}")


class _Tally:
    """Counts queries on their way through, and says what no row of output can say."""

    def __init__(self, report: AddReport, *, aligned_only: bool) -> None:
        self._report = report
        self._aligned_only = aligned_only
        self._n_queries = 0
        self._n_without = 0
        self._n_unaligned = 0
        self._has_hits = self._has_pvalues = False

    def watch(self, results: Iterator[tuple[Query, list[Hit]]]) -> Iterator[tuple[Query, list[Hit]]]:
        for query, hits in results:
            self._n_queries += 1
            self._n_without += not hits
            self._has_hits |= bool(hits)
            if not self._has_pvalues:
                self._has_pvalues = any(hit.emb_pvalue is not None for hit in hits)
            if self._aligned_only:
                aligned = [hit for hit in hits if hit.alignment is not None]
                self._n_unaligned += len(hits) - len(aligned)
                yield query, aligned
            else:
                yield query, hits

    def note_significance(self, judge: Judge) -> None:
        """Say why emb_pvalue and emb_evalue are empty, if they are for every hit."""
        if self._has_hits and not self._has_pvalues:
            few = "each query is of a locus without a null distribution, or has too few unrelated sequences"
            note(f"emb_pvalue and emb_evalue are empty: {judge.reason or few}")

    def print(self, *, quiet: bool) -> None:
        """Name the queries that were left out; end with exit code 3 if there were any."""
        print_left_out(self._report.skipped)
        if not quiet:
            for text in self._report.species:
                note(f"genes of queries without calls, inferred from residues: {text}")
            for text in remarks(self._report):
                note(text)
            if self._n_without:
                queries = counted(self._n_queries, "query has", "queries have")
                note(f"{self._n_without} of {queries} no hit")
            if self._n_unaligned:
                what = "without an alignment"
                hits = counted(self._n_unaligned, f"hit {what} is", f"hits {what} are")
                note(f"{hits} left out; --format tsv has them")
        if self._report.skipped:
            raise typer.Exit(EXIT_LEFT_OUT)
