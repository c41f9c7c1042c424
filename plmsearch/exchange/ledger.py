"""The lines of a run's ledger, for records that are read a second time."""

from __future__ import annotations

from collections.abc import Iterator

from plmsearch.exchange.pages import changed_meanwhile
from plmsearch.reader import Reader
from plmsearch.store.rows import LedgerRow, StoredRecord

__all__ = ["LedgerLines"]


class LedgerLines:
    """The lines of a run in order, looked up for records in order; those of one record come together."""

    def __init__(self, entries: Iterator[tuple[LedgerRow, str | None]]) -> None:
        self._entries = entries
        self._last: tuple[LedgerRow, str | None] | None = None

    def of(self, number: int, record: StoredRecord, reader: Reader) -> tuple[LedgerRow, str | None]:
        """Return a record's line, and its id in the new database: None if it was left out."""
        wanted = (number, record.record_id)
        if self._last is not None and (self._last[0].input, self._last[0].input_id) == wanted:
            return self._last
        for entry in self._entries:
            if (entry[0].input, entry[0].input_id) == wanted:
                self._last = entry
                return entry
        raise changed_meanwhile(reader)
