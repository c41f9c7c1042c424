"""From which column the residues of a rearrangement come, and how nucleotides become residues."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from repertoires import CODON, coding
from support import VH, VL, write_fasta

from plmsearch.formats.read import open_input
from plmsearch.formats.residues import (
    REGION_COLUMNS,
    REGION_SOURCE,
    RESIDUE_COLUMNS,
    TRANSLATED,
    aligned_residues,
    reading_with_domain,
    residues_of_row,
    translated_record,
    why_no_residues,
)
from plmsearch.numbering import ImmunumNumberer
from plmsearch.sequences import STANDARD_RESIDUES, SequenceRecord
from plmsearch.translation import FRAMES, reverse_complement, translate

NUMBERER = ImmunumNumberer()


class Refusing:
    """A numberer that must not be asked."""

    def domains(self, residues, receptors=()):
        raise AssertionError("asked for domains")

    def describe(self):
        return "none"


REGIONS = dict(zip(REGION_COLUMNS, ("EVQ", "GFN", "IHW", "IYP", "RYA", "CSRW", "GQG"), strict=True))
FULL = {
    "sequence_aa": "FROMAA",
    "sequence_alignment_aa": "FROMALN",
    "sequence_vdj_aa": "FROMVDJ",
    **REGIONS,
    "sequence_alignment": "GAGGTGCAG",
    "sequence": "CC" + coding(VH),
}
EXPECTED = [
    ("FROMAA", "sequence_aa"),
    ("FROMALN", "sequence_alignment_aa"),
    ("FROMVDJ", "sequence_vdj_aa"),
    ("EVQGFNIHWIYPRYACSRWGQG", REGION_SOURCE),
    ("EVQ", "sequence_alignment"),
]


@pytest.mark.parametrize("empty", ["", None, "NA", " nan "])
@pytest.mark.parametrize("n_empty", range(5))
def test_the_first_column_that_holds_any_wins(n_empty, empty):
    gone = [*RESIDUE_COLUMNS, "fwr2_10x", "sequence_alignment"][:n_empty]
    assert residues_of_row(FULL | dict.fromkeys(gone, empty), Refusing()) == EXPECTED[n_empty]


def test_the_nucleotides_of_the_read_come_last():
    row = {"sequence_alignment": "", "sequence": FULL["sequence"]}
    residues, source = residues_of_row(row, NUMBERER)
    assert source == "sequence"
    assert VH in residues


def test_bare_region_names_are_nucleotides_and_never_residues():
    row = {"fwr1": "EVQ", "cdr1": "GFN", "fwr2": "IHW", "cdr2": "IYP", "fwr3": "RYA", "cdr3": "CSRW",
           "fwr4": "GQG", "junction_aa": "CSRW"}  # fmt: skip
    assert residues_of_row(row, Refusing()) == ("", "")
    assert why_no_residues(row) == "it has no residues, and no nucleotides to translate"


@pytest.mark.parametrize(
    ("missing", "joined"),
    [
        (["fwr1_10x"], "GFNIHWIYPRYACSRWGQG"),
        (["fwr4_10x"], "EVQGFNIHWIYPRYACSRW"),
        (["fwr1_10x", "fwr4_10x"], "GFNIHWIYPRYACSRW"),
        *([[name], ""] for name in REGION_COLUMNS[1:-1]),
    ],
)
def test_regions_are_joined_only_where_they_touch(missing, joined):
    assert residues_of_row(REGIONS | dict.fromkeys(missing, ""), Refusing())[0] == joined


# --- Aligned nucleotides --------------------------------------------------------------------------


@given(st.integers(0, 40), st.integers(0, 2), st.randoms(use_true_random=False))
def test_gaps_before_an_alignment_say_in_which_frame_it_is(n_codons, n_more, rng):
    codons = [CODON[rng.choice(STANDARD_RESIDUES)] for _ in range(50)]
    whole = "".join(codons)
    begin = 3 * n_codons + n_more
    alignment = "." * begin + whole[begin:]
    expected = "".join(translate(codon) for codon in codons[n_codons + bool(n_more) :])
    assert aligned_residues(alignment, Refusing()) == expected


def test_gaps_inside_are_taken_out():
    assert aligned_residues("GAG...GTG-CA-G......", Refusing()) == "EVQ"


def test_a_stop_stays_for_the_policy_to_judge():
    assert residues_of_row({"sequence_alignment": "GAG...TAAGTG"}, Refusing())[0] == "E*V"


@pytest.mark.parametrize("n_before", [1, 2])
def test_an_alignment_without_imgt_gaps_may_begin_inside_a_codon(n_before):
    alignment = ("TA" if n_before == 2 else "G") + coding("W" + VH)
    assert "*" in translate(alignment)
    assert aligned_residues(alignment, NUMBERER) == "W" + VH


def test_a_stop_in_the_right_frame_is_not_evaded():
    stopped = coding(VH[:20]) + "TAG" + coding(VH[21:])
    assert aligned_residues(stopped, NUMBERER) == f"{VH[:20]}*{VH[21:]}"


# --- Six frames -----------------------------------------------------------------------------------


def placed(residues: str, frame: int, rng: random.Random) -> str:
    """Nucleotides with an open reading of some residues in one frame, stops around it."""
    before = "".join(rng.choices("ACGT", k=59)) + "TAA"
    before = before[62 - 3 * 20 - (abs(frame) - 1) :]
    after = "TAG" + "".join(rng.choices("ACGT", k=40))
    whole = before + coding(residues) + after
    return whole if frame > 0 else reverse_complement(whole)


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("chain", [VH, VL], ids=["VH", "VL"])
def test_the_frame_with_a_domain_is_found_and_trimmed_to_its_open_reading(frame, chain):
    nucleotides = placed(f"MKH{chain}ASTK", frame, random.Random(frame))
    assert f"MKH{chain}ASTK" in translate(nucleotides, frame)
    assert reading_with_domain(nucleotides, NUMBERER) == f"MKH{chain}ASTK"


def test_no_domain_is_no_reading():
    assert reading_with_domain(coding("MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQAPILSRVG"), NUMBERER) == ""
    assert residues_of_row({"sequence": coding(VH[:80])}, NUMBERER) == ("", "")
    assert why_no_residues({"sequence": "GAG"}) == "no frame of its nucleotides holds a variable domain"


def test_residues_in_a_column_of_nucleotides_are_not_translated():
    row = {"sequence": VH}
    assert residues_of_row(row, NUMBERER) == ("", "")
    assert why_no_residues(row).startswith("column sequence holds 'E', which is no nucleotide")


# --- Records that the user says are nucleotides ---------------------------------------------------


def translated(sequence: str) -> SequenceRecord:
    return translated_record(SequenceRecord("a", sequence, metadata={"note": "x"}), NUMBERER)


def test_an_antibody_is_read_in_the_frame_of_its_domain():
    record = translated(reverse_complement("A" + coding(VH)).lower())
    assert record.unusable is None
    assert VH in record.sequence
    assert record.metadata == {"note": "x", "residue_source": TRANSLATED}


def test_a_coding_sequence_is_read_in_frame_1_with_its_last_stop():
    assert translated(coding("MKTAYIAKQR") + "TAA").sequence == "MKTAYIAKQR*"


@pytest.mark.parametrize(
    ("nucleotides", "reason"),
    [
        (coding("MKTAYIAKQR") + "A", "its 31 nucleotides are no whole codons"),
        (coding("MKT") + "TAA" + coding("AYIAKQR"), "codon 4 is a stop"),
        (coding("MKT") + "E", "'E' is no nucleotide"),
    ],
)
def test_what_would_have_to_be_guessed_is_an_error(nucleotides, reason):
    record = translated(nucleotides)
    assert record.sequence == ""
    assert record.unusable is not None
    assert record.unusable.must_stop
    assert reason in record.unusable.reason


def test_an_empty_record_stays_one():
    assert translated("") == SequenceRecord("a", "", metadata={"note": "x"})


def test_a_second_pass_over_a_small_input_is_not_numbered_again(tmp_path, monkeypatch):
    path = write_fasta(tmp_path / "x.fasta", [("a", coding(VH)), ("b", coding(VL))])
    with open_input(path, translate=True) as opened:
        first = list(opened)
        monkeypatch.setattr(ImmunumNumberer, "domains", Refusing.domains)
        assert list(opened) == first
