"""Read the inputs whole before anything is embedded.

A mistake in the last row is found before the first forward pass, the types of metadata columns are
inferred over all rows, and the progress bar knows its end. Memory stays bounded: 16 bytes a row when
duplicates are an error, a fixed sample otherwise.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from plmsearch.domains import CHAIN_SEPARATOR
from plmsearch.embedding.choose import Reservoir
from plmsearch.errors import DuplicateRecordError, InvalidResidueError, SequenceTooLongError
from plmsearch.ingest.distinct import DistinctCount
from plmsearch.ingest.prepare import Prepared, prepare
from plmsearch.ingest.report import AddOptions
from plmsearch.metadata import TypeInference, metadata_json
from plmsearch.sequences import SequenceRecord
from plmsearch.slices import slices
from plmsearch.store.rows import StoredRecord

__all__ = ["Input", "RecordList", "Scan", "scan"]

_LOOK_UP = 900


class Input(Protocol):
    """What an ingest reads: can be iterated more than once."""

    @property
    def name(self) -> str:
        """Name for messages."""

    @property
    def format(self) -> str:
        """Such as ``fasta``."""

    @property
    def size_bytes(self) -> int | None:
        """Size of the file, where there is one."""

    def sha256(self) -> str | None:
        """Digest of the file's bytes, hexadecimal, where there is a file."""

    def __iter__(self) -> Iterator[SequenceRecord]: ...


class RecordList:
    """Records in memory, as an input.

    Parameters
    ----------
    records : iterable of SequenceRecord
    name : str
    """

    format = "records"
    size_bytes = None

    def __init__(self, records: Iterable[SequenceRecord], name: str = "<records>") -> None:
        self.name = name
        self._records = list(records)

    def sha256(self) -> None:
        """Return None: there is no file."""

    def __iter__(self) -> Iterator[SequenceRecord]:
        for row, r in enumerate(self._records, start=1):
            yield replace(r, source=self.name, row=row)


@dataclass(frozen=True, slots=True)
class Scan:
    """What the inputs hold.

    Parameters
    ----------
    n_rows : int
    types : TypeInference
        Type of every metadata column, over all rows.
    sample : list of str
        Residues of a uniform sample, for choosing a model.
    longest : Prepared or None
        The row with the longest sequence.
    least_sequences : int
        The inputs hold hardly ever fewer distinct sequences.
    several_chains : Prepared or None
        The first row with several chains.
    samples : list of list of str
        Of each input by itself, a sample as `sample`.
    """

    n_rows: int
    types: TypeInference
    sample: list[str]
    longest: Prepared | None
    least_sequences: int
    several_chains: Prepared | None = None
    samples: list[list[str]] = field(default_factory=list)

    def refuse_several_chains(self) -> None:
        """Stop if a row holds several chains.

        Raises
        ------
        InvalidResidueError
            For the first.
        """
        if self.several_chains is not None:
            record = self.several_chains.record
            place = record.sequence.index(CHAIN_SEPARATOR) + 1
            raise InvalidResidueError(
                record.record_id, CHAIN_SEPARATOR, place, source=record.source, row=record.row
            )

    def refuse_long(self, max_residues: int) -> None:
        """Stop if a sequence is longer than the model reads.

        Raises
        ------
        SequenceTooLongError
            For the longest.
        """
        if self.longest is not None and len(self.longest.residues) > max_residues:
            record = self.longest.record
            raise SequenceTooLongError(
                record.record_id,
                len(self.longest.residues),
                max_residues,
                source=record.source,
                row=record.row,
            )


def scan(
    inputs: Sequence[Input],
    options: AddOptions,
    known_types: Mapping[str, str],
    find_records: Callable[[Sequence[str]], Mapping[str, StoredRecord]],
) -> Scan:
    """Read and validate every row of every input.

    Parameters
    ----------
    inputs : sequence of Input
    options : AddOptions
    known_types : mapping of str to str
        Types of the database's columns.
    find_records : callable
        Live records of the database by id; used only if duplicates are an error.

    Raises
    ------
    InputError
        If a row cannot be used and the policy is to stop.
    """
    types = TypeInference(known_types)
    sample, distinct = Reservoir(), DistinctCount()
    longest: Prepared | None = None
    several: Prepared | None = None
    n_rows = 0
    ids = _Ids() if options.on_duplicate == "error" else None
    samples = [Reservoir() for _ in inputs]
    for one, own_sample in zip(inputs, samples, strict=True):
        for part in slices((prepare(record, options, takes_chains=True) for record in one), _LOOK_UP):
            n_rows += len(part)
            good = [p for p in part if not p.reason]
            for prepared in good:
                types.observe(prepared.metadata.items())
                sample.add(prepared.residues)
                own_sample.add(prepared.residues)
                distinct.add(prepared.hash_hex)
                if several is None and CHAIN_SEPARATOR in prepared.residues:
                    several = prepared
                if longest is None or len(prepared.residues) > len(longest.residues):
                    longest = prepared
            if ids is not None:
                _refuse_taken(good, find_records)
                ids.extend(good)
    if ids is not None:
        _refuse_repeated(ids, inputs, options)
    return Scan(
        n_rows,
        types,
        list(sample.sample),
        longest,
        distinct.at_least,
        several,
        [list(of_input.sample) for of_input in samples],
    )


def _refuse_taken(
    rows: Sequence[Prepared], find_records: Callable[[Sequence[str]], Mapping[str, StoredRecord]]
) -> None:
    """Stop if an id is taken by a different record of the database."""
    taken = find_records([p.record.record_id for p in rows])
    for p in rows:
        stored = taken.get(p.record.record_id)
        if stored is None:
            continue
        if (stored.sequence_hash, stored.description, metadata_json(stored.metadata)) != p.content:
            raise DuplicateRecordError(p.record.record_id, source=p.record.source, row=p.record.row)


class _Ids:
    """Ids and contents of all rows as 64-bit digests: 16 bytes a row."""

    def __init__(self) -> None:
        self._values = array("Q")

    def extend(self, rows: Iterable[Prepared]) -> None:
        for p in rows:
            self._values.append(_short(p.record.record_id))
            self._values.append(_short("\0".join(p.content)))

    def repeated(self) -> set[int]:
        """Return the id digests that stand with more than one content."""
        pairs = np.unique(np.frombuffer(self._values, dtype=np.uint64).reshape(-1, 2), axis=0)
        ids = pairs[:, 0]
        return set(ids[1:][ids[1:] == ids[:-1]].tolist())


def _short(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def _refuse_repeated(ids: _Ids, inputs: Sequence[Input], options: AddOptions) -> None:
    """Find the row behind a repeated digest, comparing the ids themselves."""
    suspects = ids.repeated()
    if not suspects:
        return
    seen: dict[str, tuple[str, str, str]] = {}
    for one in inputs:
        for record in one:
            if _short(record.record_id) not in suspects:
                continue
            prepared = prepare(record, options, takes_chains=True)
            if (
                not prepared.reason
                and seen.setdefault(record.record_id, prepared.content) != prepared.content
            ):
                raise DuplicateRecordError(record.record_id, source=record.source, row=record.row)
