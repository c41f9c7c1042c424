from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plmsearch.errors import ParameterError
from plmsearch.search.cdr3 import Cdr3List, Cdr3Options, cdr3_identity, parse_same, read_cdr3

# Few letters, so that random strings are alike.
CDR3 = st.text("ARDX", min_size=1, max_size=9)


def edit_distance(first: str, second: str) -> int:
    """By the recurrence of Wagner and Fischer (1974)."""
    row = np.arange(len(second) + 1)
    for letter in first:
        before, row = row, np.empty_like(row)
        row[0] = before[0] + 1
        for place, other in enumerate(second, 1):
            differ = letter != other or letter == "X"
            row[place] = min(before[place] + 1, row[place - 1] + 1, before[place - 1] + differ)
    return int(row[-1])


def by_definition(first: str, second: str) -> float:
    longest = max(len(first), len(second))
    if len(first) == len(second):
        return float(np.mean([a == b != "X" for a, b in zip(first, second, strict=True)]))
    return (longest - edit_distance(first, second)) / longest


@given(CDR3, CDR3)
def test_identity_is_hamming_within_a_length_and_edit_distance_between_lengths(first, second):
    assert cdr3_identity(first, second) == pytest.approx(by_definition(first, second), abs=1e-12)
    assert cdr3_identity(first, second) == cdr3_identity(second, first)
    assert cdr3_identity(first, first) == pytest.approx(1 - first.count("X") / len(first))


@given(CDR3, CDR3, st.text("ARD", min_size=18, max_size=18))
def test_an_identity_holds_whatever_unknown_residues_are(first, second, letters):
    """Each X is given a residue of its own: what was found is never too much."""
    known = iter(letters)
    filled = ("".join(next(known) if c == "X" else c for c in one) for one in (first, second))
    assert cdr3_identity(first, second) <= cdr3_identity(*filled)


@pytest.mark.parametrize("letter", "XBZJ")
def test_an_unknown_residue_matches_nothing_in_lists_either(letter):
    cdr3s = [f"AR{letter}D", f"AR{letter}DD", "ARDD"]
    numbers, identities = Cdr3List(cdr3s).find(f"AR{letter}D", 0.75)
    assert dict(zip(numbers.tolist(), identities.tolist(), strict=True)) == {0: 0.75, 2: 0.75}


def test_an_empty_cdr3_is_like_nothing():
    assert cdr3_identity("", "") == cdr3_identity("", "ARD") == cdr3_identity("ARD", "") == 0


@given(
    st.lists(CDR3, max_size=40, unique=True),
    CDR3,
    st.sampled_from([0, 0.3, 0.5, 2 / 3, 0.8, 1]),
    st.booleans(),
)
def test_a_list_finds_exactly_what_comparing_one_by_one_finds(cdr3s, query, least, same_length):
    numbers, identities = Cdr3List(cdr3s).find(query, least, same_length=same_length)
    expected = {
        number: cdr3_identity(query, one)
        for number, one in enumerate(cdr3s)
        if cdr3_identity(query, one) >= least and not (same_length and len(one) != len(query))
    }
    assert dict(zip(numbers.tolist(), identities.tolist(), strict=True)) == expected
    assert len(numbers) == len(expected)


def test_lengths_above_a_byte_are_counted_right():
    long, other = "A" * 300, "C" * 300
    numbers, identities = Cdr3List([long, other, "A" * 299]).find(long, 0.0)
    assert dict(zip(numbers.tolist(), identities.tolist(), strict=True)) == {0: 1, 1: 0, 2: 299 / 300}


@pytest.mark.parametrize(("length", "n_changes"), [(15, 3), (5, 1), (10, 2), (20, 4), (25, 5)])
def test_a_threshold_of_four_fifths_is_met_by_exactly_four_fifths(length, n_changes):
    query, other = "A" * length, "C" * n_changes + "A" * (length - n_changes)
    one_more = "C" * (n_changes + 1) + "A" * (length - n_changes - 1)
    assert Cdr3List([other, one_more]).find(query, 0.8)[0].tolist() == [0]


@pytest.mark.parametrize(
    ("given", "cdr3", "is_junction"),
    [
        ("CARDYW", "ARDY", True),
        ("CQQYNSYPLTF", "QQYNSYPLT", True),
        ("ARDY", "ARDY", False),
        ("CARDY", "CARDY", False),
        ("ARDYW", "ARDYW", False),
        ("carw-dy w", "ARWDY", True),
        ("CCARFF", "CARF", True),
    ],
)
def test_what_begins_with_c_and_ends_with_w_or_f_is_a_junction(given, cdr3, is_junction):
    assert read_cdr3(given) == (given, cdr3, is_junction)


@pytest.mark.parametrize("given", ["", "CW", "C1", "AR*DY", "TGTGCGAGAGATTACTACTGGGGC", "ÄRD"])
def test_what_is_no_cdr3_is_refused(given):
    with pytest.raises(ParameterError, match="cdr3"):
        read_cdr3(given)


def test_same_takes_names_in_any_case_and_refuses_others():
    assert parse_same("V, cdr3_length,v") == ("v", "cdr3_length")
    for wrong in ("x", "v,,j", ""):
        with pytest.raises(ParameterError, match="same"):
            parse_same(wrong)


def test_options_out_of_range_are_refused():
    for wrong in (-0.1, 1.1, float("nan")):
        with pytest.raises(ParameterError, match="min_cdr3_identity"):
            Cdr3Options(wrong)
    with pytest.raises(ParameterError, match="k is 0"):
        Cdr3Options(k=0)
