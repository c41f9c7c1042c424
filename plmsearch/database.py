"""A database directory as one object: the only stateful facade.

A `Database` reads and searches as a `plmsearch.searcher.Searcher` does, and takes the writer's lock for the
time of each call that writes.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from difflib import get_close_matches
from pathlib import Path

from plmsearch.all_pairs import AllPairsSearcher
from plmsearch.cdr3_searcher import Cdr3Searcher
from plmsearch.embedding.options import ModelOptions
from plmsearch.embedding.spec import EmbeddingSpec, LongPolicy, Preset, SpaceRequest
from plmsearch.errors import DatabaseNotFound, EmbeddingSpecMismatch, ParameterError
from plmsearch.filters.parse import parse_condition
from plmsearch.ingest.chunks import ChunkWriter, SpaceGroup, group_spaces
from plmsearch.ingest.domain_names import refuse_ambiguous
from plmsearch.ingest.genes import GeneFinder, gene_finder
from plmsearch.ingest.presets import add_region_ranking, check_weights
from plmsearch.ingest.provenance import record_run
from plmsearch.ingest.report import AddOptions, AddReport, GeneOptions, Progress
from plmsearch.ingest.scan import Input, RecordList, Scan, scan
from plmsearch.ingest.spaces import (
    NewSpaces,
    check_request,
    choose_new_spaces,
    default_model,
    like_default,
    like_stored_domains,
    load_specs,
    reads_domains,
    receptor_warning,
)
from plmsearch.metadata import widen
from plmsearch.nulls import refresh_nulls
from plmsearch.pair_searcher import PairSearcher
from plmsearch.reader import Record
from plmsearch.sequences import SequenceRecord
from plmsearch.store.directory import Layout, storage_errors
from plmsearch.store.lock import DEFAULT_LOCK_TIMEOUT_S
from plmsearch.store.rankings import StoredSpace
from plmsearch.store.repository import Repository
from plmsearch.store.rows import StoredRecord
from plmsearch.store.session import open_writer
from plmsearch.store.space_left import bytes_of_vectors, require_space, spaces_written_out
from plmsearch.store.upkeep import refresh_files

__all__ = ["Database", "Record", "open_database"]


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
        Open for adding, and allow that there is none yet: the first `Database.add` makes it.
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
    DatabaseNotWritable
        If it is opened for adding and the user may not write.
    StorageError
        If the operating system refuses to look at the path.

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
    with storage_errors(database.path):
        if create:
            Layout(database.path).refuse_unusable()
        if database.exists or not create:
            database.connect()
    return database


def _as_record(given: SequenceRecord | tuple[str, str]) -> SequenceRecord:
    if isinstance(given, str) or not (isinstance(given, SequenceRecord) or len(given) == 2):
        raise ParameterError("record", given, "a SequenceRecord or a pair of id and residues")
    record = given if isinstance(given, SequenceRecord) else SequenceRecord(*given)
    if not isinstance(record.record_id, str) or not record.record_id:
        raise ParameterError("record id", record.record_id, "a string of at least one character")
    if not isinstance(record.sequence, str):
        raise ParameterError(f"sequence of {record.record_id!r}", record.sequence, "a string of residues")
    return record


def _widened(stored: Mapping[str, str], seen: Mapping[str, str]) -> dict[str, str]:
    """Join column types: another process may have widened one since the inputs were read."""
    return {name: widen(kind, stored.get(name, kind)) for name, kind in seen.items()}


class Database(AllPairsSearcher, Cdr3Searcher, PairSearcher):
    """A database directory; made by `open_database`.

    Parameters
    ----------
    path : Path
    model_options : ModelOptions
    lock_timeout_s : float
        Seconds a write waits for another writer.
    """

    def __init__(self, path: Path, model_options: ModelOptions, lock_timeout_s: float) -> None:
        super().__init__(path, model_options)
        self._lock_timeout_s = lock_timeout_s

    # --- Writing ---------------------------------------------------------------------------------

    def add(
        self,
        records: Iterable[SequenceRecord | tuple[str, str]],
        *,
        model: str | None = None,
        layers: str | None = None,
        preset: Preset | None = None,
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
        preset : {"antibody", "whole"}, optional
            As `SpaceRequest`.
        options : AddOptions, optional
        progress : Progress, optional

        Returns
        -------
        AddReport

        Raises
        ------
        InputError
            If a record cannot be used and the policy is to stop. Nothing was added then.
        NotEnoughSpace
            If the vectors of the new sequences do not fit on the disk. Nothing was computed then.
        """
        rows = RecordList([_as_record(r) for r in records])
        request = SpaceRequest(model, layers, preset=preset)
        return self.add_inputs([rows], request=request, options=options, progress=progress, command="add")

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
        specs = [s.spec for s in self.spaces()] if new is None else new.specs
        genes = gene_finder(wishes.genes, specs, show.say)
        require_space(self.path, self._least_bytes(new, wishes, seen), "the new embeddings")
        if new is not None and new.choice:
            show.say(f"model {new.choice}")
        specs = [s.spec for s in self.spaces()] if new is None else new.specs
        if warning := receptor_warning(specs, seen.sample):
            show.say(warning)
        with self.writing(show) as repository:
            if new is not None and not repository.spaces():
                with repository.at_once():  # killed between them, it would search by the first space for ever
                    repository.add_first_spaces(new.specs)
                    if new.preset == "antibody":
                        add_region_ranking(repository, asked, is_default=True)
            spaces = repository.spaces()
            check_request(asked, wishes.long, spaces, self.path)
            writer = ChunkWriter(repository, Layout(self.path), self._groups(spaces), wishes, show, genes)
            report = writer.report
            report.choice = new.choice if new is not None else ""
            report.widened = seen.types.widened
            parameters = self._parameters(asked, asdict(wishes), spaces, genes)
            with record_run(repository, command, parameters, inputs, report) as run_id:
                show.start(seen.n_rows)
                columns = _widened(repository.metadata_columns(), seen.types.types)
                writer.write(run_id, inputs, columns, seen.samples)
                report.seconds = time.monotonic() - started
        return report

    def embed(
        self,
        request: SpaceRequest,
        *,
        long: LongPolicy | None = None,
        genes: GeneOptions | None = None,
        progress: Progress | None = None,
    ) -> AddReport:
        """Add embedding spaces, computed from the stored sequences; continues where it stopped.

        Parameters
        ----------
        request : SpaceRequest
            Names the model; all its layers come out of one forward pass.
        long : {"window", "truncate"} or None
        genes : GeneOptions, optional
            Which germline genes are inferred of variable domains that have none yet.
        progress : Progress, optional

        Returns
        -------
        AddReport
            `spaces` names the spaces that are now complete.

        Raises
        ------
        EmbeddingSpecMismatch
            If a space of the same name was made with other weights, or variable domains were found by another
            version of the numbering and not all sequences were looked at.
        ParameterError
            If `long` is a policy that leaves sequences out.
        """
        started = time.monotonic()
        show = progress or Progress()
        if not self.exists:
            raise DatabaseNotFound(self.path)
        if long in {"skip", "error"}:
            raise ParameterError("long", long, "window or truncate: no stored sequence is left out")
        model = request.model or default_model(self.spaces(), self.path)
        asked = replace(like_default(request, self.spaces()), model=model)
        embedder, specs = load_specs(asked, long, self.model_options)
        specs = like_stored_domains(specs, self.spaces(), self.repository.n_not_looked_at())
        self._embedders[embedder.card.model_id, embedder.weights_digest] = embedder
        stored = {s.spec.name: s.space_id for s in self.spaces()}
        twice = spaces_written_out(self.rankings())
        n_bytes = sum(
            bytes_of_vectors(self.repository.n_without_vector(space_id), s.dim, written_out=space_id in twice)
            for s, space_id in ((s, stored.get(s.name, -1)) for s in specs)
        )
        require_space(self.path, n_bytes, "the new embeddings")
        finder = gene_finder(genes or GeneOptions(), specs, show.say)
        with self.writing(show) as repository:
            if reads_domains(asked):
                refuse_ambiguous(repository)
            spaces = [self._space_to_fill(repository, spec) for spec in specs]
            rules = AddOptions(long=long)
            writer = ChunkWriter(repository, Layout(self.path), self._groups(spaces), rules, show, finder)
            parameters = self._parameters(asked, {"long": long}, spaces, finder)
            with record_run(repository, "embed", parameters, [], writer.report) as run_id:
                for space in spaces:
                    writer.fill(run_id, space, repository.n_without_vector(space.space_id))
                    repository.complete_space(space.space_id)
                if reads_domains(asked):
                    add_region_ranking(repository, asked, is_default=False)
                writer.report.seconds = time.monotonic() - started
        return writer.report

    def delete(
        self, record_ids: Iterable[str] = (), *, where: str | None = None, ignore_missing: bool = False
    ) -> int:
        """Delete records: all of them, or on an error none.

        A deleted record is gone from every search, export and count at once; its row and its vector
        stay in the files until the database is optimized.

        Parameters
        ----------
        record_ids : iterable of str
        where : str, optional
            Delete the records that meet this condition too (`plmsearch.filters.parse`).
        ignore_missing : bool
            Pass over ids that no live record has.

        Returns
        -------
        int
            Number of records deleted.

        Raises
        ------
        RecordNotFound
            If an id is not there. Nothing was deleted then.
        FilterError
            If the condition cannot be read, or does not fit the columns.
        """
        asked = list(dict.fromkeys(record_ids))
        with self.writing(Progress(), adds=False) as repository:
            matching = [] if where is None else self._matching(repository, where)
            found = repository.records_by_id(asked)
            missing = [r for r in asked if r not in found]
            if missing and not ignore_missing:
                raise self._not_found(missing)
            records = [found[r] for r in asked if r in found]
            records += [r for r in matching if r.record_id not in found]
            parameters = {"n_ids": len(asked), "where": where, "ignore_missing": ignore_missing}
            with record_run(repository, "delete", parameters, [], AddReport()) as run_id:
                repository.delete_records(run_id, records)
        return len(records)

    def index_columns(self, names: Iterable[str], *, drop: Iterable[str] = ()) -> None:
        """Make indexes on metadata columns, so that a condition on them reads what matches only.

        Parameters
        ----------
        names : iterable of str
            Columns to index; those that are indexed stay so.
        drop : iterable of str
            Columns whose index is dropped.

        Raises
        ------
        ParameterError
            If there is no such column, naming the nearest, or it cannot be indexed.
        """
        wanted, unwanted = list(names), list(drop)
        with self.writing(Progress(), adds=False) as repository:
            kinds = repository.metadata_columns()
            for name in [*wanted, *unwanted]:
                if name not in kinds:
                    near = get_close_matches(name, kinds, n=1)
                    hint = f" (did you mean {near[0]!r}?)" if near else ""
                    raise ParameterError("column", name, f"one of: {', '.join(kinds)}{hint}")
            repository.index_columns({name: kinds[name] for name in wanted}, unwanted)

    def _matching(self, repository: Repository, where: str) -> list[StoredRecord]:
        condition = parse_condition(where, repository.metadata_columns(), repository.derived_columns())
        return list(repository.all_records(condition))

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
            check_weights(request, spaces, self.rankings(), self.path)
            specs = [s.spec for s in spaces]
        else:
            new = choose_new_spaces(request, options.long, seen.sample, self.model_options)
            self._embedders[new.embedder.card.model_id, new.embedder.weights_digest] = new.embedder
            specs = list(new.specs)
        of_chains = [s.max_residues for s in specs if not s.reads_domains]
        if options.long == "error" and of_chains:
            seen.refuse_long(min(of_chains))
        if options.on_invalid == "error" and len(of_chains) == len(specs):
            seen.refuse_several_chains()
        return new

    def _least_bytes(self, new: NewSpaces | None, options: AddOptions, seen: Scan) -> int:
        """Return how large the vectors that inputs will add are at least."""
        if "skip" in {options.on_duplicate, options.long}:
            return 0
        n = seen.least_sequences
        if new is not None:  # the ranking of the first, or one that has it, becomes the default
            of_spaces = [(n, spec.dim, number == 0) for number, spec in enumerate(new.specs)]
        else:
            twice = spaces_written_out(self.rankings())
            of_spaces = [(n - s.n_vectors, s.spec.dim, s.space_id in twice) for s in self.spaces()]
        return sum(bytes_of_vectors(n, dim, written_out=is_twice) for n, dim, is_twice in of_spaces)

    @contextmanager
    def writing(self, progress: Progress, *, adds: bool = True) -> Iterator[Repository]:
        """Hold the writer's lock; what was read before may be outdated afterwards.

        Afterwards derived files are made that are missing and, where vectors were added, null distributions.
        """

        def waiting() -> None:
            progress.say(f"waiting for another process that writes to {self.path}")

        self.close()
        with open_writer(self.path, lock_timeout_s=self._lock_timeout_s, on_wait=waiting) as repository:
            refresh_files(repository, Layout(self.path))
            yield repository
            if repository.lacks_derived_files():
                refresh_files(repository, Layout(self.path))
            if adds:
                refresh_nulls(repository, Layout(self.path))

    def _groups(self, spaces: Sequence[StoredSpace]) -> list[SpaceGroup]:
        return group_spaces(spaces, self._embedder, self.model_options.batch_tokens)

    def _parameters(
        self,
        request: SpaceRequest,
        options: Mapping[str, object],
        spaces: Sequence[StoredSpace],
        genes: GeneFinder | None,
    ) -> dict[str, object]:
        """Return everything that decides a run's outcome."""
        return {
            "germlines": None if genes is None else genes.describe(),
            "request": asdict(request),
            "options": dict(options),
            "model_options": {
                k: v if isinstance(v, int) else v and str(v) for k, v in asdict(self.model_options).items()
            },
            "spaces": [asdict(s.spec) for s in spaces],
            "run_on": {e.card.model_id: [e.device, e.precision] for e in self._embedders.values()},
        }
