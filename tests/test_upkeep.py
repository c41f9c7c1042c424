"""Files that were deleted, damaged or copied are put right by the next writer."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

import plmsearch
from plmsearch.store import vector_files
from plmsearch.store.directory import Layout

RECORDS = [("a", "EVQLVESGGGLVQPGG"), ("b", "DIQMTQSPSSLSASVG"), ("c", "QVQLQESGPGLVKPSE")]
MORE = [("d", "QSALTQPASVSGSPGQ")]


@pytest.fixture
def path(tmp_path):
    with plmsearch.open_database(tmp_path / "db", create=True) as db:
        db.add(RECORDS, model="kmer")
    return tmp_path / "db"


def add(path, records):
    with plmsearch.open_database(path, create=True) as db:
        return db.add(records)


def n_computed(path, monkeypatch):
    """How many segments a fresh reader has to scale to unit length itself."""
    calls = []
    real = vector_files.unit_vectors
    monkeypatch.setattr(vector_files, "unit_vectors", lambda *a: calls.append(1) or real(*a))
    with plmsearch.open_database(path) as db:
        db.search(["EVQLVESGGGLVQPGG"], k=1)
    return len(calls)


@pytest.mark.parametrize("damage", ["delete", "truncate", "flip"])
def test_a_derived_file_is_written_anew_by_the_next_writer(path, monkeypatch, damage):
    (unit,) = Layout(path).derived.iterdir()
    before = unit.read_bytes()
    if damage == "delete":
        unit.unlink()
    elif damage == "truncate":
        unit.write_bytes(before[:100])
    else:
        unit.write_bytes(before[:70] + bytes([before[70] ^ 1]) + before[71:])
    assert n_computed(path, monkeypatch) == 1
    add(path, RECORDS)
    assert unit.read_bytes() == before
    assert n_computed(path, monkeypatch) == 0


def test_the_stamps_of_a_copied_database_are_refreshed_by_the_next_writer(path, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(path, copy)
    add(copy, MORE)
    with plmsearch.open_database(copy) as db:
        (segment, _) = db.repository.segments(db.space().space_id)
        status = (Layout(copy).segments / segment.file).stat()
        assert (segment.stamp.mtime_ns, segment.stamp.inode) == (status.st_mtime_ns, status.st_ino)


def test_a_damaged_segment_is_left_for_somebody_to_look_at(path):
    (segment,) = Layout(path).segments.iterdir()
    damaged = bytearray(segment.read_bytes())
    damaged[100] ^= 1
    segment.write_bytes(damaged)
    add(path, MORE)
    assert segment.read_bytes() == bytes(damaged)
    with plmsearch.open_database(path) as db, pytest.raises(plmsearch.PlmsearchError, match="damaged"):
        db.vectors(["a"])


def test_refreshing_changes_no_vector(path):
    with plmsearch.open_database(path) as db:
        before = db.vectors(["a", "b", "c"])
    for unit in Layout(path).derived.iterdir():
        unit.unlink()
    add(path, MORE)
    with plmsearch.open_database(path) as db:
        np.testing.assert_array_equal(db.vectors(["a", "b", "c"]), before)
