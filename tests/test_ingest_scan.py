"""The pass over the whole input that comes before the first forward pass, and how one row is judged."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import DNA, VH, VL, cli, ledger, make_db, peptides, watched_kmer, write_fasta

from plmsearch.database import open_database
from plmsearch.errors import (
    DuplicateRecordError,
    EmptySequenceError,
    InputError,
    InvalidResidueError,
    NucleotideSequenceError,
    SequenceTooLongError,
)
from plmsearch.formats.read import open_input
from plmsearch.ingest.prepare import prepare
from plmsearch.ingest.report import AddOptions
from plmsearch.ingest.scan import RecordList, Scan, scan
from plmsearch.sequences import SequenceRecord, sequence_hash


def record(residues: str, record_id: str = "x", **more: object) -> SequenceRecord:
    return SequenceRecord(record_id, residues, source="in.fasta", row=7, **more)  # type: ignore[arg-type]


def scanned(rows: list[SequenceRecord], options: AddOptions | None = None) -> Scan:
    return scan([RecordList(rows)], options or AddOptions(), {}, lambda _: {})


# --- One row -------------------------------------------------------------------------------------


def test_a_row_is_normalised_and_what_changed_is_counted() -> None:
    row = prepare(record("evql-V.ESG*"), AddOptions())
    assert row.residues == "EVQLVESG"
    assert row.notes == {"lowercase": 4, "gaps": 2, "stop": 1}
    assert row.hash_hex == sequence_hash("EVQLVESG")
    assert row.reason == ""


BAD_ROWS = [
    pytest.param("EV*QL", InvalidResidueError, "'*' at residue 3", id="stop-inside"),
    pytest.param("EVQ1L", InvalidResidueError, "'1' at residue 4", id="digit"),
    pytest.param("EVQßL", InvalidResidueError, "'ß' at residue 4", id="other-alphabet"),
    pytest.param("", EmptySequenceError, "empty", id="empty"),
    pytest.param("--..", EmptySequenceError, "empty", id="only-gaps"),
    pytest.param("*", EmptySequenceError, "empty", id="only-a-stop"),
    pytest.param(DNA, NucleotideSequenceError, "nucleotide", id="dna"),
    pytest.param(DNA.replace("T", "U").lower(), NucleotideSequenceError, "nucleotide", id="rna"),
]


@pytest.mark.parametrize(("residues", "error", "reason"), BAD_ROWS)
def test_a_row_that_is_no_protein_stops_with_its_place_or_is_left_out_with_the_reason(
    residues: str, error: type[InputError], reason: str
) -> None:
    with pytest.raises(error, match=r"record 'x' \(in.fasta, record 7\)"):
        prepare(record(residues), AddOptions())
    left_out = prepare(record(residues), AddOptions(on_invalid="skip"))
    assert reason in left_out.reason
    assert left_out.residues == ""


def test_masking_reads_invalid_letters_as_x_and_still_refuses_what_is_no_protein() -> None:
    row = prepare(record("EV*QL1"), AddOptions(on_invalid="mask"))
    assert (row.residues, row.notes) == ("EVXQLX", {"masked": 2})
    with pytest.raises(NucleotideSequenceError):
        prepare(record(DNA), AddOptions(on_invalid="mask"))
    with pytest.raises(EmptySequenceError):
        prepare(record(""), AddOptions(on_invalid="mask"))


def test_only_skip_and_error_look_at_the_length() -> None:
    long = record("EVQLVESGGG")
    for policy in (None, "window", "truncate"):
        assert prepare(long, AddOptions(long=policy), max_residues=5).reason == ""  # type: ignore[arg-type]
    assert prepare(long, AddOptions(long="skip"), max_residues=5).reason == "10 residues, the model reads 5"
    assert prepare(long, AddOptions(long="skip"), max_residues=10).reason == ""
    with pytest.raises(SequenceTooLongError):
        prepare(long, AddOptions(long="error"), max_residues=5)


def test_metadata_become_text_and_nulls_have_no_key() -> None:
    given = {"n": 7, "f": 0.5, "yes": True, "none": None, "nan": float("nan"), "empty": "", "text": ' a"\t'}
    row = prepare(record(VH, metadata=given), AddOptions())
    assert row.metadata == {"n": "7", "f": "0.5", "yes": "true", "text": ' a"\t'}


@given(st.dictionaries(st.text(max_size=5), st.text(min_size=1, max_size=5), max_size=4))
def test_the_same_metadata_in_another_order_are_the_same_content(metadata: dict[str, str]) -> None:
    turned = dict(reversed(metadata.items()))
    first, second = (prepare(record(VH, metadata=m), AddOptions()) for m in (metadata, turned))
    assert first.content == second.content


# --- The whole input -----------------------------------------------------------------------------


def test_every_row_of_every_input_is_counted_and_the_longest_is_known() -> None:
    inputs = [RecordList([record("EVQL"), record("EVQLVES", "long")]), RecordList([record("EV")])]
    seen = scan(inputs, AddOptions(), {}, lambda _: {})
    assert seen.n_rows == 3
    assert sorted(seen.sample) == ["EV", "EVQL", "EVQLVES"]
    seen.refuse_long(7)
    with pytest.raises(SequenceTooLongError, match="record 'long'") as caught:
        seen.refuse_long(6)
    assert (caught.value.n_residues, caught.value.max_residues, caught.value.row) == (7, 6, 2)


def test_rows_that_are_left_out_count_but_decide_nothing() -> None:
    rows = [record(VH, metadata={"n": 1}), record("E1V", metadata={"n": "text"})]
    seen = scanned(rows, AddOptions(on_invalid="skip"))
    assert seen.n_rows == 2
    assert seen.types.types == {"n": "int"}
    assert list(seen.sample) == [VH]


def test_column_types_come_from_all_rows_not_from_the_first() -> None:
    late = [record(VH, f"r{i}", metadata={"a": 1, "b": "T"}) for i in range(2000)]
    late.append(record(VH, "last", metadata={"a": 1.5, "b": "maybe", "c": "007"}))
    assert scanned(late).types.types == {"a": "float", "b": "text", "c": "text"}


def test_a_mistake_in_the_last_row_is_found_before_anything_is_embedded_or_written(tmp_path, monkeypatch):
    rows = [*((f"r{i}", s) for i, s in enumerate(peptides(600))), ("last", "EVQ*L")]
    path = write_fasta(tmp_path / "in.fasta", rows)
    with watched_kmer(monkeypatch) as passes:
        ended = cli("index", tmp_path / "db", path, "-m", "kmer")
    assert ended.code == 1
    assert "record 'last'" in ended.err
    assert "record 601" in ended.err
    assert passes == []
    assert not (tmp_path / "db").exists()


# --- Duplicates as an error ----------------------------------------------------------------------


def test_an_id_used_twice_is_refused_with_the_second_place_and_nothing_is_written(tmp_path):
    rows = [(f"r{i}", s) for i, s in enumerate(peptides(400))]
    path = write_fasta(tmp_path / "in.fasta", [*rows, ("r17", VH)])
    with open_input(path) as source, open_database(tmp_path / "db", create=True) as db:
        with pytest.raises(DuplicateRecordError) as caught:
            db.add_inputs([source], options=AddOptions(on_duplicate="error"))
        assert (caught.value.record_id, caught.value.row) == ("r17", 401)
        assert not db.exists


def test_repeating_a_row_exactly_is_no_duplicate(tmp_path):
    path = write_fasta(tmp_path / "in.fasta", [("a", VH), ("b", VL), ("a", VH)])
    ended = cli("index", tmp_path / "db", path, "-m", "kmer", "--on-duplicate", "error")
    assert ended.code == 0
    assert "2 added, 0 renamed, 1 already present" in ended.err


def test_an_id_of_the_database_is_refused_before_anything_is_added(tmp_path):
    db = make_db(tmp_path / "db", [("a", VH)])
    path = write_fasta(tmp_path / "in.fasta", [("new", VL), ("a", VL)])
    ended = cli("index", db, path, "--on-duplicate", "error")
    assert ended.code == 1
    assert "record 'a'" in ended.err
    assert "--on-duplicate rename or skip" in ended.err
    with open_database(db) as opened:
        assert len(opened) == 1
        assert [r.command for r in opened.repository.runs()] == ["add"]
    assert len(ledger(db, 1)) == 1


def test_a_description_or_a_value_of_its_own_makes_a_different_record() -> None:
    rows = [record(VH, "a"), record(VH, "a", description="other")]
    with pytest.raises(DuplicateRecordError):
        scanned(rows, AddOptions(on_duplicate="error"))
    rows = [record(VH, "a", metadata={"n": 1}), record(VH, "a", metadata={"n": 2})]
    with pytest.raises(DuplicateRecordError):
        scanned(rows, AddOptions(on_duplicate="error"))


def test_duplicates_across_two_inputs_are_found() -> None:
    inputs = [RecordList([record(VH, "a")], "one"), RecordList([record(VL, "b"), record(VL, "a")], "two")]
    with pytest.raises(DuplicateRecordError, match=r"\(two, record 2\)"):
        scan(inputs, AddOptions(on_duplicate="error"), {}, lambda _: {})
