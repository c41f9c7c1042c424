"""What a database holds and where it came from, gathered for people and programs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from plmsearch.errors import ParameterError
from plmsearch.indexing import index_is_due, kind_for, no_vectors
from plmsearch.reader import Reader
from plmsearch.search.judge import known_nulls
from plmsearch.search.nulls import KnownNull
from plmsearch.search.significance import NoNull
from plmsearch.store.directory import FORMAT_VERSION, Layout
from plmsearch.store.rankings import StoredRanking, StoredTransform
from plmsearch.store.repository import Repository
from plmsearch.store.rows import IndexFacts
from plmsearch.store.schema import HEAD

__all__ = [
    "LEDGER_COLUMNS",
    "DomainOverview",
    "NullOverview",
    "Overview",
    "RankingOverview",
    "RunOverview",
    "SpaceOverview",
    "describe_transform",
    "ledger_rows",
    "overview",
]

LEDGER_COLUMNS = ("input", "row", "input_id", "outcome", "record_id", "reason", "notes")


@dataclass(frozen=True, slots=True)
class SpaceOverview:
    """One embedding space; `spec` is the whole of it."""

    name: str
    description: str
    is_default: bool
    is_complete: bool
    n_vectors: int
    spec: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class NullOverview:
    """The null distribution of a ranking and a locus: what emb_pvalue comes from.

    Parameters
    ----------
    locus : str
        '' where the ranking does not compare by locus, and for sequences without one.
    n_sequences : int
        Distinct sequences that there were when it was built.
    n_sample : int
        Of them, those that it is made of.
    exponent : float or None
        Mean of the power law's exponent over queries; None: there is no null distribution.
    reason : str
        Why there is none; else empty.
    description : str
    """

    locus: str
    n_sequences: int
    n_sample: int
    exponent: float | None
    reason: str
    description: str


@dataclass(frozen=True, slots=True)
class RankingOverview:
    """One ranking; `parts` are its spaces, `index` what its approximate index is, `nulls` by locus."""

    name: str
    is_default: bool
    dim: int
    parts: list[Mapping[str, Any]]
    description: str
    index: Mapping[str, Any] | None
    index_description: str
    nulls: list[NullOverview]


@dataclass(frozen=True, slots=True)
class DomainOverview:
    """Variable domains of live records.

    Parameters
    ----------
    n_by_locus : mapping of str to int
        Domains, counted once for each record.
    n_without : int
        Records without any.
    """

    n_by_locus: Mapping[str, int]
    n_without: int


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
    rankings : list of RankingOverview
        What can be searched.
    columns : mapping of str to str
        Type of each metadata column.
    derived_columns : mapping of str to str
        Type of each column that follows from residues and calls (`plmsearch.filters.derived`).
    runs : list of RunOverview
    n_matching : int or None
        Live records that meet the condition that was given.
    domains : DomainOverview or None
        None: there is no space of variable domains.
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
    rankings: list[RankingOverview]
    columns: Mapping[str, str]
    derived_columns: Mapping[str, str]
    runs: list[RunOverview]
    n_matching: int | None = None
    domains: DomainOverview | None = None

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
    indexes = {i.ranking_id: i.facts for i in repository.indexes()}
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
            )
            for s in reader.spaces()
        ],
        rankings=[
            _ranking(r, indexes.get(r.ranking_id), known_nulls(repository.nulls(r.ranking_id)))
            for r in reader.rankings()
        ],
        columns=repository.metadata_columns(),
        derived_columns=repository.derived_columns(),
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
        domains=_domains(reader),
    )


def _domains(reader: Reader) -> DomainOverview | None:
    if not any(space.spec.reads_domains for space in reader.spaces()):
        return None
    return DomainOverview(*reader.repository.domains_of_records())


def _ranking(
    ranking: StoredRanking, facts: IndexFacts | None, nulls: Mapping[str, KnownNull]
) -> RankingOverview:
    parts: list[Mapping[str, Any]] = [
        {
            "space": part.space.spec.name,
            "weight": part.weight,
            "transform": None if part.transform is None else part.transform.transform.kind,
            "version": None if part.transform is None else part.transform.version,
            "n_fitted": {} if part.transform is None else dict(part.transform.transform.n_fitted),
        }
        for part in ranking.parts
    ]
    said = (describe_transform(part.transform) for part in ranking.parts)
    return RankingOverview(
        name=ranking.name,
        is_default=ranking.is_default,
        dim=ranking.dim,
        parts=parts,
        description="; ".join(dict.fromkeys(said)),
        index=None if facts is None else asdict(facts),
        index_description=_index_description(ranking, facts),
        nulls=[_null(one) for one in nulls.values()],
    )


def _null(known: KnownNull) -> NullOverview:
    null = known.null
    return NullOverview(
        locus=known.locus,
        n_sequences=known.n_sequences,
        n_sample=null.n_sample if isinstance(null, NoNull) else null.facts.n_sample,
        exponent=None if isinstance(null, NoNull) else null.facts.exponent,
        reason=null.reason if isinstance(null, NoNull) else "",
        description=known.describe(),
    )


def describe_transform(stored: StoredTransform | None) -> str:
    """Say in a few words what is done to vectors before they are compared."""
    if stored is None:
        return "vectors as they are"
    transform = stored.transform
    loci = ", ".join(name for name in transform.centres if name) or "all sequences"
    if transform.kind == "reference":
        return f"shipped centre ({loci}): a score means the same in every database"
    n_vectors = sum(transform.n_fitted.values())
    what = {"centre": "centre", "whiten": f"whitening to {transform.n_components} directions"}[transform.kind]
    return f"{what} fitted on {n_vectors:,} vectors of this database ({loci}), version {stored.version}"


def _index_description(ranking: StoredRanking, facts: IndexFacts | None) -> str:
    """Say how a ranking is searched, and why."""
    n_vectors = ranking.n_vectors
    if not ranking.keeps_vectors and kind_for(n_vectors, ranking.dim)[0] is not None:
        return no_vectors(ranking)
    due = "; plmsearch optimize is due" if index_is_due(n_vectors, facts) else ""
    if facts is None:
        kind, why = kind_for(n_vectors, ranking.dim)
        return f"exact search{due}" if kind is not None else why
    n_fresh = n_vectors - facts.n_vectors
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
