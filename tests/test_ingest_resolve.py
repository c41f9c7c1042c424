"""What a row becomes: a record, one that is there, one under another id, or none."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import VH, VL, before_writing, cli, contents, ledger, make_db, peptides, write_fasta

from plmsearch.database import open_database
from plmsearch.errors import DuplicateRecordError
from plmsearch.ingest import chunks
from plmsearch.ingest.report import AddOptions, AddReport
from plmsearch.sequences import SequenceRecord

A, B, C, D = peptides(4, seed=1)


def add(path: Path, rows: list[tuple[str, str]], policy: str = "rename") -> AddReport:
    with open_database(path, create=True) as db:
        return db.add(rows, model="kmer", options=AddOptions(on_duplicate=policy))  # type: ignore[arg-type]


def residues_by_id(path: Path) -> dict[str, str]:
    return {record_id: residues for record_id, (residues, _, _) in contents(path).items()}


def outcomes(report: AddReport) -> tuple[int, int, int, int]:
    return report.n_added, report.n_renamed, report.n_present, report.n_skipped


# --- Renaming ------------------------------------------------------------------------------------


def test_a_taken_id_becomes_x_2_then_x_3_and_repeating_it_adds_nothing(tmp_path):
    rows = [("X", A), ("X", B), ("X", C), ("X", A), ("X", B)]
    assert outcomes(add(tmp_path / "db", rows)) == (1, 2, 2, 0)
    expected = {"X": A, "X_2": B, "X_3": C}
    assert residues_by_id(tmp_path / "db") == expected
    again = add(tmp_path / "db", rows)
    assert outcomes(again) == (0, 0, 5, 0)
    assert again.n_forward_passes == 0
    assert residues_by_id(tmp_path / "db") == expected


def test_an_id_taken_in_an_earlier_run_is_renamed_too(tmp_path):
    add(tmp_path / "db", [("X", A)])
    assert outcomes(add(tmp_path / "db", [("X", B), ("Y", B)])) == (1, 1, 0, 0)
    assert outcomes(add(tmp_path / "db", [("X", C), ("X", B)])) == (0, 1, 1, 0)
    assert residues_by_id(tmp_path / "db") == {"X": A, "X_2": B, "Y": B, "X_3": C}


def test_a_name_that_is_already_there_is_stepped_over_unless_it_is_the_same_record(tmp_path):
    assert outcomes(add(tmp_path / "db", [("X_2", B), ("X", A), ("X", C)])) == (2, 1, 0, 0)
    assert residues_by_id(tmp_path / "db") == {"X_2": B, "X": A, "X_3": C}
    assert outcomes(add(tmp_path / "db", [("X", B)])) == (0, 0, 1, 0)


def test_a_literal_name_that_comes_after_its_use_is_renamed_in_turn(tmp_path):
    rows = [("X", A), ("X", C), ("X_2", B)]
    add(tmp_path / "db", rows)
    assert residues_by_id(tmp_path / "db") == {"X": A, "X_2": C, "X_2_2": B}
    assert outcomes(add(tmp_path / "db", rows)) == (0, 0, 3, 0)


def test_a_literal_name_met_on_the_way_that_is_the_same_record_is_not_added_twice(tmp_path):
    rows = [("X", A), ("X", B), ("X_3", D), ("X", D)]
    assert outcomes(add(tmp_path / "db", rows)) == (2, 1, 1, 0)
    assert residues_by_id(tmp_path / "db") == {"X": A, "X_2": B, "X_3": D}


def test_a_thousand_records_of_one_id_all_get_a_name(tmp_path):
    sequences = peptides(1200, seed=2, shortest=5, longest=10)
    assert outcomes(add(tmp_path / "db", [("X", s) for s in sequences])) == (1, 1199, 0, 0)
    stored = residues_by_id(tmp_path / "db")
    assert stored == {"X" if i == 0 else f"X_{i + 1}": s for i, s in enumerate(sequences)}
    assert outcomes(add(tmp_path / "db", [("X", s) for s in sequences])) == (0, 0, 1200, 0)


def test_description_and_metadata_are_part_of_what_makes_a_record_the_same(tmp_path):
    plain = SequenceRecord("X", A)
    described = SequenceRecord("X", A, description="heavy chain")
    tagged = SequenceRecord("X", A, metadata={"donor": 7})
    with open_database(tmp_path / "db", create=True) as db:
        first = db.add([plain, described, tagged, tagged, described, plain], model="kmer")
    assert outcomes(first) == (1, 2, 3, 0)
    assert first.n_embedded == 1, "one sequence, however many records"
    assert contents(tmp_path / "db") == {
        "X": (A, "", {}),
        "X_2": (A, "heavy chain", {}),
        "X_3": (A, "", {"donor": 7}),
    }


def test_the_ledger_says_under_which_name_a_row_went_in_or_already_was(tmp_path):
    add(tmp_path / "db", [("X", A), ("X", B), ("X", B)])
    rows = ledger(tmp_path / "db", 1)
    assert [(r["outcome"], r["input_id"], r["record_id"]) for r in rows] == [
        ("added", "X", "X"),
        ("renamed", "X", "X_2"),
        ("present", "X", "X_2"),
    ]
    assert "taken" in str(rows[1]["reason"])
    assert "'X_2'" in str(rows[2]["reason"])


IDS = st.sampled_from(["X", "X_2", "X_3", "X_2_2", "Y"])
ROWS = st.lists(st.tuples(IDS, st.sampled_from([A, B, C, D])), min_size=1, max_size=12)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database to copy: making one takes longer than adding to it."""
    return make_db(tmp_path_factory.mktemp("template") / "db", [("seed", VL)])


@settings(max_examples=8)
@given(rows=ROWS, cut=st.integers(0, 12))
def test_however_an_input_is_interrupted_its_repetition_ends_with_the_same_records(template, rows, cut):
    """Rows committed before an interrupt are what a prefix of the input is, added alone."""
    with tempfile.TemporaryDirectory() as folder:
        whole, parts = (Path(shutil.copytree(template, Path(folder) / name)) for name in ("whole", "parts"))
        report = add(whole, rows)
        assert sum(outcomes(report)) == len(rows) == report.n_rows
        add(parts, rows[:cut])
        assert outcomes(add(parts, rows))[3] == 0
        assert residues_by_id(parts) == residues_by_id(whole)
        taken = {(record_id.split("_")[0], s) for record_id, s in residues_by_id(whole).items()}
        assert taken == {("seed", VL), *((i.split("_")[0], s) for i, s in rows)}, "no row is lost"


@pytest.mark.parametrize("n_rows", [1, 2, 3])
def test_names_do_not_depend_on_where_a_chunk_ends(tmp_path, monkeypatch, n_rows):
    rows = [("X", A), ("X", B), ("X_3", D), ("X", C), ("X", D), ("X_2", A), ("X", B)]
    add(tmp_path / "one", rows)
    monkeypatch.setattr(chunks, "_MAX_ROWS", n_rows)
    add(tmp_path / "many", rows)
    assert residues_by_id(tmp_path / "many") == residues_by_id(tmp_path / "one")


# --- The other policies --------------------------------------------------------------------------


def test_skip_leaves_the_row_out_names_it_and_ends_with_exit_code_3(tmp_path):
    path = write_fasta(tmp_path / "in.fasta", [("X", A), ("X", B), ("Y", B), ("X", A)])
    ended = cli("index", tmp_path / "db", path, "-m", "kmer", "--on-duplicate", "skip")
    assert ended.code == 3
    assert "4 rows: 2 added, 0 renamed, 1 already present, 1 left out" in ended.err
    assert f"left out: record 'X' ({path}, record 2): the id is taken by a different record" in ended.err
    assert residues_by_id(tmp_path / "db") == {"X": A, "Y": B}
    assert [r["outcome"] for r in ledger(tmp_path / "db", 1)] == ["added", "skipped", "added", "present"]


def test_error_stops_even_if_another_process_takes_the_id_after_the_input_was_read(tmp_path, monkeypatch):
    path = make_db(tmp_path / "db", [("X", A)])
    before_writing(monkeypatch, lambda: add(path, [("late", B)]))
    with open_database(path, create=True) as db:
        with pytest.raises(DuplicateRecordError, match="record 'late'"):
            db.add([("late", C)], options=AddOptions(on_duplicate="error"))
        assert [r.status for r in db.repository.runs()] == ["finished", "finished", "failed"]
    assert residues_by_id(path) == {"X": A, "late": B}


# --- Planted duplicates in real data --------------------------------------------------------------


def test_fifty_planted_names_and_fifty_planted_sequences_come_out_by_the_policy(tmp_path, shared_data):
    lines = (shared_data / "antibodies" / "sars2_paired.tsv").read_text("utf-8").splitlines()
    header, rows = lines[0], [line.split("\t") for line in lines[1:601]]
    same_name = [[row[0], VH[: -i - 1], *row[2:]] for i, row in enumerate(rows[:50])]
    same_sequence = [[f"planted{i}", *row[1:]] for i, row in enumerate(rows[100:150])]
    path = tmp_path / "planted.tsv"
    everything = [*rows, *same_name, *same_sequence]
    path.write_text("\n".join([header, *("\t".join(row) for row in everything)]) + "\n", encoding="utf-8")
    command = ("index", tmp_path / "db", path, "-m", "kmer", "--seq-col", "VH", "--id-col", "Name")
    n_names = len({row[0] for row in rows})
    n_present = len(rows) - len({tuple(row) for row in rows})
    n_renamed = len(rows) - n_names - n_present + 50
    ended = cli(*command)
    assert ended.code == 0
    summary = f"700 rows: {n_names + 50} added, {n_renamed} renamed, {n_present} already present, 0 left out"
    assert summary in ended.err
    n_distinct = len({row[1] for row in everything})
    assert f"{n_distinct} new sequences embedded" in ended.err
    stored = contents(tmp_path / "db")
    for row in same_name:
        assert stored[f"{row[0]}_2"][0] == row[1]
    for row, planted in zip(rows[100:150], same_sequence, strict=True):
        assert stored[planted[0]][0] == row[1]
    by_outcome = Counter(r["outcome"] for r in ledger(tmp_path / "db", 1))
    assert by_outcome["added"] + by_outcome["renamed"] + by_outcome["present"] == 700
    again = cli(*command)
    assert "700 rows: 0 added, 0 renamed, 700 already present, 0 left out" in again.err
    assert "0 new sequences embedded" in again.err
