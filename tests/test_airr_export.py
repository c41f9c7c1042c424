from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import VH, VL, cli, contents, make_db

from plmsearch.database import open_database
from plmsearch.embedding.spec import SpaceRequest
from plmsearch.exchange import airr_export
from plmsearch.exchange.airr_export import export_airr
from plmsearch.formats.airr import INTEGER_FIELDS, REQUIRED_COLUMNS
from plmsearch.formats.read import open_input
from plmsearch.ingest.report import AddOptions
from plmsearch.ingest.scan import RecordList
from plmsearch.sequences import SequenceRecord, normalise

airr = pytest.importorskip("airr", reason="airr is a development tool")
EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
NO_ANTIBODY = "MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQAPILSRVGDGTQDNLSGAEKAVQ"


def make_antibodies(path: Path, given: Sequence[SequenceRecord]) -> Path:
    with open_database(path, create=True) as db:
        db.add_inputs([RecordList(given, "rows")], request=SpaceRequest("kmer", preset="antibody"))
    return path


def index_file(path: Path, file: Path) -> Path:
    with open_input(file) as rows, open_database(path, create=True) as db:
        db.add_inputs([rows], request=SpaceRequest("kmer", preset="antibody"), options=AddOptions("skip"))
    return path


def read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)


def exported(db: Path, out: Path) -> pd.DataFrame:
    assert cli("export", db, "-o", out, "--format", "airr", "-q").code == 0
    assert airr.validate_rearrangement(str(out))
    return read(out)


def assert_cells_kept(given: pd.DataFrame, found: pd.DataFrame) -> None:
    """Every cell of an AIRR table that says something is there again; residues normalised.

    What is no value of its field, such as 16.0 for a whole number, is in the column ``meta.NAME``.
    """
    found = found.set_index("sequence_id")
    for row in given.to_dict("records"):
        if row["sequence_id"] not in found.index:
            continue
        new = found.loc[row["sequence_id"]]
        for name, cell in row.items():
            if name == "sequence_aa" and cell:
                cell = normalise(cell).residues
            column = f"meta.{name}" if f"meta.{name}" in found else name
            assert not cell or name == "sequence_id" or new[column] == cell, (row["sequence_id"], name)


@pytest.fixture(scope="module")
def given_table() -> pd.DataFrame:
    return read(EXAMPLES / "repertoire.tsv").head(40)


def test_cells_of_an_airr_table_are_kept_one_by_one_and_come_back_as_the_same_records(given_table, tmp_path):
    given_table.to_csv(tmp_path / "in.tsv", sep="\t", index=False)
    db = index_file(tmp_path / "db", tmp_path / "in.tsv")
    found = exported(db, tmp_path / "out.tsv")
    assert list(found.columns[: len(REQUIRED_COLUMNS)]) == list(REQUIRED_COLUMNS)
    assert list(found.sequence_id) == list(given_table.sequence_id)
    assert_cells_kept(given_table, found)
    again = contents(index_file(tmp_path / "again", tmp_path / "out.tsv"))
    for record_id, (residues, description, metadata) in contents(db).items():
        assert again[record_id][:2] == (residues, description)
        assert again[record_id][2].items() >= metadata.items()


def test_what_the_input_left_out_is_filled_in_from_the_residues(given_table, tmp_path):
    bare = [SequenceRecord(r.sequence_id, "MKHLWFFLLL" + r.sequence_aa) for r in given_table.itertuples()]
    found = exported(make_antibodies(tmp_path / "db", bare), tmp_path / "out.tsv")
    assert list(found.sequence_aa) == [r.sequence for r in bare]
    assert list(found.sequence_alignment_aa) == list(given_table.sequence_aa)
    # The simulator's own junctions and loci.
    assert list(found.junction_aa) == list(given_table.junction_aa)
    assert list(found.cdr3_aa) == [junction[1:-1] for junction in given_table.junction_aa]
    assert list(found.locus) == list(given_table.locus)
    assert list(found.junction_aa_length.astype(int)) == [len(j) for j in given_table.junction_aa]
    regions = found[[f"{r}_aa" for r in ("fwr1", "cdr1", "fwr2", "cdr2", "fwr3", "cdr3", "fwr4")]]
    assert list(regions.sum(axis=1)) == list(found.sequence_alignment_aa)
    for name in ("v_call", "j_call", "productive", "junction", "v_cigar"):
        assert set(found[name]) == {""}


def test_each_domain_is_a_row_and_so_is_a_record_without_one(tmp_path):
    scfv = VH + "GGGGSGGGGSGGGGS" + VL
    db = make_antibodies(
        tmp_path / "db",
        [
            SequenceRecord(
                "scfv", scfv, "a fusion", {"v_call": "IGHV3-66*01", "productive": "T", "donor": "x"}
            ),
            SequenceRecord("no", NO_ANTIBODY, "", {"donor": "y"}),
            SequenceRecord("vl", VL, "", {"locus": "IGK", "junction_aa": "CXXF"}),
        ],
    )
    found = exported(db, tmp_path / "out.tsv")
    shown = ["sequence_id", "record_id", "domain", "locus", "v_call", "productive", "donor"]
    assert found[shown].to_numpy().tolist() == [
        ["scfv#1", "scfv", "1", "IGH", "IGHV3-66*01", "T", "x"],
        ["scfv#2", "scfv", "2", "IGK", "", "", "x"],
        ["no", "", "", "", "", "", "y"],
        ["vl", "", "", "IGK", "", "", ""],
    ]
    assert list(found.sequence_aa) == [scfv, scfv, NO_ANTIBODY, VL]
    assert list(found.sequence_alignment_aa) == [VH, VL, "", VL]
    assert list(found.junction_aa) == ["CSRWGGDGFYAMDYW", "CQQHYTTPPTF", "", "CXXF"]  # as the input says
    assert list(found.junction_aa_length) == ["15", "11", "", "4"]


def test_chains_of_one_record_are_given_one_by_one(tmp_path):
    db = make_antibodies(tmp_path / "db", [SequenceRecord("pair", f"{VL};{VH}")])
    found = exported(db, tmp_path / "out.tsv")
    assert list(found.sequence_aa) == [VL, VH]
    assert list(found.locus) == ["IGK", "IGH"]


def test_columns_that_airr_fields_cannot_hold_are_called_otherwise_and_told(tmp_path):
    metadata = {"productive": "perhaps", "v_score": "high", "duplicate_count": "2.5", "umi_count": "7"}
    row = SequenceRecord("a", VH, "d", {**metadata, "sequence_id": "own", "meta.v_score": "taken"})
    db = make_antibodies(tmp_path / "db", [row])
    told = cli("export", db, "-o", tmp_path / "out.tsv", "--format", "airr")
    assert airr.validate_rearrangement(str(tmp_path / "out.tsv"))
    (found,) = read(tmp_path / "out.tsv").to_dict("records")
    assert found["meta.productive"] == "perhaps" and found["productive"] == ""
    assert found["meta.meta.v_score"] == "high" and found["meta.v_score"] == "taken"
    assert found["meta.duplicate_count"] == "2.5" and found["umi_count"] == "7"
    assert (found["sequence_id"], found["meta.sequence_id"], found["description"]) == ("a", "own", "d")
    assert "hold something else: meta.productive" in told.err


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.lists(
        st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), min_size=1), min_size=1, max_size=3
    )
)
def test_whatever_text_a_cell_holds_is_read_back(tmp_path_factory, texts):
    folder = tmp_path_factory.mktemp("cells")
    rows = [SequenceRecord(f"r{n}", VH, text, {"note": text}) for n, text in enumerate(texts)]
    with open_database(make_db(folder / "db", rows)) as db:
        export_airr(db, folder / "out.tsv")
        stored = [r.metadata.get("note", "") for r in db.repository.all_records()]
    with (folder / "out.tsv").open(encoding="utf-8", newline="") as file:
        read_back = list(csv.DictReader(file, delimiter="\t"))
    assert [row["note"] for row in read_back] == stored
    assert [row["description"] for row in read_back] == texts


def test_types_are_those_of_the_schema():
    properties = airr.schema.RearrangementSchema.properties
    for kind, names in (
        ("boolean", airr_export._BOOLEANS),
        ("integer", INTEGER_FIELDS),
        ("number", airr_export._NUMBERS),
    ):
        assert set(names) == {name for name, facts in properties.items() if facts.get("type") == kind}


def test_a_condition_limits_and_mistakes_are_named(tmp_path):
    rows = [SequenceRecord("a", VH, "", {"n": 1}), SequenceRecord("b", VL, "", {"n": 2})]
    db = make_antibodies(tmp_path / "db", rows)
    out = tmp_path / "x.tsv"
    told = cli("export", db, "-o", out, "--format", "airr", "--where", "n = 2")
    assert told.code == 0 and "1 record, 1 row" in told.err and list(read(out).sequence_id) == ["b"]
    assert cli("export", db, "-o", out, "--format", "csv").code == 2
    assert cli("export", db, "-o", out, "--format", "airr", "--space", "x").code == 2
    told = cli("export", db, "-o", tmp_path / "x.parquet", "--format", "airr")
    assert told.code == 1 and ".tsv" in told.err and not (tmp_path / "x.parquet").exists()


@pytest.mark.parametrize(
    "name",
    ["clones/genairr_dev.tsv", "formats/good_rearrangement.tsv", "formats/rearrangement_ig.tsv",
     "formats/amulety_AIRR_rearrangement_translated_single-cell.tsv"],
)  # fmt: skip
def test_real_tables_keep_their_cells_and_are_valid(shared_data, tmp_path, name):
    given_rows = read(shared_data / name).head(50)
    given_rows.to_csv(tmp_path / "in.tsv", sep="\t", index=False, quoting=csv.QUOTE_MINIMAL)
    db = index_file(tmp_path / "db", tmp_path / "in.tsv")
    found = exported(db, tmp_path / "out.tsv")
    assert len(found) > 0
    assert_cells_kept(given_rows, found)
    assert json.dumps(sorted(found.sequence_id)) == json.dumps(sorted(contents(db)))
