"""Columns of hits: fixed, named without doubt, and a name that is not there is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plmsearch.errors import ParameterError
from plmsearch.formats.hits import DEFAULT_HIT_COLUMNS
from plmsearch.search.columns import HIT_COLUMNS, choose_columns, column_types, header, hit_rows
from plmsearch.search.hits import Hit, Query

METADATA = {"v_call": "text", "score": "float", "n reads": "int", "ok": "bool"}
QUERY = Query("q", "00", "EVQLV")
HIT = Hit("q", "t", 1, 0.75, "a heavy chain", {"v_call": "IGHV1", "score": "12", "n reads": "7"}, "EVQ")


def rows(columns, hits=(HIT,), metadata=METADATA, query=QUERY, as_types=True):
    return list(hit_rows([(query, hits)], columns, metadata, as_types=as_types))


# --- Choosing ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chosen", "columns"),
    [
        ("query", ["query"]),
        ("target,query", ["target", "query"]),
        ("v_call", ["meta.v_call"]),
        ("meta.v_call", ["meta.v_call"]),
        ("score,meta.score", ["score", "meta.score"]),
        ("n reads,query", ["meta.n reads", "query"]),
        ("meta.*", ["meta.v_call", "meta.score", "meta.n reads", "meta.ok"]),
        ("query,meta.*,tlen", ["query", "meta.v_call", "meta.score", "meta.n reads", "meta.ok", "tlen"]),
    ],
)
def test_names_are_resolved_in_the_order_given(chosen, columns):
    assert choose_columns(chosen, METADATA) == columns


def test_every_default_column_can_be_chosen():
    assert choose_columns(",".join(DEFAULT_HIT_COLUMNS), {}) == list(DEFAULT_HIT_COLUMNS)


@pytest.mark.parametrize(
    ("chosen", "near"),
    [("qury", "query"), ("query,v_cal", "v_call"), ("meta.v_cal", "v_call"), ("Target", "target")],
)
def test_an_unknown_column_is_refused_with_the_nearest_spelling(chosen, near):
    with pytest.raises(ParameterError, match=f"did you mean '{near}'") as caught:
        choose_columns(chosen, METADATA)
    assert caught.value.value == chosen.split(",")[-1]
    assert "v_call" in caught.value.expected


@pytest.mark.parametrize("chosen", ["", "query,", "zzzzzz", "meta.", "meta.query", "*"])
def test_what_is_near_nothing_lists_all_there_are(chosen):
    with pytest.raises(ParameterError, match="one of: query, target"):
        choose_columns(chosen, METADATA)


def test_all_of_no_metadata_is_nothing():
    assert choose_columns("query,meta.*", {}) == ["query"]


def test_a_column_whose_own_name_begins_with_meta_can_be_chosen():
    metadata = {"meta.batch": "text"}
    assert choose_columns("meta.batch", metadata) == ["meta.meta.batch"]
    assert choose_columns("meta.*", metadata) == ["meta.meta.batch"]
    hit = Hit("q", "t", 1, 0.5, "", {"meta.batch": "x"})
    assert rows(["meta.meta.batch"], [hit], metadata)[0]["meta.meta.batch"] == "x"


# --- Values --------------------------------------------------------------------------------------


def test_a_metadata_column_with_the_name_of_a_hit_column_keeps_its_prefix():
    columns = choose_columns("score,meta.score,v_call", METADATA)
    assert header(columns) == ["score", "meta.score", "v_call"]
    (row,) = rows(columns)
    assert (row["score"], row["meta.score"], row["v_call"]) == (0.75, 12.0, "IGHV1")


def test_every_hit_column_has_its_value_or_none():
    (row,) = rows(list(HIT_COLUMNS))
    assert {name: row[name] for name in HIT_COLUMNS if row[name] is not None} == {
        "query": "q",
        "target": "t",
        "rank": 1,
        "score": 0.75,
        "description": "a heavy chain",
        "qlen": 5,
        "tlen": 3,
        "qseq": "EVQLV",
        "tseq": "EVQ",
    }


def test_a_query_that_is_a_vector_has_no_length_and_no_sequence():
    (row,) = rows(["qlen", "qseq"], query=Query("q"))
    assert (row["qlen"], row["qseq"]) == (None, None)


def test_metadata_come_typed_or_as_the_text_that_was_read():
    columns = choose_columns("meta.*", METADATA)
    (typed,), (text,) = rows(columns), rows(columns, as_types=False)
    assert [typed[n] for n in header(columns)] == ["IGHV1", 12.0, 7, None]
    assert [text[n] for n in header(columns)] == ["IGHV1", "12", "7", None]
    assert column_types(columns, METADATA) == {"v_call": str, "meta.score": float, "n reads": int, "ok": bool}


def test_a_chosen_column_is_there_for_every_hit():
    hits = [HIT, Hit("q", "u", 2, 0.5, "")]
    columns = choose_columns("v_call,query", METADATA)
    assert [list(r) for r in rows(columns, hits)] == [list(r) for r in rows(columns, hits[:1])] * 2
    assert rows(columns, hits)[1]["v_call"] is None


def test_what_fasta_needs_is_there_whatever_was_chosen():
    (row,) = rows(["rank"])
    assert (row["target"], row["description"], row["tseq"]) == ("t", "a heavy chain", "EVQ")


def test_hits_come_in_the_order_of_the_queries():
    results = [(Query("q2"), [HIT, HIT]), (Query("q3"), []), (Query("q1"), [HIT])]
    got = list(hit_rows(results, ["qlen"], {}, as_types=True))
    assert len(got) == 3


NAMES = st.sampled_from(["score", "target", "meta.score", "v", "x.y", "meta.v", "ünï"])


@given(st.lists(NAMES, min_size=1, max_size=7, unique=True))
def test_all_metadata_columns_have_headers_of_their_own_and_keep_their_values(names):
    metadata = dict.fromkeys(names, "text")
    hit = Hit("q", "t", 1, 0.5, "", {name: f"value of {name}" for name in names})
    columns = choose_columns("score,target,meta.*", metadata)
    (row,) = rows(columns, [hit], metadata)
    assert len(set(header(columns))) == len(columns)
    assert [row[h] for h in header(columns)] == [0.5, "t", *(f"value of {name}" for name in names)]
