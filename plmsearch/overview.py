"""What a database holds and where it came from, gathered for people and programs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from plmsearch.errors import ParameterError
from plmsearch.indexing import index_is_due
from plmsearch.reader import Reader
from plmsearch.store.directory import FORMAT_VERSION, Layout
from plmsearch.store.repository import Repository
from plmsearch.store.rows import IndexFacts, StoredSpace
from plmsearch.store.schema import HEAD

__all__ = ["LEDGER_COLUMNS", "Overview", "RunOverview", "SpaceOverview", "ledger_rows", "overview"]

LEDGER_COLUMNS = ("input", "row", "input_id", "outcome", "record_id", "reason", "notes")


@dataclass(frozen=True, slots=True)
class SpaceOverview:
    """One embedding space; `spec` is the whole of it, `index` what its approximate index is."""

    name: str
    description: str
    is_default: bool
    is_complete: bool
    n_vectors: int
    spec: Mapping[str, Any]
    index: Mapping[str, Any] | None
    index_description: str


@dataclass(frozen=True, slots=True)
class RunOverview:
    """One run: versions, parameters and summary as they were recorded."""

    run_id: int
    command: str
    status: str
    started: str
    finished: str | None
    inputs: list[dict[str, Any]]
    versions: Mapping[str, str]
    parameters: Mapping[str, Any]
    summary: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Overview:
    """What `plmsearch info` shows.

    Parameters
    ----------
    path : str
    format_version : int
    schema : str
    generation : int
        Number of commits.
    n_records, n_sequences, n_residues : int
        Live records, their distinct sequences, and the residues of all stored sequences.
    size_bytes : int
        Of all files of the directory.
    spaces : list of SpaceOverview
    columns : mapping of str to str
        Type of each metadata column.
    runs : list of RunOverview
    n_matching : int or None
        Live records that meet the condition that was given.
    """

    path: str
    format_version: int
    schema: str
    generation: int
    n_records: int
    n_sequences: int
    n_residues: int
    size_bytes: int
    spaces: list[SpaceOverview]
    columns: Mapping[str, str]
    runs: list[RunOverview]
    n_matching: int | None = None

    def to_json(self) -> str:
        """Return one JSON object, indented."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False)


def overview(reader: Reader, *, where: str | None = None) -> Overview:
    """Gather everything that `plmsearch info` shows.

    Raises
    ------
    FilterError
        If `where` cannot be read, or does not fit the columns.
    """
    repository = reader.repository
    indexes = {i.space_id: i.facts for i in repository.indexes()}
    return Overview(
        path=str(reader.path),
        format_version=FORMAT_VERSION,
        schema=HEAD,
        generation=repository.generation(),
        n_records=repository.n_records(),
        n_sequences=repository.n_sequences(),
        n_residues=repository.n_residues(),
        size_bytes=sum(p.stat().st_size for p in Layout(reader.path).root.rglob("*") if p.is_file()),
        spaces=[
            SpaceOverview(
                name=s.spec.name,
                description=s.spec.describe(),
                is_default=s.is_default,
                is_complete=s.is_complete,
                n_vectors=s.n_vectors,
                spec=asdict(s.spec),
                index=asdict(indexes[s.space_id]) if s.space_id in indexes else None,
                index_description=_index_description(s, indexes.get(s.space_id)),
            )
            for s in reader.spaces()
        ],
        columns=repository.metadata_columns(),
        runs=[
            RunOverview(
                run_id=r.run_id,
                command=r.command,
                status=r.status,
                started=r.started,
                finished=r.finished,
                inputs=repository.run_inputs(r.run_id),
                versions=json.loads(r.versions),
                parameters=json.loads(r.parameters),
                summary=None if r.summary is None else json.loads(r.summary),
            )
            for r in repository.runs()
        ],
        n_matching=None if where is None else reader.select(where).n_records,
    )


def _index_description(space: StoredSpace, facts: IndexFacts | None) -> str:
    """Say how a space is searched, and why."""
    due = "; plmsearch optimize is due" if index_is_due(space.n_vectors, facts) else ""
    if facts is None:
        return f"exact search{due}"
    n_fresh = space.n_vectors - facts.n_vectors
    fresh = f"; {n_fresh:,} newer vectors are searched exactly" if n_fresh > 0 else ""
    return f"{facts.describe()}{fresh}{due}"


def ledger_rows(reader: Reader, run_id: int) -> Iterator[dict[str, object]]:
    """Return what became of each input row of a run, in input order.

    Raises
    ------
    ParameterError
        If there is no such run; by this call, before the first row is asked for.
    """
    repository = reader.repository
    known = [r.run_id for r in repository.runs()]
    if run_id not in known:
        raise ParameterError("ledger", run_id, f"a run of the database: {', '.join(map(str, known))}")
    return _ledger_rows(repository, run_id)


def _ledger_rows(repository: Repository, run_id: int) -> Iterator[dict[str, object]]:
    names = {i["input"]: i["name"] for i in repository.run_inputs(run_id)}
    for row, record_id in repository.ledger(run_id):
        yield {
            "input": names.get(row.input, str(row.input)),
            "row": row.row,
            "input_id": row.input_id,
            "outcome": row.outcome,
            "record_id": record_id,
            "reason": row.reason,
            "notes": row.notes,
        }
