"""Mutated nucleotides of V genes."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plmsearch.repertoire.mutation import MUTATION_COLUMNS, mutated_shares, v_part


def row(sequence: str, germline: str, **cells: str) -> dict[str, str]:
    given = {"sequence_alignment": sequence, "germline_alignment": germline} | cells
    return dict.fromkeys(MUTATION_COLUMNS, "") | given


@given(st.lists(st.lists(st.tuples(*[st.sampled_from("ACGTNacgt-.RY")] * 2), max_size=20), max_size=6))
def test_only_known_bases_are_compared(rows):
    pairs = [("".join(a for a, _ in one), "".join(b for _, b in one)) for one in rows]
    for found, one in zip(mutated_shares(pairs), rows, strict=True):
        known = [(a.upper(), b.upper()) for a, b in one if {a.upper(), b.upper()} <= set("ACGT")]
        if known:
            assert found == pytest.approx(sum(a != b for a, b in known) / len(known))
        else:
            assert math.isnan(found)


def test_an_imgt_alignment_ends_with_codon_104():
    sequence = "A" * 300 + "..." + "TGTGCGAGA" + "A" * 60
    germline = "." * 12 + "A" * 300 + "N" * 60
    first, second = v_part(row(sequence, germline), "")
    assert first == sequence[:312]
    assert second == germline[:312]


@pytest.mark.parametrize(
    "cells",
    [
        {"v_alignment_start": "1", "v_alignment_end": "6"},
        {"v_alignment_end": "6.0"},
        {"v_germline_start": "11", "v_germline_end": "15"},
        {"v_sequence_start": "31", "v_sequence_end": "36"},
    ],
)
def test_other_alignments_end_where_a_column_says(cells):
    assert v_part(row("ACGTACGTT", "AC-TACNNN", **cells), "") == ("ACGTAC", "AC-TAC")


def test_else_the_v_gene_ends_with_the_first_codon_of_the_junction():
    found = v_part(row("AC-GTTGTAAATGG", "ACCGATGTNNNTGG"), "tgtaaatgg")
    assert found == ("AC-GTTGT", "ACCGATGT")


@pytest.mark.parametrize(
    ("sequence", "germline", "junction"),
    [
        ("ACGT", "ACG", "GT"),
        ("", "", ""),
        ("ACGT", "", ""),
        ("ACGTACGT", "ACGTACGT", "ACG"),
        ("ACGT", "ACGT", ""),
    ],
    ids=["lengths differ", "no alignment", "no germline", "junction found twice", "nothing says"],
)
def test_without_a_known_end_there_is_no_part(sequence, germline, junction):
    assert v_part(row(sequence, germline), junction) == ("", "")


def test_a_masked_germline_serves_where_there_is_no_other():
    cells = {"germline_alignment_d_mask": "ACGA", "v_alignment_end": "4"}
    assert v_part(row("ACGT", "", **cells), "") == ("ACGT", "ACGA")
