"""Clonal families of a table: the command as a user meets it."""

from __future__ import annotations

import csv
import gzip
import json
import random
import re
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import VH, cli

from plmsearch.formats.airr import REQUIRED_COLUMNS
from plmsearch.formats.rearrangements import open_rearrangements
from plmsearch.repertoire.clones import CloneOptions, assign_clones
from plmsearch.repertoire.clonotype import COLUMNS, read_rearrangements
from plmsearch.translation import translate

JUNCTION = "TGTGCGAGAGGATATTGTAGTGGTGGTAGCTGCTACGACTACTGG"
OTHER = "TGTGCGAGACCCGGGAAATTTCATCATGTGTTAGCACGAGACTGG"


def near(junction: str, *places: int) -> str:
    letters = list(junction)
    for place in places:
        letters[place] = "A" if letters[place] != "A" else "C"
    return "".join(letters)


def heavy(**cells: str) -> dict[str, str]:
    return {"locus": "IGH", "v_call": "IGHV1-2*02", "j_call": "IGHJ4*02", "junction": JUNCTION} | cells


def write(path: Path, rows: list[dict[str, str]]) -> Path:
    names = list(dict.fromkeys(["sequence_id", *(name for row in rows for name in row)]))
    lines = ["\t".join(names)]
    for i, row in enumerate(rows):
        row = {"sequence_id": f"s{i}"} | row
        lines.append("\t".join(row.get(name, "") for name in names))
    path.write_text("\n".join(lines) + "\n")
    return path


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


@pytest.fixture
def run(tmp_path):
    """Write rows, run the command at a fixed threshold, return ids and reasons."""

    def run(rows, *options):
        out = tmp_path / "out.tsv"
        fixed = () if "--threshold" in options else ("--threshold", 0.1)
        ended = cli("clones", write(tmp_path / "in.tsv", rows), "-o", out, *fixed, *options)
        assert ended.code == 0, ended.err
        return [(row["clone_id"], row["clone_status"]) for row in read(out)]

    return run


# --- Families -------------------------------------------------------------------------------------


def test_near_junctions_are_one_family_and_far_ones_are_not(run):
    rows = [heavy(), heavy(junction=near(JUNCTION, 12, 20)), heavy(junction=OTHER)]
    assert run(rows) == [("1", ""), ("1", ""), ("2", "")]


@pytest.mark.parametrize(
    "cells",
    [{"v_call": "IGHV1-3*01"}, {"j_call": "IGHJ6*02"}, {"junction": JUNCTION[:12] + JUNCTION[15:]}],
    ids=["V gene", "J gene", "length"],
)
def test_other_genes_or_lengths_are_other_families(run, cells):
    assert run([heavy(), heavy(**cells)]) == [("1", ""), ("2", "")]


def test_alleles_do_not_part_a_family_and_any_listed_gene_joins(run):
    both = "IGHV1-3*01,Homsap IGHV1-2*04 F"
    rows = [heavy(), heavy(v_call="IGHV1-2*04"), heavy(v_call="IGHV1-3*02"), heavy(v_call=both)]
    assert [clone for clone, _ in run(rows)] == ["1", "1", "1", "1"]
    assert [clone for clone, _ in run(rows, "--v-call", "first")] == ["1", "1", "2", "2"]


def test_families_stay_within_a_donor_but_not_within_a_sample(run):
    rows = [
        heavy(subject_id="a", sample_id="1"),
        heavy(subject_id="a", sample_id="2"),
        heavy(subject_id="b", sample_id="1"),
    ]
    assert [clone for clone, _ in run(rows)] == ["1", "1", "2"]
    assert [clone for clone, _ in run(rows, "--by", "sample_id")] == ["1", "2", "1"]


def test_what_is_taken_for_the_donor_is_said(tmp_path):
    out = tmp_path / "out.tsv"
    ended = cli("clones", write(tmp_path / "a.tsv", [heavy()]), "-o", out)
    assert "the whole input is taken for one donor" in ended.err
    ended = cli("clones", write(tmp_path / "b.tsv", [heavy(donor="x"), heavy()]), "-o", out)
    assert "donors by column donor: 2; 1 row names none" in ended.err
    ended = cli("clones", tmp_path / "b.tsv", "-o", out, "--by", "nobody")
    assert ended.code == 1 and "no column 'nobody'" in ended.err


def test_unknown_letters_are_no_mismatch_but_half_must_be_known(run):
    masked = JUNCTION[:12] + "N" * 12 + JUNCTION[24:]
    rows = [heavy(), heavy(junction=masked), heavy(junction="N" * 30 + JUNCTION[30:])]
    assert run(rows, "--threshold", "0") == [("1", ""), ("1", ""), ("", "no_junction")]


def test_residues_are_compared_where_nucleotides_lack(run):
    rows = [
        heavy(junction="", junction_aa="CARGYCSGGSCYDYW"),
        heavy(junction="", cdr3_aa="ARGYCSGGSCYDY"),
        heavy(junction="", junction_aa="CARPGKFHHVLARDW"),
    ]
    assert [clone for clone, _ in run(rows)] == ["1", "1", "2"]


def test_a_chain_without_a_junction_is_numbered(run, tmp_path):
    rows = [
        {"sequence_aa": "GSHM" + VH + "ASTKG"},
        {"sequence_aa": VH},
        {"sequence_aa": "MKTAYIAKQRQISFVKSHF"},
    ]
    assert run(rows) == [("1", ""), ("1", ""), ("", "other_locus")] or run(rows)[2][1] == "no_junction"
    told = json.loads((tmp_path / "out.tsv.json").read_text())
    assert (told["method"], told["unit"], told["n_junctions_by_numbering"]) == ("hybrid", "residues", 2)


def test_the_nucleotides_of_a_numbered_junction_are_found_again():
    codon = {translate(c): c for c in (a + b + d for a in "ACGT" for b in "ACGT" for d in "ACGT")}
    sequence = "AC" + "".join(codon[residue] for residue in VH) + "G"
    cells = dict.fromkeys(COLUMNS, "") | {"sequence_aa": VH, "sequence": sequence}
    rows = read_rearrangements([(tuple(cells[name] for name in COLUMNS), "")])
    assert translate(rows.nucleotides[0]) == rows.residues[0] == "CSRWGGDGFYAMDYW"
    assert rows.locus == ["IGH"]


# --- Rows that are not heavy chains ------------------------------------------------------------


def test_a_light_chain_has_the_family_of_its_cell(run):
    light = {"locus": "IGK", "v_call": "IGKV1-5*01", "j_call": "IGKJ1*01", "junction": JUNCTION}
    rows = [
        heavy(cell_id="c1", sample_id="a", umi_count="2"),
        heavy(cell_id="c1", sample_id="a", umi_count="9", junction=OTHER),
        light | {"cell_id": "c1", "sample_id": "a"},
        light | {"cell_id": "c1", "sample_id": "b"},
        light,
    ]
    assert run(rows) == [("1", ""), ("2", ""), ("2", ""), ("", "light_unpaired"), ("", "light_unpaired")]


def test_families_are_divided_by_the_light_chain_when_asked(run):
    def light(cell, v):
        return {"locus": "IGK", "v_call": v, "j_call": "IGKJ1*01", "cell_id": cell, "junction": OTHER}

    rows = [heavy(cell_id=c) for c in ("c1", "c2", "c3", "c4")]
    rows += [light("c1", "IGKV1-5*01"), light("c2", "IGKV1-5*03"), light("c3", "IGKV3-20*01")]
    assert [clone for clone, _ in run(rows)] == ["1"] * 7
    assert [clone for clone, _ in run(rows, "--split-light")] == ["1", "1", "2", "1", "1", "1", "2"]


def test_a_receptor_chain_has_the_family_of_its_clonotype(run):
    tcr = {"locus": "TRB", "v_call": "TRBV7-9*01", "j_call": "TRBJ2-1*01", "junction": JUNCTION}
    rows = [
        tcr,
        tcr | {"v_call": "TRBV7-9*03"},
        tcr | {"junction": near(JUNCTION, 12)},
        tcr | {"junction": ""},
    ]
    assert run(rows) == [("1", ""), ("1", ""), ("2", ""), ("", "tcr")]


def test_every_other_reason_is_named(run):
    rows = [heavy(), heavy(junction=""), heavy(v_call=""), heavy(locus="IGI"), heavy(productive="F")]
    reasons = ["", "no_junction", "no_calls", "other_locus", ""]
    assert [reason for _, reason in run(rows)] == reasons
    assert run(rows, "--productive")[4] == ("", "not_productive")


# --- The table that is written -----------------------------------------------------------------


def test_every_cell_is_kept_byte_for_byte(tmp_path):
    text = (
        '"sequence_id"\tnote\tjunction\tv_call\tj_call\n'
        f'"s 1"\t"a ""quoted"" note"\t{JUNCTION}\tIGHV1-2*01\tIGHJ4*02\n'
        f"s2\t 1.50 \t{JUNCTION.lower()}\tIGHV1-2*01\tIGHJ4*02\r\n"
        "\n"
        "s3\tNA\t\t\t"
    )
    source = tmp_path / "in.tsv"
    source.write_bytes(text.encode())
    out = tmp_path / "out.tsv"
    assert cli("clones", source, "-o", out).code == 0
    before = [line for line in text.replace("\r", "").split("\n") if line]
    after = out.read_text().split("\n")
    assert after.pop() == ""
    for old, new in zip(before, after, strict=True):
        assert new.startswith(old + "\t")
    header = after[0].replace('"', "").split("\t")
    assert set(REQUIRED_COLUMNS) <= set(header)
    assert header[-2:] == ["clone_id", "clone_status"]


@given(
    st.lists(
        st.tuples(st.text("ab\"' \\é", max_size=6), st.text('xy, \t\n"', max_size=5)), min_size=1, max_size=6
    )
)
def test_any_cell_survives(tmp_path_factory, cells):
    folder = tmp_path_factory.mktemp("any")
    with (folder / "in.tsv").open("w", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(["sequence_id", "junction", "one", "two"])
        for i, (one, two) in enumerate(cells):
            # a quoted cell with both a tab and a line end is refused when read
            two = two if not ("\t" in two and "\n" in two) else "x"
            writer.writerow([f"s{i}", JUNCTION, one, two])
    assert cli("clones", folder / "in.tsv", "-o", folder / "out.tsv", "-q").code == 0
    with (folder / "in.tsv").open(newline="") as file:
        before = list(csv.reader(file, delimiter="\t"))
    with (folder / "out.tsv").open(newline="") as file:
        after = list(csv.reader(file, delimiter="\t"))
    assert [row[:4] for row in after] == before
    assert {len(row) for row in after} == {len(after[0])}


def test_ids_that_are_there_are_not_lost(tmp_path):
    source = write(tmp_path / "in.tsv", [heavy(clone_id="x"), heavy(clone_id="x"), heavy(clone_id="")])
    out = tmp_path / "out.tsv"
    ended = cli("clones", source, "-o", out)
    assert ended.code == 1 and "--overwrite" in ended.err and "--clone-col" in ended.err
    assert not out.exists()
    ended = cli("clones", source, "-o", out, "--overwrite")
    assert "over 2 rows: ARI 1.000, pairwise F1 1.000, B-cubed 1.000" in ended.err
    assert [row["clone_id"] for row in read(out)] == ["1", "1", "1"]
    ended = cli("clones", source, "-o", out, "--clone-col", "mine")
    assert "over 2 rows: ARI 1.000" in ended.err
    assert [(row["clone_id"], row["mine"]) for row in read(out)] == [("x", "1"), ("x", "1"), ("", "1")]
    assert "mine_status" in read(out)[0]


def test_an_empty_clone_id_column_is_filled_in_its_place(tmp_path):
    source = write(tmp_path / "in.tsv", [{"clone_id": ""} | heavy()])
    assert cli("clones", source, "-o", tmp_path / "out.tsv").code == 0
    (row,) = read(tmp_path / "out.tsv")
    assert list(row)[:2] == ["sequence_id", "clone_id"] and row["clone_id"] == "1"


def test_what_cannot_be_grouped_is_refused_before_anything_is_written(tmp_path):
    bad = {
        "no id": "junction\tv_call\n",
        "no junction": "sequence_id\tv_call\n",
        "commas": "sequence_id,junction\nx,TGT\n",
        "ragged": "sequence_id\tjunction\nx\tTGT\nx\n",
        "nucleotides in FASTA": ">x\nGAGGTGCAGCTGGTGGAGTCTGGGGGA\n",
    }
    for text in bad.values():
        (tmp_path / "in.tsv").write_text(text)
        ended = cli("clones", tmp_path / "in.tsv", "-o", tmp_path / "out.tsv")
        assert ended.code == 1, text
        assert sorted(p.name for p in tmp_path.iterdir()) == ["in.tsv"]
    source = write(tmp_path / "in.tsv", [heavy()])
    for wrong in (
        ("--method", "embedding"),
        ("--method", "spectral"),
        ("--vectors", "x.npz"),
        ("--v-call", "all"),
        ("--threshold", 2),
        ("--clone-col", "locus"),
        ("--clone-col", "v_cigar"),
    ):
        assert cli("clones", source, "-o", tmp_path / "out.tsv", *wrong).code == 1
    assert cli("clones", source, "-o", tmp_path / "out.tsv.gz").code == 1


def test_standard_input_and_output_and_packed_files(tmp_path):
    source = write(tmp_path / "in.tsv", [heavy(), heavy(junction=OTHER)])
    assert cli("clones", source, "-o", tmp_path / "out.tsv").code == 0
    expected = (tmp_path / "out.tsv").read_text()
    ended = cli("clones", "-", "-o", "-", stdin=gzip.compress(source.read_bytes()))
    assert (ended.code, ended.out) == (0, expected)
    (tmp_path / "in.tsv.gz").write_bytes(gzip.compress(source.read_bytes()))
    assert cli("clones", tmp_path / "in.tsv.gz", "-o", "-").out == expected


def test_a_header_alone_gives_a_header(tmp_path):
    (tmp_path / "in.tsv").write_text("sequence_id\tjunction\n")
    ended = cli("clones", tmp_path / "in.tsv", "-o", "-")
    assert ended.code == 0 and len(ended.out.splitlines()) == 1


def test_the_description_says_how(tmp_path):
    source = write(tmp_path / "in.tsv", [heavy()] * 3)
    cli("clones", source, "-o", tmp_path / "out.tsv")
    told = json.loads((tmp_path / "out.tsv.json").read_text())
    assert (told["method"], told["unit"], told["linkage"]) == ("junction", "nucleotides", "single")
    assert told["threshold"]["expected_false_links"] == 0.01
    assert set(told["versions"]) == {"plmsearch", "python", "numpy", "immunum"}
    cli("clones", source, "-o", tmp_path / "out.tsv", "--threshold", 0.12)
    told = json.loads((tmp_path / "out.tsv.json").read_text())
    assert told["threshold"] == {"rule": "given", "share": 0.12}


# --- Real and simulated sets ------------------------------------------------------------------------


def partition(pairs):
    found = {}
    for name, clone in pairs:
        found.setdefault(clone, set()).add(name)
    return {frozenset(names) for names in found.values()}


def test_the_order_of_rows_does_not_matter(tmp_path, shared_data):
    with gzip.open(shared_data / "clones" / "ExampleDb.tsv.gz", "rt") as file:
        header, *lines = file.read().splitlines()
    found = []
    for seed in (0, 1):
        random.Random(seed).shuffle(lines)
        (tmp_path / "in.tsv").write_text("\n".join([header, *lines]) + "\n")
        cli("clones", tmp_path / "in.tsv", "-o", tmp_path / "out.tsv", "--overwrite")
        found.append(partition((r["sequence_id"], r["clone_id"]) for r in read(tmp_path / "out.tsv")))
    assert found[0] == found[1]


def test_real_rows_are_grouped_as_the_definition_says(tmp_path, shared_data):
    """Each block by itself: Change-O's rules, by hand."""
    source = shared_data / "clones" / "ExampleDb.tsv.gz"
    with open_rearrangements(source) as table:
        rows = read_rearrangements((cells, "") for cells in table.cells(COLUMNS))
    found = assign_clones(rows, CloneOptions("junction", 0.15))
    linked: dict[int, set[int]] = {}
    names = [[set(re.findall(r"IGH[VJ][^* ,]+", call)) for call in calls] for calls in rows.calls]
    for i, one in enumerate(rows.nucleotides):
        for k in range(i):
            other = rows.nucleotides[k]
            if len(one) != len(other) or not (names[i][0] & names[k][0] and names[i][1] & names[k][1]):
                continue
            if sum(a != b for a, b in zip(one, other, strict=True)) / len(one) <= 0.15:
                linked.setdefault(i, set()).add(k)
    assert all(found.clone_id[i] == found.clone_id[k] for i, others in linked.items() for k in others)
    assert found.status == [""] * len(rows)


def test_known_families_are_found_without_a_flag(tmp_path, shared_data):
    table = pd.read_csv(
        shared_data / "clones" / "genairr_dev.tsv", sep="\t", dtype=str, keep_default_na=False
    )
    truth = table.pop("clone_id")
    calls = ["v_call", "d_call", "j_call"]
    chains = ["sequence", "sequence_aa"]
    for drop, method in (
        ([], "hybrid"),
        (calls, "hybrid"),
        (chains, "junction"),
        ([*calls, *chains], "cdr3"),
    ):
        table.drop(columns=drop).to_csv(tmp_path / "in.tsv", sep="\t", index=False)
        ended = cli("clones", tmp_path / "in.tsv", "-o", tmp_path / "out.tsv")
        assert f"method {method}" in ended.err
        found = [row["clone_id"] for row in read(tmp_path / "out.tsv")]
        both, one, other = (
            sum(n * (n - 1) for n in pd.Series(keys).value_counts())
            for keys in (list(zip(found, truth, strict=True)), found, list(truth))
        )
        assert 2 * both / (one + other) >= 0.97


#: Rows, rows with a family, reasons of the others, and whether the values are valid AIRR, as they came.
FORMATS = {
    "amulety_AIRR_rearrangement_bulk_test.tsv": (8, 2, {"light_unpaired": 2, "tcr": 4}, True),
    "amulety_AIRR_rearrangement_mixed_bcr_tcr_test.tsv": (12, 6, {"tcr": 6}, True),
    "amulety_AIRR_rearrangement_tcr_test.tsv": (6, 0, {"tcr": 6}, True),
    "amulety_AIRR_rearrangement_translated_mixed.tsv": (5, 4, {"light_unpaired": 1}, True),
    "amulety_AIRR_rearrangement_translated_single-cell.tsv": (4, 4, {}, False),  # whole numbers as 448.0
    "bad_rearrangement.tsv": (11, 11, {}, False),
    "good_rearrangement.tsv": (9, 9, {}, True),
    "rearrangement-example.tsv.gz": (101, 101, {}, True),
    "rearrangement_ig.tsv": (4, 4, {}, True),
}


@pytest.mark.parametrize("name", FORMATS)
def test_files_of_others_keep_their_cells_and_are_valid(tmp_path, shared_data, name):
    airr = pytest.importorskip("airr")
    source = shared_data / "formats" / name
    out = tmp_path / "out.tsv"
    ended = cli("clones", source, "-o", out, "--overwrite")
    assert ended.code == 0, ended.err
    before = pd.read_csv(source, sep="\t", dtype=str, keep_default_na=False)
    after = pd.read_csv(out, sep="\t", dtype=str, keep_default_na=False)
    kept = [column for column in before.columns if column not in ("clone_id", "clone_status")]
    pd.testing.assert_frame_equal(after[kept], before[kept])
    assert list(after.columns[: len(before.columns)]) == list(before.columns)
    n_rows, n_grouped, reasons, is_valid = FORMATS[name]
    assert airr.validate_rearrangement(str(out)) == is_valid
    assert (len(after), (after["clone_id"] != "").sum()) == (n_rows, n_grouped)
    assert {k: n for k, n in after["clone_status"].value_counts().items() if k} == reasons
