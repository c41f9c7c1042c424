"""Search in a database: from queries to hits.

A `Searcher` is a `plmsearch.reader.Reader` that can embed queries and compare them with what is stored.
"""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path

import numpy as np

from plmsearch.embedding.base import Embedder
from plmsearch.embedding.options import ModelOptions, load_for_space
from plmsearch.embedding.spec import EmbeddingSpec
from plmsearch.errors import ExternalSpaceError, NoVectorError, ParameterError
from plmsearch.filters.tree import Condition
from plmsearch.index.approximate import ApproximateIndex
from plmsearch.index.base import VectorIndex
from plmsearch.index.exact import ExactIndex
from plmsearch.ingest.queries import embed_queries, stored_as_queries, validate_queries
from plmsearch.ingest.report import AddOptions, AddReport, check_choice
from plmsearch.ingest.scan import Input
from plmsearch.ingest.spaces import check_long
from plmsearch.numbering import locus_and_cdr3
from plmsearch.reader import NO_DOMAIN
from plmsearch.search.engines import INDEX_CHOICES, Engines, Wanted
from plmsearch.search.hits import Found, Hit, Query, SearchOptions, make_hits
from plmsearch.search.region_cosines import with_cosines
from plmsearch.search.rerank import refuse_without_residues, rerank
from plmsearch.search.selection import Selection
from plmsearch.searched import SearchedReader
from plmsearch.sequences import SequenceRecord
from plmsearch.store.directory import Layout
from plmsearch.store.rankings import StoredRanking, StoredSpace
from plmsearch.store.rows import StoredRecord
from plmsearch.store.vector_files import compared_vectors
from plmsearch.types import Float2D, Int1D
from plmsearch.vectors import unit_vectors

__all__ = ["Searcher"]

_log = logging.getLogger(__name__)

#: Records that are read at once to join them to neighbours: about 1 KiB each.
_JOINED_AT_ONCE = 50_000


class Searcher(SearchedReader):
    """A database directory, for reading and searching.

    Parameters
    ----------
    path : Path
    model_options : ModelOptions
        Where weights are and how models run.
    """

    def __init__(self, path: Path, model_options: ModelOptions) -> None:
        super().__init__(path, model_options)
        self._embedders: dict[tuple[str, str], Embedder] = {}
        self._engines = Engines(Layout(path))

    def search(
        self,
        queries: Sequence[str | SequenceRecord] | Float2D,
        k: int = 10,
        *,
        space: str | None = None,
        ranking: str | None = None,
        loci: Sequence[str] | None = None,
        options: SearchOptions | None = None,
    ) -> list[list[Hit]]:
        """Find the records nearest to each query.

        Parameters
        ----------
        queries : sequence of str, sequence of SequenceRecord, or ndarray, dtype=float32, shape=(n, d)
            Residues, records, or raw vectors of the space (of several spaces, side by side). Strings and
            vectors are called ``query_1``, ``query_2``...
        k : int
            Most hits per query, at least 1.
        space : str, optional
            Name of an embedding space: search by the ranking that came with it.
        ranking : str, optional
            Name of a ranking, or spaces with transforms and weights (`plmsearch.search.rankings`); the
            default ranking if neither is given.
        loci : sequence of str, optional
            Of vectors: ``IGH``, ``IGK``, ``IGL``, or '' for none. A ranking with a transform by locus needs
            them; where another one compares by locus, vectors without are compared with every locus.
        options : SearchOptions, optional
            More wishes; its `k` is replaced by `k`.

        Returns
        -------
        list of list of Hit
            In query order; each sorted by (-score, insertion order), or as `SearchOptions.order` says
            if re-ranked, and ranked from 1. Fewer than k where fewer exist, never padding.

        Raises
        ------
        ParameterError
            If k < 1, `queries` is a single string or vector, or the ranking needs the loci of vectors and
            they are not given, one for each.
        InputError
            If a query is no protein sequence.
        AlignmentError
            If hits are to be re-ranked by alignment and a query is a vector.
        EmbeddingSpecMismatch
            If the weights at hand are not those of the space.
        """
        # A string is a sequence of strings too: it would be searched letter by letter.
        if isinstance(queries, str) or (isinstance(queries, np.ndarray) and queries.ndim != 2):
            raise ParameterError("queries", queries, "a list of sequences, or an array of shape (n, d)")
        chosen = self.ranking(ranking, space=space)
        wishes = SearchOptions(**{**asdict(options or SearchOptions()), "k": k})
        if isinstance(queries, np.ndarray):
            names = _named(len(queries), loci, chosen)
            return self.search_vectors(names, queries, chosen, wishes)
        records = [
            q if isinstance(q, SequenceRecord) else SequenceRecord(f"query_{n}", q)
            for n, q in enumerate(queries, start=1)
        ]
        found = list(self.search_records(records, chosen, wishes))
        if not chosen.reads_domains:
            return [hits for _, hits in found]
        return list(_one_block_each(records, found, chosen))

    def search_records(
        self,
        records: Iterable[SequenceRecord],
        ranking: StoredRanking,
        options: SearchOptions,
        *,
        policy: AddOptions | None = None,
        report: AddReport | None = None,
    ) -> Iterator[tuple[Query, list[Hit]]]:
        """Embed and search records block by block, in order.

        Parameters
        ----------
        records : iterable of SequenceRecord
        ranking : StoredRanking
        options : SearchOptions
        policy : AddOptions, optional
            What to do with invalid letters and long sequences.
        report : AddReport, optional
            Counts what happens to the queries, and lists those the policy leaves out.

        Yields
        ------
        query : Query
        hits : list of Hit

        Raises
        ------
        EmbeddingSpecMismatch
            If the policy reads long sequences otherwise than the spaces do.
        """
        rules, tally = policy or AddOptions(), report if report is not None else AddReport()
        _refuse_external(ranking)
        check_long(rules.long, [part.space for part in ranking.parts])
        specs = [part.space.spec for part in ranking.parts]
        blocks = embed_queries(records, specs, self._model, rules, self.model_options.batch_tokens, tally)
        for queries, vectors in blocks:
            yield from zip(queries, self.search_vectors(queries, vectors, ranking, options), strict=True)

    def search_inputs(
        self,
        inputs: Sequence[Input],
        ranking: StoredRanking,
        options: SearchOptions,
        *,
        policy: AddOptions,
        report: AddReport,
    ) -> Iterator[tuple[Query, list[Hit]]]:
        """Search with every record of inputs, in order; takes and yields what `search_records` does.

        What can be refused is refused by this call, not by the first step of the iterator: each input
        is validated whole, and the model is loaded.
        """
        _refuse_external(ranking)
        self.judge(ranking).refuse_unknown(options)
        check_long(policy.long, [part.space for part in ranking.parts])
        specs = [part.space.spec for part in ranking.parts]
        if validate_queries(inputs, specs, policy):
            for spec in specs:
                self._model(spec)
        found = (self.search_records(i, ranking, options, policy=policy, report=report) for i in inputs)
        return chain.from_iterable(found)

    def search_stored(
        self, record_ids: Sequence[str], ranking: StoredRanking, options: SearchOptions
    ) -> Iterator[tuple[Query, list[Hit]]]:
        """Search with the stored vectors of records; no model is loaded.

        Raises
        ------
        RecordNotFound
        NoVectorError
            If a record has none in a space of the ranking: no domain, or none of the region.
        """
        stored = self._units_to_search(record_ids, ranking)
        loci = self.repository.loci({r.vector_id for r in stored})
        asked, names = set(record_ids), [r.unit_id for r in stored]
        queries = [
            replace(query, query_id=name) if name in asked else query
            for query, name in zip(stored_as_queries(stored, loci), names, strict=True)
        ]
        ids = [r.vector_id for r in stored]
        parts = [self._present_vectors(part.space, names, ids) for part in ranking.parts]
        vectors = np.concatenate(parts, axis=1)
        return zip(queries, self.search_vectors(queries, vectors, ranking, options), strict=True)

    def _units_to_search(self, record_ids: Sequence[str], ranking: StoredRanking) -> list[StoredRecord]:
        """Return records, or their domains, each of which has at least one."""
        if not ranking.reads_domains:
            return self._stored(record_ids)
        found = self.units(record_ids)
        held = {name for unit in found for name in (unit.record_id, unit.unit_id)}
        for name in record_ids:
            if name not in held:
                raise NoVectorError(name, ranking.space.spec.name, NO_DOMAIN)
        return found

    def search_vectors(
        self, queries: Sequence[Query], vectors: Float2D, ranking: StoredRanking, options: SearchOptions
    ) -> list[list[Hit]]:
        """Search with raw vectors.

        Parameters
        ----------
        queries : sequence of Query
        vectors : ndarray, dtype=float32, shape=(n, d)
            One per query, as pooled; those of several spaces side by side, in the order of the ranking.
        ranking : StoredRanking
        options : SearchOptions

        Raises
        ------
        AlignmentError
            If hits are to be re-ranked by alignment and a query has no residues.
        """
        if options.k < 1:
            raise ParameterError("k", options.k, "at least 1")
        if options.rerank is not None:
            refuse_without_residues(queries)
        if not len(queries):
            return []
        compared = self._compared(queries, vectors, ranking)
        found, condition = self.neighbours_of(queries, compared, ranking, options, len(queries))
        return list(self.hits_of(queries, found, condition, ranking, options))

    def _compared(self, queries: Sequence[Query], vectors: Float2D, ranking: StoredRanking) -> Float2D:
        """Return raw vectors as the ranking compares them."""
        if ranking.is_raw:
            return vectors  # an index scales to unit length by itself
        return compared_vectors(ranking, vectors, self._loci(queries) if ranking.needs_locus else None)

    def neighbours_of(
        self,
        queries: Sequence[Query],
        vectors: Float2D,
        ranking: StoredRanking,
        options: SearchOptions,
        n_queries: int,
    ) -> tuple[list[Found], Condition | None]:
        """Return each query's neighbours, and what their records have to meet.

        `vectors` are as the ranking compares them; `n_queries` are to come in all: how it is best searched
        depends on it.
        """
        asked = [options.judges(query) for query in queries]
        judge = self.judge(ranking) if any(asked) else None
        if judge is not None:
            judge.refuse_unknown(options)
        found, condition = self._found(queries, vectors, ranking, options, n_queries)
        if options.cosines:
            found = with_cosines(ranking, unit_vectors(vectors, ranking.dim), found, self._blocks(ranking))
        if judge is None or judge.reason:
            return found, condition
        started = time.perf_counter()
        unit = unit_vectors(vectors, ranking.dim)
        judged = judge.judged(
            queries,
            unit,
            found,
            lambda: self._blocks(ranking),
            lambda: self.n_searched(ranking, options.where),
        )
        _log.info("p-values of %d queries in %.1f ms", len(queries), (time.perf_counter() - started) * 1e3)
        return [
            one if is_asked else before for one, before, is_asked in zip(judged, found, asked, strict=True)
        ], condition

    def _found(
        self,
        queries: Sequence[Query],
        vectors: Float2D,
        ranking: StoredRanking,
        options: SearchOptions,
        n_queries: int,
    ) -> tuple[list[Found], Condition | None]:
        """Return each query's neighbours, those of its own locus if the ranking compares by locus."""
        loci = self._loci(queries) if ranking.needs_locus and not options.across_loci else [""] * len(queries)
        found: list[Found | None] = [None] * len(queries)
        selection = None
        for locus in dict.fromkeys(loci) or [""]:
            rows = [row for row, name in enumerate(loci) if name == locus]
            index, selection, _ = self._plan(ranking, options, n_queries, locus)
            allowed = None if selection is None else selection.sequence_ids
            started = time.perf_counter()
            most = self._most_domains(ranking, locus)
            of_locus = _neighbours(index, vectors[rows], options, allowed, most) if rows else []
            milliseconds = (time.perf_counter() - started) * 1e3
            _log.info(
                "%s: %d queries against %d vectors in %.1f ms",
                type(index).__name__,
                len(rows),
                len(index),
                milliseconds,
            )
            for row, one in zip(rows, of_locus, strict=True):
                found[row] = one
        return [one for one in found if one is not None], None if selection is None else selection.condition

    def hits_of(
        self,
        queries: Sequence[Query],
        found: Sequence[Found],
        condition: Condition | None,
        ranking: StoredRanking,
        options: SearchOptions,
    ) -> Iterator[list[Hit]]:
        """Join neighbours to their records, as many at once as are held in memory, and re-rank them."""
        size = None if options.rerank is None else self.searched_size(ranking, options.where)
        seconds = 0.0
        for part in _parts([len(one.ids) for one in found]):
            near = {i for one in found[part] for i in one.ids.tolist()}
            with _no_collection():
                records = self.repository.records_of_sequences(
                    near, condition, by_domain=ranking.reads_domains
                )
                pairs = zip(queries[part], found[part], strict=True)
                answers = [make_hits(query, neighbours, records, options) for query, neighbours in pairs]
            if size is None:
                yield from answers
                continue
            for query, hits in zip(queries[part], answers, strict=True):
                started = time.perf_counter()
                answer = rerank(query, hits, size.n_residues, options)
                seconds += time.perf_counter() - started
                yield answer
        if size is not None:
            _log.info("aligned %d queries in %.2f s", len(queries), seconds)

    def explain(self, ranking: StoredRanking, options: SearchOptions, n_queries: int = 1) -> list[str]:
        """Say how a search would be done, in lines of text.

        Parameters
        ----------
        ranking : StoredRanking
        options : SearchOptions
        n_queries : int
            Queries that are searched together.
        """
        index, selection, reason = self._plan(ranking, options, n_queries)
        n_records, n_vectors = len(self), len(index)
        lines = [f"ranking {ranking.name}: {n_vectors:,} vectors of {n_records:,} records"]
        if selection is not None:
            share = selection.n_records / max(n_records, 1)
            n_vectors = len(selection.sequence_ids)
            found = f"{selection.n_records:,} records match ({share:.2%})"
            lines.append(f"filter: {found}, {n_vectors:,} distinct sequences")
        lines.append(f"search: {self._said(ranking, index, n_vectors)}; {reason}")
        if options.rerank is not None:
            size = self.searched_size(ranking, options.where)
            within = f"{size.n_residues:,} residues in {size.n_sequences - size.n_unknown:,} sequences"
            best = f"the {options.n_wanted:,} best records of each query are aligned"
            lines.append(f"re-ranking: {best}, sorted by {options.order}; E-values for {within}")
        return lines

    def _said(self, ranking: StoredRanking, index: VectorIndex, n_vectors: int) -> str:
        if not isinstance(index, ApproximateIndex):
            return f"exact, every query with {n_vectors:,} vectors ({type(index).__name__})"
        facts = self._stored_indexes[ranking.ranking_id].facts
        measured = f"recall@10 {facts.recall:.4f} on {facts.n_queries} queries"
        way = f"approximate, {facts.kind} with effort {facts.effort} over {facts.n_vectors:,} vectors"
        return f"{way}, {measured}"

    def _plan(
        self, ranking: StoredRanking, options: SearchOptions, n_queries: int, locus: str = ""
    ) -> tuple[VectorIndex, Selection | None, str]:
        """Choose how to search, and among what: of one locus, if one is named."""
        check_choice("index", options.index, INDEX_CHOICES)
        self._refresh()
        selection = self._selection(ranking, options.where, locus)
        blocks = self._blocks(ranking)
        by_segment = {s.segment_id: b for s, b in zip(self._segments_of(ranking.space), blocks, strict=True)}
        n_allowed = None if selection is None else len(selection.sequence_ids)
        choice = options.index if options.threshold is None else "exact"
        wanted = Wanted(n_queries, n_allowed, choice, self.model_options.threads)
        stored = self._stored_indexes.get(ranking.ranking_id)
        index, reason = self._engines.plan(stored, by_segment, ranking.dim, self._generation, wanted)
        return index, selection, reason

    def _loci(self, queries: Sequence[Query]) -> list[str]:
        """Return the locus of each query: as given, or by its residues."""
        return [locus_and_cdr3(q.residues)[0] if q.locus is None else q.locus for q in queries]

    def _embedder(self, space: StoredSpace) -> Embedder:
        return self._model(space.spec)

    def _model(self, spec: EmbeddingSpec) -> Embedder:
        key = (spec.model_id, spec.weights_digest)
        if key not in self._embedders:
            started = time.perf_counter()
            self._embedders[key] = load_for_space(spec, self.model_options)
            _log.info("loaded %s in %.2f s", spec.model_id, time.perf_counter() - started)
        return self._embedders[key]


def _named(n: int, loci: Sequence[str] | None, ranking: StoredRanking) -> list[Query]:
    """Name vectors, with their loci if the ranking needs them."""
    if (ranking.transforms_by_locus and loci is None) or (loci is not None and len(loci) != n):
        given = "left out" if loci is None else f"{len(loci)} long"
        expected = (
            f"{n} long: vectors do not say of which locus they are, and {ranking.name} compares by locus "
            f"('IGH', 'IGK', 'IGL' or ''); or search with the ranking {ranking.parts[0].space.spec.name}+none"
        )
        raise ParameterError("loci", given, expected)
    known = [None] * n if loci is None else loci
    return [Query(f"query_{i}", locus=locus) for i, locus in enumerate(known, start=1)]


def _one_block_each(
    records: Sequence[SequenceRecord], found: Sequence[tuple[Query, list[Hit]]], ranking: StoredRanking
) -> Iterator[list[Hit]]:
    """Yield the hits of each record, which has to be one domain."""
    blocks = [hits for query, hits in found if query.domain is not None and query.domain.number == 1]
    several = next((q for q, _ in found if q.domain is not None and q.domain.number > 1), None)
    if several is not None:
        expected = "records of one variable domain each; search_records gives the hits of every domain"
        raise ParameterError("queries", several.record_id, expected)
    if len(blocks) < len(records):
        left = [query.record_id for query, _ in found]
        name = next(r.record_id for n, r in enumerate(records) if n >= len(left) or left[n] != r.record_id)
        expected = f"with an antibody variable domain, for {ranking.name} compares these"
        raise ParameterError("queries", name, expected)
    yield from blocks


def _neighbours(
    index: VectorIndex, vectors: Float2D, options: SearchOptions, allowed: Int1D | None, most_domains: int
) -> list[Found]:
    """Return scores and ids of each query's neighbours."""
    if options.threshold is not None:
        exact = ExactIndex(index.blocks, index.dim)
        return [Found(*one) for one in exact.above(vectors, options.threshold, allowed=allowed)]
    # One more: the query's own record or sequence may have to be left out.
    n_wanted = (options.n_wanted + int(options.exclude_self or options.exclude_identical)) * most_domains
    found = index.search(vectors, n_wanted, allowed=allowed)
    return list(map(Found, found.scores, found.ids))


@contextmanager
def _no_collection() -> Iterator[None]:
    """Let no garbage be looked for: among tens of thousands of new hits there is none.

    Ten thousand hits were joined in 140 ms of CPU time with Python's collector at work, in 100 ms without.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _parts(sizes: Sequence[int]) -> Iterator[slice]:
    """Cut a list into parts of so many neighbours; one with more is a part of its own."""
    start, n = 0, 0
    for place, size in enumerate(sizes):
        if place > start and n + size > _JOINED_AT_ONCE:
            yield slice(start, place)
            start, n = place, 0
        n += size
    if start < len(sizes):
        yield slice(start, len(sizes))


def _refuse_external(ranking: StoredRanking) -> None:
    for part in ranking.parts:
        if part.space.spec.is_external:
            raise ExternalSpaceError(part.space.spec.name)
