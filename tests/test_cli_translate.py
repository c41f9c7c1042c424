"""Nucleotides as input of index, query and embed."""

from __future__ import annotations

import numpy as np
import pytest
from repertoires import (
    HEAVY_CONTIG,
    LIGHT_CONTIG,
    OAS,
    OLD_10X,
    coding,
    csv_text,
    oas_row,
    oas_text,
    paired_columns,
    paired_row,
    tenx_row,
)
from support import VH, VL, cli, contents, make_db, write_fasta

from plmsearch.translation import reverse_complement

PROTEIN = "MKTAYIAKQRQISFVKSHFSRQLEERLG"


@pytest.fixture
def dna(tmp_path):
    entries = [("h", HEAVY_CONTIG), ("r", reverse_complement(LIGHT_CONTIG)), ("p", coding(PROTEIN) + "TAA")]
    return write_fasta(tmp_path / "dna.fasta", entries)


def test_index_translates_when_asked_and_says_from_what(tmp_path, dna):
    done = cli("index", tmp_path / "db", dna, "--model", "kmer", "--translate")
    assert done.code == 0, done.err
    assert "plmsearch: 3 rows: residues by translation\n" in done.err
    stored = contents(tmp_path / "db")
    assert VH in stored["h"][0] and VL in stored["r"][0]
    assert stored["p"] == (PROTEIN, "", {"residue_source": "translation"})
    again = cli("index", tmp_path / "db", dna, "--translate")
    assert "3 already present" in again.err


def test_without_the_flag_nucleotides_are_an_error_that_names_it(tmp_path, dna):
    for arguments in (("index", tmp_path / "db"), ("embed",)):
        more = ("-o", tmp_path / "x.npz") if arguments == ("embed",) else ()
        done = cli(*arguments, dna, "--model", "kmer", *more)
        assert done.code == 1
        assert "record 'h'" in done.err
        assert "this is a nucleotide sequence; pass --translate" in done.err


def test_a_record_that_would_have_to_be_guessed_stops_or_is_left_out(tmp_path):
    path = write_fasta(tmp_path / "x.fasta", [("h", HEAVY_CONTIG), ("odd", "A" + coding(PROTEIN))])
    arguments = ("index", tmp_path / "db", path, "--model", "kmer", "--translate")
    for policy in ("error", "mask"):
        done = cli(*arguments, "--on-invalid", policy)
        assert (done.code, (tmp_path / "db").exists()) == (1, False)
        assert "record 'odd'" in done.err and "85 nucleotides are no whole codons" in done.err
    done = cli(*arguments, "--on-invalid", "skip")
    assert done.code == 3
    assert "left out: record 'odd'" in done.err and set(contents(tmp_path / "db")) == {"h"}


def test_residues_are_not_taken_for_nucleotides(tmp_path):
    path = write_fasta(tmp_path / "x.fasta", [("h", VH)])
    done = cli("index", tmp_path / "db", path, "--model", "kmer", "--translate")
    assert done.code == 1
    assert "'E' is no nucleotide" in done.err and "leave out --translate" in done.err


def test_the_column_of_a_table_is_translated(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text(f"id,nt,note\na,{HEAVY_CONTIG},x\nb,NA,y\n")
    arguments = ("--seq-col", "nt", "--translate", "--on-invalid", "skip")
    done = cli("index", tmp_path / "db", path, "--model", "kmer", *arguments)
    assert done.code == 3 and "left out: record 'b'" in done.err
    assert contents(tmp_path / "db")["a"][2] == {"note": "x", "residue_source": "translation"}


@pytest.mark.parametrize("way", ["file", "seq"])
def test_query_translates_when_asked(tmp_path, way):
    database = make_db(tmp_path / "db", [("vh", VH), ("vl", VL)])
    contig = coding(VH)
    path = write_fasta(tmp_path / "q.fasta", [("q", "A" + contig)])
    given = (path,) if way == "file" else ("--seq", reverse_complement(contig))
    done = cli("query", database, *given, "--translate", "-k", 1)
    assert done.code == 0, done.err
    assert done.rows[0][1] == "vh"
    assert "residues by translation" in done.err
    assert cli("query", database, *given, "-k", 1).code == 1


def test_embed_translates_when_asked(tmp_path, dna):
    out = tmp_path / "x.npz"
    assert cli("embed", dna, "--model", "kmer", "--translate", "-o", out).code == 0
    plain = write_fasta(tmp_path / "p.fasta", [("p", PROTEIN)])
    assert cli("embed", plain, "--model", "kmer", "-o", tmp_path / "y.npz").code == 0
    with np.load(out) as made, np.load(tmp_path / "y.npz") as expected:
        assert made["ids"].tolist() == ["h", "r", "p"]
        np.testing.assert_array_equal(made["layer_1"][2], expected["layer_1"][0])


def test_the_flag_is_refused_where_there_are_no_nucleotides(tmp_path):
    database = make_db(tmp_path / "db", [("vh", VH)])
    for arguments in (
        ("query", database, "--id", "vh"),
        ("query", database, database),
        ("embed", database),
    ):
        assert cli(*arguments, "--translate").code == 2


# --- Tables of repertoires ------------------------------------------------------------------------


def test_an_airr_table_without_residues_is_translated_and_what_cannot_be_is_left_out(tmp_path):
    lines = [
        "sequence_id\tv_call\tj_call\tjunction\tsequence\tsequence_alignment\tsequence_aa",
        f"a\tIGHV1\tIGHJ4\t\t{HEAVY_CONTIG}\t\t",
        f"b\tIGHV1\tIGHJ4\t\t{HEAVY_CONTIG}\t...{coding(VH)[3:]}\t",
        f"c\tIGHV1\tIGHJ4\t\t{HEAVY_CONTIG}\t\t{VH}",
        "d\tIGHV1\tIGHJ4\t\tACGTACGT\t\t",
        "e\tIGHV1\tIGHJ4\t\t\t\t",
        f"f\tIGHV1\tIGHJ4\t\t{VH}\t\t",
    ]
    path = tmp_path / "in.tsv"
    path.write_text("\n".join(lines) + "\n")
    done = cli("index", tmp_path / "db", path, "--model", "kmer")
    assert done.code == 3
    reasons = {
        "d": "no frame of its nucleotides holds a variable domain",
        "e": "it has no residues, and no nucleotides to translate",
        "f": "column sequence holds 'E', which is no nucleotide",
    }
    for name, reason in reasons.items():
        assert f"left out: record {name!r} ({path}, record {'abcdef'.index(name) + 1}): {reason}" in done.err
    for said in ("by translation of sequence", "by translation of sequence_alignment", "from sequence_aa"):
        assert f"plmsearch: 1 row: residues {said}\n" in done.err
    stored = contents(tmp_path / "db")
    assert {name: facts[2]["residue_source"] for name, facts in stored.items()} == {
        "a": "sequence",
        "b": "sequence_alignment",
        "c": "sequence_aa",
    }
    assert stored["b"][0] == VH[1:] and stored["a"][2]["sequence"] == HEAVY_CONTIG


@pytest.mark.parametrize(("policy", "code"), [("error", 3), ("skip", 3), ("mask", 0)])
def test_a_stop_in_an_alignment_is_judged_by_the_policy(tmp_path, policy, code):
    stopped = coding(VH[:50]) + "TAA" + coding(VH[51:])
    path = tmp_path / "in.tsv"
    path.write_text(f"sequence_id\tv_call\tsequence_alignment\na\tIGHV1\t{stopped}\nb\tIGHV1\t{coding(VH)}\n")
    done = cli("index", tmp_path / "db", path, "--model", "kmer", "--on-invalid", policy)
    assert done.code == code
    if policy != "mask":
        assert "'*' at residue 51 is no amino acid" in done.err
    if policy == "mask":
        assert contents(tmp_path / "db")["a"][0] == f"{VH[:50]}X{VH[51:]}"


def test_10x_contigs_and_oas_pairs_are_indexed_and_searched(tmp_path):
    (tmp_path / "s_contig_annotations.csv").write_text(csv_text(OLD_10X, [tenx_row(1), tenx_row(1, "light")]))
    contigs = [("CELL1-1_contig_1", HEAVY_CONTIG), ("CELL1-1_contig_2", LIGHT_CONTIG)]
    write_fasta(tmp_path / "s_contig.fasta", contigs)
    (tmp_path / "P.csv").write_text(oas_text(paired_columns(), [paired_row(1)]))
    inputs = (tmp_path / "s_contig_annotations.csv", tmp_path / "P.csv")
    done = cli("index", tmp_path / "db", *inputs, "--model", "kmer")
    assert done.code == 0, done.err
    stored = contents(tmp_path / "db")
    assert list(stored) == [
        "CELL1-1_contig_1",
        "CELL1-1_contig_2",
        "AAAC1-1_contig_1_heavy",
        "AAAC1-1_contig_2_light",
    ]
    assert [facts[2]["locus"] for facts in stored.values()] == ["IGH", "IGK", "IGH", "IGK"]
    (tmp_path / "q.csv").write_text(oas_text(OAS, [oas_row()]))
    found = cli("query", tmp_path / "db", tmp_path / "q.csv", "-k", 1, "--where", "duplicate_count = 3")
    assert (found.code, found.rows[0][:2]) == (0, ["q_1", "AAAC1-1_contig_1_heavy"])


def test_contigs_without_a_table_of_them_are_refused(tmp_path):
    path = write_fasta(tmp_path / "x.fasta", [("h", VH)])
    done = cli("index", tmp_path / "db", path, "--model", "kmer", "--contigs", path)
    assert done.code == 1 and "is no table of 10x contigs" in done.err
