"""Clonal families of odd tables: what cells say, whose donor and cell a row is of, what is told."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path

import airr
import pytest
from repertoires import (
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
from support import VH, cli, gz, write_fasta

from plmsearch.formats.rearrangements import open_rearrangements
from plmsearch.translation import reverse_complement

JUNCTION, OTHER = coding("CARGYCSGGSCYDYW"), coding("CARPGKFHHVLARDW")


def heavy(**cells: str) -> dict[str, str]:
    return {"locus": "IGH", "v_call": "IGHV1-2*02", "j_call": "IGHJ4*02", "junction": JUNCTION} | cells


def light(**cells: str) -> dict[str, str]:
    return {"locus": "IGK", "v_call": "IGKV1-5*01", "j_call": "IGKJ1*01", "junction": OTHER} | cells


def write(path: Path, rows: list[dict[str, str]]) -> Path:
    rows = [{"sequence_id": f"s{i}"} | row for i, row in enumerate(rows)]
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = ("\t".join(row.get(name, "") for name in names) for row in rows)
    path.write_text("\n".join(["\t".join(names), *lines]) + "\n")
    return path


@pytest.fixture
def run(tmp_path):
    """Write rows, run the command at a fixed threshold, return what it told and the rows it wrote."""

    def run(rows, *options, code=0):
        out = tmp_path / "out.tsv"
        ended = cli("clones", write(tmp_path / "in.tsv", rows), "-o", out, "--threshold", 0.1, *options)
        assert ended.code == code, ended.err
        if code:
            return ended.err, []
        with out.open(newline="") as file:
            return ended.err, list(csv.DictReader(file, delimiter="\t"))

    return run


def ids(rows):
    return [row["clone_id"] for row in rows]


# --- What cells say ---------------------------------------------------------------------------------


@pytest.mark.parametrize("nothing", ["NA", "nan", "None", "null", "n/a", " "])
def test_what_r_and_pandas_write_for_nothing_is_an_empty_cell(run, nothing):
    rows = [
        heavy(),
        heavy(junction=nothing, junction_aa=nothing),
        heavy(locus=nothing),
        heavy(v_call=nothing),
        heavy(subject_id=nothing),
        heavy(cell_id=nothing),
        light(cell_id=nothing),
        heavy(clone_id=nothing, clone_status=nothing),
    ]
    told, written = run(rows)
    reasons = ["", "no_junction", "", "no_calls", "", "", "light_unpaired", ""]
    assert [row["clone_status"] for row in written] == reasons
    assert set(ids(written)) == {"1", ""}
    assert "donors by column subject_id: 1; 8 rows name none" in told


def test_an_id_may_be_called_anything(tmp_path):
    with open_rearrangements(write(tmp_path / "in.tsv", [heavy(sequence_id="NA", cell_id="NA")])) as table:
        assert list(table.cells(("sequence_id", "cell_id", "absent"))) == [("NA", "", "")]


def test_loci_are_read_as_oas_writes_them_and_others_are_named(run):
    rows = [heavy(locus=locus) for locus in ("H", "igh", "Multi", "Multi", "heavy")]
    told, written = run([*rows, light(locus="K", cell_id="c")])
    assert ids(written) == ["1", "1", "", "", "", ""]
    assert written[-1]["clone_status"] == "light_unpaired"
    assert "3 rows without a family: other_locus (MULTI, HEAVY)" in told


def test_contigs_that_10x_filters_out_take_part_and_are_told_or_are_left_out(run, tmp_path):
    flags = [("True", "True"), ("False", "True"), ("true", "F"), ("", "None")]
    rows = [heavy(is_cell=a, high_confidence=b, cell_id=f"c{i}") for i, (a, b) in enumerate(flags)]
    rows.append(light(is_cell="False", high_confidence="True", cell_id="c0"))
    told, written = run(rows)
    assert "3 rows are no cell's or of low confidence by 10x" in told and ids(written) == ["1"] * 5
    assert json.loads((tmp_path / "out.tsv.json").read_text())["n_not_in_filtered_set"] == 3
    told, written = run(rows, "--filtered")
    assert [row["clone_status"] for row in written] == [
        "",
        "not_filtered",
        "not_filtered",
        "",
        "not_filtered",
    ]
    assert "3 rows without a family: not_filtered" in told and "not left out" not in told
    told, _ = run([heavy()], "--filtered", code=1)
    assert "no column 'is_cell' or 'high_confidence'" in told


def test_calls_in_lower_case_are_calls(run):
    lower = heavy(locus="", v_call="ighv1-2*02", j_call="ighj4*02")
    told, written = run(
        [heavy(), lower, heavy(locus="", v_call="Ighv1-2", j_call="Ighj4"), heavy(v_call="ighv1-3")]
    )
    assert ids(written) == ["1", "1", "1", "2"]
    assert "nothing about their locus" not in told and "have no V or J call" not in told
    assert written[1]["v_call"] == "ighv1-2*02"


def test_productive_is_read_in_every_spelling_of_the_airr_library(run):
    spellings = [
        *airr.schema.RearrangementSchema.true_values,
        "",
        *airr.schema.RearrangementSchema.false_values,
    ]
    _, written = run([heavy(productive=text) for text in spellings], "--productive")
    n = len(airr.schema.RearrangementSchema.true_values) + 1
    assert [row["clone_status"] for row in written] == [""] * n + ["not_productive"] * (len(spellings) - n)


def test_rows_are_not_chosen_by_what_the_table_does_not_say(run):
    told, _ = run([heavy()], "--productive", code=1)
    assert "no column 'productive'" in told
    told, _ = run([heavy(productive="T"), heavy(productive="unproductive")], "--productive", code=1)
    assert "row 2: productive is 'unproductive'" in told


def test_a_read_of_the_other_strand_has_its_v_region_too(run):
    sequence = coding("EVQLVESGGGLVQPGGSLRLSCAASGFNIKDTYIHWVRQAPGKG") + JUNCTION
    rows = [heavy(sequence=sequence), heavy(sequence=reverse_complement(sequence), rev_comp="T")]
    told, written = run(rows)
    assert "V regions are compared too: 2 of 2 chains have one" in told and ids(written) == ["1", "1"]


def test_a_junction_that_is_not_what_its_nucleotides_code_for_is_kept_and_counted(run, tmp_path):
    own = "CARGYCSGGSCYDYW"
    rows = [heavy(junction_aa=own), heavy(junction_aa="CARDRDRDRDRDRDW"), heavy(junction_aa=own[1:-1])]
    told, written = run(
        [*rows, heavy(junction_aa=own.lower()), heavy(junction=JUNCTION + "A", junction_aa=own)]
    )
    assert "2 rows have a junction_aa that is not the translation of junction" in told
    assert "rows 2, 3\n" in told
    assert [row["junction_aa"] for row in written[:3]] == [row["junction_aa"] for row in rows]
    assert json.loads((tmp_path / "out.tsv.json").read_text())["n_junctions_that_disagree"] == 2
    told, _ = run(rows[:1])
    assert "not the translation" not in told


@pytest.mark.parametrize("method", ["junction", "hybrid", "cdr3"])
@pytest.mark.parametrize("more", [(), ("--productive", "--split-light", "--convergent")])
def test_a_table_without_heavy_chains_keeps_its_rows(run, method, more):
    tcr = {"locus": "TRB", "v_call": "TRBV7-9*01", "j_call": "TRBJ2-1*01", "junction": JUNCTION}
    rows = [row | {"productive": "T"} for row in (light(cell_id="c"), tcr)]
    told, written = run(rows, "--method", method, *more)
    assert [row["clone_status"] for row in written] == ["light_unpaired", ""]
    assert "2 rows, no heavy chain in a family" in told


# --- Where it is written ----------------------------------------------------------------------------


def test_a_table_may_be_written_in_its_own_place_and_keeps_its_cells(tmp_path):
    source = write(tmp_path / "in.tsv", [heavy(note="kept"), heavy(note="")])
    assert cli("clones", source, "-o", source).code == 0
    with source.open() as file:
        assert [(row["note"], row["clone_id"]) for row in csv.DictReader(file, delimiter="\t")] == [
            ("kept", "1"), ("", "1")
        ]  # fmt: skip


@pytest.mark.parametrize("name", ["in.fasta", "in.csv", "link"])
def test_an_input_of_another_format_is_never_replaced(tmp_path, name):
    if name == "in.csv":
        source = tmp_path / name
        source.write_text(csv_text(OLD_10X, [tenx_row(1)]))
    else:
        source = write_fasta(tmp_path / "in.fasta", [("a", VH)])
    output = tmp_path / name
    if name == "link":
        output.symlink_to(source)
    before = source.read_bytes()
    ended = cli("clones", source, "-o", output)
    assert ended.code == 1 and "another file than an input" in ended.err
    assert source.read_bytes() == before
    assert not (tmp_path / f"{name}.json").exists()


def test_an_output_that_cannot_be_written_is_told_before_the_work(tmp_path, monkeypatch):
    def never(*_: object) -> None:
        raise AssertionError("the work has begun")

    monkeypatch.setattr("plmsearch.repertoire.clone_table.assign_clones", never)
    ended = cli("clones", write(tmp_path / "in.tsv", [heavy()]), "-o", tmp_path / "absent" / "out.tsv")
    assert ended.code == 1 and "cannot be written: no such file or directory" in ended.err
    assert [path.name for path in tmp_path.iterdir()] == ["in.tsv"]


# --- Donors and cells -------------------------------------------------------------------------------


def test_the_donor_is_looked_for_where_one_is_named(run):
    told, written = run([heavy(subject_id="", donor="a"), heavy(subject_id="", donor="b")])
    assert ids(written) == ["1", "2"] and "donors by column donor: 2" in told
    told, _ = run([heavy(subject_id="", donor="")])
    assert "donors by column subject_id: 1; 1 row names none" in told


def test_rows_that_name_no_donor_are_in_no_convergent_cluster(run):
    rows = [heavy(subject_id=donor) for donor in ("a", "", "")]
    _, written = run(rows)
    assert "convergent_cluster" not in written[0]
    _, written = run([*rows, heavy(subject_id="b")])
    assert [row["convergent_cluster"] for row in written] == ["1", "", "", "1"]


def test_of_the_heavy_chains_of_a_cell_a_productive_one_counts_first(run):
    rows = [
        heavy(cell_id="c", productive="T", umi_count="2"),
        heavy(cell_id="c", productive="F", umi_count="9", junction=OTHER),
        light(cell_id="c"),
    ]
    assert ids(run(rows)[1]) == ["1", "2", "1"]


def test_equal_chains_of_a_cell_do_not_make_the_order_of_rows_matter(run):
    rows = [heavy(cell_id="c"), heavy(cell_id="c", junction=OTHER), light(cell_id="c")]
    rows += [heavy(), heavy(cell_id="d"), heavy(cell_id="e")]
    rows += [light(cell_id="d", v_call="IGKV3-20*01"), light(cell_id="e", v_call="IGKV2-28*01")]
    rows = [{"sequence_id": f"r{i}"} | row for i, row in enumerate(rows)]
    found = set()
    for seed in range(4):
        random.Random(seed).shuffle(rows)
        families: dict[str, set[str]] = {}
        for row in run(rows, "--split-light")[1]:
            families.setdefault(row["clone_id"], set()).add(row["sequence_id"])
        found.add(frozenset(map(frozenset, families.values())))
    assert len(found) == 1


# --- What is told -----------------------------------------------------------------------------------


def test_shares_are_of_heavy_chains_and_receptors_stand_apart(run, tmp_path):
    receptor = {"locus": "TRB", "v_call": "TRBV7-9*01", "j_call": "TRBJ2-1*01", "junction": OTHER}
    rows = [heavy(cell_id="a"), heavy(cell_id="b"), heavy(junction=OTHER), light(cell_id="a")]
    told, _ = run([*rows, light(cell_id="b"), *[receptor] * 4])
    assert "9 rows, 3 heavy chains grouped: 2 families, 1 of one chain, the largest of 2 (66.7%)" in told
    assert "2 light chains have the family of their cell" in told
    assert "4 T-cell receptor chains in 1 clonotype, the largest of 4 (100.0%)" in told
    facts = json.loads((tmp_path / "out.tsv.json").read_text())
    assert [facts[name] for name in ("n_families", "largest_family", "n_receptor_clonotypes")] == [2, 2, 1]


def test_without_heavy_chains_no_method_is_told(run):
    told, _ = run([light()])
    assert "no heavy chain in a family" in told and "method" not in told and "threshold" not in told


@pytest.mark.parametrize("name", ["", " ", "a\tb", "a\nb", "clone_status", "donor", "subject_id", "mine"])
def test_names_that_are_no_column_of_their_own_are_refused(run, name):
    told, _ = run([heavy(mine="x")], "--clone-col", name, "--by", "mine", code=1)
    assert "clone-col" in told


# --- OAS as it is ------------------------------------------------------------------------------------


def oas_cells(kind: str) -> dict[str, str]:
    """OAS writes loci as one letter and whole numbers as floats."""
    return {"locus": "H" if kind == "heavy" else "K", "junction_length": "45.0", "Redundancy": "2.0"}


def test_a_unit_of_oas_has_families_and_is_written_as_valid_airr(tmp_path):
    columns = (*OAS, "junction_length", "v_identity")
    row = oas_row(v_identity="95.0", **oas_cells("heavy"))
    path, out = tmp_path / "SRR1_Heavy_Bulk.csv.gz", tmp_path / "out.tsv"
    # as OAS packs them: the first line is a gzip member of its own
    first, rest = oas_text(columns, [row, row]).split("\n", 1)
    path.write_bytes(gz(f"{first}\n".encode()) + gz(rest.encode()))
    assert cli("clones", path, "-o", out).code == 0
    assert airr.validate_rearrangement(str(out))
    with out.open(newline="") as file:
        written = list(csv.DictReader(file, delimiter="\t"))
    assert [(r["clone_id"], r["locus"], r["junction_length"], r["duplicate_count"]) for r in written] == [
        ("1", "IGH", "45", "2")
    ] * 2
    assert {r["v_identity"] for r in written} == {"95.0"}


def test_pairs_of_oas_keep_their_cell(tmp_path):
    row = paired_row(1) | {
        f"{name}_{kind}": text for kind in ("heavy", "light") for name, text in oas_cells(kind).items()
    }
    (tmp_path / "P.csv").write_text(oas_text(paired_columns(), [row]))
    ended = cli("clones", tmp_path / "P.csv", "-o", tmp_path / "out.tsv")
    assert "2 rows, 1 heavy chain grouped: 1 family" in ended.err
    assert "1 light chain has the family of their cell" in ended.err
