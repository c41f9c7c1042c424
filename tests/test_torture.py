"""A small part of the faults of `make torture`, the same each time, and what they found."""

from __future__ import annotations

import ast
import os
import random
import signal
import tempfile
from contextlib import closing
from pathlib import Path

import pytest
from antibodies import SCFV, VH_2, antibody_db
from sqlalchemy.exc import OperationalError
from support import break_seal, make_db, records
from torture import child, fulldisk, tracer
from torture.disk import File, Folder, after_cut
from torture.flips import flip
from torture.kills import kill_at_random
from torture.mutations import PLACES
from torture.oracle import Tally, compare, searched, table
from torture.powercut import cut_at_the_end, cut_power
from torture.syscalls import EIO, ENOSPC, KILL, disturb, fresh, prepared
from torture.workload import OPERATIONS, ROWS_AT_ONCE, applied, prefixes, rows

import plmsearch
from plmsearch.database import open_database
from plmsearch.errors import StorageError
from plmsearch.ingest import chunks
from plmsearch.sequences import SequenceRecord
from plmsearch.store import audit
from plmsearch.store.connection import sqlite_module
from plmsearch.store.schema import check_schema
from plmsearch.verify import verify

SEED = 20


@pytest.fixture(autouse=True, scope="module")
def _in_memory():
    """The faults are the same, and a sync costs nothing."""
    with pytest.MonkeyPatch.context() as patch:
        if os.access("/dev/shm", os.W_OK):
            patch.setattr(tempfile, "tempdir", "/dev/shm")
        yield


@pytest.fixture(autouse=True)
def _several_commits_a_call(monkeypatch):
    monkeypatch.setattr(chunks, "_MAX_ROWS", ROWS_AT_ONCE)


@pytest.fixture(scope="module")
def runner(_in_memory):
    reason = tracer.why_not()
    if reason:
        pytest.skip(reason)
    with tracer.runner() as one:
        yield one


def survived(*tallies: Tally) -> None:
    assert not any(t.failed for t in tallies), [e for t in tallies for e in t.examples]


# --- The faults ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "fault"),
    [("create", KILL), ("replace", KILL), ("delete", EIO), ("backup", ENOSPC), ("add domains", KILL)],
)
def test_a_fault_at_any_call_loses_nothing_and_the_operation_can_be_repeated(runner, name, fault):
    survived(disturb(runner, name, fault, 2, random.Random(SEED)))


def test_the_fault_strikes_where_it_is_aimed(runner):
    operation = OPERATIONS["delete"]
    with prepared(operation) as template:
        calls = runner.calls("delete", fresh(template))
        n_syncs = sum(call in {"fsync", "fdatasync"} for call, _ in calls)
        kill = ("-e", f"inject={calls[-1][0]}:{KILL}:when={calls[-1][1]}", "-o", "/dev/null")
        outcome = runner.run("delete", fresh(template), *kill)
    assert n_syncs >= 3, "a delete, its run's beginning and its run's end"
    assert outcome == tracer.Outcome(signal.SIGKILL, 1, "")


@pytest.mark.parametrize("name", ["replace", "repair"])
def test_a_power_cut_loses_nothing(runner, name):
    survived(cut_power(runner, name, 2, random.Random(SEED), left=["removals", "some"]))
    assert cut_at_the_end(runner, name, ["nothing", "holes"]) == []


def test_a_power_cut_shows_a_sync_left_out(runner):
    with runner.without("segments.write_segment:*[0-9].vec"):
        assert "lost" in {p.kind for p in cut_at_the_end(runner, "create", ["names"])}


def test_every_sync_of_the_code_is_one_that_is_left_out_to_see_that_it_matters():
    known = {name for place in PLACES for name in place.partition(":")[0].split()}
    syncing = {"fsync", "fdatasync", "sync_file", "sync_directory", "_sync_directory"}
    for path in (Path(plmsearch.__file__).parent).rglob("*.py"):
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(function, ast.FunctionDef):
                called = {
                    ast.unparse(c.func).rpartition(".")[2]
                    for c in ast.walk(function)
                    if isinstance(c, ast.Call)
                }
                assert not called & syncing or f"{path.stem}.{function.name}" in known, (path, function.name)


def test_a_full_disk_is_a_typed_error_and_the_operation_can_be_repeated(runner):
    reason = fulldisk.why_not()
    if reason:
        pytest.skip(reason)
    survived(fulldisk.fill(runner, "add", 1, random.Random(SEED)))


def test_killed_at_random_nothing_is_lost(tmp_path):
    tally = kill_at_random(4, random.Random(SEED))
    survived(tally)
    assert tally.tried == 4


def test_a_flipped_bit_or_a_cut_file_changes_no_result_in_silence():
    tallies = flip(5, random.Random(SEED), limit=40)
    survived(*tallies)
    assert {t.fault.split()[-1] for t in tallies} >= {"catalog.sqlite", "segments", "derived"}


# --- What they found -----------------------------------------------------------------------------


def test_residues_with_a_flipped_bit_are_an_error_not_another_sequence(tmp_path):
    given = records(3)
    path = make_db(tmp_path / "db", given)
    catalog = path / "catalog.sqlite"
    content, residues = catalog.read_bytes(), given[1][1].encode()
    assert content.count(residues) == 1
    catalog.write_bytes(
        content.replace(residues, b"W" + residues[1:] if residues[:1] != b"W" else b"Y" + residues[1:])
    )
    break_seal(path)
    with open_database(path) as db:
        assert db.get(["r0"])[0].residues == given[0][1]
        with pytest.raises(StorageError, match="residues of sequence 2"):
            db.get(["r1"])
        with pytest.raises(StorageError, match="residues of sequence 2"):
            db.search([given[1][1]])


def test_text_of_the_catalog_that_is_no_utf8_is_a_typed_error(tmp_path):
    path = make_db(tmp_path / "db", [SequenceRecord("r0", records(1)[0][1], "the description")])
    catalog = path / "catalog.sqlite"
    catalog.write_bytes(catalog.read_bytes().replace(b"the description", b"the \xff\xffscription"))
    break_seal(path)
    with open_database(path) as db, pytest.raises(StorageError, match="UTF-8"):
        db.get(["r0"])


def test_a_vector_that_the_catalog_lost_is_a_typed_error_and_verify_says_so(tmp_path):
    path = make_db(tmp_path / "db", records(2))
    with closing(sqlite_module().connect(path / "catalog.sqlite")) as catalog:
        catalog.execute("DELETE FROM vectors WHERE sequence_id = 1")
        catalog.commit()
    break_seal(path)
    with open_database(path) as db:
        with pytest.raises(StorageError, match="no vector"):
            db.vectors(["r0"])
        assert "damage" in {f.severity for f in verify(db)}


def test_a_catalog_that_cannot_be_read_on_is_a_finding(tmp_path, monkeypatch):
    def malformed(*_, **__):
        raise StorageError("catalog.sqlite", "database disk image is malformed")

    path = make_db(tmp_path / "db", records(2))
    monkeypatch.setattr(audit, "sqlite_problems", malformed)
    with open_database(path) as db:
        assert [(f.severity, f.where) for f in verify(db)] == [("damage", "catalog.sqlite")]


def test_a_disk_that_cannot_be_read_is_not_said_to_hold_no_database(tmp_path):
    class Unreadable:
        def execute(self, _):
            raise OperationalError("SELECT", {}, Exception("disk I/O error"))

    with pytest.raises(OperationalError):
        check_schema(Unreadable(), tmp_path)


def test_folders_made_above_a_new_database_are_durable(tmp_path, monkeypatch):
    synced, real = set(), os.fsync

    def fsync(descriptor):
        synced.add(Path(f"/proc/self/fd/{descriptor}").readlink())
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    make_db(tmp_path / "a" / "b" / "db", records(1))
    assert {tmp_path, tmp_path / "a", tmp_path / "a" / "b"} <= synced


# --- The oracle and the model of a disk ----------------------------------------------------------


def test_the_oracle_tells_lost_from_resurrected_from_half_done():
    before, given = applied({}, rows(0, 5, seed=1)), rows(5, 8, seed=2)
    states = prefixes(before, given)
    assert [len(s) for s in states] == [5, 9, 13]
    assert list(compare(states[1], states[:2])) == []
    lost = dict(list(states[1].items())[1:])
    assert [p.kind for p in compare(lost, states[1:])] == ["lost"]
    assert [p.kind for p in compare({**states[0], "gone": ("A", "")}, states[:2])] == ["resurrected"]
    assert [p.kind for p in compare(dict(list(states[1].items())[:7]), states[:2])] == ["other"]


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("UPDATE domains SET cdr3_end = cdr3_end - 1 WHERE number = 2", "domains are not those"),
        ("UPDATE domains SET v_call = NULL", "without its germline genes"),
        ("UPDATE vectors SET row = 1 - row WHERE row < 2 AND segment_id = 1", "the vector of"),
    ],
)
def test_the_oracle_of_domains_sees_what_is_wrong_with_them(tmp_path, statement, told):
    path = antibody_db(tmp_path / "db", [("scfv", SCFV), ("vh", VH_2)])
    state = {"scfv": (SCFV, ""), "vh": (VH_2, "")}
    with open_database(path) as db:
        assert list(searched(db, state)) == []
    with closing(sqlite_module().connect(path / "catalog.sqlite")) as catalog:
        catalog.execute(statement)
        catalog.commit()
    break_seal(path)
    with open_database(path) as db:
        assert told in next(searched(db, state)).what


def test_an_id_that_is_taken_is_renamed_or_replaced():
    one, other = rows(0, 1, seed=1), rows(0, 1, seed=2)
    assert list(applied(applied({}, one), other)) == ["r0", "r0_2"]
    assert applied(applied({}, one), other, replace=True) == applied({}, other)


def test_what_was_not_synced_is_gone_after_a_power_cut():
    top, file = Folder(), File()
    top.now["file"] = file
    file.write(0, b"first")
    rng = random.Random(SEED)
    assert after_cut(top, "nothing", rng) == {}
    assert after_cut(top, "names", rng) == {"file": b""}
    file.sync()
    file.write(2, b"X")
    assert after_cut(top, "names", rng) == {"file": b"first"}
    top.sync()
    assert after_cut(top, "nothing", rng) == {"file": b"first"}
    assert {after_cut(top, "some", rng)["file"] for _ in range(50)} == {b"first", b"fiXst"}
    del top.now["file"]
    assert after_cut(top, "nothing", rng) == {"file": b"first"}
    top.sync()
    assert after_cut(top, "nothing", rng) == {}


def test_the_table_counts_each_kind_once_a_try():
    tally = Tally("kill")
    tally.add("here", [])
    tally.add("there", [*compare({}, [applied({}, rows(0, 1, seed=1))])] * 2)
    assert table([tally]).splitlines()[1].split() == ["kill", "2", "1", "1", "0", "0", "0", "0"]
    assert tally.failed


def test_an_error_that_is_none_of_ours_is_told_apart():
    assert not f"{ValueError.__name__}: x".startswith((child.OK, child.TYPED))
