"""A few histories of operations, crashes and reopenings, the same each time."""

from __future__ import annotations

import os
import tempfile

from torture.machine import Machine, run
from torture.workload import ROWS_AT_ONCE

from plmsearch.ingest import chunks


def test_whatever_is_done_in_whatever_order_the_database_holds_what_a_dictionary_does(monkeypatch):
    monkeypatch.setattr(chunks, "_MAX_ROWS", ROWS_AT_ONCE)
    if os.access("/dev/shm", os.W_OK):
        monkeypatch.setattr(tempfile, "tempdir", "/dev/shm")  # where a sync costs nothing
    tally = run(9, 14, None)
    assert not tally.failed, tally.examples
    assert tally.tried >= 9
    assert sum(n for name, n in Machine.done.items() if name.startswith("crash")) >= 5
