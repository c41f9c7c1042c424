"""A database directory as one object: the only stateful facade.

A `Database` reads without holding a transaction between calls, and takes the writer's lock for the
time of each call that writes. Vectors of different spaces are never compared.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from types import TracebackType

import numpy as np

from plmsearch.embedding.base import Embedder
from plmsearch.embedding.embed import embed_sequences, plan_of
from plmsearch.embedding.options import ModelOptions, load_for_space
from plmsearch.embedding.spec import EmbeddingSpec, LongPolicy, SpaceRequest
from plmsearch.errors import (
    DatabaseNotFound,
    EmbeddingError,
    EmbeddingSpecMismatch,
    ParameterError,
    RecordNotFound,
)
from plmsearch.index.planner import plan_index
from plmsearch.ingest.chunks import ChunkWriter, SpaceGroup, group_spaces
from plmsearch.ingest.prepare import prepare
from plmsearch.ingest.provenance import record_run
from plmsearch.ingest.report import AddOptions, AddReport, Progress
from plmsearch.ingest.scan import Input, RecordList, Scan, scan
from plmsearch.ingest.spaces import NewSpaces, check_request, choose_new_spaces, load_specs, spaces_for
from plmsearch.metadata import typed
from plmsearch.search.hits import Hit, Query, SearchOptions, make_hits
from plmsearch.sequences import SequenceRecord
from plmsearch.store.directory import Layout, is_database
from plmsearch.store.lock import DEFAULT_LOCK_TIMEOUT_S
from plmsearch.store.repository import Repository
from plmsearch.store.rows import StoredRecord, StoredSegment, StoredSpace
from plmsearch.store.session import open_reader, open_writer
from plmsearch.store.vector_files import VectorFiles
from plmsearch.types import Float2D

__all__ = ["Database", "Record", "open_database"]

#: Queries embedded and searched together; bounds memory on a long input.
_QUERIES_AT_ONCE = 512
_MAX_SUGGESTIONS = 3


@dataclass(frozen=True, slots=True)
class Record:
    """A stored record.

    Parameters
    ----------
    record_id : str
    residues : str
        Normalised.
    description : str
    metadata : mapping of str to (str, int, float or bool)
        Typed by the database's columns; a null has no key.
    sequence_hash : str
        SHA-256 of `residues`, hexadecimal.
    """

    record_id: str
    residues: str
    description: str
    metadata: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    sequence_hash: str = ""


def open_database(
    path: str | Path,
    *,
    create: bool = False,
    model_options: ModelOptions | None = None,
    lock_timeout_s: float = DEFAULT_LOCK_TIMEOUT_S,
) -> Database:
    """Open a database, or prepare to create one.

    Parameters
    ----------
    path : str or Path
        The database directory.
    create : bool
        Allow that there is none yet; the first `Database.add` makes it.
    model_options : ModelOptions, optional
        Where weights are and how models run.
    lock_timeout_s : float
        Seconds a write waits for another writer.

    Returns
    -------
    Database
        A context manager.

    Raises
    ------
    DatabaseNotFound, NotADatabase, SchemaOutdatedError, SchemaTooNewError
        If there is no database that can be read here.

    Examples
    --------
    >>> import plmsearch, tempfile
    >>> records = [("a", "EVQLVESGGGLVQPGGSLRL"), ("b", "DIQMTQSPSSLSASVGDRVT")]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with plmsearch.open_database(f"{folder}/db", create=True) as db:
    ...         report = db.add(records, model="kmer")
    ...         hits = db.search(["EVQLVESGGGLVQPGGSLRV"], k=1)
    ...         len(db), hits[0][0].target
    (2, 'a')
    """
    database = Database(Path(path), model_options or ModelOptions(), lock_timeout_s)
    if not (create and not Path(path).exists()) and not (create and _is_unfinished(Path(path))):
        database.repository  # noqa: B018 - opens it, and raises what is wrong
    return database


def _is_unfinished(path: Path) -> bool:
    """Tell whether a directory is empty, or is where a database was about to be made."""
    return path.is_dir() and not is_database(path)


class Database:
    """A database directory; made by `open_database`.

    Parameters
    ----------
    path : Path
    model_options : ModelOptions
    lock_timeout_s : float
    """

    def __init__(self, path: Path, model_options: ModelOptions, lock_timeout_s: float) -> None:
        self.path = path
        self.model_options = model_options
        self._lock_timeout_s = lock_timeout_s
        self._repository: Repository | None = None
        self._files = VectorFiles(Layout(path))
        self._embedders: dict[tuple[str, str], Embedder] = {}
        self._segments: dict[int, list[StoredSegment]] = {}
        self._spaces: list[StoredSpace] = []
        self._generation = -1

    # --- Opening and closing ---------------------------------------------------------------------

    @property
    def repository(self) -> Repository:
        """The catalog, open for reading."""
        if self._repository is None:
            self._repository = open_reader(self.path)
        return self._repository

    @property
    def exists(self) -> bool:
        """Whether the database has been created."""
        return is_database(self.path)

    def close(self) -> None:
        """Close the catalog. The object can be used again and then opens it anew."""
        if self._repository is not None:
            self._repository.close()
            self._repository = None

    def __enter__(self) -> Database:
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
            Looked at if there is no name; the first space that fits it.

        Raises
        ------
        ParameterError
            If there is no such space; lists those there are.
        EmbeddingSpecMismatch
            If no space fits the request.
        EmbeddingError
            If the space is not complete, or the database is empty.
        """
        spaces = self.spaces()
        if not spaces:
            raise EmbeddingError(f"{str(self.path)!r} holds no vectors yet", hint="add some: plmsearch index")
        found = [s for s in spaces if name is None or s.spec.name == name]
        if name is None and request is not None and request != SpaceRequest():
            found = spaces_for(request, spaces, self.path)
        if not found:
            raise ParameterError("space", name, f"one of: {', '.join(s.spec.name for s in spaces)}")
        if not found[0].is_complete:
            spec = found[0].spec
            raise EmbeddingError(
                f"space {spec.name} is not complete: its making was interrupted",
                hint=f"continue it with: plmsearch embed {self.path} --model {spec.model_id} "
                f"--layers {spec.layer} --pool {spec.pooling}",
            )
        return found[0]

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
                metadata={name: typed(text, types[name]) for name, text in r.metadata.items()},
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
        places = self.repository.vector_places(chosen.space_id, set(sequence_ids))
        return self._files.rows(self._segments_of(chosen), [places[i] for i in sequence_ids])

    def _stored(self, record_ids: Sequence[str]) -> list[StoredRecord]:
        found = self.repository.records_by_id(set(record_ids))
        missing = [r for r in dict.fromkeys(record_ids) if r not in found]
        if missing:
            raise RecordNotFound(missing, self._suggestions(missing[:_MAX_SUGGESTIONS]))
        return [found[r] for r in record_ids]

    def _suggestions(self, record_ids: Sequence[str]) -> dict[str, str]:
        near = {r: get_close_matches(r, self.repository.similar_ids(r), n=1) for r in record_ids}
        return {r: names[0] for r, names in near.items() if names}

    def _refresh(self) -> None:
        """Forget what an older generation said."""
        generation = self.repository.generation()
        if generation != self._generation:
            self._spaces = self.repository.spaces()
            self._segments.clear()
            self._generation = generation

    def _segments_of(self, space: StoredSpace) -> list[StoredSegment]:
        if space.space_id not in self._segments:
            self._segments[space.space_id] = self.repository.segments(space.space_id)
        return self._segments[space.space_id]

    # --- Searching -------------------------------------------------------------------------------

    def search(
        self,
        queries: Sequence[str] | Sequence[SequenceRecord] | Float2D,
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
            In query order; each sorted by (-score, insertion order), ranked from 1. Fewer than k
            where fewer exist, never padding.

        Raises
        ------
        ParameterError
            If k < 1.
        InputError
            If a query is no protein sequence.
        EmbeddingSpecMismatch
            If the weights at hand are not those of the space.
        """
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
        self, records: Iterable[SequenceRecord], space: StoredSpace, options: SearchOptions
    ) -> Iterator[tuple[Query, list[Hit]]]:
        """Embed and search records block by block, in order.

        Yields
        ------
        query : Query
        hits : list of Hit
        """
        remaining = iter(records)
        while part := list(islice(remaining, _QUERIES_AT_ONCE)):
            prepared = [prepare(r, AddOptions()) for r in part]
            queries = [Query(p.record.record_id, p.hash_hex, p.residues) for p in prepared]
            vectors = self.embed_queries([p.residues for p in prepared], space)
            yield from zip(queries, self.search_vectors(queries, vectors, space, options), strict=True)

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
        yield from zip(queries, self.search_vectors(queries, vectors, space, options), strict=True)

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
        """
        if options.k < 1:
            raise ParameterError("k", options.k, "at least 1")
        self._refresh()
        blocks = self._files.unit_blocks(self._segments_of(space))
        index = plan_index(blocks, space.spec.dim, len(queries))
        # One more: the query's own record or sequence may have to be left out.
        n_wanted = options.k + int(options.exclude_self or options.exclude_identical)
        found = index.search(vectors, n_wanted)
        records = self.repository.records_of_sequences(set(found.ids.ravel().tolist()))
        return [
            make_hits(query, found.scores[row], found.ids[row], records, options)
            for row, query in enumerate(queries)
        ]

    def embed_queries(self, residues: Sequence[str], space: StoredSpace) -> Float2D:
        """Embed normalised sequences in the space of the database.

        Returns
        -------
        ndarray, dtype=float32, shape=(n, d)
        """
        embedder = self._embedder(space)
        plan = plan_of([space.spec], self.model_options.batch_tokens)
        return embed_sequences(embedder, residues, plan).vectors[space.spec.layer]

    def _embedder(self, space: StoredSpace) -> Embedder:
        key = (space.spec.model_id, space.spec.weights_digest)
        if key not in self._embedders:
            self._embedders[key] = load_for_space(space.spec, self.model_options, str(self.path))
        return self._embedders[key]

    # --- Writing ---------------------------------------------------------------------------------

    def add(
        self,
        records: Iterable[SequenceRecord | tuple[str, str]],
        *,
        model: str | None = None,
        layers: str | None = None,
        options: AddOptions | None = None,
        progress: Progress | None = None,
    ) -> AddReport:
        """Add records from memory. Safe to repeat: what is there is not added again.

        Parameters
        ----------
        records : iterable of SequenceRecord or of (id, residues)
        model, layers : str, optional
            As `SpaceRequest`; needed for a new database only, and even there chosen by looking at
            the sequences if None.
        options : AddOptions, optional
        progress : Progress, optional

        Returns
        -------
        AddReport

        Raises
        ------
        InputError
            If a record cannot be used and the policy is to stop. Nothing was added then.
        """
        rows = RecordList(r if isinstance(r, SequenceRecord) else SequenceRecord(*r) for r in records)
        return self.add_inputs(
            [rows], request=SpaceRequest(model, layers), options=options, progress=progress, command="add"
        )

    def add_inputs(
        self,
        inputs: Sequence[Input],
        *,
        request: SpaceRequest | None = None,
        options: AddOptions | None = None,
        progress: Progress | None = None,
        command: str = "index",
    ) -> AddReport:
        """Add the records of inputs, chunk by chunk; what `plmsearch index` calls.

        Every input is read and validated whole before the first forward pass. An interrupt loses at
        most the chunk at work; the same call continues.

        Parameters
        ----------
        inputs : sequence of Input
            Can be iterated more than once.
        request : SpaceRequest, optional
        options : AddOptions, optional
        progress : Progress, optional
        command : str
            For the provenance of the run.

        Returns
        -------
        AddReport
        """
        started = time.monotonic()
        wishes, asked = options or AddOptions(), request or SpaceRequest()
        show = progress or Progress()
        seen = self._scan(inputs, wishes)
        if seen.n_rows == 0:
            return AddReport()
        new = self._spaces_to_make(asked, wishes, seen)
        if new is not None and new.choice:
            show.say(f"model {new.choice}")
        with self._writing(show) as repository:
            if new is not None and not repository.spaces():
                for number, spec in enumerate(new.specs):
                    repository.add_space(spec, is_default=number == 0, is_complete=True)
            spaces = repository.spaces()
            check_request(asked, wishes.long, spaces, self.path)
            writer = ChunkWriter(repository, Layout(self.path), self._groups(spaces), wishes, show)
            report = writer.report
            report.choice = new.choice if new is not None else ""
            report.widened = seen.types.widened
            parameters = self._parameters(asked, asdict(wishes), spaces)
            with record_run(repository, command, parameters, inputs, report) as run_id:
                show.start(seen.n_rows)
                writer.write(run_id, inputs, seen.types.types)
                report.seconds = time.monotonic() - started
        return report

    def embed(
        self,
        request: SpaceRequest,
        *,
        long: LongPolicy | None = None,
        progress: Progress | None = None,
    ) -> AddReport:
        """Add embedding spaces, computed from the stored sequences; continues where it stopped.

        Parameters
        ----------
        request : SpaceRequest
            Names the model; all its layers come out of one forward pass.
        long : {"window", "truncate"} or None
        progress : Progress, optional

        Returns
        -------
        AddReport
            `spaces` names the spaces that are now complete.

        Raises
        ------
        EmbeddingSpecMismatch
            If a space of the same name was made with other weights.
        """
        started = time.monotonic()
        show = progress or Progress()
        if not self.exists:
            raise DatabaseNotFound(self.path)
        asked = SpaceRequest(request.model or self.spaces()[0].spec.model_id, request.layers, request.pooling)
        embedder, specs = load_specs(asked, long, self.model_options)
        self._embedders[embedder.card.model_id, embedder.weights_digest] = embedder
        with self._writing(show) as repository:
            spaces = [self._space_to_fill(repository, spec) for spec in specs]
            writer = ChunkWriter(
                repository, Layout(self.path), self._groups(spaces), AddOptions(long=long), show
            )
            parameters = self._parameters(asked, {"long": long}, spaces)
            with record_run(repository, "embed", parameters, [], writer.report) as run_id:
                for space in spaces:
                    writer.fill(run_id, space, repository.n_without_vector(space.space_id))
                    repository.complete_space(space.space_id)
                writer.report.seconds = time.monotonic() - started
        return writer.report

    def _space_to_fill(self, repository: Repository, spec: EmbeddingSpec) -> StoredSpace:
        """Return the stored space of a spec, adding it if there is none."""
        named = {s.spec.name: s for s in repository.spaces()}
        stored = named.get(spec.name)
        if stored is not None and stored.spec.space_hash != spec.space_hash:
            raise EmbeddingSpecMismatch(
                spec.describe(), stored.spec.describe(), hint="use the same weights, or a new database"
            )
        if stored is None:
            repository.add_space(spec, is_default=not named, is_complete=False)
        return next(s for s in repository.spaces() if s.spec.name == spec.name)

    def _scan(self, inputs: Sequence[Input], options: AddOptions) -> Scan:
        if not self.exists:
            return scan(inputs, options, {}, lambda _: {})
        return scan(inputs, options, self.repository.metadata_columns(), self.repository.records_by_id)

    def _spaces_to_make(self, request: SpaceRequest, options: AddOptions, seen: Scan) -> NewSpaces | None:
        """Decide the spaces of a new database, and refuse what does not fit an existing one."""
        spaces = self.spaces() if self.exists else []
        new = None
        if spaces:
            check_request(request, options.long, spaces, self.path)
            specs = [s.spec for s in spaces]
        else:
            new = choose_new_spaces(request, options.long, seen.sample, self.model_options)
            self._embedders[new.embedder.card.model_id, new.embedder.weights_digest] = new.embedder
            specs = list(new.specs)
        if options.long == "error":
            seen.refuse_long(min(s.max_residues for s in specs))
        return new

    @contextmanager
    def _writing(self, progress: Progress) -> Iterator[Repository]:
        """Hold the writer's lock; what was read before may be outdated afterwards."""

        def waiting() -> None:
            progress.say(f"waiting for another process that writes to {self.path}")

        self.close()
        with open_writer(self.path, lock_timeout_s=self._lock_timeout_s, on_wait=waiting) as repository:
            yield repository

    def _groups(self, spaces: Sequence[StoredSpace]) -> list[SpaceGroup]:
        return group_spaces(spaces, self._embedder, self.model_options.batch_tokens)

    def _parameters(
        self, request: SpaceRequest, options: Mapping[str, object], spaces: Sequence[StoredSpace]
    ) -> dict[str, object]:
        """Return everything that decides a run's outcome."""
        return {
            "request": asdict(request),
            "options": dict(options),
            "model_options": {
                k: v if isinstance(v, int) else v and str(v) for k, v in asdict(self.model_options).items()
            },
            "spaces": [asdict(s.spec) for s in spaces],
            "run_on": {e.card.model_id: [e.device, e.precision] for e in self._embedders.values()},
        }
