"""Usage, mutation and CDR3 lengths, counted by hand and by numpy and pandas."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plmsearch.repertoire.row_reader import ReadOptions, read_rows
from plmsearch.repertoire.usage import QUANTILES, cdr3_lengths, mutation, usage, weighted_quantiles


@pytest.fixture
def rows(tmp_path):
    """Write a table and read it; each row weighs what its column `weight` says."""

    def rows(given):
        names = list(dict.fromkeys(name for row in given for name in row))
        lines = ["\t".join(["sequence_id", "junction_aa", *names])]
        lines += [
            "\t".join([f"s{i}", "CARW", *(str(row.get(n, "")) for n in names)]) for i, row in enumerate(given)
        ]
        (tmp_path / "in.tsv").write_text("\n".join(lines) + "\n")
        found, _ = read_rows([tmp_path / "in.tsv"], ReadOptions())
        found.weight = np.array([row.get("weight", 1) for row in given])
        return found

    return rows


def shares(rows, kind):
    return {one.name: (one.count, round(one.share, 6)) for one in usage(rows) if one.kind == kind}


def test_a_call_of_several_genes_is_divided_equally(rows):
    found = rows(
        [
            {"v_call": "IGHV1-2*01,IGHV1-3*01,IGHV3-7*02", "weight": 3},
            {"v_call": "Homsap IGHV3-7*01 F", "weight": 2},
            {"v_call": "", "locus": "IGH"},
        ]
    )
    assert shares(found, "v_gene") == {"IGHV3-7": (3, 0.6), "IGHV1-2": (1, 0.2), "IGHV1-3": (1, 0.2)}
    assert shares(found, "v_family") == {"IGHV1": (2, 0.4), "IGHV3": (3, 0.6)}


def test_shares_are_within_sample_and_locus(rows):
    given = [
        {"sample_id": sample, "v_call": call}
        for sample, call in (
            ("a", "IGHV1-2*01"),
            ("a", "IGKV1-5*01"),
            ("b", "IGHV1-2*01"),
            ("b", "IGHV3-7*01"),
        )
    ]
    found = usage(rows(given))
    table = pd.DataFrame([(u.sample, u.locus, u.kind, u.share) for u in found]).groupby([0, 1, 2])[3].sum()
    assert np.allclose(table, 1)
    assert len(table) == 6


def test_isotypes_are_those_of_heavy_chains_and_classes_are_summed(rows):
    found = rows(
        [
            {"locus": "IGH", "c_call": "IGHG1,IGHG2"},
            {"locus": "IGH", "c_call": "IGHM", "weight": 3},
            {"locus": "IGK", "c_call": "IGKC"},
        ]
    )
    assert shares(found, "isotype") == {"IgM": (3, 0.75), "IgG": (1, 0.25)}
    assert shares(found, "c_gene") == {"IGHM": (3, 0.75), "IGHG1": (0.5, 0.125), "IGHG2": (0.5, 0.125)}


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(1, 9)), min_size=1, max_size=30))
def test_weighted_quantiles_are_those_of_values_that_are_repeated(pairs):
    values, weights = np.array([v for v, _ in pairs]), np.array([w for _, w in pairs])
    wanted = np.quantile(np.repeat(values, weights), QUANTILES, method="inverted_cdf")
    assert weighted_quantiles(values, weights) == pytest.approx(tuple(wanted))


def test_mutation_is_told_by_isotype_and_never_of_t_cells(rows):
    found = mutation(
        rows(
            [
                {"locus": "IGH", "c_call": "IGHG1", "v_identity": 0.9, "weight": 3},
                {"locus": "IGH", "c_call": "IGHM", "v_identity": 1.0},
                {"locus": "IGH", "c_call": "IGHM,IGHD", "v_identity": 0.98},
                {"locus": "IGH", "v_identity": ""},
                {"locus": "TRB", "v_identity": 0.5},
            ]
        )
    )
    told = {(one.locus, one.isotype): (one.total, round(one.mean, 6), one.unmutated) for one in found}
    assert told == {
        ("IGH", "all"): (5, 0.064, 0.2),
        ("IGH", "IgG"): (3, 0.1, 0),
        ("IGH", "IgM"): (1, 0, 1),
        ("IGH", "ambiguous"): (1, 0.02, 0),
    }


def test_identities_in_percent_are_recognised(rows):
    (found,) = mutation(rows([{"locus": "IGK", "v_identity": 97.5}, {"locus": "IGK", "v_identity": 1.0}]))
    # 1.0 of a table that has 97.5 is one percent
    assert found.mean == pytest.approx((0.025 + 0.99) / 2)


def test_cdr3_lengths_are_without_the_conserved_residues(rows):
    found = rows([{"locus": "IGH"}, {"locus": "IGH", "weight": 2}])
    (one,) = cdr3_lengths(found)
    assert one.counts.tolist() == [0, 0, 3]
    assert (one.total, one.mean) == (3, 2)


def test_inferred_calls_stand_in_for_missing_ones(rows):
    found = rows(
        [
            {"v_call": "", "v_call_inferred": "IGHV1-2,IGHV1-3"},
            {"v_call": "IGHV3-7*01", "v_call_inferred": "IGHV1-2"},
        ]
    )
    assert shares(found, "v_gene") == {"IGHV3-7": (1, 0.5), "IGHV1-2": (0.5, 0.25), "IGHV1-3": (0.5, 0.25)}
    assert found.loci.texts == ["IGH"]
