"""Derived files are a cache: whatever happens to them, answers stay the same or there is an error."""

import os
import shutil
from typing import cast

import numpy as np
import pytest

import plmsearch
from plmsearch.embedding.spec import external_spec
from plmsearch.errors import SegmentDamaged, StorageError
from plmsearch.sequences import STANDARD_RESIDUES
from plmsearch.store.catalog_reader import CatalogReader
from plmsearch.store.directory import Layout
from plmsearch.store.rankings import RankingPart, StoredRanking, StoredSpace
from plmsearch.store.rows import (
    DerivedFile,
    StoredSegment,
)
from plmsearch.store.segments import write_segment
from plmsearch.store.vector_files import VectorFiles
from plmsearch.vectors import unit_vectors

N, DIM = 6, 16
RANKING = StoredRanking(
    1, "x", (RankingPart(StoredSpace(1, external_spec("x", DIM), True, True, 3 * N), 1.0),), is_default=True
)
RNG = np.random.default_rng(7)
RECORDS = [(f"r{i}", "".join(RNG.choice(list(STANDARD_RESIDUES), 60))) for i in range(30)]
#: Vectors that are compared as they are need nothing of the catalog.
NO_CATALOG = cast("CatalogReader", None)
IDS = [record_id for record_id, _ in RECORDS]


@pytest.fixture
def layout(tmp_path):
    layout = Layout(tmp_path / "db")
    layout.make()
    return layout


@pytest.fixture
def stored(layout):
    """Three segments of N rows with their derived files; the raw rows are not of unit length."""

    def write(number):
        vectors = np.random.default_rng(number).standard_normal((N, DIM)).astype(np.float32) * 3
        ids = np.arange(N, dtype=np.int64) + 100 * number
        raw, unit = f"{number}.vec", f"{number}-unit.vec"
        stamp = write_segment(layout.segments / raw, vectors, ids)
        unit_stamp = write_segment(layout.derived / unit, unit_vectors(vectors, DIM), ids)
        return StoredSegment(number, raw, N, stamp, {1: DerivedFile(1, unit, unit_stamp)})

    return [write(number) for number in (1, 2, 3)]


def raw_vectors(number):
    return np.random.default_rng(number).standard_normal((N, DIM)).astype(np.float32) * 3


def flip(path, offset=100):
    raw = bytearray(path.read_bytes())
    raw[offset] ^= 16
    path.write_bytes(raw)


# --- Files ---------------------------------------------------------------------------------------


def test_unit_blocks_are_the_mapped_derived_files_in_order(layout, stored):
    blocks = VectorFiles(layout).blocks(NO_CATALOG, RANKING, stored)
    for number, block in enumerate(blocks, start=1):
        assert np.array_equal(block.vectors, unit_vectors(raw_vectors(number), DIM))
        assert np.array_equal(block.ids, np.arange(N) + 100 * number)
        assert isinstance(block.vectors, np.memmap)


@pytest.mark.parametrize("accident", ["missing", "flipped", "truncated", "another", "not in the catalog"])
def test_a_derived_file_that_cannot_be_used_is_computed_anew_and_not_written(layout, stored, accident):
    path = layout.derived / stored[0].derived[1].file
    match accident:
        case "missing":
            path.unlink()
        case "flipped":
            flip(path)
        case "truncated":
            os.truncate(path, 200)
        case "another":
            shutil.copy(layout.derived / stored[1].derived[1].file, path)
        case "not in the catalog":
            first = stored[0]
            stored[0] = StoredSegment(first.segment_id, first.file, N, first.stamp)
    before = {p: p.stat().st_mtime_ns for p in layout.root.rglob("*")}
    block, *_ = VectorFiles(layout).blocks(NO_CATALOG, RANKING, stored)
    assert np.array_equal(block.vectors, unit_vectors(raw_vectors(1), DIM))
    assert np.array_equal(block.ids, np.arange(N) + 100)
    assert {p: p.stat().st_mtime_ns for p in layout.root.rglob("*")} == before


def test_a_file_is_opened_once(layout, stored):
    files = VectorFiles(layout)
    first = files.blocks(NO_CATALOG, RANKING, stored)
    raw = files.raw(stored[0])
    shutil.rmtree(layout.derived)
    shutil.rmtree(layout.segments)
    assert files.raw(stored[0]) is raw
    assert [a is b for a, b in zip(files.blocks(NO_CATALOG, RANKING, stored), first, strict=True)] == [
        True
    ] * 3


def test_rows_come_in_the_order_asked_from_any_segment(layout, stored):
    places = [(3, 5), (1, 0), (1, 0), (2, 3)]
    rows = VectorFiles(layout).rows(stored, places)
    assert np.array_equal(rows, np.stack([raw_vectors(s)[row] for s, row in places]))
    assert rows.dtype == np.float32
    rows[:] = 0  # a copy: the file cannot be written to


def test_no_places_are_no_rows(layout, stored):
    assert len(VectorFiles(layout).rows(stored, [])) == 0


def test_a_missing_segment_is_named(layout, stored):
    (layout.segments / "2.vec").unlink()
    with pytest.raises(SegmentDamaged, match="missing") as caught:
        VectorFiles(layout).raw(stored[1])
    assert caught.value.path.endswith("2.vec")


def test_a_segment_that_cannot_be_read_is_named(layout, stored, monkeypatch):
    """As root every file can be read, so the refusal is played."""
    from plmsearch.store import vector_files

    def refused(path, stamp):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(vector_files, "open_segment", refused)
    with pytest.raises(StorageError, match="Permission denied") as caught:
        VectorFiles(layout).raw(stored[1])
    assert caught.value.path.endswith("2.vec")


# --- A whole database ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A database of three segments."""
    path = tmp_path_factory.mktemp("kept") / "db"
    with plmsearch.open_database(path, create=True) as db:
        for start in (0, 10, 20):
            db.add(RECORDS[start : start + 10], model="kmer")
    return path


@pytest.fixture
def copy(kept, tmp_path):
    """A copy with the times of the original, as a backup would restore it."""
    return shutil.copytree(kept, tmp_path / "db")


def answers(path):
    with plmsearch.open_database(path) as db:
        hits = db.search([residues for _, residues in RECORDS[::5]], k=7)
        return [[(h.target, h.rank, h.score) for h in one] for one in hits]


@pytest.mark.parametrize("accident", ["deleted", "emptied", "flipped", "swapped"])
def test_searches_do_not_depend_on_derived_files(kept, copy, accident):
    derived = copy / "derived"
    files = sorted(derived.iterdir())
    assert len(files) == 3
    match accident:
        case "deleted":
            shutil.rmtree(derived)
        case "emptied":
            for file in files:
                file.write_bytes(b"")
        case "flipped":
            for file in files:
                flip(file, 64 + 5)
        case "swapped":
            files[0].rename(derived / "x")
            files[1].rename(files[0])
            (derived / "x").rename(files[1])
    assert answers(copy) == answers(kept)


def test_a_restored_copy_gives_the_same_answers_and_vectors(kept, copy):
    assert answers(copy) == answers(kept)
    with plmsearch.open_database(kept) as one, plmsearch.open_database(copy) as other:
        assert np.array_equal(one.vectors(IDS), other.vectors(IDS))


def test_a_flipped_byte_in_a_segment_is_an_error_never_another_vector(copy):
    flip(copy / "segments" / "00000002.vec", 64 + 4000)
    with plmsearch.open_database(copy) as db:
        with pytest.raises(SegmentDamaged, match=r"00000002\.vec"):
            db.vectors(["r15"])
        assert len(db.vectors(["r5", "r25"])) == 2
        assert db.search([RECORDS[15][1]], k=1)[0][0].target == "r15", "the derived file is sound"


def test_a_damaged_segment_without_its_derived_file_stops_a_search(copy):
    flip(copy / "segments" / "00000002.vec", 64 + 4000)
    (copy / "derived" / "00000002-1-unit.vec").unlink()
    with plmsearch.open_database(copy) as db, pytest.raises(SegmentDamaged, match=r"00000002\.vec"):
        db.search([RECORDS[0][1]])


def test_a_reader_goes_on_with_the_files_it_has_open(copy):
    with plmsearch.open_database(copy) as db:
        before = db.search([RECORDS[3][1]], k=5)
        shutil.rmtree(copy / "derived")
        shutil.rmtree(copy / "segments")
        assert db.search([RECORDS[3][1]], k=5) == before


def test_vectors_added_by_another_process_are_found_without_opening_again(copy):
    new = ("new", "WWWWHHHHWWWWHHHHPPPP")
    with plmsearch.open_database(copy) as reader:
        assert reader.search([new[1]], k=1)[0][0].target != "new"
        with plmsearch.open_database(copy, create=True) as writer:
            writer.add([new], model="kmer")
        assert reader.search([new[1]], k=1)[0][0].target == "new"
        assert len(reader) == len(RECORDS) + 1
