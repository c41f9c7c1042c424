"""Deleting and replacing: what is deleted is gone from every answer, what is replaced is there once."""

from __future__ import annotations

import numpy as np
import pytest
from support import contents, make_db, peptides
from typer.testing import CliRunner

from plmsearch.cli.app import app
from plmsearch.database import open_database
from plmsearch.errors import RecordNotFound
from plmsearch.index import planner
from plmsearch.ingest.report import AddOptions
from plmsearch.search.hits import SearchOptions
from plmsearch.sequences import SequenceRecord
from plmsearch.verify import verify

SEQUENCES = peptides(60)
RECORDS = [(f"r{n}", s) for n, s in enumerate(SEQUENCES)]


@pytest.fixture
def path(tmp_path):
    return make_db(tmp_path / "db", [*RECORDS, ("twin", SEQUENCES[0])])


def targets(hits):
    return [h.target for h in hits]


@pytest.mark.parametrize("engine", ["numpy", "faiss"])
def test_deleted_records_are_gone_and_the_rest_is_found_as_if_they_had_never_been(
    path, tmp_path, monkeypatch, engine
):
    if engine == "faiss":
        monkeypatch.setattr(planner, "_NUMPY_PAIRS", 0)
    gone = {f"r{n}" for n in range(5, 60) if n % 7}
    other = make_db(tmp_path / "other", [r for r in [*RECORDS, ("twin", SEQUENCES[0])] if r[0] not in gone])
    with open_database(path) as db, open_database(other) as expected:
        assert db.delete(gone) == len(gone)
        assert len(db) == len(expected)
        for k in (1, 3, 1000):
            found, wanted = db.search(SEQUENCES, k=k), expected.search(SEQUENCES, k=k)
            assert [targets(h) for h in found] == [targets(h) for h in wanted]
            np.testing.assert_allclose(
                [h.score for hits in found for h in hits],
                [h.score for hits in wanted for h in hits],
                atol=1e-6,
            )
        assert verify(db, full=True) == []


def test_a_sequence_is_found_as_long_as_one_of_its_records_lives(path):
    with open_database(path) as db:
        db.delete(["r0"])
        assert targets(db.search([SEQUENCES[0]], k=1)[0]) == ["twin"]
        db.delete(["twin"])
        assert db.search([SEQUENCES[0]], k=1)[0][0].score < 0.999


def test_deleting_is_all_or_nothing(path):
    with open_database(path) as db:
        before = len(db)
        with pytest.raises(RecordNotFound) as caught:
            db.delete(["r1", "no such record", "r2"])
        assert caught.value.record_ids == ("no such record",)
        assert len(db) == before
        assert db.delete(["r1", "no such record", "r1"], ignore_missing=True) == 1
        with pytest.raises(RecordNotFound):
            db.get(["r1"])


def test_everything_can_be_deleted_and_added_again_without_a_forward_pass(path):
    with open_database(path) as db:
        everything = [r.record_id for r in db.repository.all_records()]
        db.delete(everything)
        assert len(db) == 0
        assert db.search(SEQUENCES[:3], k=5) == [[], [], []]
        report = db.add(RECORDS)
        assert (report.n_added, report.n_embedded) == (60, 0)
        assert targets(db.search([SEQUENCES[7]], k=1)[0]) == ["r7"]
        assert verify(db, full=True) == []


def test_a_reader_that_is_open_sees_the_deletion(path):
    with open_database(path) as reader, open_database(path) as writer:
        assert targets(reader.search([SEQUENCES[9]], k=1)[0]) == ["r9"]
        writer.delete(["r9"])
        assert "r9" not in targets(reader.search([SEQUENCES[9]], k=100)[0])


def test_the_ledger_has_a_row_for_each_deleted_record(path):
    with open_database(path) as db:
        db.delete(["r3", "r4"])
        run = db.repository.runs()[-1]
        assert (run.command, run.status) == ("delete", "finished")
        rows = [(row.input_id, row.outcome, name) for row, name in db.repository.ledger(run.run_id)]
        assert rows == [("r3", "deleted", "r3"), ("r4", "deleted", "r4")]


# --- Replacing -----------------------------------------------------------------------------------


def add(path, records, **options):
    with open_database(path) as db:
        return db.add(records, options=AddOptions(on_duplicate="replace", **options))


def test_a_replaced_record_has_the_new_sequence_and_is_there_once(path):
    report = add(path, [("r1", SEQUENCES[2]), ("r2", SEQUENCES[2]), ("new", SEQUENCES[3])])
    assert (report.n_replaced, report.n_present, report.n_added, report.n_embedded) == (1, 1, 1, 0)
    with open_database(path) as db:
        assert len(db) == 62
        assert db.get(["r1"])[0].residues == SEQUENCES[2]
        assert "r1" not in targets(db.search([SEQUENCES[1]], k=5)[0])
        assert verify(db, full=True) == []


def test_the_same_sequence_with_other_metadata_only_updates_them(path):
    report = add(path, [SequenceRecord("r1", SEQUENCES[1], "described", {"species": "human"})])
    assert (report.n_replaced, report.n_embedded, report.n_forward_passes) == (1, 0, 0)
    with open_database(path) as db:
        record = db.get(["r1"])[0]
        assert (record.description, record.metadata) == ("described", {"species": "human"})


def test_the_last_row_of_an_id_wins_within_one_input(path):
    rows = [("x", SEQUENCES[1]), ("x", SEQUENCES[2]), ("x", SEQUENCES[3])]
    report = add(path, rows)
    assert (report.n_rows, report.n_added, report.n_replaced) == (3, 1, 2)
    with open_database(path) as db:
        assert db.get(["x"])[0].residues == SEQUENCES[3]
        assert verify(db, full=True) == []
    assert "x" in contents(path)


def test_replacing_by_the_same_input_again_changes_nothing(path):
    rows = [("r1", SEQUENCES[2]), ("r5", SEQUENCES[6])]
    add(path, rows)
    before = contents(path)
    report = add(path, rows)
    assert (report.n_present, report.n_replaced) == (2, 0)
    assert contents(path) == before


def test_excluding_the_query_leaves_room_for_k_others_after_a_deletion(path):
    with open_database(path) as db:
        db.delete([f"r{n}" for n in range(40, 60)])
        (hits,) = db.search(
            [SequenceRecord("r1", SEQUENCES[1])], k=20, options=SearchOptions(exclude_self=True)
        )
        assert len(hits) == 20
        assert "r1" not in targets(hits)


# --- The command ---------------------------------------------------------------------------------


def run(*arguments, **options):
    return CliRunner().invoke(app, [str(a) for a in arguments], **options)


def test_the_command_deletes_what_is_named_and_says_what_is_left(path, tmp_path):
    names = tmp_path / "ids.txt"
    names.write_text("r10\n\n  r11 \r\n", encoding="utf-8")
    result = run("delete", path, "r9", "--from-file", names, "--yes")
    assert result.exit_code == 0
    assert "3 records deleted; the database now holds 58 records" in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "exit_code", "text"),
    [
        (["r1"], 2, "confirm with --yes"),
        (["--yes"], 2, "give ids"),
        (["nope", "--yes"], 1, "no record 'nope'"),
        (["--from-file", "no such file", "--yes"], 1, "no such file"),
    ],
)
def test_what_cannot_be_deleted_is_said_and_nothing_is(path, arguments, exit_code, text):
    result = run("delete", path, *arguments)
    assert result.exit_code == exit_code
    assert text in result.stderr
    with open_database(path) as db:
        assert len(db) == 61
