"""Bring vectors that were computed elsewhere into a database; no model is run.

The file is read twice: whole, to be checked, before anything is written, and again to be stored.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from threading import Thread

from plmsearch.database import Database
from plmsearch.embedding.spec import (
    POOLINGS,
    EmbeddingSpec,
    SpaceRequest,
    external_spec,
)
from plmsearch.errors import (
    DimensionMismatch,
    DuplicateRecordError,
    EmbeddingError,
    EmbeddingSpecMismatch,
    FileFormatError,
    InvalidVectorError,
    ParameterError,
)
from plmsearch.exchange.pages import BarePage, PreparedPage
from plmsearch.exchange.room import require_room
from plmsearch.exchange.writer import VectorWriter, rows_of_segment
from plmsearch.formats.vectors import VectorFile, VectorPage
from plmsearch.ingest.prepare import Prepared, prepare
from plmsearch.ingest.provenance import record_run
from plmsearch.ingest.report import AddOptions, AddReport, OnDuplicate, Progress, check_choice
from plmsearch.ingest.spaces import load_specs
from plmsearch.metadata import TypeInference, as_text, metadata_json, widen
from plmsearch.sequences import SequenceRecord, absent_sequence_hash
from plmsearch.store.audit import records_without_any_vector
from plmsearch.store.directory import Layout
from plmsearch.store.rankings import StoredSpace
from plmsearch.store.repository import Repository
from plmsearch.vectors import check_vectors

__all__ = ["IMPORT_DUPLICATES", "ImportOptions", "import_vectors"]

#: Policies for an id that is taken by a different record.
IMPORT_DUPLICATES: tuple[OnDuplicate, ...] = ("error", "rename", "skip")

#: Vectors checked at once: what stays in the cache.
_CHECKED_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """How vectors are imported.

    Parameters
    ----------
    space : str or None
        Name of a space of the database, or what to call a new external one.
    request : SpaceRequest
        Model, layer and pooling that made the vectors.
    on_duplicate : {"error", "rename", "skip"}
        An id that is taken by a different record: by another sequence, description, metadata or,
        without a sequence, by another vector.
    """

    space: str | None = None
    request: SpaceRequest = SpaceRequest()  # noqa: RUF009 - it is frozen
    on_duplicate: OnDuplicate = "error"

    def __post_init__(self) -> None:
        check_choice("on_duplicate", self.on_duplicate, IMPORT_DUPLICATES)
        if self.space is not None and self.request != SpaceRequest():
            raise ParameterError("space", self.space, "left out where model, layer or pooling are given")


@dataclass(frozen=True, slots=True)
class _Input:
    """A file of vectors, as provenance knows inputs; `digest` becomes its SHA-256."""

    file: VectorFile
    digest: Future[str]

    @property
    def name(self) -> str:
        return self.file.name

    @property
    def format(self) -> str:
        return self.file.format

    @property
    def size_bytes(self) -> int:
        return self.file.size_bytes

    def sha256(self) -> str:
        return self.digest.result()

    def __iter__(self) -> Iterator[SequenceRecord]:
        return iter(())


def import_vectors(
    database: Database,
    file: VectorFile,
    options: ImportOptions | None = None,
    *,
    progress: Progress | None = None,
) -> AddReport:
    """Store the vectors of a file, one per record. Safe to repeat, and to interrupt.

    Without a declaration by `options` or by the file itself the space is external: it can be searched
    by stored records and by vectors only.

    Parameters
    ----------
    database : Database
        Opened with ``create=True`` if there is none yet.
    file : VectorFile
    options : ImportOptions, optional
    progress : Progress, optional

    Returns
    -------
    AddReport

    Raises
    ------
    FileFormatError, InvalidVectorError, DuplicateRecordError, RecordError
        If a row cannot be used. Nothing was imported then.
    EmbeddingSpecMismatch, DimensionMismatch
        If the vectors are not of the database's space.
    EmbeddingError
        If the database has several spaces, for each of its records needs a vector in all of them; if the
        space is one of variable domains, which come with their place in a sequence.
    """
    started = time.monotonic()
    wishes, show = options or ImportOptions(), progress or Progress()
    spaces = database.spaces() if database.exists else []
    spec = _declared(database, file, wishes, spaces)
    _refuse_others(spec, spaces, database.path)
    known = database.repository.metadata_columns() if database.exists else {}
    require_room(database, file)
    one = _Input(file, _hashing(file))
    types = _checked(file, TypeInference(known))
    with database.writing(show) as repository:
        if not repository.spaces():
            repository.add_space(spec, is_default=True, is_complete=True)
        _refuse_others(spec, repository.spaces(), database.path)
        (space,) = repository.spaces()
        layout = Layout(database.path)
        writer = VectorWriter(repository, layout, space, wishes.on_duplicate, show)
        writer.report.widened = types.widened
        parameters = {"options": asdict(wishes), "spaces": [asdict(spec)]}
        with record_run(repository, "import", parameters, [one], writer.report) as run_id:
            show.start(file.reader.n_rows)
            stored = repository.metadata_columns()
            columns = {name: widen(kind, stored.get(name, kind)) for name, kind in types.types.items()}
            writer.write(run_id, 0, _pages(file, rows_of_segment(spec.dim)), columns)
            _complete(repository, space)
            writer.report.seconds = time.monotonic() - started
    return writer.report


# --- The space -----------------------------------------------------------------------------------


def _declared(
    database: Database, file: VectorFile, options: ImportOptions, spaces: Sequence[StoredSpace]
) -> EmbeddingSpec:
    """Return the space of the vectors, by flag, by the file, or an external one named like the file."""
    own = _spec_of(file) if file.reader.spec_json else None
    if options.request != SpaceRequest():
        if options.request.model is None:
            raise ParameterError("model", None, "named where layer or pooling are")
        _, specs = load_specs(options.request, None, database.model_options)
        if len(specs) != 1:
            raise ParameterError("layers", options.request.layers, "one layer: a record has one vector")
        asked: EmbeddingSpec | None = specs[0]
    else:
        asked = _named(options.space, file, spaces)
    if asked is not None and own is not None and asked.space_hash != own.space_hash:
        raise EmbeddingSpecMismatch(
            asked.describe(), own.describe(), hint=f"{file.name} names its own space: leave out the flags"
        )
    spec = asked or own or external_spec(Path(file.name).stem, file.reader.dim)
    if spec.dim != file.reader.dim:
        raise DimensionMismatch(file.reader.dim, spec.dim)
    return spec


def _named(name: str | None, file: VectorFile, spaces: Sequence[StoredSpace]) -> EmbeddingSpec | None:
    if name is None:
        return None
    stored = [s.spec for s in spaces if s.spec.name == name]
    if stored:
        return stored[0]
    if not name.removeprefix("external:") or "/" in name:
        known = ", ".join(s.spec.name for s in spaces) or "none yet"
        raise ParameterError("space", name, f"a space of the database ({known}), or a name without '/'")
    return external_spec(name, file.reader.dim)


def _spec_of(file: VectorFile) -> EmbeddingSpec:
    """Read the declaration inside a file, trusting nothing."""
    try:
        data = json.loads(file.reader.spec_json)
        types = {f.name: int if f.name in {"layer", "dim", "max_residues", "overlap"} else str
                 for f in fields(EmbeddingSpec)}  # fmt: skip
        wrong = [n for n, value in data.items() if n in types and type(value) is not types[n]]
        spec = EmbeddingSpec.from_json(file.reader.spec_json)
    except (ValueError, TypeError, AttributeError) as exc:
        raise FileFormatError(file.name, f"declares an embedding space that cannot be read: {exc}") from exc
    if wrong or spec.pooling not in POOLINGS or spec.long not in {"window", "truncate"} or spec.layer < 0:
        raise FileFormatError(file.name, f"declares an embedding space that cannot be: {data}")
    return spec


def _refuse_others(spec: EmbeddingSpec, spaces: Sequence[StoredSpace], path: Path) -> None:
    """Vectors of whole chains go to the one space of the database, or make the first."""
    for one in (spec, *(s.spec for s in spaces)):
        if one.reads_domains:
            raise EmbeddingError(
                f"{one.name} is a space of variable domains, which are found in sequences and not imported",
                hint="index the sequences (plmsearch index), which finds and embeds their domains; vectors "
                "that a database holds already come along with plmsearch merge and plmsearch backup",
            )
    if len(spaces) > 1:
        raise EmbeddingError(
            f"{str(path)!r} has {len(spaces)} spaces, and a file has vectors of one of them only",
            hint="import into a new database",
        )
    if spaces and spaces[0].spec.space_hash != spec.space_hash:
        stored = spaces[0].spec
        hint = f"declare the space with --space {stored.name} if the vectors are of it, or use a new database"
        raise EmbeddingSpecMismatch(spec.describe(), stored.describe(), hint=hint)


def _complete(repository: Repository, space: StoredSpace) -> None:
    """Let a space be searched again whose lost vectors have all been imported."""
    if space.is_complete or repository.n_without_vector(space.space_id):
        return
    if not records_without_any_vector(repository):
        repository.complete_space(space.space_id)


# --- The rows ------------------------------------------------------------------------------------


def _hashing(file: VectorFile) -> Future[str]:
    """Hash a file while its rows are checked; nobody waits for that if they are refused."""
    digest: Future[str] = Future()

    def run() -> None:
        try:
            digest.set_result(file.sha256())
        except BaseException as exc:
            digest.set_exception(exc)

    Thread(target=run, daemon=True).start()
    return digest


def _checked(file: VectorFile, types: TypeInference) -> TypeInference:
    """Read and check every row; return the types of the metadata columns."""
    seen: set[str] = set()
    n_seen = 0
    for page in file.pages(max(1, _CHECKED_BYTES // (file.reader.dim * 4))):
        try:
            check_vectors(page.vectors)
        except InvalidVectorError as error:
            reason = f"of record {page.ids[error.row]!r} {error.reason}"
            raise InvalidVectorError(n_seen + error.row, reason) from error
        _refuse_repeated(file, page.ids, seen, n_seen)
        for record in page.records or ():
            if record.sequence or record.metadata:
                types.observe(_prepared(record).metadata.items())
        n_seen += len(page.vectors)
    return types


def _refuse_repeated(file: VectorFile, ids: Sequence[str], seen: set[str], n_seen: int) -> None:
    new = set(ids)
    if len(new) < len(ids) or not new.isdisjoint(seen):
        for row, record_id in enumerate(ids, start=n_seen + 1):
            if record_id in seen:
                raise DuplicateRecordError(record_id, source=file.name, row=row)
            seen.add(record_id)
    seen |= new


def _pages(file: VectorFile, n_rows: int) -> Iterator[PreparedPage | BarePage]:
    row = 1
    for page in _read_ahead(file.pages(n_rows)):
        if page.records is None:
            yield BarePage(page.ids, page.vectors, file.name, row)
        else:
            yield PreparedPage([_prepared(record) for record in page.records], page.vectors)
        row += len(page.vectors)


def _read_ahead(pages: Iterator[VectorPage]) -> Iterator[VectorPage]:
    """Read the next page while one is stored; so two are held."""
    with ThreadPoolExecutor(1) as beside:
        coming = beside.submit(next, pages, None)
        while (page := coming.result()) is not None:
            coming = beside.submit(next, pages, None)
            yield page


def _prepared(record: SequenceRecord) -> Prepared:
    """Normalise and validate a row; one without a sequence gets what stands for it."""
    if record.sequence:
        return prepare(record, AddOptions())
    if not record.metadata:
        return Prepared(record, hash_hex=absent_sequence_hash(record.record_id))
    metadata = {n: text for n, value in record.metadata.items() if (text := as_text(value)) is not None}
    return Prepared(
        record=record,
        hash_hex=absent_sequence_hash(record.record_id),
        metadata=metadata,
        metadata_json=metadata_json(metadata),
    )
