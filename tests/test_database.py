"""A database as one object: creating, adding, reading back, and two of them on one directory."""

from __future__ import annotations

import csv
import math
import shutil

import numpy as np
import polars as pl
import pytest
from support import VH, VL, before_writing, cli, contents, make_db, peptides, records, watched_kmer

from plmsearch.database import open_database
from plmsearch.errors import (
    DatabaseLocked,
    DatabaseNotFound,
    InvalidResidueError,
    NotADatabase,
    ParameterError,
    RecordNotFound,
)
from plmsearch.ingest.report import AddOptions, AddReport, Progress
from plmsearch.search.hits import SearchOptions
from plmsearch.sequences import SequenceRecord, sequence_hash
from plmsearch.store.lock import writer_lock

# --- Opening -------------------------------------------------------------------------------------


def test_nothing_is_created_until_something_is_added(tmp_path):
    with open_database(tmp_path / "db", create=True) as db:
        assert (len(db), db.exists) == (0, False)
        assert db.add([]) == AddReport()
        assert not (tmp_path / "db").exists()
        db.add([("a", VH)], model="kmer")
        assert (len(db), db.exists) == (1, True)


def test_a_database_that_is_not_there_is_an_error_unless_it_may_be_created(tmp_path):
    with pytest.raises(DatabaseNotFound, match="create one with: plmsearch index"):
        open_database(tmp_path / "db")
    open_database(tmp_path / "db", create=True).close()


def test_what_is_no_database_is_refused_for_reading_and_for_adding(tmp_path):
    file = tmp_path / "file"
    file.write_text("text")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "thesis.tex").write_text("text")
    for path in (file, folder):
        with pytest.raises(NotADatabase):
            open_database(path)
        with pytest.raises(NotADatabase):
            open_database(path, create=True)
    assert [p.name for p in folder.iterdir()] == ["thesis.tex"]


def test_an_existing_empty_directory_can_become_a_database(tmp_path):
    assert len(contents(make_db(tmp_path, [("a", VH)]))) == 1


def test_missing_parents_are_created(tmp_path):
    make_db(tmp_path / "a" / "b" / "db", [("a", VH)])
    assert contents(tmp_path / "a" / "b" / "db").keys() == {"a"}


def test_a_database_object_can_be_used_again_after_closing_and_after_adding(tmp_path):
    with open_database(tmp_path / "db", create=True) as db:
        db.add([("a", VH)], model="kmer")
        assert db.search([VH], k=1)[0][0].target == "a"
        db.add([("b", VL)])
        assert db.search([VL], k=1)[0][0].target == "b"
        db.close()
        assert len(db) == 2


def test_a_database_can_be_moved(tmp_path):
    path = make_db(tmp_path / "db", records(5))
    shutil.move(path, tmp_path / "moved")
    with open_database(tmp_path / "moved", create=True) as db:
        assert db.search([peptides(5)[3]], k=1)[0][0].target == "r3"
        assert db.add(records(6)).n_added == 1


# --- Adding --------------------------------------------------------------------------------------


def test_adding_again_adds_nothing_and_runs_no_forward_pass(tmp_path, monkeypatch):
    path = make_db(tmp_path / "db", records(20))
    with watched_kmer(monkeypatch) as passes, open_database(path, create=True) as db:
        report = db.add(records(20))
    assert (report.n_rows, report.n_present, report.n_embedded) == (20, 20, 0)
    assert (report.n_forward_passes, passes) == (0, [])


@pytest.mark.parametrize("policy", ["error", "skip", "mask"])
def test_rows_are_always_added_renamed_present_or_skipped(tmp_path, policy):
    rows = [*records(4), ("r0", VH), ("r1", peptides(2)[1]), *records(2), ("odd", "EV1QL")]
    if policy == "error":
        rows.pop()
    with open_database(tmp_path / "db", create=True) as db:
        report = db.add(rows, model="kmer", options=AddOptions(on_invalid=policy))
        assert len(db) == report.n_added + report.n_renamed
    assert report.n_rows == len(rows)
    assert report.n_rows == report.n_added + report.n_renamed + report.n_present + report.n_skipped
    assert report.n_skipped == len(report.skipped) == (policy == "skip")


def test_a_bad_record_stops_everything_before_it_too(tmp_path):
    with open_database(tmp_path / "db", create=True) as db:
        with pytest.raises(InvalidResidueError, match=r"record 'bad' \(<records>, record 3\)"):
            db.add([*records(2), ("bad", "EV*QL")], model="kmer")
        assert not db.exists


@pytest.mark.parametrize(
    "given",
    ["EVQL", "ab", ("", "EVQL"), (7, "EVQL"), ("a", None), ("a", b"EVQL"), ("a", "EVQL", "x"), ()],
    ids=repr,
)
def test_what_is_no_record_is_refused(tmp_path, given):
    with (
        open_database(tmp_path / "db", create=True) as db,
        pytest.raises(ParameterError, match=r"pair of id and residues|string of"),
    ):
        db.add([given], model="kmer")


def test_odd_ids_are_kept_exactly(tmp_path):
    ids = ["sp|P12345|X", "two words", "tab\tid", 'quo"te', "it's", "Ünïcødé 抗体", "%", "a_b", "\\", "-"]
    sequences = peptides(len(ids))
    path = make_db(tmp_path / "db", list(zip(ids, sequences, strict=True)))
    assert {i: c[0] for i, c in contents(path).items()} == dict(zip(ids, sequences, strict=True))
    with open_database(path) as db:
        for record_id in ids:
            (hits,) = (h for _, h in db.search_stored([record_id], db.ranking(), SearchOptions(k=1)))
            assert hits[0].target == record_id


# --- Reading back --------------------------------------------------------------------------------


def test_records_come_back_in_the_order_asked_with_hash_and_description(tmp_path):
    path = make_db(tmp_path / "db", [SequenceRecord("a", "evql-v", "a heavy chain"), ("b", VL)])
    with open_database(path) as db:
        b, a, again = db.get(["b", "a", "b"])
    assert (a.record_id, a.residues, a.description) == ("a", "EVQLV", "a heavy chain")
    assert a.sequence_hash == sequence_hash("EVQLV")
    assert b == again


def test_vectors_are_float32_in_the_order_asked(tmp_path):
    path = make_db(tmp_path / "db", records(5))
    with open_database(path) as db:
        vectors = db.vectors(["r4", "r0", "r4"])
        assert (vectors.dtype, vectors.shape) == (np.float32, (3, 512))
        np.testing.assert_array_equal(vectors[0], vectors[2])
        np.testing.assert_allclose(vectors.sum(axis=1), 1, rtol=1e-6, err_msg="means of one-hot rows")
        assert db.vectors([]).shape == (0, 512)
        vectors[:] = 0
        assert db.vectors(["r4"]).any(), "a copy is handed out"


def test_a_record_that_is_not_there_is_named_with_a_near_spelling(tmp_path):
    path = make_db(tmp_path / "db", [("trastuzumab_H", VH), ("b", VL)])
    with open_database(path) as db:
        for ask in (db.get, db.vectors):
            with pytest.raises(RecordNotFound, match="did you mean 'trastuzumab_H'") as caught:
                ask(["b", "trastuzumb_H", "nothing%_"])
            assert caught.value.record_ids == ("trastuzumb_H", "nothing%_")


def test_reading_writes_no_data(tmp_path):
    path = make_db(tmp_path / "db", records(3))

    def files() -> dict[str, int]:
        return {str(p): p.stat().st_mtime_ns for p in path.rglob("*") if p.is_file() and "-shm" not in p.name}

    before = {name: at for name, at in files().items() if not name.endswith("-wal")}
    with open_database(path) as db:
        db.search([VH])
        db.get(["r0"])
        db.vectors(["r1"])
    assert {name: at for name, at in files().items() if not name.endswith("-wal")} == before


# --- Metadata ------------------------------------------------------------------------------------

ODD_TEXT = ['quote " inside', "it's", "a\\tb", "ü é 抗体 🧬", "=1+1", "007", "1e5", "NaN", " padded "]


def test_text_of_a_table_comes_back_exactly(tmp_path):
    path = tmp_path / "in.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        out = csv.writer(file)
        out.writerow(["id", "sequence", "odd name, (Feb '25)", "empty"])
        cells = [*ODD_TEXT, "tab\there", "line\nbreak", "comma, inside"]
        out.writerows([f"r{i}", s, c, ""] for i, (s, c) in enumerate(zip(peptides(12), cells, strict=True)))
    assert cli("index", tmp_path / "db", path, "-m", "kmer").code == 0
    stored = contents(tmp_path / "db")
    assert [stored[f"r{i}"][2]["odd name, (Feb '25)"] for i in range(12)] == cells
    assert all("empty" not in metadata for _, _, metadata in stored.values()), "a null has no key"


def test_types_are_inferred_over_the_whole_input_and_handed_out(tmp_path):
    path = tmp_path / "in.tsv"
    rows = [
        ("a", VH, "1", "0.5", "T", "12", "x"),
        ("b", VL, "-20", "3", "F", "007", ""),
        ("c", "EVQLV", "", "1e-3", "T", "", "y"),
    ]
    header = "\t".join(("id", "sequence", "n", "score", "productive", "code", "note"))
    path.write_text("\n".join([header, *("\t".join(r) for r in rows)]) + "\n")
    assert cli("index", tmp_path / "db", path, "-m", "kmer").code == 0
    stored = {record_id: metadata for record_id, (_, _, metadata) in contents(tmp_path / "db").items()}
    assert stored == {
        "a": {"n": 1, "score": 0.5, "productive": True, "code": "12", "note": "x"},
        "b": {"n": -20, "score": 3.0, "productive": False, "code": "007"},
        "c": {"score": 1e-3, "productive": True, "note": "y"},
    }
    assert list(stored["a"]) == ["n", "score", "productive", "code", "note"]
    assert [type(v) for v in stored["a"].values()] == [int, float, bool, str, str]
    with open_database(tmp_path / "db") as db:
        texts = db.repository.records_by_id(["b"])["b"].metadata
    assert texts == {"n": "-20", "score": "3", "productive": "F", "code": "007"}


def test_a_later_misfit_widens_the_column_with_a_note_and_loses_nothing(tmp_path):
    path = make_db(tmp_path / "db", [SequenceRecord("a", VH, metadata={"n": "12", "x": "3"})])
    later = tmp_path / "later.tsv"
    later.write_text(f"id\tsequence\tn\tx\nb\t{VL}\tunknown\t0.25\n")
    ended = cli("index", path, later)
    assert ended.code == 0
    assert "column 'n' widened from int to text" in ended.err
    assert "column 'x' widened from int to float" in ended.err
    assert contents(path)["a"][2] == {"n": "12", "x": 3.0}
    assert contents(path)["b"][2] == {"n": "unknown", "x": 0.25}
    again = cli("index", path, later)
    assert "widened" not in again.err
    assert "1 already present" in again.err


def test_a_column_that_another_process_widened_meanwhile_is_not_narrowed_again(tmp_path, monkeypatch):
    path = make_db(tmp_path / "db", [("seed", VH)])
    wide = [SequenceRecord("wide", VL, metadata={"n": "many"})]
    before_writing(monkeypatch, lambda: make_db(path, wide))
    with open_database(path, create=True) as db:
        db.add([SequenceRecord("narrow", peptides(1)[0], metadata={"n": "12"})])
    assert contents(path)["wide"][2] == {"n": "many"}
    assert contents(path)["narrow"][2] == {"n": "12"}


def test_python_values_and_parquet_keep_their_types(tmp_path):
    given = {"n": 7, "share": 0.1, "ok": False, "text": "x", "none": None, "nan": math.nan}
    path = make_db(tmp_path / "db", [SequenceRecord("a", VH, metadata=given)])
    frame = pl.DataFrame(
        {"id": ["b"], "sequence": [VL], "n": [8], "share": [0.2], "ok": [True], "text": [None]}
    )
    frame.write_parquet(tmp_path / "in.parquet")
    ended = cli("index", path, tmp_path / "in.parquet")
    assert ended.code == 0
    assert "widened" not in ended.err
    assert contents(path)["a"][2] == {"n": 7, "share": 0.1, "ok": False, "text": "x"}
    assert contents(path)["b"][2] == {"n": 8, "share": 0.2, "ok": True}


def test_real_chains_keep_every_column_as_it_was_read(tmp_path, shared_data):
    source = shared_data / "antibodies" / "sars2_paired.tsv"
    lines = source.read_text("utf-8").splitlines()[:301]
    path = tmp_path / "in.tsv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    ended = cli("index", tmp_path / "db", path, "-m", "kmer", "--seq-col", "VH", "--id-col", "Name")
    assert ended.code == 0
    header = lines[0].split("\t")
    rows = [dict(zip(header, line.split("\t"), strict=True)) for line in lines[1:]]
    with open_database(tmp_path / "db") as db:
        stored = list(db.repository.all_records())
    assert len(stored) == len(rows)
    for row, record in zip(rows, stored, strict=True):
        assert (record.record_id, record.residues) == (row.pop("Name"), row.pop("VH"))
        assert dict(record.metadata) == {name: text for name, text in row.items() if text}


# --- Two on one directory ------------------------------------------------------------------------


class Saying(Progress):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


def test_a_second_writer_waits_says_so_and_gives_up(tmp_path):
    path = make_db(tmp_path / "db", records(1))
    show = Saying()
    with writer_lock(path), open_database(path, create=True, lock_timeout_s=0.2) as db:
        with pytest.raises(DatabaseLocked, match="another process is writing"):
            db.add([("new", VH)], progress=show)
        assert len(db) == 1, "a reader does not wait"
    assert show.said == [f"waiting for another process that writes to {path}"]
    ended = cli("index", path, "-", "--lock-timeout", "0", stdin=f">x\n{VH}\n".encode())
    assert ended.code == 0, "the lock is gone with its holder"


def test_the_command_line_names_the_flag_when_the_database_is_locked(tmp_path):
    path = make_db(tmp_path / "db", records(1))
    with writer_lock(path):
        ended = cli("index", path, "-", "--lock-timeout", "0", stdin=f">x\n{VH}\n".encode())
    assert ended.code == 1
    assert "--lock-timeout" in ended.err


def test_a_reader_sees_what_another_commits(tmp_path):
    path = make_db(tmp_path / "db", records(2))
    with open_database(path) as reader:
        assert reader.search([VH], k=1)[0][0].target != "new"
        make_db(path, [("new", VH)])
        assert len(reader) == 3
        assert reader.search([VH], k=1)[0][0].target == "new"
        assert reader.get(["new"])[0].residues == VH
        assert reader.vectors(["new"]).any()
