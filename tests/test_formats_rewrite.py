"""Repertoires that are no AIRR table, on their way through ``plmsearch clones``."""

from __future__ import annotations

import csv
import tempfile
from pathlib import Path

import airr
import pytest
from repertoires import (
    HEAVY_CONTIG,
    LIGHT_CONTIG,
    NEW_10X,
    OAS,
    OLD_10X,
    VH_10X,
    coding,
    csv_text,
    oas_row,
    oas_text,
    paired_columns,
    paired_row,
    tenx_row,
)
from support import VH, VL, cli, gz, write_fasta

from plmsearch.translation import reverse_complement

JUNCTION = VH_10X[5]


@pytest.fixture
def clones(tmp_path, monkeypatch):
    """Run the command on an input; return the rows of a valid AIRR table."""
    spool = tmp_path / "spool"
    spool.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(spool))

    def run(*arguments, stdin=None) -> list[dict[str, str]]:
        out = tmp_path / "out.tsv"
        ended = cli("clones", *arguments, "-o", out, "--threshold", 0.1, stdin=stdin)
        assert ended.code == 0, ended.err
        assert airr.validate_rearrangement(str(out))
        assert list(spool.iterdir()) == []
        with out.open(newline="") as file:
            return list(csv.DictReader(file, delimiter="\t"))

    return run


def families(rows) -> list[tuple[str, str]]:
    return [(row["clone_id"], row["clone_status"]) for row in rows]


def test_protein_fasta_is_numbered(clones, tmp_path):
    entries = [("h1 of a donor", VH), ("h2", VH), ("l", VL), ("none", "MKTAYIAKQRQISFVKSHF")]
    rows = clones(write_fasta(tmp_path / "in.fasta", entries))
    assert families(rows)[:3] == [("1", ""), ("1", ""), ("", "light_unpaired")]
    assert families(rows)[3] == ("", "no_junction")
    assert [(r["sequence_id"], r["sequence_aa"], r["description"]) for r in rows[:2]] == [
        ("h1", VH, "of a donor"),
        ("h2", VH, ""),
    ]
    assert {r["sequence"] for r in rows} == {""}


def test_nucleotide_fasta_is_translated_on_either_strand_when_asked(clones, tmp_path):
    entries = [("h1", HEAVY_CONTIG), ("h2", reverse_complement(HEAVY_CONTIG).lower()), ("none", "ACGT" * 30)]
    rows = clones(write_fasta(tmp_path / "in.fasta", entries), "--translate")
    assert families(rows) == [("1", ""), ("1", ""), ("", "no_junction")]
    assert [VH in r["sequence_aa"] for r in rows] == [True, True, False]
    assert rows[1]["sequence"] == reverse_complement(HEAVY_CONTIG)
    assert rows[2]["sequence_aa"] == ""


@pytest.mark.parametrize(
    ("residues", "flags", "said"),
    [
        (HEAVY_CONTIG, (), "record 'x' (PATH, record 1): this is a nucleotide sequence; pass --translate"),
        (VH, ("--translate",), "'E' is no nucleotide, and --translate reads nucleotides"),
        (VH, ("--contigs", "y.fa"), "is no table of 10x contigs; --contigs is for these"),
    ],
)
def test_the_wrong_flag_is_said(tmp_path, residues, flags, said):
    path = write_fasta(tmp_path / "in.fasta", [("x", residues)])
    ended = cli("clones", path, "-o", tmp_path / "out.tsv", *flags)
    assert (ended.code, (tmp_path / "out.tsv").exists()) == (1, False)
    assert said.replace("PATH", str(path)) in ended.err


@pytest.mark.parametrize("columns", [OLD_10X, NEW_10X])
def test_10x_contigs_have_the_family_of_their_cell(clones, tmp_path, columns):
    given = [tenx_row(1), tenx_row(1, "light"), tenx_row(2), tenx_row(3, "light", productive="None")]
    (tmp_path / "in.csv").write_text(csv_text(columns, given))
    rows = clones(tmp_path / "in.csv")
    assert families(rows) == [("1", ""), ("1", ""), ("1", ""), ("", "light_unpaired")]
    for row, cells in zip(rows, given, strict=True):
        assert (row["sequence_id"], row["cell_id"]) == (cells["contig_id"], cells["barcode"])
        assert (row["junction_aa"], row["junction"]) == (cells["cdr3"], cells["cdr3_nt"])
        assert (row["umi_count"], row["d_call"]) == (cells["umis"], "")
    assert [r["productive"] for r in rows] == ["T", "T", "T", ""]


def test_a_contig_without_a_junction_is_read_from_the_fasta(clones, tmp_path):
    given = [tenx_row(1, cdr3="None", cdr3_nt="None"), tenx_row(2)]
    (tmp_path / "in.csv").write_text(csv_text(OLD_10X, given))
    fasta = write_fasta(tmp_path / "c.fa", [(row["contig_id"], HEAVY_CONTIG) for row in given])
    assert families(clones(tmp_path / "in.csv")) == [("", "no_junction"), ("1", "")]
    rows = clones(tmp_path / "in.csv", "--contigs", fasta)
    assert families(rows) == [("1", ""), ("1", "")]
    assert [r["sequence"] for r in rows] == [HEAVY_CONTIG, HEAVY_CONTIG]


def test_oas_units_packed_and_through_a_pipe(clones, tmp_path):
    text = oas_text(OAS, [oas_row(), oas_row(Redundancy="7"), oas_row("light")])
    (tmp_path / "SRR1_Heavy.csv.gz").write_bytes(gz(text.encode()))
    rows = clones(tmp_path / "SRR1_Heavy.csv.gz")
    assert families(rows) == [("1", ""), ("1", ""), ("", "light_unpaired")]
    assert [r["sequence_id"] for r in rows] == ["SRR1_Heavy_1", "SRR1_Heavy_2", "SRR1_Heavy_3"]
    assert [r["duplicate_count"] for r in rows] == ["3", "7", "3"]
    assert {r["Species"] for r in rows} == {"human"}
    piped = clones("-", stdin=text.encode())
    assert [r["sequence_id"] for r in piped] == ["SRR0000001_1", "SRR0000001_2", "SRR0000001_3"]


def test_a_paired_unit_gives_two_rows_of_a_cell(clones, tmp_path):
    (tmp_path / "P.csv").write_text(oas_text(paired_columns(), [paired_row(1), paired_row(2)]))
    rows = clones(tmp_path / "P.csv")
    assert families(rows) == [("1", "")] * 4
    assert [r["cell_id"] for r in rows] == ["P_1", "P_1", "P_2", "P_2"]


@pytest.mark.parametrize(
    "nucleotides",
    [
        {"sequence": HEAVY_CONTIG},
        {"sequence": reverse_complement(HEAVY_CONTIG)},
        {"sequence_alignment": "..." + coding(VH)[3:]},
    ],
    ids=["read", "other strand", "alignment"],
)
def test_an_airr_table_of_nucleotides_alone_is_translated(clones, tmp_path, nucleotides):
    name, value = next(iter(nucleotides.items()))
    (tmp_path / "in.tsv").write_text(f"sequence_id\t{name}\na\t{value}\nb\t{value}\n")
    assert families(clones(tmp_path / "in.tsv")) == [("1", ""), ("1", "")]


def test_cells_that_need_quotes_come_through(clones, tmp_path):
    given = [tenx_row(1, raw_clonotype_id='a "b"\tc', raw_consensus_id='"d\ne')]
    (tmp_path / "in.csv").write_text(csv_text(NEW_10X, given))
    (row,) = clones(tmp_path / "in.csv")
    assert (row["raw_clonotype_id"], row["raw_consensus_id"]) == ('a "b"\tc', '"d\ne')


def test_no_room_for_the_table_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(Path(tmp_path) / "none"))
    path = write_fasta(tmp_path / "in.fasta", [("x", VH), ("y", LIGHT_CONTIG)])
    ended = cli("clones", path, "-o", tmp_path / "out.tsv")
    assert ended.code == 1 and "no such file" in ended.err
