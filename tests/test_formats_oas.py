"""Data units of OAS: the first line told apart, rows named, pairs parted."""

from __future__ import annotations

import csv
import json

import pytest
from repertoires import OAS, OAS_FACTS, oas_row, oas_text, paired_columns, paired_row
from support import VH, VL, gz

from plmsearch.errors import FileFormatError, TableFormatError
from plmsearch.formats.oas import unit_facts
from plmsearch.formats.read import open_input

FACTS = {
    name: value if isinstance(value, str) else json.dumps(value)
    for name, value in OAS_FACTS.items()
    if value is not None
}


@pytest.fixture
def unit(tmp_path):
    def write(text: str, name: str = "SRR1_Heavy_IGHM.csv.gz"):
        path = tmp_path / name
        path.write_bytes(gz(text.encode()) if name.endswith(".gz") else text.encode())
        return path

    return write


def read(path, **named):
    with open_input(path, **named) as opened:
        assert opened.format == "oas"
        return list(opened)


@pytest.mark.parametrize("quoted", [True, False])
@pytest.mark.parametrize("name", ["SRR1_Heavy_IGHM.csv.gz", "SRR1_Heavy_IGHM.csv"])
def test_every_cell_and_every_fact_is_kept(unit, quoted, name):
    rows = [oas_row(), oas_row("light", Redundancy="12", v_call="")]
    got = read(unit(oas_text(OAS, rows, quoted=quoted), name))
    assert [r.record_id for r in got] == ["SRR1_Heavy_IGHM_1", "SRR1_Heavy_IGHM_2"]
    for record, row, chain in zip(got, rows, (VH, VL), strict=True):
        assert (record.sequence, record.residue_source) == (chain, "sequence_alignment_aa")
        expected = {
            {"Redundancy": "duplicate_count"}.get(name, name): value
            for name, value in row.items()
            if value and name != "sequence_alignment_aa"
        }
        assert record.metadata == expected | FACTS | {"residue_source": "sequence_alignment_aa"}
    assert [r.metadata["duplicate_count"] for r in got] == ["3", "12"]


def test_a_fact_does_not_replace_a_column(unit):
    columns = (*OAS, "Species", "duplicate_count")
    (record,) = read(unit(oas_text(columns, [oas_row(Species="mouse", duplicate_count="5")])))
    assert record.metadata["Species"] == "mouse"
    assert (record.metadata["duplicate_count"], record.metadata["Redundancy"]) == ("5", "3")


def test_a_column_of_ids_is_used_where_there_is_one(unit):
    rows = [oas_row(sequence_id="mine"), oas_row(sequence_id="")]
    got = read(unit(oas_text(("sequence_id", *OAS), rows)))
    assert [r.record_id for r in got] == ["mine", "SRR1_Heavy_IGHM_2"]


def test_residues_are_translated_where_the_unit_lacks_them(unit):
    rows = [oas_row(sequence_alignment_aa=""), oas_row(sequence_alignment_aa="", sequence_alignment="")]
    first, second = read(unit(oas_text(OAS, rows)))
    assert (first.sequence, first.residue_source) == (VH, "sequence_alignment")
    assert VH in second.sequence and second.residue_source == "sequence"


def test_a_pair_is_two_records_of_one_cell(unit):
    path = unit(
        oas_text(paired_columns(), [paired_row(1), paired_row(2, Redundancy_light="9")]), "P_1.csv.gz"
    )
    got = read(path)
    assert [(r.record_id, r.sequence, r.row) for r in got] == [
        ("AAAC1-1_contig_1_heavy", VH, 1),
        ("AAAC1-1_contig_2_light", VL, 2),
        ("AAAC2-1_contig_1_heavy", VH, 3),
        ("AAAC2-1_contig_2_light", VL, 4),
    ]
    assert [r.metadata["cell_id"] for r in got] == ["P_1_1", "P_1_1", "P_1_2", "P_1_2"]
    assert [r.metadata["locus"] for r in got] == ["IGH", "IGK"] * 2
    assert [r.metadata["duplicate_count"] for r in got] == ["3", "3", "3", "9"]
    assert not [name for r in got for name in r.metadata if name.endswith(("_heavy", "_light"))]
    assert all(FACTS.items() <= r.metadata.items() for r in got)


def test_pairs_without_ids_and_half_pairs(unit):
    columns = [c for c in paired_columns() if not c.startswith("sequence_id")]
    half = {k: "" if k.endswith("_light") else v for k, v in paired_row(2).items()}
    got = read(unit(oas_text([*columns, "tissue"], [paired_row(1, tissue="blood"), half]), "P.csv"))
    assert [r.record_id for r in got] == ["P_1_heavy", "P_1_light", "P_2_heavy"]
    assert [r.metadata.get("tissue") for r in got] == ["blood", "blood", None]


def test_lines_are_counted_as_in_the_file(unit):
    text = oas_text(OAS, [oas_row()]) + "too,few\n"
    with pytest.raises(TableFormatError, match="line 4 has 2 cells"):
        read(unit(text))


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ('{"Run": "x"}\na,b\n1,2\n', FileFormatError, "second line is no header of sequences"),
        ('{"Run": "x"}\n', FileFormatError, "neither FASTA nor a table"),
        ('{"Run": "x"\nsequence_alignment_aa,b\nEV,2\n', FileFormatError, "neither FASTA nor a table"),
        (oas_text(OAS, []), TableFormatError, "has a header but no rows"),
    ],
)
def test_what_only_looks_like_a_unit_is_refused(unit, text, error, said):
    with pytest.raises(error, match=said):
        read(unit(text, "x.csv"))


@pytest.mark.parametrize("head", [b'{"a": 1', b'"{""a"": 1', b'"{""a"": 1}" x', b"[1]", b"{} {}", b'"a","b"'])
def test_a_first_line_that_is_no_object_says_nothing(head):
    assert unit_facts(head) is None


def test_a_unit_is_what_pandas_reads(unit):
    import pandas as pd

    path = unit(oas_text(OAS, [oas_row(), oas_row("light")]))
    table = pd.read_csv(path, header=1, dtype=str)
    facts = json.loads(",".join(pd.read_csv(path, nrows=0).columns))  # as OAS's own documentation reads it
    assert facts == OAS_FACTS
    assert list(table["sequence_alignment_aa"]) == [r.sequence for r in read(path)]
    assert csv.field_size_limit() >= 131072
