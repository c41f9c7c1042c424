"""Statistics of odd tables: what cells say, whose donor a row is of, which chain a cell counts by."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from support import cli

from plmsearch.errors import TableFormatError
from plmsearch.repertoire.row_reader import ReadOptions, read_rows
from plmsearch.repertoire.statistics import summarise_repertoire
from plmsearch.repertoire.summary import StatisticsOptions
from plmsearch.repertoire.usage import usage


def heavy(**cells: str) -> dict[str, str]:
    return {"locus": "IGH", "v_call": "IGHV1-2*02", "j_call": "IGHJ4*02", "junction_aa": "CARDYW"} | cells


def write(path: Path, rows: list[dict[str, str]]) -> Path:
    rows = [{"sequence_id": f"s{i}"} | row for i, row in enumerate(rows)]
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, names, delimiter="\t")
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture
def summary(tmp_path):
    def summarise(rows, **named):
        return summarise_repertoire(
            [write(tmp_path / "in.tsv", rows)], StatisticsOptions(n_bootstraps=2, **named)
        )

    return summarise


def left_out(found) -> dict[tuple[str, str], int]:
    return {(one.part, one.reason): one.n for one in found.left_out}


@pytest.mark.parametrize("nothing", ["NA", "NaN", "none", "NULL", "N/A", " "])
def test_missing_values_are_no_clone_donor_sample_or_cell(summary, nothing):
    cells = dict.fromkeys(
        ("clone_id", "subject_id", "sample_id", "cell_id", "c_call", "junction_aa"), nothing
    )
    found = summary([heavy(clone_id="1", subject_id="A", sample_id="s", cell_id="c"), heavy(**cells)])
    assert [(one.group.donor, one.group.sample, one.n_cells) for one in found.samples] == [
        ("A", "s", 1),
        ("(none)", "(none)", 0),
    ]
    assert [one.names for one in found.clones] == [["1"], ["1"]]
    assert left_out(found)["clones", "no clone_id"] == left_out(found)["CDR3 length", "no junction"] == 1


def test_loci_and_isotypes_of_oas_are_known(summary):
    found = summary(
        [heavy(locus="H", Isotype="IGHG", v_identity="95.0"), heavy(locus="K", v_identity="98.0")]
    )
    assert {one.locus for one in found.mutation} == {"IGH", "IGK"}
    assert [(u.name, u.count) for u in found.usage if u.kind == "isotype"] == [("IgG", 1)]
    assert summary([heavy(locus="H", clone_id="1")], locus="igh").locus == "IGH"


def test_a_cell_counts_by_a_productive_chain(tmp_path):
    rows = [
        heavy(cell_id="c", productive="F", umi_count="9", v_call="IGHV4-34*01"),
        heavy(cell_id="c", productive="T", umi_count="2"),
    ]
    ended = cli("repertoire", write(tmp_path / "in.tsv", rows), "-o", tmp_path / "o", "--count", "cells")
    assert ended.code == 3 and "1 row: another chain of its cell and locus counts" in ended.err
    assert "IGHV1-2\t" in (tmp_path / "o" / "usage.tsv").read_text()
    assert "IGHV4-34\t" not in (tmp_path / "o" / "usage.tsv").read_text()


def test_rows_that_name_no_donor_are_not_compared_with_donors(summary):
    found = summary([heavy(subject_id=donor) for donor in ("A", "", "")])
    assert found.convergence == []
    found = summary([heavy(subject_id=donor) for donor in ("A", "", "", "B")])
    (part,) = found.convergence
    assert [(part.donors[pair.first], part.donors[pair.second]) for pair in part.pairs] == [("A", "B")]
    assert left_out(found)["convergence", "no donor named"] == 2


def test_the_donor_is_looked_for_where_one_is_named(summary):
    assert summary([heavy(subject_id="", donor="a")]).donors == ("a",)


@pytest.mark.parametrize(("rows", "said"), [([heavy()], "no column"), ([heavy(productive="yes")], "row 1")])
def test_rows_are_not_chosen_by_what_the_table_does_not_say(tmp_path, rows, said):
    with pytest.raises(TableFormatError, match=said):
        read_rows([write(tmp_path / "in.tsv", rows)], ReadOptions(productive=True))


def test_a_junction_of_any_length_is_measured(summary):
    found = summary([heavy(junction_aa="C" + "A" * 50_000 + "W"), heavy(junction_aa="CAW")])
    (lengths,) = found.cdr3
    assert lengths.mean == pytest.approx(25_000.5) and lengths.counts[[1, 50_000]].tolist() == [1, 1]


def test_standard_output_is_no_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ended = cli("repertoire", write(tmp_path / "in.tsv", [heavy()]), "-o", "-")
    assert ended.code == 1 and "folder" in ended.err and not (tmp_path / "-").exists()


def test_calls_of_several_genes_are_divided_and_sum_to_one(summary, tmp_path):
    calls = ("IGHV1-2*01 or IGHV3-23*01", "Homsap IGHV1-2*04 F", "IGHV1-2*01|IGHV1-3*01|IGHV1-2*02", "NA")
    rows, _ = read_rows([write(tmp_path / "in.tsv", [heavy(v_call=call) for call in calls])], ReadOptions())
    rows.weight += 0
    found = {u.name: (u.count, u.share) for u in usage(rows) if u.kind == "v_gene"}
    assert {name: count for name, (count, _) in found.items()} == {
        "IGHV1-2": 2.0,
        "IGHV3-23": 0.5,
        "IGHV1-3": 0.5,
    }
    assert sum(share for _, share in found.values()) == pytest.approx(1.0)
