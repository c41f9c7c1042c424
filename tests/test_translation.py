"""Translation, held against Biopython."""

from __future__ import annotations

import pytest
from Bio.Seq import Seq
from hypothesis import given
from hypothesis import strategies as st

from plmsearch.errors import ParameterError
from plmsearch.translation import (
    FRAMES,
    as_nucleotides,
    codes_for,
    not_a_nucleotide,
    open_readings,
    reverse_complement,
    six_frames,
    translate,
)

plain = st.text("ACGT", max_size=120)
ambiguous = st.text("ACGTURYSWKMBDHVN", max_size=60)
#: What Biopython writes where two residues are possible and share a letter of their own.
SHARED = str.maketrans("BZJ", "XXX")


def by_biopython(nucleotides: str, frame: int) -> str:
    strand = Seq(nucleotides.replace("U", "T"))
    strand = strand if frame > 0 else strand.reverse_complement()
    strand = strand[abs(frame) - 1 :]
    return str(strand[: len(strand) // 3 * 3].translate(table=1)).translate(SHARED)


@given(st.one_of(plain, ambiguous), st.sampled_from(FRAMES))
def test_every_frame_is_that_of_biopython(nucleotides, frame):
    assert translate(nucleotides, frame) == by_biopython(nucleotides, frame)
    assert six_frames(nucleotides)[frame] == by_biopython(nucleotides, frame)


def test_every_codon_of_iupac_letters_is_that_of_biopython():
    letters = "ACGTURYSWKMBDHVN"
    codons = [a + b + c for a in letters for b in letters for c in letters]
    assert translate("".join(codons)) == by_biopython("".join(codons), 1)


@given(ambiguous)
def test_the_other_strand_is_that_of_biopython(nucleotides):
    expected = str(Seq(nucleotides.replace("U", "T")).reverse_complement())
    assert reverse_complement(nucleotides) == expected


@given(plain, st.integers(1, 10))
def test_open_readings_are_what_stands_between_stops(nucleotides, shortest):
    expected = [
        (frame, part)
        for frame in (1, 2, 3, -1, -2, -3)
        for part in by_biopython(nucleotides, frame).split("*")
        if len(part) >= shortest
    ]
    assert list(open_readings(nucleotides, shortest)) == expected


def test_what_is_no_nucleotide_is_unknown_and_can_be_named():
    assert translate("GAG?AGGAG-AG") == "EXEX"
    assert [not_a_nucleotide(s) for s in ("", "ACGTURYSWKMBDHVN", "ACGEF", "acg")] == ["", "", "E", "a"]


def test_gaps_white_space_and_case_are_taken_off_but_no_letter_is_made_of_another():
    assert as_nucleotides("ga g.\n.G-t\tß") == "GAGGTß"


@pytest.mark.parametrize("frame", [0, 4, -4])
def test_a_frame_that_does_not_exist_is_refused(frame):
    with pytest.raises(ParameterError, match="frame is"):
        translate("ATG", frame)


# --- Nucleotides and residues side by side -----------------------------------------------------------


@given(st.text("ACGT", min_size=3, max_size=90).map(lambda text: text[: len(text) // 3 * 3]), st.data())
def test_residues_agree_with_what_codes_for_them_and_one_other_residue_does_not(nucleotides, data):
    residues = by_biopython(nucleotides, 1)
    at = data.draw(st.integers(0, len(residues) - 1))
    other = data.draw(st.sampled_from(sorted(set("ACDEFGHIKLMNPQRSTVWY") - {residues[at]})))
    assert codes_for(nucleotides, residues)
    assert codes_for(nucleotides, residues[:at] + "X" + residues[at + 1 :])
    assert not codes_for(nucleotides, residues[:at] + other + residues[at + 1 :])
    assert not codes_for(nucleotides, residues + "W")


@pytest.mark.parametrize(
    ("nucleotides", "residues"),
    [
        ("", "CARW"),
        ("TGTGCG", ""),
        ("TGTGCGT", "CA"),
        ("TGTGCGT", "CAX"),
        ("TGT...GCG", "CA"),
        ("UGUGCG", "CA"),
    ],
)
def test_what_says_nothing_of_the_other_agrees_with_it(nucleotides, residues):
    assert codes_for(nucleotides, residues)
