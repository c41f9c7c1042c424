"""Optimizing changes no answer: it drops what was deleted and joins files, while others read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support import cli, contents, make_db, peptides, records

from plmsearch import optimize as module
from plmsearch.database import open_database
from plmsearch.embedding.spec import SpaceRequest
from plmsearch.optimize import optimize
from plmsearch.store.directory import Layout
from plmsearch.store.repository import Repository
from plmsearch.verify import verify

RECORDS = records(60)
QUERIES = peptides(10, seed=9)

READER = """
import sys
sys.path.insert(0, sys.argv[2])
from support import peptides
from plmsearch.database import open_database
with open_database(sys.argv[1]) as db:
    expected = None
    print("ready", flush=True)
    for line in sys.stdin:
        found = db.search(peptides(10, seed=9), k=20)
        hits = [[(h.target, round(h.score, 5)) for h in hits] for hits in found]
        print(hits == (expected := expected or hits), db.vectors(["r1"]).shape == (1, 512), flush=True)
"""


@pytest.fixture
def path(tmp_path):
    for start in range(0, 60, 10):
        make_db(tmp_path / "db", RECORDS[start : start + 10])
    return tmp_path / "db"


def answers(path):
    with open_database(path) as db:
        names = sorted(contents(path))
        hits = [[(h.target, h.score) for h in found] for found in db.search(QUERIES, k=100)]
        return names, hits, db.vectors(names)


def run(path):
    with open_database(path) as db:
        return optimize(db)


def assert_same_answers(found, expected):
    assert found[0] == expected[0]
    assert [[t for t, _ in h] for h in found[1]] == [[t for t, _ in h] for h in expected[1]]
    np.testing.assert_array_equal(found[2], expected[2])


def test_files_are_joined_and_no_answer_changes(path):
    before = answers(path)
    report = run(path)
    assert report.n_segments_before == 6
    assert report.n_segments_after == 1
    assert len(list(Layout(path).segments.iterdir())) == len(list(Layout(path).derived.iterdir())) == 1
    assert_same_answers(answers(path), before)
    with open_database(path) as db:
        assert verify(db, full=True) == []


def test_what_was_deleted_is_dropped_from_the_files_and_never_comes_back(path):
    with open_database(path) as db:
        db.delete([f"r{n}" for n in range(0, 60, 3)])
    before = answers(path)
    report = run(path)
    assert (report.n_records_dropped, report.n_sequences_dropped) == (20, 20)
    assert_same_answers(answers(path), before)
    with open_database(path) as db:
        assert verify(db, full=True) == []
        assert db.repository.n_sequences() == 40
        assert db.spaces()[0].n_vectors == 40
        report = db.add(RECORDS)
        assert (report.n_added, report.n_embedded, report.n_present) == (20, 20, 40)
        assert verify(db, full=True) == []


def test_a_dropped_id_is_never_given_again(path):
    with open_database(path) as db:
        last = db.repository.counters()
        db.delete(["r59"])
    run(path)
    with open_database(path) as db:
        counters = db.repository.counters()
        assert (counters.sequence_id, counters.record_key) == (last.sequence_id, last.record_key)
        assert counters.segment_id > last.segment_id


def test_everything_can_be_deleted_and_optimized_away(path):
    with open_database(path) as db:
        db.delete([name for name, _ in RECORDS])
    report = run(path)
    assert (report.n_segments_after, report.n_records_dropped) == (0, 60)
    assert list(Layout(path).segments.iterdir()) == []
    with open_database(path) as db:
        assert db.search(QUERIES, k=3) == [[]] * 10
        assert db.add(RECORDS).n_added == 60
        assert verify(db, full=True) == []


def test_all_spaces_are_joined_and_large_files_are_not_joined_beyond_the_limit(path, monkeypatch):
    with open_database(path) as db:
        db.embed(SpaceRequest("kmer", "0"))
    monkeypatch.setattr(module, "_SEGMENT_BYTES", 25 * 512 * 4)
    run(path)
    with open_database(path) as db:
        first, second = ([s.n_vectors for s in db.repository.segments(p.space_id)] for p in db.spaces())
        assert first == [20, 20, 20]
        assert sum(second) == 60
        assert verify(db, full=True) == []


def test_a_second_time_there_is_nothing_to_do(path):
    run(path)
    files = {p.name for p in Layout(path).segments.iterdir()}
    report = run(path)
    assert (report.n_segments_before, report.n_segments_after, report.n_records_dropped) == (1, 1, 0)
    assert {p.name for p in Layout(path).segments.iterdir()} == files


@pytest.mark.parametrize("step", ["exchange_segments", "drop_tombstones"])
def test_an_interrupt_before_a_commit_loses_nothing(path, monkeypatch, step):
    with open_database(path) as db:
        db.delete(["r1", "r2"])
    before = answers(path)

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Repository, step, stop)
        with pytest.raises(KeyboardInterrupt):
            run(path)
    assert_same_answers(answers(path), before)
    run(path)
    assert_same_answers(answers(path), before)
    with open_database(path) as db:
        assert verify(db, full=True) == []


def test_another_process_that_reads_gets_the_same_answers_throughout(path):
    command = [sys.executable, "-c", READER, str(path), str(Path(__file__).parent)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdin is not None
        assert reader.stdout is not None
        assert reader.stdout.readline() == "ready\n"
        for step in ("before", "after", "again"):
            reader.stdin.write(f"{step}\n")
            reader.stdin.flush()
            assert reader.stdout.readline() == "True True\n", step
            run(path)


def test_the_command_says_what_became_smaller(path):
    with open_database(path) as db:
        db.delete(["r1"])
    result = cli("optimize", path)
    assert (result.code, result.out) == (0, "")
    assert "1 deleted record and 1 sequence dropped" in result.err
    assert "became 1;" in result.err
