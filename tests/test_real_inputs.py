"""What is read of each real file: rows, loci, empty ids, sources of residues, reasons of rows left out.

The numbers were counted with pandas and Biopython, not with what they test.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import airr
import pandas as pd
import pytest
from Bio.Seq import Seq
from support import cli

from plmsearch.errors import TableFormatError
from plmsearch.formats.read import open_input
from plmsearch.formats.residues import residues_of_row
from plmsearch.genes import call_locus
from plmsearch.ingest.prepare import prepare
from plmsearch.ingest.report import AddOptions
from plmsearch.numbering import ImmunumNumberer

NO_FRAME = "no frame of its nucleotides holds a variable domain"
STOP = "'*' is no amino acid"


@dataclass(frozen=True)
class Expected:
    """What a file holds; `error` if it is refused."""

    n_rows: int
    loci: dict[str, int]
    sources: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)
    n_empty_ids: int = 0
    error: str = ""


FILES = {
    "formats/amulety_AIRR_rearrangement_bulk_test.tsv": Expected(
        8, {"IGH": 2, "IGK": 1, "IGL": 1, "TRA": 2, "TRB": 2}, {"sequence_vdj_aa": 8}
    ),
    "formats/amulety_AIRR_rearrangement_mixed_bcr_tcr_test.tsv": Expected(
        12, {"IGH": 3, "IGK": 1, "IGL": 2, "TRA": 3, "TRB": 3}, {"sequence_vdj_aa": 12}
    ),
    "formats/amulety_AIRR_rearrangement_tcr_test.tsv": Expected(
        6, {"TRA": 3, "TRB": 3}, {"sequence_vdj_aa": 6}
    ),
    "formats/amulety_AIRR_rearrangement_translated_mixed.tsv": Expected(
        5, {"IGH": 2, "IGK": 2, "IGL": 1}, {"sequence_aa": 5}
    ),
    "formats/amulety_AIRR_rearrangement_translated_single-cell.tsv": Expected(
        4, {"IGH": 2, "IGK": 1, "IGL": 1}, {"sequence_aa": 4}
    ),
    "formats/bad_rearrangement.tsv": Expected(11, {"IGH": 11}, n_empty_ids=1, error="line 8 has no id"),
    # The four that are not productive have a stop in their junction.
    "formats/good_rearrangement.tsv": Expected(9, {"IGH": 9}, {"sequence": 5}, {NO_FRAME: 4}),
    "formats/rearrangement-example.tsv.gz": Expected(
        101, {"IGH": 101}, {"sequence_alignment": 93}, {STOP: 8}
    ),
    "formats/rearrangement_ig.tsv": Expected(4, {"IGH": 2, "IGK": 1, "IGL": 1}, {"sequence_aa": 4}),
    "formats/dandelion_filtered_contig_annotations.csv": Expected(
        2059, {"IGH": 929, "IGK": 624, "IGL": 506}, error="has no residues"
    ),
    "clones/ExampleDb.tsv.gz": Expected(1999, {"IGH": 1999}, {"sequence_alignment": 1783}, {STOP: 216}),
    "clones/genairr_dev.tsv": Expected(898, {"IGH": 898}, {"sequence_aa": 898}),
}
SEPARATOR = {".csv": ","}


def oracle(path) -> pd.DataFrame:
    return pd.read_csv(
        path, sep=SEPARATOR.get(path.suffix, "\t"), dtype=str, keep_default_na=False, na_filter=False
    )


@pytest.mark.parametrize("name", FILES)
def test_every_file_is_read_as_the_table_says(shared_data, name):
    path, expected = shared_data / name, FILES[name]
    table = oracle(path)
    ids = table["contig_id" if "contig_id" in table else "sequence_id"]
    assert (len(table), (ids == "").sum()) == (expected.n_rows, expected.n_empty_ids)
    if expected.error:
        with pytest.raises(TableFormatError, match=expected.error):
            list(open_input(path))
        return
    with open_input(path) as opened:
        rows = [prepare(record, AddOptions("skip")) for record in opened]
    assert [r.record.record_id for r in rows] == list(ids)
    loci = Counter(r.record.metadata.get("locus") or call_locus(r.record.metadata["v_call"]) for r in rows)
    assert loci == expected.loci
    assert Counter(r.record.residue_source for r in rows if not r.reason) == expected.sources
    reasons = Counter(STOP if r.reason.startswith("'*' at residue") else r.reason for r in rows)
    del reasons[""]
    assert reasons == expected.left_out


@pytest.mark.parametrize(
    ("name", "n_with_junction", "n_productive"),
    # One row and three rows have lost single nucleotides in their alignment, and with them the frame.
    [("formats/rearrangement-example.tsv.gz", 79, 80), ("clones/ExampleDb.tsv.gz", 1777, 1780)],
)
def test_alignments_are_translated_in_the_frame_of_their_junction(
    shared_data, name, n_with_junction, n_productive
):
    table = oracle(shared_data / name)
    with open_input(shared_data / name) as opened:
        residues = [record.sequence for record in opened]
    found = []
    for sequence, (_, row) in zip(residues, table.iterrows(), strict=True):
        alignment = row["sequence_alignment"]
        lead = len(alignment) - len(alignment.lstrip("."))
        nucleotides = alignment.replace(".", "").replace("-", "")[-lead % 3 :]
        assert sequence == str(Seq(nucleotides[: len(nucleotides) // 3 * 3]).translate())
        if row["productive"] == "T":
            junction = row["junction"][: len(row["junction"]) // 3 * 3]
            found.append(str(Seq(junction).translate()) in sequence)
    assert (sum(found), len(found)) == (n_with_junction, n_productive)


def test_translating_a_read_gives_the_residues_that_the_file_has(shared_data):
    """Rows of which the file holds both: the reading of the domain holds what 10x translated."""
    table = oracle(shared_data / "formats" / "rearrangement_ig.tsv")
    stripped = table.drop(columns=["sequence_aa", "sequence_alignment"])
    path = shared_data / "formats" / "rearrangement_ig.tsv"
    with open_input(path) as opened:
        given = [record.sequence for record in opened]
    assert given == list(table["sequence_aa"])
    numberer = ImmunumNumberer()
    for residues, (_, row) in zip(given, stripped.iterrows(), strict=True):
        reading, source = residues_of_row(row.to_dict(), numberer)
        assert source == "sequence"
        assert residues.rstrip("*") in reading


#: What 10x calls a column, by what AIRR does; the others keep their names.
TENX = {
    "sequence_id": "contig_id", "cell_id": "barcode", "locus": "chain", "v_call": "v_gene",
    "d_call": "d_gene", "j_call": "j_gene", "c_call": "c_gene", "junction_aa": "cdr3",
    "junction": "cdr3_nt", "umi_count": "umis", "consensus_count": "reads",
}  # fmt: skip


def test_10x_contigs_become_a_valid_airr_table_cell_by_cell(shared_data, tmp_path):
    path, out = shared_data / "formats" / "dandelion_filtered_contig_annotations.csv", tmp_path / "out.tsv"
    assert cli("clones", path, "-o", out, "--threshold", 0.15).code == 0
    assert airr.validate_rearrangement(str(out))
    before, after = oracle(path).replace("None", ""), oracle(out)
    before["productive"] = before["productive"].map({"True": "T", "False": "F"})
    names = {old: new for new, old in TENX.items()}
    pd.testing.assert_frame_equal(
        before.rename(columns=names), after[[names.get(n, n) for n in before.columns]]
    )
    assert after["locus"].value_counts().to_dict() == FILES[f"formats/{path.name}"].loci
