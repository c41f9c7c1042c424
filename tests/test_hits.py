"""From neighbours to hits: k counts records, and what is left out is exactly what was asked."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import plmsearch
from plmsearch.search.hits import Found, Query, SearchOptions, make_hits
from plmsearch.store.rows import StoredRecord


def digest(residues):
    return hashlib.sha256(residues.encode()).hexdigest()


def record(key, record_id, sequence_id):
    residues = "EVQL" + "A" * sequence_id
    return StoredRecord(
        key, record_id, sequence_id, f"about {record_id}", {"n": str(key)}, residues, digest(residues)
    )


def query_of(stored):
    return Query(stored.record_id, stored.sequence_hash, stored.residues)


#: Sequence 1 has two records, 2 one, 3 three.
RECORDS = {
    1: [record(1, "a", 1), record(4, "a2", 1)],
    2: [record(2, "b", 2)],
    3: [record(3, "c", 3), record(5, "c2", 3), record(6, "c3", 3)],
}
SCORES, IDS = np.array([0.9, 0.5, -0.25], dtype=np.float32), np.array([1, 2, 3])
FOUND = Found(SCORES, IDS)
STRANGER = Query("stranger", digest("WWW"), "WWW")


def targets(query=STRANGER, **options):
    hits = make_hits(query, FOUND, RECORDS, SearchOptions(**options))
    assert [h.rank for h in hits] == list(range(1, len(hits) + 1))
    return [h.target for h in hits]


# --- Join and count ------------------------------------------------------------------------------


def test_a_hit_carries_its_record_and_the_score_of_its_sequence():
    hits = make_hits(STRANGER, FOUND, RECORDS, SearchOptions(k=2))
    assert [(h.query, h.target, h.rank, h.description) for h in hits] == [
        ("stranger", "a", 1, "about a"),
        ("stranger", "a2", 2, "about a2"),
    ]
    assert {h.score for h in hits} == {float(SCORES[0])}
    assert (hits[1].metadata, hits[1].residues) == ({"n": "4"}, "EVQLA")
    assert (hits[0].emb_pvalue, hits[0].emb_evalue) == (None, None)


@pytest.mark.parametrize("k", range(1, 9))
def test_k_counts_records_even_where_they_share_a_sequence(k):
    assert targets(k=k) == ["a", "a2", "b", "c", "c2", "c3"][:k]


def test_a_neighbour_without_live_records_makes_no_hit():
    hits = make_hits(STRANGER, FOUND, {2: RECORDS[2]}, SearchOptions(k=5))
    assert [(h.target, h.rank) for h in hits] == [("b", 1)]


def test_no_neighbours_are_no_hits():
    assert make_hits(STRANGER, Found(SCORES[:0], IDS[:0]), {}, SearchOptions()) == []


# --- Leaving out ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("min_score", "expected"),
    [(None, 6), (-1.0, 6), (-0.25, 6), (-0.2, 3), (0.0, 3), (0.5, 3), (0.51, 2), (0.91, 0), (1.0, 0)],
)
def test_hits_below_the_least_score_are_left_out_and_those_at_it_stay(min_score, expected):
    assert len(targets(min_score=min_score)) == expected


def test_hits_have_the_p_and_e_values_of_their_neighbours_and_none_for_nan():
    found = Found(SCORES, IDS, np.array([0.0, 0.5, np.nan]), np.array([0.0, 2.5, np.nan]))
    hits = make_hits(STRANGER, found, RECORDS, SearchOptions())
    expected = 2 * [(0.0, 0.0)] + [(0.5, 2.5)] + 3 * [(None, None)]
    assert [(h.emb_pvalue, h.emb_evalue) for h in hits] == expected


@pytest.mark.parametrize(("largest", "expected"), [(None, 6), (9.0, 3), (2.5, 3), (2.4, 2), (0.0, 2)])
def test_hits_above_the_largest_e_value_are_left_out_and_those_without_one(largest, expected):
    found = Found(SCORES, IDS, np.array([0.0, 0.5, np.nan]), np.array([0.0, 2.5, np.nan]))
    hits = make_hits(STRANGER, found, RECORDS, SearchOptions(max_emb_evalue=largest))
    assert [h.rank for h in hits] == list(range(1, expected + 1))


def test_exclude_self_leaves_out_the_record_and_keeps_its_duplicates():
    own = query_of(RECORDS[1][0])
    assert targets(own, exclude_self=True) == ["a2", "b", "c", "c2", "c3"]
    assert targets(own, exclude_self=True, k=2) == ["a2", "b"]


def test_exclude_self_needs_the_same_id_and_the_same_sequence():
    """Another file may use the same names for other sequences."""
    namesake = replace(STRANGER, query_id="a")
    other_name = replace(query_of(RECORDS[1][0]), query_id="x")
    for query in (namesake, other_name):
        assert targets(query, exclude_self=True) == ["a", "a2", "b", "c", "c2", "c3"]


def test_exclude_identical_leaves_out_every_record_of_the_sequence():
    for own in RECORDS[3]:
        assert targets(query_of(own), exclude_identical=True) == ["a", "a2", "b"]
    renamed = replace(query_of(RECORDS[3][0]), query_id="x")
    assert targets(renamed, exclude_identical=True, exclude_self=True) == ["a", "a2", "b"]


def test_a_query_that_is_a_vector_excludes_nothing():
    assert len(targets(Query("a"), exclude_self=True, exclude_identical=True)) == 6


@given(
    shape=st.lists(st.integers(0, 3), min_size=1, max_size=6),
    own=st.integers(0, 5),
    k=st.integers(1, 12),
    min_score=st.none() | st.floats(-1, 1),
    exclude_self=st.booleans(),
    exclude_identical=st.booleans(),
)
def test_hits_are_a_filtered_prefix_of_all_records(shape, own, k, min_score, exclude_self, exclude_identical):
    keys = iter(range(1, 100))
    records = {
        i: [record(key, f"r{key}", i) for key in (next(keys) for _ in range(n))] for i, n in enumerate(shape)
    }
    scores = np.linspace(1, -1, len(shape), dtype=np.float32)
    candidates = list(records.get(own, [])) or [record(99, "none", 50)]
    query = query_of(candidates[-1])
    options = SearchOptions(k, min_score, exclude_self, exclude_identical)
    expected = [
        (r.record_id, score)
        for i, score in enumerate(scores.tolist())
        for r in records[i]
        if (min_score is None or score >= min_score)
        and not (exclude_identical and r.residues == query.residues)
        and not (exclude_self and r.record_id == query.query_id)
    ][:k]
    hits = make_hits(query, Found(scores, np.arange(len(shape))), records, options)
    assert [(h.target, h.score) for h in hits] == expected


# --- Through a database --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    rows = [
        ("a", "EVQLVESGGGLVQPGGSLRL"),
        ("b", "DIQMTQSPSSLSASVGDRVT"),
        ("a_twin", "EVQLVESGGGLVQPGGSLRL"),
        ("c", "QVQLVQSGAEVKKPGASVKV"),
    ]
    with plmsearch.open_database(tmp_path_factory.mktemp("hits") / "db", create=True) as db:
        db.add(rows, model="kmer")
        yield db


@pytest.mark.parametrize("option", ["exclude_self", "exclude_identical"])
@pytest.mark.parametrize("k", [1, 2, 3, 10])
def test_leaving_out_costs_no_place_among_the_k(database, option, k):
    own = plmsearch.SequenceRecord("a", "EVQLVESGGGLVQPGGSLRL")
    (hits,) = database.search([own], k=k, options=SearchOptions(**{option: True}))
    all_hits = {"exclude_self": ["a_twin", "c", "b"], "exclude_identical": ["c", "b"]}[option]
    assert [h.target for h in hits] == all_hits[:k]


def test_records_of_one_sequence_follow_each_other_with_one_score(database):
    (hits,) = database.search(["EVQLVESGGGLVQPGGSLRV"], k=10)
    assert [h.target for h in hits[:2]] == ["a", "a_twin"]
    assert hits[0].score == hits[1].score > hits[2].score
