from __future__ import annotations

import hashlib
import string

import pytest
from Bio.Data import IUPACData
from hypothesis import given, settings
from hypothesis import strategies as st

from plmsearch.errors import EmptySequenceError, InvalidResidueError, NucleotideSequenceError
from plmsearch.sequences import (
    AMBIGUOUS_RESIDUES,
    RESIDUES,
    STANDARD_RESIDUES,
    Normalised,
    SequenceRecord,
    is_nucleotide,
    mask_invalid,
    normalise,
    sequence_hash,
    validate,
)

VH = "EVQLVESGGGLVQPGGSLRLSCAASGFTFSSYAMSWVRQAPGKGLEWVSAISGSGGSTYYADSVKGRFTISRDNSKNTLYLQMNSLRAEDTAVYYCAKWGQG"

residue_strings = st.text(RESIDUES, min_size=1, max_size=60)
any_text = st.text(max_size=60)
# What a careless file holds: residues in any case, gaps, stops, white space, wrong letters.
careless = st.text(string.ascii_letters + "-.* \t\r\n?1", max_size=60)


def reference_normalise(raw: str) -> str:
    """The definition, one character after another."""
    kept = []
    for c in raw:
        if c.isspace() or c in "-.":
            continue
        kept.append(c.upper() if "a" <= c <= "z" else c)
    if kept and kept[-1] == "*":
        kept.pop()
    return "".join(kept)


# --- The alphabet --------------------------------------------------------------------------------


def test_the_residue_letters_are_those_of_iupac():
    assert list(STANDARD_RESIDUES) == sorted(IUPACData.protein_letters)
    assert sorted(RESIDUES) == sorted(IUPACData.extended_protein_letters)
    assert not set(STANDARD_RESIDUES) & set(AMBIGUOUS_RESIDUES)


# --- Normalising ---------------------------------------------------------------------------------


@given(residue_strings)
def test_a_clean_sequence_is_left_alone(residues):
    assert normalise(residues) == Normalised(residues, {})


@settings(max_examples=300)
@given(careless | any_text)
def test_normalising_agrees_with_its_definition(raw):
    assert normalise(raw).residues == reference_normalise(raw)


@settings(max_examples=300)
@given(careless | any_text)
def test_every_removed_or_raised_character_is_counted(raw):
    result = normalise(raw)
    removed = sum(result.changes.get(kind, 0) for kind in ("gaps", "stop", "whitespace"))
    assert len(raw) == len(result.residues) + removed
    assert result.changes.get("lowercase", 0) == sum(c in string.ascii_lowercase for c in raw)
    assert all(n > 0 for n in result.changes.values())
    assert set(result.changes) <= {"lowercase", "gaps", "stop", "whitespace"}


@given(careless)
def test_normalising_a_valid_sequence_again_changes_nothing(raw):
    residues = normalise(raw).residues
    if not mask_invalid(residues)[1]:
        assert normalise(residues) == Normalised(residues, {})


@pytest.mark.parametrize(
    ("raw", "residues", "changes"),
    [
        ("evql", "EVQL", {"lowercase": 4}),
        ("EV-QL..", "EVQL", {"gaps": 3}),
        ("EVQL*", "EVQL", {"stop": 1}),
        ("EVQL*--\r\n", "EVQL", {"stop": 1, "gaps": 2, "whitespace": 2}),
        ("EV QL\n", "EVQL", {"whitespace": 2}),
        ("*", "", {"stop": 1}),
        ("---", "", {"gaps": 3}),
        ("", "", {}),
    ],
)
def test_what_normalising_does_and_says(raw, residues, changes):
    assert normalise(raw) == Normalised(residues, changes)


def test_a_stop_inside_the_sequence_stays_and_is_invalid():
    residues = normalise("EV*QL*").residues
    assert residues == "EV*QL"
    with pytest.raises(InvalidResidueError) as caught:
        validate(residues, "x")
    assert (caught.value.letters, caught.value.position) == ("*", 3)


@pytest.mark.parametrize("letter", ["ß", "ı", "ſ", "ﬁ", "é", "α", "Ａ", "\ufeff", "\u200b"])
def test_a_letter_of_another_alphabet_never_becomes_a_residue(letter):
    residues = normalise(f"EV{letter}QL").residues
    assert residues == f"EV{letter}QL"
    with pytest.raises(InvalidResidueError) as caught:
        validate(residues, "x")
    assert (caught.value.letters, caught.value.position) == (letter, 3)


# --- Validating ----------------------------------------------------------------------------------


@settings(max_examples=300)
@given(any_text | careless | residue_strings)
def test_validating_accepts_exactly_the_residue_strings(text):
    if not text:
        expected: type[Exception] | None = EmptySequenceError
    elif set(text) - set(IUPACData.extended_protein_letters):
        expected = InvalidResidueError
    elif len(text) >= 20 and len(set(text)) >= 3 and set(text) <= set("ACGTUN"):
        expected = NucleotideSequenceError if len(set(text) - {"N"}) >= 3 else None
    else:
        expected = None
    if expected is None:
        validate(text, "x")
    else:
        with pytest.raises(expected):
            validate(text, "x")


@given(residue_strings, st.sampled_from("*?1-é"), st.data())
def test_the_first_invalid_letter_is_named_with_its_place_counted_from_one(residues, letter, data):
    at = data.draw(st.integers(0, len(residues)))
    with pytest.raises(InvalidResidueError) as caught:
        validate(residues[:at] + letter + residues[at:], "P12345", source="in.fasta", row=7)
    error = caught.value
    assert (error.letters, error.position) == (letter, at + 1)
    assert (error.record_id, error.source, error.row) == ("P12345", "in.fasta", 7)


def test_an_empty_sequence_is_refused_by_name():
    with pytest.raises(EmptySequenceError, match=r"'P1' \(in\.fasta, record 3\)"):
        validate("", "P1", source="in.fasta", row=3)


# --- Nucleotides ---------------------------------------------------------------------------------


@given(st.text("ACGT", min_size=21, max_size=200).filter(lambda s: len(set(s)) >= 3))
def test_dna_and_its_transcript_are_recognised(dna):
    for reading in (dna, dna.replace("T", "U"), dna + "NNN"):
        assert is_nucleotide(reading)
        with pytest.raises(NucleotideSequenceError):
            validate(reading, "x")


@given(st.text("ACGT", min_size=30, max_size=90).filter(lambda s: len(set(s)) == 4))
def test_one_residue_that_is_no_base_makes_it_a_protein(dna):
    assert not is_nucleotide(dna[:10] + "W" + dna[10:])


@pytest.mark.parametrize(
    "protein",
    [
        pytest.param(VH, id="antibody"),
        pytest.param("GAGA" * 20, id="two letters: fibroin"),
        pytest.param("A" * 50, id="poly-alanine"),
        pytest.param("N" * 50, id="poly-asparagine"),
        pytest.param("GATTACAGATTACAGATTA", id="19 letters: a peptide"),
    ],
)
def test_a_protein_is_not_taken_for_dna(protein):
    assert not is_nucleotide(protein)
    validate(protein, "x")


# --- Masking -------------------------------------------------------------------------------------


@given(any_text | careless)
def test_masking_replaces_each_invalid_character_and_nothing_else(text):
    masked, n = mask_invalid(text)
    valid = [c in IUPACData.extended_protein_letters for c in text]
    assert masked == "".join(c if ok else "X" for c, ok in zip(text, valid, strict=True))
    assert n == valid.count(False)


# --- Identity ------------------------------------------------------------------------------------


@given(residue_strings)
def test_the_identity_is_the_sha256_of_the_residues(residues):
    assert sequence_hash(residues) == hashlib.sha256(residues.encode()).hexdigest()


@given(residue_strings, st.data())
def test_how_a_sequence_is_written_does_not_change_its_identity(residues, data):
    cut = data.draw(st.integers(0, len(residues)))
    written = f"{residues[:cut].lower()}-\n{residues[cut:]}*"
    assert sequence_hash(normalise(written).residues) == sequence_hash(residues)


def test_a_record_cannot_be_changed_in_place():
    record = SequenceRecord("a", "EVQL")
    with pytest.raises(AttributeError):
        record.sequence = "QVQL"  # type: ignore[misc]
    assert record == SequenceRecord("a", "EVQL", description="", metadata={}, source="", row=None)
