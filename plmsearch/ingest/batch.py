"""What waits for the next commit: new sequences, records, and what became of each row."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count, repeat

from plmsearch.ingest.prepare import Prepared
from plmsearch.ingest.report import AddReport, SkippedRow
from plmsearch.ingest.resolve import Resolution
from plmsearch.store.repository import Repository
from plmsearch.store.rows import (
    Chunk,
    Counters,
    LedgerRow,
    NewRecord,
    NewSegment,
    NewSequence,
    StoredDomain,
)

__all__ = ["Batch"]


@dataclass(frozen=True, slots=True)
class _NewRows:
    """Rows of nothing but an id; what they add is made when it is asked for, and never held."""

    number: int
    ids: Sequence[str]
    hashes: Sequence[bytes]
    first_row: int
    first_key: int
    first_sequence_id: int

    @property
    def sequence_ids(self) -> range:
        return range(self.first_sequence_id, self.first_sequence_id + len(self.ids))

    def sequences(self) -> Iterator[NewSequence]:
        return map(NewSequence, self.sequence_ids, self.hashes, repeat(""))

    def records(self) -> Iterator[NewRecord]:
        return map(NewRecord, count(self.first_key), self.ids, self.sequence_ids, repeat(""), repeat("{}"))

    def ledger(self) -> Iterator[LedgerRow]:
        rows, keys = count(self.first_row), count(self.first_key)
        return map(LedgerRow, repeat(self.number), rows, self.ids, repeat("added"), keys)


class Batch:
    """Numbers what is new, and commits it.

    Parameters
    ----------
    repository : Repository
        Opened for writing, under the lock.
    report : AddReport
        Counts the rows that were committed.

    Attributes
    ----------
    next_key : int
        Of the next record.
    """

    def __init__(self, repository: Repository, report: AddReport) -> None:
        self._repository, self._report = repository, report
        counters = repository.counters()
        self.next_key = counters.record_key
        self._next_sequence_id, self._next_segment_id = counters.sequence_id, counters.segment_id
        self._clear()

    def _clear(self) -> None:
        self._has_stored = self._next_sequence_id > 1
        self._sequences: list[NewSequence] = []
        self._ids_by_hash: dict[str, int] = {}
        self._records: list[NewRecord] = []
        self._buried: list[int] = []
        self._ledger: list[LedgerRow] = []
        self._skipped: list[SkippedRow] = []
        self._changes: Counter[str] = Counter()
        self._sources: Counter[str] = Counter()
        self._new: list[_NewRows] = []

    @property
    def n_rows(self) -> int:
        """Rows noted since the last commit."""
        return len(self._ledger) + sum(len(new.ids) for new in self._new)

    @property
    def n_sequences(self) -> int:
        """New sequences since the last commit."""
        return len(self._sequences) + sum(len(new.ids) for new in self._new)

    # --- One row ---------------------------------------------------------------------------------

    def known(self, rows: Iterable[Prepared]) -> dict[str, int]:
        """Return the ids of the rows' sequences that are stored or wait to be, by hash."""
        return self.known_hashes(r.hash_hex for r in rows if r.hash_hex)

    def known_hashes(self, hashes: Iterable[str]) -> dict[str, int]:
        """Return the ids of sequences that are stored or wait to be, by hash; as `known`."""
        asked = set(hashes)
        known = {h: i for h in asked if (i := self._ids_by_hash.get(h)) is not None}
        if self._has_stored:
            stored = self._repository.sequence_ids({bytes.fromhex(h) for h in asked})
            known.update((hash_bytes.hex(), i) for hash_bytes, i in stored.items())
        return known

    def sequence_id(self, row: Prepared, known: dict[str, int]) -> int:
        """Return the id of a row's sequence; one that is not `known` is added, and is from now on."""
        return self.add_sequence(row.hash_hex, row.residues, known)

    def add_sequence(self, hash_hex: str, residues: str, known: dict[str, int]) -> int:
        """Return the id of a sequence; as `sequence_id`."""
        sequence_id = known.get(hash_hex)
        if sequence_id is None:
            sequence_id = known[hash_hex] = self._ids_by_hash[hash_hex] = self._next_sequence_id
            self._next_sequence_id += 1
            self._sequences.append(NewSequence(sequence_id, bytes.fromhex(hash_hex), residues))
        return sequence_id

    def add_record(self, row: Prepared, resolution: Resolution, sequence_id: int) -> None:
        """Add the record that a row becomes, in the place of one that it replaces."""
        if resolution.replaces is not None:
            self._bury(resolution.replaces)
        description, metadata = row.record.description, row.metadata_json
        self._records.append(
            NewRecord(self.next_key, resolution.record_id, sequence_id, description, metadata)
        )
        self.next_key += 1

    def _bury(self, key: int) -> None:
        """Give a record its tombstone, whether it is committed or comes with this batch."""
        place = len(self._records) - (self.next_key - key)
        if place < 0:
            self._buried.append(key)
        else:
            self._records[place] = self._records[place]._replace(is_buried=True)

    def note(
        self, number: int, row: Prepared, resolution: Resolution, made: Mapping[str, int] | None = None
    ) -> None:
        """Note what became of a row of an input; `made` is what its embedding has to tell."""
        record, reason = row.record, resolution.reason
        notes = json.dumps({**row.notes, **(made or {})}, sort_keys=True) if row.notes or made else ""
        self._ledger.append(
            LedgerRow(
                number, record.row or 0, record.record_id, resolution.outcome, resolution.key, reason, notes
            )
        )
        if row.notes:
            self._changes.update(row.notes.keys())
        if resolution.outcome == "skipped":
            self._skipped.append(SkippedRow(record.source, record.row, record.record_id, reason))
        elif record.residue_source:
            self._sources[record.residue_source] += 1

    # --- Many rows -------------------------------------------------------------------------------

    def add_new(self, number: int, ids: Sequence[str], hashes: Sequence[bytes], first_row: int) -> range:
        """Add records of nothing but an id, none of which is known.

        Parameters
        ----------
        number : int
            Of the input.
        ids : sequence of str
            Distinct.
        hashes : sequence of bytes
            What stands for the sequence of each.
        first_row : int
            Row of the first, from 1.

        Returns
        -------
        range
            Ids of the sequences.
        """
        n = len(ids)
        new = _NewRows(number, ids, hashes, first_row, self.next_key, self._next_sequence_id)
        self._new.append(new)
        self.next_key += n
        self._next_sequence_id += n
        return new.sequence_ids

    # --- Commit ----------------------------------------------------------------------------------

    def new_segment_id(self) -> int:
        """Return the id of a segment that comes with the next commit."""
        self._next_segment_id += 1
        return self._next_segment_id - 1

    def commit(
        self,
        run_id: int,
        segments: Iterable[NewSegment],
        columns: Mapping[str, str],
        loci: Mapping[int, str] | None = None,
        domains: Mapping[int, Sequence[StoredDomain]] | None = None,
    ) -> None:
        """Commit all of it with its segments, and count the rows.

        Parameters
        ----------
        run_id : int
        segments : iterable of NewSegment
            Asked for last, so that files are written meanwhile.
        columns : mapping of str to str
            Type of each metadata column.
        loci : mapping of int to str, optional
            Of sequences, by id.
        domains : mapping of int to sequence of StoredDomain, optional
            Of sequences that were looked at, by id.
        """
        self._repository.commit(
            Chunk(
                run_id=run_id,
                counters=Counters(self._next_sequence_id, self.next_key, self._next_segment_id),
                sequences=chain(self._sequences, *(new.sequences() for new in self._new)),
                records=chain(self._records, *(new.records() for new in self._new)),
                segments=segments,
                buried=self._buried,
                ledger=chain(self._ledger, *(new.ledger() for new in self._new)),
                columns=columns,
                loci=loci or {},
                domains=domains or {},
            )
        )
        outcomes = Counter(row.outcome for row in self._ledger)
        outcomes["added"] += sum(len(new.ids) for new in self._new)
        self._report.count_rows(outcomes)
        self._report.changes.update(self._changes)
        self._report.sources.update(self._sources)
        self._report.skipped.extend(self._skipped)
        self._clear()
