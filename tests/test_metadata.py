"""Metadata: text in, the same text out, and a type that never changes a value."""

import enum
import json
from itertools import permutations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from plmsearch.errors import ParameterError
from plmsearch.metadata import TypeInference, as_text, metadata_json, type_of, typed, widen

TYPES = ("bool", "int", "float", "text")
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
INT_LIKE = st.integers(-(10**18) + 1, 10**18 - 1)
NUMBER_LIKE = st.text(st.sampled_from("0123456789.-+eE ٣"), min_size=1, max_size=8)


class Colour(enum.IntEnum):
    RED = 3


# --- Values to text ------------------------------------------------------------------------------


@given(
    st.booleans() | st.integers(-(10**18) + 1, 10**18 - 1) | st.floats(allow_nan=False, allow_infinity=False)
)
@example(-0.0)
@example(5e-324)
def test_a_python_value_comes_back_as_it_was(value):
    text = as_text(value)
    back = typed(text, type_of(text))
    assert (type(back), back) == (type(value), value)


@pytest.mark.parametrize("null", [None, "", float("nan"), np.float64("nan")])
def test_a_null_has_no_text(null):
    assert as_text(null) is None


@pytest.mark.parametrize(
    ("value", "text"), [(np.float64(0.5), "0.5"), (Colour.RED, "3"), (False, "false"), ("  x ", "  x ")]
)
def test_a_value_is_written_as_its_plain_kind(value, text):
    assert as_text(value) == text


@pytest.mark.parametrize("value", [b"x", [1], {"a": 1}, 1j, np.int64(3), object()])
def test_another_kind_of_value_is_refused(value):
    with pytest.raises(ParameterError, match="metadata value"):
        as_text(value)


# --- Types ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        *[(t, "bool") for t in ("T", "F", "TRUE", "FALSE", "True", "False", "true", "false")],
        *[(t, "text") for t in ("t", "f", "yes", "tRUE", " true")],
        *[(t, "int") for t in ("0", "-1", "12", "9" * 18)],
        *[(t, "float") for t in ("0.5", ".5", "5.", "-.5", "1e5", "1.5E-3", "0.0", "0e0")],
        # Leading zeros and signs are names; so is what a number would round.
        *[(t, "text") for t in ("007", "-007", "00.5", "-00.5", "01e3", "+1", "9" * 19, "-" + "9" * 25)],
        *[
            (t, "text")
            for t in ("nan", "inf", "Infinity", "1_000", "1,5", "0x1F", "1e", ".", "-", "1 ", "١٢")
        ],
    ],
)
def test_the_narrowest_type_of_a_text(text, kind):
    assert type_of(text) == kind


@given(NUMBER_LIKE | TEXTS)
def test_a_text_reads_as_a_value_of_its_type(text):
    value = typed(text, type_of(text))
    assert {"bool": bool, "int": int, "float": float, "text": str}[type_of(text)] is type(value)


@given(NUMBER_LIKE)
def test_a_whole_number_is_never_rounded(text):
    """An identifier of digits has to come out as it went in."""
    if text.removeprefix("-").isdecimal():
        assert str(typed(text, type_of(text))) in {text, "0" if text == "-0" else text}


def test_widening_is_the_smallest_type_above_both():
    above = {"bool": {"text"}, "int": {"float", "text"}, "float": {"text"}, "text": set()}
    for first in TYPES:
        for second in TYPES:
            common = (above[first] | {first}) & (above[second] | {second})
            smallest = [t for t in common if common <= above[t] | {t}]
            assert [widen(first, second)] == smallest


# --- Columns -------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from(["T", "1", "2.5", "x", "007"]), min_size=1, max_size=4))
@settings(max_examples=40)
def test_the_type_of_a_column_does_not_depend_on_the_order_of_its_rows(texts):
    kinds = set()
    for order in permutations(texts):
        inference = TypeInference()
        for text in order:
            inference.observe([("column", text)])
        kinds.add(inference.types["column"])
    assert len(kinds) == 1
    (kind,) = kinds
    for text in texts:
        typed(text, kind)


def test_columns_that_widened_are_named_with_both_types():
    inference = TypeInference({"n": "int", "call": "text", "ok": "bool", "unused": "int"})
    inference.observe([("n", "1.5"), ("call", "x"), ("ok", "maybe"), ("new", "3")])
    inference.observe([("new", "x")])
    assert inference.widened == {"n": ("int", "float"), "ok": ("bool", "text")}
    assert inference.types == {"n": "float", "call": "text", "ok": "text", "unused": "int", "new": "text"}


def test_inference_leaves_the_known_types_alone():
    known = {"n": "int"}
    TypeInference(known).observe([("n", "x")])
    assert known == {"n": "int"}


@given(st.dictionaries(TEXTS, TEXTS, max_size=5))
def test_equal_metadata_are_equal_json_and_come_back(metadata):
    text = metadata_json(metadata)
    assert json.loads(text) == metadata
    assert metadata_json(dict(reversed(metadata.items()))) == text
