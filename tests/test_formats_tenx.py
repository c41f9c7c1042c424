"""Contig annotations of 10x: AIRR's names, residues of the right kind, contigs from the FASTA beside."""

from __future__ import annotations

import csv

import pytest
from repertoires import (
    HEAVY_CONTIG,
    LIGHT_CONTIG,
    NEW_10X,
    OLD_10X,
    REGIONS,
    VH_10X,
    csv_text,
    tenx_row,
)
from support import VH, VL, cli, gz, write_fasta

from plmsearch.errors import FileFormatError, InputNotFoundError, TableFormatError
from plmsearch.formats.read import open_input

ROWS = [tenx_row(1), tenx_row(1, "light"), tenx_row(2, productive="False", v_gene="None")]
CONTIGS = [(row["contig_id"], HEAVY_CONTIG if row["chain"] == "IGH" else LIGHT_CONTIG) for row in ROWS]


@pytest.fixture
def tenx(tmp_path):
    def write(columns=NEW_10X, rows=ROWS, name="filtered_contig_annotations.csv"):
        (tmp_path / name).write_text(csv_text(columns, rows))
        return tmp_path / name

    return write


def read(path, **named):
    with open_input(path, **named) as opened:
        assert opened.format == "10x"
        return list(opened)


def test_each_column_has_the_name_that_airr_gives_it(tenx):
    record, light, other = read(tenx())
    assert (record.record_id, record.sequence, record.residue_source) == (
        "CELL1-1_contig_1",
        VH,
        "fwr1_10x..fwr4_10x",
    )
    assert light.sequence == VL
    expected = {
        "cell_id": "CELL1-1", "locus": "IGH", "v_call": "IGHV3-66", "j_call": "IGHJ4", "c_call": "IGHG1",
        "productive": "T", "junction_aa": "CSRWGGDGFYAMDYW", "umi_count": "18", "consensus_count": "1458",
        "fwr1_10x": VH_10X[0], "fwr4_10x": VH_10X[6], "is_cell": "True", "raw_clonotype_id": "clonotype7",
    }  # fmt: skip
    assert expected.items() <= record.metadata.items()
    assert len(record.metadata["junction"]) == 3 * len("CSRWGGDGFYAMDYW")
    assert other.metadata["productive"] == "F"
    assert {"d_call", "raw_consensus_id"}.isdisjoint(record.metadata)  # None is no value
    assert "v_call" not in other.metadata


def test_no_cell_is_lost_and_no_residue_stands_where_airr_has_nucleotides(tenx):
    path = tenx()
    with path.open(newline="") as file:
        given = list(csv.DictReader(file))
    for record, row in zip(read(path), given, strict=True):
        held = sorted([record.record_id, *record.metadata.values()])
        cells = [{"True": "T", "False": "F"}.get(v, v) if n == "productive" else v for n, v in row.items()]
        assert held == sorted([*(c for c in cells if c != "None"), record.residue_source])
        for name in REGIONS:
            assert name not in record.metadata
            assert set(record.metadata.get(f"{name}_nt", "")) <= set("ACGT")


def test_contigs_beside_the_table_are_found_by_cell_rangers_names(tenx, tmp_path, caplog):
    path = tenx(OLD_10X)
    write_fasta(tmp_path / "filtered_contig.fasta", CONTIGS)
    with caplog.at_level("INFO"):
        open_input(path).close()
    assert f"{path}: contigs are read from {tmp_path / 'filtered_contig.fasta'}" in caplog.text
    for record, chain, contig in zip(read(path), (VH, VL, VH), (c for _, c in CONTIGS), strict=True):
        assert chain in record.sequence
        assert record.residue_source == "sequence"
        assert record.metadata["sequence"] == contig


@pytest.mark.parametrize(
    ("table", "fasta"),
    [
        ("all_contig_annotations.csv", "all_contig.fasta"),
        ("s1_filtered_contig_annotations.csv", "s1_filtered_contig.fa"),
        ("filtered_contig_annotations_s1.csv", "filtered_contig_s1.fasta.gz"),
    ],
)
def test_other_names_are_paired_alike(tenx, tmp_path, table, fasta):
    path = tenx(OLD_10X, name=table)
    plain = write_fasta(tmp_path / "x", CONTIGS)
    (tmp_path / fasta).write_bytes(gz(plain.read_bytes()) if fasta.endswith(".gz") else plain.read_bytes())
    assert VH in read(path)[0].sequence


def test_contigs_can_be_named_and_one_that_lacks_is_a_row_without_residues(tenx, tmp_path):
    fasta = write_fasta(tmp_path / "mine.fa", CONTIGS[:2])
    *_, last = read(tenx(OLD_10X), contigs=fasta)
    assert (last.sequence, last.residue_source) == ("", "")
    assert last.unusable is not None and not last.unusable.must_stop


def test_without_regions_and_contigs_the_error_says_what_to_do(tenx):
    with pytest.raises(TableFormatError, match=r"lacks the columns fwr1 to fwr4.*--contigs"):
        open_input(tenx(OLD_10X))


def test_a_row_without_regions_is_read_from_its_contig(tenx, tmp_path):
    rows = [tenx_row(1, **dict.fromkeys((*REGIONS, *(f"{r}_nt" for r in REGIONS)), "None")), tenx_row(2)]
    write_fasta(tmp_path / "filtered_contig.fasta", [(r["contig_id"], HEAVY_CONTIG) for r in rows])
    first, second = read(tenx(rows=rows))
    assert (first.residue_source, second.residue_source) == ("sequence", "fwr1_10x..fwr4_10x")
    assert VH in first.sequence and second.sequence == VH


def test_a_column_that_the_user_names_wins_by_either_name(tenx):
    path = tenx()
    for name in ("cdr3", "junction_aa"):
        assert read(path, seq_col=name)[0].sequence == "CSRWGGDGFYAMDYW"
    assert [r.record_id for r in read(path, id_col="barcode")] == ["CELL1-1", "CELL1-1", "CELL2-1"]
    with pytest.raises(TableFormatError, match="no column 'VH'"):
        open_input(path, seq_col="VH")


def test_a_column_that_has_airrs_name_already_is_not_replaced(tenx):
    rows = [tenx_row(1) | {"umi_count": "7", "locus": "mine"}]
    (record,) = read(tenx((*NEW_10X, "umi_count", "locus"), rows))
    assert (record.metadata["umi_count"], record.metadata["umis"]) == ("7", "18")
    assert (record.metadata["locus"], record.metadata["chain"]) == ("mine", "IGH")


def test_contigs_for_another_format_or_absent_ones_are_errors(tenx, tmp_path):
    with pytest.raises(InputNotFoundError, match=r"none\.fa"):
        open_input(tenx(OLD_10X), contigs=tmp_path / "none.fa")
    fasta = write_fasta(tmp_path / "x.fa", [("a", VH)])
    table = tmp_path / "x.tsv"
    table.write_text("id\tseq\na\tEVQ\n")
    for other in (fasta, table):
        with pytest.raises(FileFormatError, match="--contigs is for these"):
            open_input(other, contigs=fasta)


def test_contigs_that_are_not_in_the_filtered_set_are_counted_and_can_be_filtered(tenx, tmp_path):
    rows = [tenx_row(1), tenx_row(2, is_cell="False"), tenx_row(3, high_confidence="False")]
    ended = cli("index", tmp_path / "db", tenx(rows=rows, name="all_contig_annotations.csv"), "-m", "kmer")
    assert "2 rows: no cell's or of low confidence by 10x" in ended.err
    wanted = "is_cell = true and high_confidence = true"
    found = cli("query", tmp_path / "db", "--seq", VH, "--where", wanted, "--format-output", "target")
    assert found.out.split() == ["target", "CELL1-1_contig_1"]
