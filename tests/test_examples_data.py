"""The example data agree with each other, with the AIRR standard and with what README.md says."""

import csv
import os
import re
import subprocess
import sys
from collections import Counter, defaultdict
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest

from plmsearch.numbering import ImmunumNumberer

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
DATA_FILES = ("heavy.fasta", "light.fasta", "query.fasta", "repertoire.tsv")


@cache
def read_fasta(name):
    lines = (EXAMPLES / name).read_text("utf-8").splitlines()
    headers, sequences = lines[0::2], lines[1::2]
    assert all(header.startswith(">") for header in headers)
    return {
        header[1:].split()[0]: (header, residues) for header, residues in zip(headers, sequences, strict=True)
    }


@cache
def read_table():
    with (EXAMPLES / "repertoire.tsv").open(encoding="utf-8", newline="") as handle:
        return tuple(csv.DictReader(handle, delimiter="\t"))


def word(header, key):
    match = re.search(rf" {key}=(\S+)", header)
    return match.group(1) if match else ""


def differences(a, b):
    return sum(x != y for x, y in zip(a, b, strict=True)) if len(a) == len(b) else max(len(a), len(b))


# --- The files together --------------------------------------------------------------------------


def test_the_table_holds_exactly_the_chains_of_the_fasta_files():
    fasta = {**read_fasta("heavy.fasta"), **read_fasta("light.fasta")}
    rows = {row["sequence_id"]: row for row in read_table()}
    assert len(rows) == len(read_table())
    assert rows.keys() == fasta.keys()
    for name, (header, residues) in fasta.items():
        row = rows[name]
        assert row["sequence_aa"] == residues
        assert (row["clone_id"], row["cell_id"]) == (word(header, "family"), word(header, "cell"))
        assert f" {row['locus']} " in header


def test_counts_are_those_of_the_readme():
    loci = Counter(row["locus"] for row in read_table())
    families = Counter(row["clone_id"] for row in read_table() if row["locus"] == "IGH")
    assert len(families) == 40
    assert (min(families.values()), max(families.values())) == (1, 15)
    text = (EXAMPLES / "README.md").read_text("utf-8")
    assert f"{loci['IGH']} heavy chains (IGH)" in text
    assert f"{loci['IGK'] + loci['IGL']} light chains ({loci['IGK']} IGK, {loci['IGL']} IGL)" in text
    assert f"the same {sum(loci.values())} chains" in text
    assert f"{len(read_fasta('query.fasta'))} heavy chains that are in none" in text


def test_every_file_says_that_it_is_simulated():
    for name in ("heavy.fasta", "light.fasta", "query.fasta"):
        assert all(" simulated " in header for header, _ in read_fasta(name).values())
    assert {row["repertoire_id"] for row in read_table()} == {"simulated"}
    assert all(row["sequence_id"].startswith("sim_") for row in read_table())
    assert "simulated" in (EXAMPLES / "README.md").read_text("utf-8").splitlines()[2]
    assert "SIMULATED" in (EXAMPLES / "simulate.py").read_text("utf-8").splitlines()[0]


def test_the_examples_are_small():
    assert sum((EXAMPLES / name).stat().st_size for name in DATA_FILES) < 1_000_000


# --- The chains ----------------------------------------------------------------------------------


def test_nucleotides_translate_to_the_residues():
    seq = pytest.importorskip("Bio.Seq", reason="biopython is a development tool")
    for row in read_table():
        n_coding = len(row["sequence"]) // 3 * 3
        assert seq.translate(row["sequence"][:n_coding]) == row["sequence_aa"]
        assert seq.translate(row["junction"]) == row["junction_aa"]
        assert row["junction"] in row["sequence"]
        assert row["junction_aa"] in row["sequence_aa"]


def test_every_chain_is_one_whole_numbered_domain_with_the_stated_junction():
    numberer = ImmunumNumberer()
    for row in read_table():
        (domain,) = numberer.domains(row["sequence_aa"])
        assert domain.locus == row["locus"]
        # A first or last residue that no gene has there, such as a mutated one, does not count.
        assert domain.start <= 1
        assert len(row["sequence_aa"]) - 1 <= domain.end <= len(row["sequence_aa"])
        assert domain.regions["cdr3"] == row["junction_aa"][1:-1]
        assert all(domain.regions.values())
        assert row["productive"] == "T"
        assert row["rev_comp"] == "F"
    for _, residues in read_fasta("query.fasta").values():
        assert [d.locus for d in numberer.domains(residues)] == ["IGH"]


def test_no_two_chains_are_the_same():
    for locus in ("heavy.fasta", "light.fasta"):
        residues = [residues for _, residues in read_fasta(locus).values()]
        assert len(set(residues)) == len(residues)


def test_members_of_a_family_share_j_gene_and_junction_length():
    families = defaultdict(list)
    for row in read_table():
        families[row["clone_id"], row["locus"] == "IGH"].append(row)
    for members in families.values():
        assert len({len(row["junction"]) for row in members}) == 1
        genes = [{call.split("*")[0] for call in row["j_call"].split(",")} for row in members]
        assert set.intersection(*genes)


def test_each_cell_is_one_heavy_and_one_light_chain_of_one_family():
    cells = defaultdict(list)
    for row in read_table():
        if row["cell_id"]:
            cells[row["cell_id"]].append(row)
    n_light = len(read_fasta("light.fasta"))
    assert len(cells) == n_light
    for pair in cells.values():
        assert sorted(row["locus"] == "IGH" for row in pair) == [False, True]
        assert len({row["clone_id"] for row in pair}) == 1


# --- Queries -------------------------------------------------------------------------------------


def nearest(residues):
    """Row of the heavy chain with the fewest differing residues."""
    heavy = [row for row in read_table() if row["locus"] == "IGH"]
    return min(heavy, key=lambda row: differences(row["sequence_aa"], residues))


def test_held_out_queries_are_new_and_nearest_to_their_own_family():
    held_out = [q for q in read_fasta("query.fasta").values() if q[0].endswith("held out")]
    assert len(held_out) == 4
    assert len({word(header, "family") for header, _ in held_out}) == 4
    for header, residues in held_out:
        found = nearest(residues)
        assert found["sequence_aa"] != residues
        assert found["clone_id"] == word(header, "family")


def test_the_unrelated_query_is_far_from_every_family():
    ((header, residues),) = [q for q in read_fasta("query.fasta").values() if q[0].endswith("unrelated")]
    (domain,) = ImmunumNumberer().domains(residues)
    cdr3 = domain.regions["cdr3"]
    assert word(header, "family") == "none"
    closest = min(differences(row["junction_aa"][1:-1], cdr3) / len(cdr3) for row in read_table())
    assert closest > 0.4


# --- AIRR ----------------------------------------------------------------------------------------


def test_the_table_is_valid_airr():
    airr = pytest.importorskip("airr", reason="airr is a development tool")
    assert airr.validate_rearrangement(str(EXAMPLES / "repertoire.tsv"))


def test_alignments_and_cigars_cover_the_sequence():
    for row in read_table():
        assert row["sequence_alignment"] == row["sequence"]
        assert len(row["germline_alignment"]) == len(row["sequence"])
        for segment in "vdj":
            steps = re.findall(r"(\d+)([SNM])", row[f"{segment}_cigar"])
            assert "".join(n + op for n, op in steps) == row[f"{segment}_cigar"]
            if row[f"{segment}_call"]:
                assert sum(int(n) for n, op in steps if op in "SM") == len(row["sequence"])
                assert_matches_germline(row, steps)


def assert_matches_germline(row, steps):
    """Where a segment is aligned, sequence and germline agree but for mutations."""
    start = int(steps[0][0]) if steps[0][1] == "S" else 0
    end = start + sum(int(n) for n, op in steps if op == "M")
    pairs = list(zip(row["sequence"][start:end], row["germline_alignment"][start:end], strict=True))
    assert sum(x == y for x, y in pairs) >= 0.6 * len(pairs)


@pytest.mark.slow
def test_the_script_gives_the_same_bytes_again(tmp_path):
    pytest.importorskip("GenAIRR", reason="GenAIRR is a development tool")
    text = (EXAMPLES / "simulate.py").read_text("utf-8")
    version = re.search(r'GENAIRR_VERSION = "(.+?)"', text).group(1)
    if metadata.version("GenAIRR") != version:
        pytest.skip(f"the files are of GenAIRR {version}")
    environment = {**os.environ, "PYTHONPATH": str(EXAMPLES.parent)}
    subprocess.run(
        [sys.executable, str(EXAMPLES / "simulate.py"), str(tmp_path)], check=True, env=environment
    )
    for name in DATA_FILES:
        assert (tmp_path / name).read_bytes() == (EXAMPLES / name).read_bytes(), name
