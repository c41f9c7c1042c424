"""All neighbours above a score, and one record per sequence, against numpy."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import cli, make_db, peptides

from plmsearch.database import open_database
from plmsearch.errors import ParameterError
from plmsearch.index.base import Block
from plmsearch.index.exact import ExactIndex
from plmsearch.search.hits import SearchOptions
from plmsearch.vectors import unit_vectors

SEQUENCES = peptides(40, seed=2)
#: Every second sequence has two records.
RECORDS = [(f"r{i}", s) for i, s in enumerate(SEQUENCES)] + [
    (f"twin{i}", SEQUENCES[i]) for i in range(0, 40, 2)
]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return make_db(tmp_path_factory.mktemp("threshold") / "db", RECORDS)


@pytest.fixture(scope="module")
def db(path):
    with open_database(path) as opened:
        yield opened


@pytest.fixture(scope="module")
def cosines(db):
    unit = unit_vectors(db.vectors([name for name, _ in RECORDS]), 512).astype(np.float64)
    return unit @ unit.T


@given(
    at=st.integers(0, 59), threshold=st.floats(-1, 1), where=st.sampled_from([None, "record_id like 'twin%'"])
)
def test_every_record_above_the_threshold_is_a_hit_and_no_other(db, cosines, at, threshold, where):
    if np.abs(cosines[at] - threshold).min() < 1e-6:
        return
    options = SearchOptions(k=1, threshold=threshold, where=where)
    ((_, hits),) = db.search_stored([RECORDS[at][0]], db.ranking(), options)
    expected = {
        name for (name, _), c in zip(RECORDS, cosines[at], strict=True)
        if c >= threshold and (where is None or name.startswith("twin"))
    }  # fmt: skip
    assert {h.target for h in hits} == expected
    assert len(hits) == len(expected)
    assert [h.rank for h in hits] == list(range(1, len(hits) + 1))
    assert all(a.score >= b.score for a, b in pairwise(hits))


def test_deleted_vectors_are_never_above():
    unit = unit_vectors(np.random.default_rng(0).standard_normal((30, 8)).astype("f4"), 8)
    index = ExactIndex(
        [Block(unit[:10], np.arange(10), np.array([3])), Block(unit[10:], np.arange(10, 30))], 8
    )
    for scores, ids in index.above(unit, -1.0):
        assert sorted(ids.tolist()) == [i for i in range(30) if i != 3]
        assert (np.diff(scores) <= 0).all()
    assert [i.tolist() for _, i in ExactIndex([], 8).above(unit[:2], 0.0)] == [[], []]


@pytest.mark.parametrize("k", [1, 5, 39, 60])
def test_a_unique_search_gives_each_sequence_once_and_k_of_them(db, k):
    ((_, hits),) = db.search_stored(["r4"], db.ranking(), SearchOptions(k=k, unique=True))
    assert len(hits) == min(k, 40)
    assert len({h.residues for h in hits}) == len(hits)
    assert hits[0].target == "r4"
    ((_, everything),) = db.search_stored(["r4"], db.ranking(), SearchOptions(k=60))
    assert [h.target for h in hits] == [h.target for h in everything if not h.target.startswith("twin")][:k]


def test_a_unique_search_without_the_query_itself(db):
    options = SearchOptions(k=3, unique=True, exclude_self=True)
    ((_, hits),) = db.search_stored(["r4"], db.ranking(), options)
    assert (hits[0].target, len(hits)) == ("twin4", 3)
    options = SearchOptions(k=3, unique=True, exclude_identical=True)
    ((_, hits),) = db.search_stored(["r4"], db.ranking(), options)
    assert "twin4" not in {h.target for h in hits}
    assert len(hits) == 3


def test_the_command_takes_both(path):
    done = cli("query", path, "--id", "r4", "--threshold", "0.999999", "--format-output", "target")
    assert done.out.split() == ["target", "r4", "twin4"]
    done = cli(
        "query", path, "--id", "r4", "--threshold", "0.999999", "--unique", "--format-output", "target"
    )
    assert done.out.split() == ["target", "r4"]
    for wrong in (["--rerank", "align"], ["--index", "hnsw"]):
        done = cli("query", path, "--id", "r4", "--threshold", "0.5", *wrong)
        assert done.code == 1
        assert "threshold" in done.err
    with pytest.raises(ParameterError, match="between -1 and 1"):
        SearchOptions(threshold=1.5)
