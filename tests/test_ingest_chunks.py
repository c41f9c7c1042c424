"""Chunks: what is committed together must decide nothing about what is in the database."""

from __future__ import annotations

import errno
import json
import random
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from support import (
    VH,
    VL,
    all_vectors,
    assert_same_database,
    contents,
    ledger,
    make_db,
    peptides,
    records,
    watched_kmer,
)

from plmsearch.database import open_database
from plmsearch.embedding.kmer import KmerEmbedder
from plmsearch.embedding.spec import SpaceRequest
from plmsearch.errors import EmbeddingError, StorageError
from plmsearch.ingest import chunks
from plmsearch.ingest.report import AddOptions, AddReport, Progress
from plmsearch.sequences import SequenceRecord
from plmsearch.store import vector_files
from plmsearch.store.repository import Repository

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def heavy_chains(n: int) -> list[tuple[str, str]]:
    lines = (EXAMPLES / "heavy.fasta").read_text().splitlines()
    return [(lines[i][1:].split()[0], lines[i + 1]) for i in range(0, 2 * n, 2)]


def small_chunks(monkeypatch: pytest.MonkeyPatch, n_rows: int) -> None:
    monkeypatch.setattr(chunks, "_MAX_ROWS", n_rows)


def n_segments(path: Path) -> int:
    return len(list((path / "segments").iterdir()))


# --- Independence --------------------------------------------------------------------------------


@pytest.mark.parametrize("n_rows", [1, 7, 256])
def test_many_chunks_give_the_same_database_as_one(tmp_path, monkeypatch, n_rows):
    rows = [
        SequenceRecord(f"r{i % 280}", residues, f"number {i % 3}", {"donor": i % 5})
        for i, residues in enumerate(peptides(60, seed=3) * 6)
    ]
    rows = rows[: {1: 40, 7: 120}.get(n_rows, 360)]
    one = make_db(tmp_path / "one", rows)
    small_chunks(monkeypatch, n_rows)
    many = make_db(tmp_path / "many", rows)
    assert n_segments(many) > n_segments(one) or n_rows >= 256
    assert_same_database(many, one, atol=0)
    assert ledger(many, 1) == ledger(one, 1)


def test_a_small_residue_budget_gives_the_same_database_too(tmp_path, monkeypatch):
    one = make_db(tmp_path / "one", records(80))
    monkeypatch.setattr(chunks, "_FIRST_RESIDUES", 100)
    monkeypatch.setattr(chunks, "_MAX_RESIDUES", 100)
    many = make_db(tmp_path / "many", records(80))
    assert n_segments(many) > 30
    assert_same_database(many, one, atol=0)


def test_vectors_of_a_real_model_do_not_depend_on_chunks_order_or_neighbours(tmp_path, monkeypatch):
    rows = heavy_chains(8)
    one = make_db(tmp_path / "one", rows, model="antiberty")
    small_chunks(monkeypatch, 3)
    shuffled = random.Random(4).sample(rows, len(rows))
    many = make_db(tmp_path / "many", shuffled, model="antiberty")
    assert n_segments(many) == 2 * 3
    assert_same_database(many, one, atol=1e-5)


def test_records_keep_the_order_of_the_input(tmp_path, monkeypatch):
    small_chunks(monkeypatch, 9)
    rows = records(50)
    path = make_db(tmp_path / "db", rows)
    assert list(contents(path)) == [record_id for record_id, _ in rows]


# --- Each sequence once --------------------------------------------------------------------------


@pytest.mark.parametrize("n_rows", [3, 4096])
def test_a_sequence_goes_through_the_model_once_however_many_records_carry_it(tmp_path, monkeypatch, n_rows):
    small_chunks(monkeypatch, n_rows)
    a, b, c = peptides(3)
    with watched_kmer(monkeypatch) as passes, open_database(tmp_path / "db", create=True) as db:
        rows = [(f"r{i}", s) for i, s in enumerate([a, b, a, a.lower(), c, b, a])]
        first = db.add(rows, model="kmer")
        second = db.add([("new", b), ("newer", a)])
        assert sorted(s for batch in passes for s in batch) == sorted([a, b, c])
        assert (first.n_embedded, second.n_embedded, second.n_added) == (3, 0, 2)
        assert db.spaces()[0].n_vectors == 3
        same = db.vectors(["r0", "r2", "r3", "newer"])
    assert (same == same[0]).all()


def test_all_layers_of_a_model_come_out_of_the_same_forward_passes(tmp_path, monkeypatch):
    rows = records(30)
    with watched_kmer(monkeypatch) as passes:
        make_db(tmp_path / "one", rows, layers="1")
        n_alone = len(passes)
        make_db(tmp_path / "two", rows, layers="0,1")
    assert len(passes) == 2 * n_alone
    assert all_vectors(tmp_path / "two").keys() == {"kmer/0/whole/mean", "kmer/1/whole/mean"}
    np.testing.assert_array_equal(
        all_vectors(tmp_path / "two")["kmer/1/whole/mean"]["r7"],
        all_vectors(tmp_path / "one")["kmer/1/whole/mean"]["r7"],
    )


def test_two_models_embed_each_new_sequence_once_each_and_count_it_once(tmp_path):
    path = make_db(tmp_path / "db", records(3))
    with open_database(path, create=True) as db:
        db.embed(SpaceRequest("antiberty"))
        report = db.add([("heavy", VH), ("light", VL)])
        assert report.n_embedded == 2
        assert {s.spec.model_id: s.n_vectors for s in db.spaces()} == {"kmer": 5, "antiberty": 5}


# --- When a chunk ends ---------------------------------------------------------------------------


class Clock:
    """Seconds that pass only while the model computes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, residues_per_second: float) -> None:
        self.now, self.rate = 0.0, residues_per_second
        self.commits = [0.0]
        run, commit = KmerEmbedder.residue_embeddings, Repository.commit

        def slowly(embedder, sequences, layers):
            self.now += sum(map(len, sequences)) / self.rate
            return run(embedder, sequences, layers)

        def noted(repository, chunk):
            commit(repository, chunk)
            self.commits.append(self.now)

        monkeypatch.setattr(KmerEmbedder, "residue_embeddings", slowly)
        monkeypatch.setattr(Repository, "commit", noted)
        monkeypatch.setattr(chunks, "time", SimpleNamespace(monotonic=lambda: self.now))

    @property
    def longest_wait(self) -> float:
        return max(np.diff(self.commits))


@pytest.mark.parametrize("residues_per_second", [60, 400, 2600, 1e9])
def test_a_chunk_is_committed_at_least_every_30_seconds_whatever_the_model(
    tmp_path, monkeypatch, residues_per_second
):
    rows = records(1500)
    clock = Clock(monkeypatch, residues_per_second)
    make_db(tmp_path / "db", rows[: 200 if residues_per_second == 60 else 1500])
    assert clock.longest_wait <= 30
    assert len(clock.commits) <= 6 + clock.now / 8, "and no more often than is of use"


def test_a_machine_that_slows_down_is_followed(tmp_path, monkeypatch):
    clock = Clock(monkeypatch, 1000)

    class Slowing(Progress):
        def advance(self, n_rows: int) -> None:
            clock.rate = max(150, clock.rate * 0.98**n_rows)

    with open_database(tmp_path / "db", create=True) as db:
        db.add(records(800), model="kmer", progress=Slowing())
    assert clock.rate == 150
    assert clock.longest_wait <= 30


def test_filling_a_new_space_commits_as_often(tmp_path, monkeypatch):
    path = make_db(tmp_path / "db", records(600), layers="0")
    clock = Clock(monkeypatch, 500)
    with open_database(path, create=True) as db:
        db.embed(SpaceRequest("kmer"))
    assert len(clock.commits) > 5
    assert clock.longest_wait <= 30


# --- Failures ------------------------------------------------------------------------------------


def test_what_was_committed_before_a_failure_stays_and_the_same_call_continues(tmp_path, monkeypatch):
    rows = records(30)
    small_chunks(monkeypatch, 10)
    run, calls = KmerEmbedder.residue_embeddings, []

    def failing(embedder, sequences, layers):
        calls.append(len(sequences))
        if len(calls) == 3:
            raise EmbeddingError("the model broke")
        return run(embedder, sequences, layers)

    with monkeypatch.context() as patch:
        patch.setattr(KmerEmbedder, "residue_embeddings", failing)
        with pytest.raises(EmbeddingError, match="broke"):
            make_db(tmp_path / "db", rows)
    assert list(contents(tmp_path / "db")) == [f"r{i}" for i in range(20)]
    with open_database(tmp_path / "db", create=True) as db:
        report = db.add(rows)
    assert (report.n_present, report.n_added, report.n_embedded) == (20, 10, 10)
    assert_same_database(tmp_path / "db", make_db(tmp_path / "whole", rows), atol=0)


@pytest.mark.parametrize("unit", [False, True])
def test_a_full_disk_is_an_error_that_says_what_to_do_and_leaves_the_database_as_it_was(
    tmp_path, monkeypatch, unit
):
    path = make_db(tmp_path / "db", records(5))
    before = contents(path)
    write = vector_files.write_segment

    def full(target, *content, **how):
        if target.name.endswith("-unit.vec") is unit:
            raise OSError(errno.ENOSPC, "No space left on device", str(target))
        return write(target, *content, **how)

    with monkeypatch.context() as patch:
        patch.setattr(vector_files, "write_segment", full)
        with pytest.raises(StorageError, match="No space left on device; free some space and run"):
            make_db(path, [("more", VH)])
    assert contents(path) == before
    make_db(path, [("more", VH)])
    assert contents(path).keys() == {*before, "more"}
    names = {p.stem for p in (path / "segments").iterdir()}
    assert {p.name[:8] for p in (path / "derived").iterdir()} == set(names), "no orphan stays"


# --- Counting ------------------------------------------------------------------------------------


class Counting(Progress):
    def __init__(self) -> None:
        self.total: list[int | None] = []
        self.n = 0

    def start(self, n_rows: int | None) -> None:
        self.total.append(n_rows)

    def advance(self, n_rows: int) -> None:
        assert n_rows >= 0
        self.n += n_rows


@pytest.mark.parametrize("n_rows", [4, 4096])
def test_progress_ends_where_it_said_it_would(tmp_path, monkeypatch, n_rows):
    small_chunks(monkeypatch, n_rows)
    sequences = peptides(20)
    rows = [(f"r{i % 25}", s) for i, s in enumerate([*sequences, *sequences, "EV*QL"])]
    shown = Counting()
    with open_database(tmp_path / "db", create=True) as db:
        options = AddOptions(on_invalid="skip")
        db.add(rows, model="kmer", layers="0,1", options=options, progress=shown)
    assert (shown.total, shown.n) == ([41], 41)


def add_long(path: Path, long: str | None) -> AddReport:
    """One chain that fits AntiBERTy's 510 residues, one that does not, one with letters it lacks."""
    rows = [("fits", VH), ("long", VH * 5), ("odd", VL + "XXB")]
    with open_database(path, create=True) as db:
        wishes = AddOptions(long=long)  # type: ignore[arg-type]
        return db.add(rows, model="antiberty", preset="whole", options=wishes)


def notes(path: Path) -> dict[str, dict[str, int]]:
    return {str(r["input_id"]): json.loads(str(r["notes"] or "{}")) for r in ledger(path, 1)}


def test_windows_and_unknown_residues_are_counted_and_noted_per_record(tmp_path):
    report = add_long(tmp_path / "db", None)
    assert (report.n_windowed, report.n_truncated) == (1, 0)
    assert (report.n_with_unknown, report.n_unknown_residues) == (1, 3)
    assert notes(tmp_path / "db") == {"fits": {}, "long": {"windows": 2}, "odd": {"unknown_residues": 3}}


def test_truncation_and_leaving_out_are_counted_and_noted_per_record(tmp_path):
    report = add_long(tmp_path / "cut", "truncate")
    assert (report.n_windowed, report.n_truncated) == (0, 1)
    assert notes(tmp_path / "cut")["long"] == {"truncated_to": 510}
    report = add_long(tmp_path / "skip", "skip")
    assert (report.n_added, report.n_skipped) == (2, 1)
    assert [(s.record_id, s.row, s.reason) for s in report.skipped] == [
        ("long", 2, "600 residues, the model reads 510")
    ]
    assert contents(tmp_path / "skip").keys() == {"fits", "odd"}


def test_changes_are_counted_by_rows(tmp_path):
    rows = [("a", "evqlvesg"), ("b", "EVQ-LVE"), ("c", "EVQLV*"), ("d", "evq--LV "), ("e", "EVQLVESG")]
    with open_database(tmp_path / "db", create=True) as db:
        report = db.add(rows, model="kmer")
    assert report.changes == {"lowercase": 2, "gaps": 2, "stop": 1, "whitespace": 1}
    assert report.n_embedded == 3
