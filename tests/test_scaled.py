"""Rows that are computed where they are read are those of the definition, in every index."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plmsearch.errors import InvalidVectorError
from plmsearch.index import scaled
from plmsearch.index.base import Block, VectorIndex
from plmsearch.index.exact import ExactIndex
from plmsearch.index.faiss_index import FaissExactIndex
from plmsearch.index.scaled import ScaledRows
from plmsearch.search.nulls import gather
from plmsearch.search.stored_scores import StoredScores
from plmsearch.transform import Transform

DIM = 24
LOCI = ["IGH", "IGK", ""]


def made(n: int, n_centres: int, seed: int, first_id: int = 0) -> tuple[Block, np.ndarray]:
    """A block that is computed, and its rows by the definition in float64."""
    rng = np.random.default_rng(seed)
    raw = (rng.standard_normal((n, DIM)) + 3).astype(np.float32)
    centres = {name: (rng.random(DIM) + 2.5).astype(np.float32) for name in LOCI[3 - n_centres :]}
    transform = Transform("reference", centres) if centres else Transform()
    loci = [LOCI[i] for i in rng.integers(0, 3, n)]
    which, lengths = transform.measure(raw, loci)
    scale = (1 / lengths).astype(np.float32)
    block = Block(ScaledRows(raw, scale, transform.stacked_centres, which), np.arange(first_id, first_id + n))
    taken = np.stack([centres.get(x, centres.get("", np.zeros(DIM))) for x in loci]).astype(np.float64)
    rows = raw.astype(np.float64) - taken
    return block, rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture(params=[7 * DIM, 1 << 18], ids=["many steps", "one step"], autouse=True)
def at_once(request, monkeypatch):
    monkeypatch.setattr(scaled, "_AT_ONCE", request.param)


@pytest.mark.parametrize("n_centres", [0, 1, 3])
def test_rows_are_those_of_the_definition_however_they_are_taken(n_centres):
    block, truth = made(50, n_centres, seed=1)
    rows = block.vectors
    assert (len(rows), rows.shape) == (50, (50, DIM))
    places = np.array([49, 0, 7, 7, 23])
    for taken in (slice(None), slice(11, 30), slice(45, 99), places):
        np.testing.assert_allclose(rows[taken], truth[taken], atol=2e-7)
        assert rows[taken].dtype == np.float32


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(1, 60),
    n_centres=st.sampled_from([0, 1, 3]),
    n_queries=st.sampled_from([1, 4, 9]),
    k=st.integers(1, 70),
    dead=st.sets(st.integers(0, 99)),
    allowed=st.none() | st.sets(st.integers(0, 99)),
    seed=st.integers(0, 99),
)
@pytest.mark.parametrize("kind", [ExactIndex, FaissExactIndex])
def test_an_index_finds_what_the_definition_says(
    monkeypatch_module, kind, n, n_centres, n_queries, k, dead, allowed, seed
):
    blocks, truth = [], np.empty((0, DIM))
    for number in range(2):
        block, rows = made(n, n_centres, seed + number, first_id=n * number)
        blocks.append(
            Block(block.vectors, block.ids, np.intersect1d(block.ids, sorted(dead)).astype(np.int64))
        )
        truth = np.concatenate([truth, rows])
    queries = np.random.default_rng(seed).standard_normal((n_queries, DIM)).astype(np.float32)
    index: VectorIndex = kind(blocks, DIM)
    only = None if allowed is None else np.array(sorted(allowed), dtype=np.int64)
    found = index.search(queries, k, allowed=only)
    is_open = np.array([i not in dead and (allowed is None or i in allowed) for i in range(2 * n)])
    scores = queries / np.linalg.norm(queries, axis=1, keepdims=True) @ truth.T
    width = min(k, int(is_open.sum()))
    assert found.scores.shape == (n_queries, width)
    expected = -np.sort(-scores[:, is_open], axis=1)[:, :width]
    np.testing.assert_allclose(found.scores, expected, atol=1e-6)
    np.testing.assert_allclose(np.take_along_axis(scores, found.ids, axis=1), found.scores, atol=1e-6)
    assert is_open[found.ids].all()


@pytest.fixture(scope="module")
def monkeypatch_module():
    """Let faiss be given so few rows at once that a block takes several."""
    from plmsearch.index import faiss_index

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(faiss_index, "_COMPUTED_ROWS", 16)
        yield


def test_a_threshold_and_named_scores_are_of_the_same_rows():
    block, truth = made(40, 3, seed=5)
    query = np.random.default_rng(3).standard_normal((1, DIM)).astype(np.float32)
    unit = query / np.linalg.norm(query)
    scores = truth @ unit[0]
    ((above, ids),) = ExactIndex([block], DIM).above(query, 0.1)
    assert sorted(ids.tolist()) == np.flatnonzero(scores >= 0.1).tolist()
    np.testing.assert_allclose(above, scores[ids], atol=1e-6)
    named = StoredScores([block]).of(unit[0], np.array([3, 99, 0]))
    np.testing.assert_allclose(named[[0, 2]], scores[[3, 0]], atol=1e-6)
    assert np.isnan(named[1])
    places, vectors = gather([block], np.array([2, 5, 77]))
    np.testing.assert_allclose(vectors, truth[[2, 5]], atol=2e-7)
    assert places.tolist() == [0, 1]


@pytest.mark.parametrize("factor", [1e-25, 1e25])
def test_the_length_of_the_raw_vectors_does_not_matter(factor):
    raw = (np.random.default_rng(0).standard_normal((5, DIM)) * factor).astype(np.float32)
    _, lengths = Transform().measure(raw, [""] * 5)
    rows = ScaledRows(
        raw, (1 / lengths).astype(np.float32), np.empty((0, 0), np.float32), np.zeros(5, np.int64)
    )
    np.testing.assert_allclose(np.linalg.norm(rows[:], axis=1), 1, atol=1e-6)


def test_a_vector_that_is_its_centre_is_refused_by_name():
    raw = np.full((2, 3), 2, dtype=np.float32)
    raw[0] = 5
    centre = Transform("reference", {"": np.full(3, 2, dtype=np.float32)})
    with pytest.raises(InvalidVectorError, match="1"):
        centre.measure(raw, ["", ""])
