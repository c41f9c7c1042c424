"""What the catalog gives and takes, as plain dataclasses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from plmsearch.embedding.spec import EmbeddingSpec
from plmsearch.store.segments import FileStamp

__all__ = [
    "Chunk",
    "Counters",
    "LedgerRow",
    "NewRecord",
    "NewSegment",
    "NewSequence",
    "RunRow",
    "StoredRecord",
    "StoredSegment",
    "StoredSpace",
    "VectorRow",
]


@dataclass(frozen=True, slots=True)
class StoredSpace:
    """An embedding space of the database.

    Parameters
    ----------
    space_id : int
    spec : EmbeddingSpec
    is_default : bool
        Searched when no space is named.
    is_complete : bool
        False while the vectors of stored sequences are still being computed.
    n_vectors : int
    """

    space_id: int
    spec: EmbeddingSpec
    is_default: bool
    is_complete: bool
    n_vectors: int


@dataclass(frozen=True, slots=True)
class StoredSegment:
    """A vector file of one space; `unit` is its copy with rows of unit length, if there is one."""

    segment_id: int
    file: str
    n_vectors: int
    stamp: FileStamp
    unit_file: str | None
    unit_stamp: FileStamp | None


@dataclass(frozen=True, slots=True)
class StoredRecord:
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
    """

    key: int
    record_id: str
    sequence_id: int
    description: str
    metadata: Mapping[str, str]
    residues: str
    sequence_hash: str


@dataclass(frozen=True, slots=True)
class Counters:
    """The next free ids."""

    sequence_id: int
    record_key: int
    segment_id: int


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
    unit_file: str
    unit_stamp: FileStamp


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
    """Everything one commit changes; `buried` are the keys of records that get a tombstone."""

    run_id: int
    counters: Counters
    sequences: Iterable[NewSequence] = ()
    records: Iterable[NewRecord] = ()
    segments: Iterable[NewSegment] = ()
    buried: Sequence[int] = ()
    ledger: Iterable[LedgerRow] = ()
    columns: Mapping[str, str] = field(default_factory=dict)


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
