"""What the catalog gives and takes, as plain dataclasses."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from plmsearch.errors import StorageError
from plmsearch.numbering import REGIONS
from plmsearch.store.segments import FileStamp

__all__ = [
    "Chunk",
    "Counters",
    "DerivedFile",
    "IndexFacts",
    "LedgerRow",
    "NewRecord",
    "NewSegment",
    "NewSequence",
    "ReceptorRow",
    "RunRow",
    "SearchedSize",
    "StoredDomain",
    "StoredIndex",
    "StoredMetadata",
    "StoredNull",
    "StoredRecord",
    "StoredSegment",
    "VectorRow",
]


@dataclass(frozen=True, slots=True)
class DerivedFile:
    """A file of vectors as a ranking compares them; its ids are those of a segment, or some of them."""

    ranking_id: int
    file: str
    stamp: FileStamp


@dataclass(frozen=True, slots=True)
class StoredSegment:
    """A vector file of one space, and the files derived from it by id of ranking."""

    segment_id: int
    file: str
    n_vectors: int
    stamp: FileStamp
    derived: Mapping[int, DerivedFile] = field(default_factory=dict)


class StoredMetadata(Mapping[str, str]):
    """The metadata of one record, read from the stored JSON when it is first looked at.

    Read-only. Equal to any mapping of the same items; a deep copy, and so what `dataclasses.asdict`
    makes of it, is a dict.

    Parameters
    ----------
    text : str
        JSON of an object.

    Raises
    ------
    StorageError
        When it is looked at, if it is no such JSON.

    Examples
    --------
    >>> metadata = StoredMetadata('{"v_call": "IGHV1-2*02"}')
    >>> metadata["v_call"], metadata == {"v_call": "IGHV1-2*02"}
    ('IGHV1-2*02', True)
    """

    __slots__ = ("_held",)

    def __init__(self, text: str) -> None:
        self._held: str | dict[str, str] = text

    def _values(self) -> dict[str, str]:
        if isinstance(self._held, str):
            try:
                found = json.loads(self._held)
            except ValueError:
                found = None
            if not isinstance(found, dict):
                reason = f"the metadata of a record are not a JSON object: {self._held[:80]!r}"
                raise StorageError("catalog.sqlite", reason, hint="restore it from a backup")
            self._held = found
        return self._held

    def __getitem__(self, name: str) -> str:
        return self._values()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values())

    def __len__(self) -> int:
        return len(self._values())

    def __repr__(self) -> str:
        return repr(self._values())

    def __deepcopy__(self, _memo: object) -> dict[str, str]:
        return dict(self._values())


class StoredDomain(NamedTuple):
    """A variable domain of a sequence.

    Parameters
    ----------
    source_id : int
        The sequence it was cut from.
    number : int
        From 1, in order of place.
    sequence_id : int
        The sequence that is its residues: vector id in spaces that read domains.
    locus : str
    start : int
        Place in the source, from 0.
    ends : tuple of int
        As `plmsearch.domains.CutDomain`.
    is_complete : bool
    v_call, j_call : str or None
        Germline genes that were inferred from the residues; None: nobody has looked.
    v_identity : float or None
        Share of V residues that agree, 0 to 1.
    species : str or None
        Of the germline set.
    """

    source_id: int
    number: int
    sequence_id: int
    locus: str
    start: int
    ends: tuple[int, ...]
    is_complete: bool
    v_call: str | None = None
    j_call: str | None = None
    v_identity: float | None = None
    species: str | None = None

    def values(self) -> tuple[Any, ...]:
        """Return the values of a row of the table, in the order of its columns."""
        head = (self.source_id, self.number, self.sequence_id, self.locus, self.start)
        return (*head, *self.ends, int(self.is_complete), *self[7:])

    @classmethod
    def from_values(cls, row: Sequence[Any]) -> StoredDomain:
        """Read what `values` wrote."""
        last = 5 + len(REGIONS)
        source_id, number, sequence_id, locus, start = row[:5]
        is_complete, v_call, j_call, v_identity, species = row[last:]
        ends, whole = tuple(row[5:last]), bool(is_complete)
        return cls(
            source_id, number, sequence_id, locus, start, ends, whole, v_call, j_call, v_identity, species
        )


class ReceptorRow(NamedTuple):
    """What decides by residues and genes alone: a variable domain of a live record.

    Parameters
    ----------
    key : int
        Of the record.
    source_id, number, sequence_id, locus
        As `StoredDomain`.
    cdr3 : str
    v_given, j_given : str or None
        Calls of the record's metadata.
    v_call, j_call : str or None
        Calls that were inferred from the residues.
    """

    key: int
    source_id: int
    number: int
    sequence_id: int
    locus: str
    cdr3: str
    v_given: str | None
    j_given: str | None
    v_call: str | None
    j_call: str | None

    @property
    def domain(self) -> StoredDomain:
        """The domain, without its place and regions."""
        head = (self.source_id, self.number, self.sequence_id, self.locus)
        return StoredDomain(*head, 0, (), True, self.v_call, self.j_call)


class StoredRecord(NamedTuple):
    """A live record with its sequence.

    Parameters
    ----------
    key : int
        Insertion order.
    record_id : str
    sequence_id : int
        Vector id of its sequence.
    description : str
    metadata : mapping of str to str
        The text that was read; a null has no key.
    residues : str
        Normalised.
    sequence_hash : str
        SHA-256, hexadecimal.
    domain : StoredDomain or None
        The one that was found or asked for, where what is searched are domains.
    """

    key: int
    record_id: str
    sequence_id: int
    description: str
    metadata: Mapping[str, str]
    residues: str
    sequence_hash: str
    domain: StoredDomain | None = None

    @property
    def vector_id(self) -> int:
        """Id of the vectors: of the domain if one is meant, else of the whole sequence."""
        return self.sequence_id if self.domain is None else self.domain.sequence_id

    @property
    def unit_residues(self) -> str:
        """Residues of the domain if one is meant, else all."""
        if self.domain is None:
            return self.residues
        return self.residues[self.domain.start : self.domain.start + self.domain.ends[-1]]

    @property
    def unit_id(self) -> str:
        """How a domain is addressed, such as ``id#2``; the id, if none is meant."""
        return self.record_id if self.domain is None else f"{self.record_id}#{self.domain.number}"


@dataclass(frozen=True, slots=True)
class SearchedSize:
    """What a search compares with: distinct sequences, and their residues in all.

    `n_unknown` of the sequences are not known: vectors that were imported without residues.
    """

    n_sequences: int
    n_residues: int
    n_unknown: int


@dataclass(frozen=True, slots=True)
class Counters:
    """The next free ids."""

    sequence_id: int
    record_key: int
    segment_id: int


@dataclass(frozen=True, slots=True)
class IndexFacts:
    """What an approximate index holds and how well it was found to search.

    Parameters
    ----------
    kind : str
        Of `plmsearch.index.approximate.ENGINE_KINDS`.
    segments : tuple of int
        Ids of the segments it covers, in the order of their rows.
    n_vectors : int
    n_held : int
        Vectors that the recall was measured with; they were added after the others.
    seed : int
        Of the draw of those.
    effort : int
        Of a search: ``efSearch`` or ``nprobe``.
    recall_asked, recall : float
        Recall@10; the second measured on queries that did not choose the effort.
    n_queries : int
        Number of those.
    seconds_per_query, exact_seconds_per_query : float
        Measured on the machine that built it, many queries at once.
    reason : str
        Why it is of this kind.
    """

    kind: str
    segments: tuple[int, ...]
    n_vectors: int
    n_held: int
    seed: int
    effort: int
    recall_asked: float
    recall: float
    n_queries: int
    seconds_per_query: float
    exact_seconds_per_query: float
    reason: str = ""

    def describe(self) -> str:
        """Say in a line what the index is, why, and what it achieves."""
        why = f" ({self.reason})" if self.reason else ""
        return (
            f"{self.kind}{why} over {self.n_vectors:,} vectors, effort {self.effort}, "
            f"recall@10 {self.recall:.4f} on {self.n_queries} held-back queries ({self.recall_asked:g} asked)"
        )

    def to_json(self) -> str:
        """Return JSON that `from_json` reads."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> IndexFacts:
        """Read what `to_json` wrote."""
        data = json.loads(text)
        return cls(**{**data, "segments": tuple(data["segments"])})


@dataclass(frozen=True, slots=True)
class StoredIndex:
    """An approximate index: a file in ``derived/`` and what is known of it."""

    ranking_id: int
    file: str
    stamp: FileStamp
    facts: IndexFacts


@dataclass(frozen=True, slots=True)
class StoredNull:
    """What is stored of the null distribution of a ranking's scores; `plmsearch.search.nulls` reads it.

    Parameters
    ----------
    ranking_id : int
    locus : str
        '' where the ranking does not compare by locus, and for sequences without one.
    facts : str
        JSON.
    data : bytes
        Arrays.
    """

    ranking_id: int
    locus: str
    facts: str
    data: bytes


class NewSequence(NamedTuple):
    """A sequence to store; `hash_bytes` is its raw SHA-256."""

    sequence_id: int
    hash_bytes: bytes
    residues: str


class NewRecord(NamedTuple):
    """A record to store; `metadata_json` is canonical: sorted keys, text values.

    `is_buried`: a later row of the same chunk replaced it, so it is stored as deleted.
    """

    key: int
    record_id: str
    sequence_id: int
    description: str
    metadata_json: str
    is_buried: bool = False


class VectorRow(NamedTuple):
    """Where the vector of a sequence is, and how it was made."""

    sequence_id: int
    row: int
    n_windows: int
    n_used: int
    n_unknown: int


@dataclass(frozen=True, slots=True)
class NewSegment:
    """A segment file in place, to be made part of the database."""

    segment_id: int
    space_id: int
    file: str
    stamp: FileStamp
    rows: Sequence[VectorRow]
    derived: Sequence[DerivedFile] = ()


class LedgerRow(NamedTuple):
    """What became of one input row.

    Parameters
    ----------
    input : int
        Number of the input, from 0.
    row : int
        Row of the input, from 1.
    input_id : str
        The id as read.
    outcome : str
        ``added``, ``renamed``, ``replaced``, ``present``, ``skipped`` or ``deleted``.
    record_key : int or None
        The record it became or already was.
    reason : str
        Why it was left out or renamed; else empty.
    notes : str
        JSON of what was changed or counted; else empty.
    """

    input: int
    row: int
    input_id: str
    outcome: str
    record_key: int | None = None
    reason: str = ""
    notes: str = ""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Everything one commit changes.

    `buried` are the keys of records that get a tombstone, `loci` the loci of sequences, by id, `domains` the
    variable domains of those that were looked at, by id.
    """

    run_id: int
    counters: Counters
    sequences: Iterable[NewSequence] = ()
    records: Iterable[NewRecord] = ()
    segments: Iterable[NewSegment] = ()
    buried: Sequence[int] = ()
    ledger: Iterable[LedgerRow] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    loci: Mapping[int, str] = field(default_factory=dict)
    domains: Mapping[int, Sequence[StoredDomain]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RunRow:
    """One run: what was asked, with what, and how it ended.

    `status` is ``running``, ``finished``, ``failed`` or ``interrupted``. `versions`, `parameters`
    and `summary` are JSON text.
    """

    run_id: int
    command: str
    status: str
    started: str
    finished: str | None
    versions: str
    parameters: str
    summary: str | None
