"""Everything that reads a database: spaces, records, vectors and search.

A reader holds no transaction between calls and never writes. Vectors of different spaces are never
compared.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from difflib import get_close_matches
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import numpy as np

from plmsearch.embedding.base import Embedder
from plmsearch.embedding.options import ModelOptions, load_for_space
from plmsearch.embedding.spec import SpaceRequest
from plmsearch.errors import ExternalSpaceError, ParameterError, RecordNotFound, SegmentDamaged, StorageError
from plmsearch.index.approximate import ApproximateIndex
from plmsearch.index.base import VectorIndex
from plmsearch.index.exact import ExactIndex
from plmsearch.ingest.queries import embed_queries, validate_queries
from plmsearch.ingest.report import AddOptions, AddReport, check_choice
from plmsearch.ingest.scan import Input
from plmsearch.ingest.spaces import check_long, searchable_space
from plmsearch.metadata import typed
from plmsearch.search.engines import INDEX_CHOICES, Engines, Wanted
from plmsearch.search.hits import Hit, Query, SearchOptions, make_hits
from plmsearch.search.rerank import refuse_without_residues, rerank
from plmsearch.search.selection import Selection, select_records
from plmsearch.sequences import SequenceRecord
from plmsearch.store.directory import Layout, is_database
from plmsearch.store.repository import Repository
from plmsearch.store.rows import (
    IndexFacts,
    SearchedSize,
    StoredIndex,
    StoredRecord,
    StoredSegment,
    StoredSpace,
)
from plmsearch.store.session import open_reader
from plmsearch.store.vector_files import VectorFiles
from plmsearch.types import Float1D, Float2D, Int1D

__all__ = ["ColumnFacts", "Reader", "Record"]

_log = logging.getLogger(__name__)

_MAX_SUGGESTIONS = 3

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Record:
    """A stored record.

    Parameters
    ----------
    record_id : str
    residues : str
        Normalised; empty if the sequence is not known.
    description : str
    metadata : mapping of str to (str, int, float or bool)
        In the order of the database's columns and typed by them; a null has no key.
    sequence_hash : str
        SHA-256 of `residues`, hexadecimal. Of a record that was imported without a sequence,
        `plmsearch.sequences.absent_sequence_hash`.
    """

    record_id: str
    residues: str
    description: str
    metadata: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    sequence_hash: str = ""


@dataclass(frozen=True, slots=True)
class ColumnFacts:
    """A metadata column; `is_indexed` if a condition on it need not read every record."""

    name: str
    kind: str
    is_indexed: bool


class Reader:
    """A database directory, for reading.

    Parameters
    ----------
    path : Path
    model_options : ModelOptions
        Where weights are and how models run.
    """

    def __init__(self, path: Path, model_options: ModelOptions) -> None:
        self.path = path
        self.model_options = model_options
        self._repository: Repository | None = None
        self._files = VectorFiles(Layout(path))
        self._embedders: dict[tuple[str, str], Embedder] = {}
        self._segments: dict[int, list[StoredSegment]] = {}
        self._spaces: list[StoredSpace] = []
        self._dead: Int1D = np.empty(0, dtype=np.int64)
        self._selections: dict[str, Selection] = {}
        self._engines = Engines(Layout(path))
        self._stored_indexes: dict[int, StoredIndex] = {}
        self._sizes: dict[tuple[int, str | None], SearchedSize] = {}
        self._generation = -1

    # --- Opening and closing ---------------------------------------------------------------------

    def connect(self) -> Repository:
        """Open the catalog for reading, unless it is open.

        Raises
        ------
        DatabaseNotFound, NotADatabase, SchemaOutdatedError, SchemaTooNewError, StorageError
        """
        if self._repository is None:
            self._repository = open_reader(self.path)
        return self._repository

    @property
    def repository(self) -> Repository:
        """The catalog, open for reading."""
        return self.connect()

    @property
    def exists(self) -> bool:
        """Whether the database has been created."""
        return is_database(self.path)

    def close(self) -> None:
        """Close the catalog. The object can be used again and then opens it anew."""
        if self._repository is not None:
            self._repository.close()
            self._repository = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        """Return the number of live records."""
        return self.repository.n_records() if self.exists else 0

    # --- Reading ---------------------------------------------------------------------------------

    def spaces(self) -> list[StoredSpace]:
        """Return the embedding spaces, the default first."""
        self._refresh()
        return self._spaces

    def space(self, name: str | None = None, request: SpaceRequest | None = None) -> StoredSpace:
        """Return the space of a name or a request, or the default.

        Parameters
        ----------
        name : str, optional
            Such as ``antiberty/6/whole/mean``.
        request : SpaceRequest, optional
            The first space that fits it; with a name, that space has to fit it too.

        Raises
        ------
        ParameterError
            If there is no such space; lists those there are. If the request names several layers.
        EmbeddingSpecMismatch
            If no space fits the request.
        EmbeddingError
            If the space is not complete, or the database is empty.
        """
        return searchable_space(self.spaces(), name, request or SpaceRequest(), self.path)

    def get(self, record_ids: Sequence[str]) -> list[Record]:
        """Return records by id, in the order asked.

        Raises
        ------
        RecordNotFound
            Naming every id that is not there, and near spellings.
        """
        types = self.repository.metadata_columns()
        return [
            Record(
                record_id=r.record_id,
                residues=r.residues,
                description=r.description,
                metadata={n: typed(r.metadata[n], kind) for n, kind in types.items() if n in r.metadata},
                sequence_hash=r.sequence_hash,
            )
            for r in self._stored(record_ids)
        ]

    def vectors(self, record_ids: Sequence[str], *, space: str | None = None) -> Float2D:
        """Return the raw embeddings of records.

        Parameters
        ----------
        record_ids : sequence of str
        space : str, optional
            Name of an embedding space; the default space if None.

        Returns
        -------
        ndarray, dtype=float32, shape=(n, d)
            Row order is the order asked. As pooled: not normalised.

        Raises
        ------
        RecordNotFound
        """
        chosen = self.space(space)
        sequence_ids = [r.sequence_id for r in self._stored(record_ids)]
        if not sequence_ids:
            return np.empty((0, chosen.spec.dim), dtype=np.float32)

        def look() -> Float2D:
            places = self.repository.vector_places(chosen.space_id, set(sequence_ids))
            return self._files.rows(self._segments_of(chosen), [places[i] for i in sequence_ids])

        return self._looking_again(look)

    def index_facts(self, space: StoredSpace) -> IndexFacts | None:
        """Return what is known of a space's approximate index, if it has one."""
        self._refresh()
        stored = self._stored_indexes.get(space.space_id)
        return None if stored is None else stored.facts

    def columns(self) -> list[ColumnFacts]:
        """Return the metadata columns, in the order they were first seen."""
        indexed = self.repository.indexed_columns()
        kinds = self.repository.metadata_columns()
        return [ColumnFacts(name, kind, name in indexed) for name, kind in kinds.items()]

    def select(self, where: str) -> Selection:
        """Return what a condition selects now.

        Parameters
        ----------
        where : str
            Such as ``species = 'human' and n_residues < 130``; see `plmsearch.filters.parse`.

        Raises
        ------
        FilterError
            If it cannot be read, or does not fit the columns.
        """
        self._refresh()
        if where not in self._selections:
            columns = self.repository.metadata_columns()
            self._selections[where] = select_records(self.repository, where, columns)
        return self._selections[where]

    def searched_size(self, space: StoredSpace, where: str | None = None) -> SearchedSize:
        """Return how much is searched: what E-values of alignments refer to.

        Parameters
        ----------
        space : StoredSpace
        where : str, optional
            Only the records that meet this condition.
        """
        self._refresh()
        key = (space.space_id, where)
        if key not in self._sizes:
            condition = None if where is None else self.select(where).condition
            self._sizes[key] = self.repository.searched_size(space.space_id, condition)
        return self._sizes[key]

    def _stored(self, record_ids: Sequence[str]) -> list[StoredRecord]:
        found = self.repository.records_by_id(set(record_ids))
        missing = [r for r in dict.fromkeys(record_ids) if r not in found]
        if missing:
            raise self._not_found(missing)
        return [found[r] for r in record_ids]

    def _not_found(self, missing: Sequence[str]) -> RecordNotFound:
        return RecordNotFound(missing, self._suggestions(missing[:_MAX_SUGGESTIONS]))

    def _suggestions(self, record_ids: Sequence[str]) -> dict[str, str]:
        near = {r: get_close_matches(r, self.repository.similar_ids(r), n=1) for r in record_ids}
        return {r: names[0] for r, names in near.items() if names}

    def _refresh(self) -> None:
        """Forget what an older generation said."""
        generation = self.repository.generation()
        if generation != self._generation:
            self._spaces = self.repository.spaces()
            self._segments.clear()
            self._selections.clear()
            self._stored_indexes = {i.space_id: i for i in self.repository.indexes()}
            self._sizes.clear()
            self._dead = np.array(self.repository.dead_sequences(), dtype=np.int64)
            self._generation = generation

    def _looking_again(self, look: Callable[[], T]) -> T:
        """Look at vector files; once more if a commit exchanged them meanwhile."""
        try:
            return look()
        except (SegmentDamaged, KeyError) as error:
            if self.repository.generation() == self._generation:
                if isinstance(error, KeyError):
                    reason = f"it has no vector or no segment {error}"
                    raise StorageError(
                        "catalog.sqlite", reason, hint=f"plmsearch verify {self.path}"
                    ) from error
                raise
            self._refresh()
            return look()

    def _segments_of(self, space: StoredSpace) -> list[StoredSegment]:
        if space.space_id not in self._segments:
            self._segments[space.space_id] = self.repository.segments(space.space_id)
        return self._segments[space.space_id]

    # --- Searching -------------------------------------------------------------------------------

    def search(
        self,
        queries: Sequence[str | SequenceRecord] | Float2D,
        k: int = 10,
        *,
        space: str | None = None,
        options: SearchOptions | None = None,
    ) -> list[list[Hit]]:
        """Find the records nearest to each query.

        Parameters
        ----------
        queries : sequence of str, sequence of SequenceRecord, or ndarray, dtype=float32, shape=(n, d)
            Residues, records, or vectors of the space. Strings and vectors are called ``query_1``,
            ``query_2``...
        k : int
            Most hits per query, at least 1.
        space : str, optional
            Name of an embedding space; the default space if None.
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
            If k < 1, or `queries` is a single string or vector.
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
        chosen = self.space(space)
        wishes = SearchOptions(**{**asdict(options or SearchOptions()), "k": k})
        if isinstance(queries, np.ndarray):
            names = [Query(f"query_{n}") for n in range(1, len(queries) + 1)]
            return self.search_vectors(names, queries, chosen, wishes)
        records = [
            q if isinstance(q, SequenceRecord) else SequenceRecord(f"query_{n}", q)
            for n, q in enumerate(queries, start=1)
        ]
        return [hits for _, hits in self.search_records(records, chosen, wishes)]

    def search_records(
        self,
        records: Iterable[SequenceRecord],
        space: StoredSpace,
        options: SearchOptions,
        *,
        policy: AddOptions | None = None,
        report: AddReport | None = None,
    ) -> Iterator[tuple[Query, list[Hit]]]:
        """Embed and search records block by block, in order.

        Parameters
        ----------
        records : iterable of SequenceRecord
        space : StoredSpace
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
            If the policy reads long sequences otherwise than the space does.
        """
        rules, tally = policy or AddOptions(), report if report is not None else AddReport()
        _refuse_external(space)
        check_long(rules.long, [space])
        blocks = embed_queries(
            records, space.spec, lambda: self._embedder(space), rules, self.model_options.batch_tokens, tally
        )
        for queries, vectors in blocks:
            yield from zip(queries, self.search_vectors(queries, vectors, space, options), strict=True)

    def search_inputs(
        self,
        inputs: Sequence[Input],
        space: StoredSpace,
        options: SearchOptions,
        *,
        policy: AddOptions,
        report: AddReport,
    ) -> Iterator[tuple[Query, list[Hit]]]:
        """Search with every record of inputs, in order; takes and yields what `search_records` does.

        What can be refused is refused by this call, not by the first step of the iterator: each input
        is validated whole, and the model is loaded.
        """
        _refuse_external(space)
        check_long(policy.long, [space])
        if validate_queries(inputs, space.spec, policy):
            self._embedder(space)
        found = (self.search_records(i, space, options, policy=policy, report=report) for i in inputs)
        return chain.from_iterable(found)

    def search_stored(
        self, record_ids: Sequence[str], space: StoredSpace, options: SearchOptions
    ) -> Iterator[tuple[Query, list[Hit]]]:
        """Search with the stored vectors of records; no model is loaded.

        Raises
        ------
        RecordNotFound
        """
        queries = [Query(r.record_id, r.sequence_hash, r.residues) for r in self._stored(record_ids)]
        vectors = self.vectors(record_ids, space=space.spec.name)
        return zip(queries, self.search_vectors(queries, vectors, space, options), strict=True)

    def search_vectors(
        self, queries: Sequence[Query], vectors: Float2D, space: StoredSpace, options: SearchOptions
    ) -> list[list[Hit]]:
        """Search with vectors of the space.

        Parameters
        ----------
        queries : sequence of Query
        vectors : ndarray, dtype=float32, shape=(n, d)
            One per query, any length.
        space : StoredSpace
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
        size = None if options.rerank is None else self.searched_size(space, options.where)
        index, selection, _ = self._plan(space, options, len(queries))
        allowed, condition = (
            (None, None) if selection is None else (selection.sequence_ids, selection.condition)
        )
        started = time.perf_counter()
        found = _neighbours(index, vectors, options, allowed)
        milliseconds = (time.perf_counter() - started) * 1e3
        _log.info(
            "%s: %d queries against %d vectors in %.1f ms",
            type(index).__name__,
            len(queries),
            len(index),
            milliseconds,
        )
        near = {i for _, ids in found for i in ids.tolist()}
        records = self.repository.records_of_sequences(near, condition)
        started, answers = time.perf_counter(), []
        for query, (scores, ids) in zip(queries, found, strict=True):
            hits = make_hits(query, scores, ids, records, options)
            answers.append(hits if size is None else rerank(query, hits, size.n_residues, options))
        if size is not None:
            _log.info("aligned %d queries in %.2f s", len(queries), time.perf_counter() - started)
        return answers

    def explain(self, space: StoredSpace, options: SearchOptions, n_queries: int = 1) -> list[str]:
        """Say how a search would be done, in lines of text.

        Parameters
        ----------
        space : StoredSpace
        options : SearchOptions
        n_queries : int
            Queries that are searched together.
        """
        index, selection, reason = self._plan(space, options, n_queries)
        n_records, n_vectors = len(self), len(index)
        lines = [f"space {space.spec.name}: {n_vectors:,} vectors of {n_records:,} records"]
        if selection is not None:
            share = selection.n_records / max(n_records, 1)
            n_vectors = len(selection.sequence_ids)
            found = f"{selection.n_records:,} records match ({share:.2%})"
            lines.append(f"filter: {found}, {n_vectors:,} distinct sequences")
        lines.append(f"search: {self._said(space, index, n_vectors)}; {reason}")
        if options.rerank is not None:
            size = self.searched_size(space, options.where)
            within = f"{size.n_residues:,} residues in {size.n_sequences - size.n_unknown:,} sequences"
            best = f"the {options.n_wanted:,} best records of each query are aligned"
            lines.append(f"re-ranking: {best}, sorted by {options.order}; E-values for {within}")
        return lines

    def _said(self, space: StoredSpace, index: VectorIndex, n_vectors: int) -> str:
        if not isinstance(index, ApproximateIndex):
            return f"exact, every query with {n_vectors:,} vectors ({type(index).__name__})"
        facts = self._stored_indexes[space.space_id].facts
        measured = f"recall@10 {facts.recall:.4f} on {facts.n_queries} queries"
        way = f"approximate, {facts.kind} with effort {facts.effort} over {facts.n_vectors:,} vectors"
        return f"{way}, {measured}"

    def _plan(
        self, space: StoredSpace, options: SearchOptions, n_queries: int
    ) -> tuple[VectorIndex, Selection | None, str]:
        """Choose how to search, and among what."""
        check_choice("index", options.index, INDEX_CHOICES)
        self._refresh()
        selection = None if options.where is None else self.select(options.where)
        blocks = self._looking_again(lambda: self._files.unit_blocks(self._segments_of(space), self._dead))
        by_segment = {s.segment_id: b for s, b in zip(self._segments_of(space), blocks, strict=True)}
        n_allowed = None if selection is None else len(selection.sequence_ids)
        choice = options.index if options.threshold is None else "exact"
        wanted = Wanted(n_queries, n_allowed, choice, self.model_options.threads)
        stored = self._stored_indexes.get(space.space_id)
        index, reason = self._engines.plan(stored, by_segment, space.spec.dim, self._generation, wanted)
        return index, selection, reason

    def _embedder(self, space: StoredSpace) -> Embedder:
        key = (space.spec.model_id, space.spec.weights_digest)
        if key not in self._embedders:
            started = time.perf_counter()
            self._embedders[key] = load_for_space(space.spec, self.model_options)
            _log.info("loaded %s in %.2f s", space.spec.model_id, time.perf_counter() - started)
        return self._embedders[key]


def _neighbours(
    index: VectorIndex, vectors: Float2D, options: SearchOptions, allowed: Int1D | None
) -> list[tuple[Float1D, Int1D]]:
    """Return scores and ids of each query's neighbours."""
    if options.threshold is not None:
        return ExactIndex(index.blocks, index.dim).above(vectors, options.threshold, allowed=allowed)
    # One more: the query's own record or sequence may have to be left out.
    n_wanted = options.n_wanted + int(options.exclude_self or options.exclude_identical)
    found = index.search(vectors, n_wanted, allowed=allowed)
    return list(zip(found.scores, found.ids, strict=True))


def _refuse_external(space: StoredSpace) -> None:
    if space.spec.is_external:
        raise ExternalSpaceError(space.spec.name)
