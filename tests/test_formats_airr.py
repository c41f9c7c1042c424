"""AIRR Rearrangement tables: recognised by their header, residues from the first column that has any."""

from __future__ import annotations

import pytest

from plmsearch.errors import TableFormatError
from plmsearch.formats.airr import REQUIRED_COLUMNS, is_airr, read_airr
from plmsearch.formats.residues import RESIDUE_COLUMNS

REAL = [
    "formats/good_rearrangement.tsv",
    "formats/rearrangement_ig.tsv",
    "formats/rearrangement-example.tsv.gz",
    "formats/amulety_AIRR_rearrangement_bulk_test.tsv",
    "formats/amulety_AIRR_rearrangement_tcr_test.tsv",
    "formats/amulety_AIRR_rearrangement_translated_mixed.tsv",
    "clones/ExampleDb.tsv.gz",
    "clones/genairr_dev.tsv",
]


@pytest.fixture
def airr_table(tmp_path):
    def write(*lines: str, name: str = "in.tsv"):
        path = tmp_path / name
        path.write_text("".join("\t".join(line.split("|")) + "\n" for line in lines), encoding="utf-8")
        return path

    return write


def test_required_columns_are_those_of_the_schema_that_the_airr_library_carries():
    import airr

    assert set(REQUIRED_COLUMNS) == set(airr.schema.RearrangementSchema.required)


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (REQUIRED_COLUMNS, True),
        (("sequence_id", "v_call", "junction", "sequence_alignment"), True),
        (("sequence_id", "sequence_vdj_aa", "locus", "v_call"), True),
        (("sequence_id", "sequence", "v_call"), False),
        (("sequence_id", "sequence_aa"), False),
        (("Name", "VH", "VL", "v_call_heavy"), False),
        (("barcode", "contig_id", "chain", "v_gene", "cdr3"), False),
        (("Sequence_ID", "V_CALL", "JUNCTION"), False),
        ((), False),
    ],
)
def test_a_header_is_airr_by_its_names_alone(columns, expected):
    assert is_airr(columns) is expected


@pytest.mark.parametrize("name", REAL)
def test_real_files_are_recognised_and_agree_with_pandas_cell_by_cell(shared_data, name):
    import pandas as pd

    path = shared_data / name
    oracle = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    assert is_airr(oracle.columns)
    got = list(read_airr(path, path.name))
    assert [r.record_id for r in got] == list(oracle["sequence_id"])
    for record, (_, row) in zip(got, oracle.iterrows(), strict=True):
        chosen = next((c for c in RESIDUE_COLUMNS if row.get(c)), None)
        assert chosen is None or record.sequence == row[chosen]
        others = {c: row[c] for c in oracle.columns if c not in ("sequence_id", chosen) and row[c]}
        made = {"residue_source": record.residue_source} if record.sequence else {}
        assert list(record.metadata.items()) == list((others | made).items())


def test_a_valid_file_agrees_with_the_airr_library(shared_data):
    import airr

    path = shared_data / "formats" / "rearrangement_ig.tsv"
    with path.open() as handle:
        oracle = list(airr.io.RearrangementReader(handle))
    got = list(read_airr(path, path.name))
    assert [(r.record_id, r.sequence) for r in got] == [
        (row["sequence_id"], row["sequence_aa"]) for row in oracle
    ]
    for record, row in zip(got, oracle, strict=True):
        assert record.metadata["productive"] == {True: "T", False: "F"}[row["productive"]]
        assert record.metadata["v_call"] == row["v_call"]
        assert int(record.metadata["junction_length"]) == row["junction_length"]


def test_residues_come_row_by_row_from_the_first_column_that_has_any(airr_table):
    path = airr_table(
        "sequence_id|sequence|v_call|sequence_vdj_aa|sequence_alignment_aa|sequence_aa",
        "a|GAG|IGHV1|VDJ|ALN|FVLL",
        "b|GAG|IGHV1|VDJ|A.L-N|",
        "c|GAG|IGHV1|VDJ||NA",
        "d|GAG|IGHV1|||",
    )
    got = list(read_airr(path, "in.tsv"))
    assert [r.sequence for r in got] == ["FVLL", "A.L-N", "VDJ", ""]
    assert got[0].metadata == {
        "sequence": "GAG",
        "v_call": "IGHV1",
        "sequence_vdj_aa": "VDJ",
        "sequence_alignment_aa": "ALN",
        "residue_source": "sequence_aa",
    }
    assert [r.residue_source for r in got] == [
        "sequence_aa",
        "sequence_alignment_aa",
        "sequence_vdj_aa",
        "",
    ]
    assert got[3].metadata == {"sequence": "GAG", "v_call": "IGHV1"}
    assert got[3].unusable is not None


def test_a_source_that_the_input_names_is_not_overwritten(airr_table):
    path = airr_table("sequence_id|sequence_aa|v_call|residue_source", "a|EV|IGHV1|mine", "b|EV|IGHV1|")
    got = list(read_airr(path, "in.tsv"))
    assert [r.metadata["residue_source"] for r in got] == ["mine", "sequence_aa"]
    assert [r.residue_source for r in got] == ["sequence_aa", "sequence_aa"]


def test_booleans_and_lists_of_calls_stay_the_text_they_are(airr_table):
    path = airr_table("sequence_id|sequence_aa|v_call|productive", "a|EV|IGHV1-2*01,IGHV1-2*02|T")
    (record,) = read_airr(path, "in.tsv")
    assert (record.metadata["v_call"], record.metadata["productive"]) == ("IGHV1-2*01,IGHV1-2*02", "T")


def test_another_id_column_can_be_named(airr_table):
    path = airr_table("sequence_id|sequence_aa|v_call|cell_id", "a|EV|IGHV1|cell7")
    (record,) = read_airr(path, "in.tsv", id_col="cell_id")
    assert (record.record_id, record.metadata["sequence_id"]) == ("cell7", "a")
    assert "cell_id" not in record.metadata
    with pytest.raises(TableFormatError, match="no column 'cell'"):
        read_airr(path, "in.tsv", id_col="cell")


def test_a_row_without_an_id_is_an_error(shared_data):
    path = shared_data / "formats" / "bad_rearrangement.tsv"
    with pytest.raises(TableFormatError, match="line 8 has no id"):
        list(read_airr(path, path.name))


def test_the_same_columns_are_read_from_parquet(tmp_path):
    import polars as pl

    path = tmp_path / "in.parquet"
    pl.DataFrame({"sequence_id": ["a"], "v_call": ["IGHV1"], "sequence_aa": ["EV"]}).write_parquet(path)
    (record,) = read_airr(path, "in.parquet")
    assert (record.record_id, record.sequence, record.metadata["v_call"]) == ("a", "EV", "IGHV1")
