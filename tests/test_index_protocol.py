"""Every index, over vectors in any number of blocks, against float64 and a full sort."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from plmsearch.errors import DimensionMismatch, InvalidVectorError, ParameterError, VectorIndexError
from plmsearch.index import exact
from plmsearch.index.base import Block, best_of
from plmsearch.index.exact import ExactIndex
from plmsearch.index.faiss_index import FaissExactIndex
from plmsearch.vectors import unit_vectors

N, DIM, N_QUERIES = 240, 24, 17
TOLERANCE = 1e-6
INDEXES = {"exact": ExactIndex, "faiss": FaissExactIndex}
BLOCK_SIZES = {"one block": [N], "many blocks": [100, 7, 0, 1, 80, 52], "blocks of one": [1] * N}


@pytest.fixture(params=INDEXES)
def kind(request):
    return INDEXES[request.param]


@pytest.fixture(params=BLOCK_SIZES)
def build(request, kind):
    """Make an index of vectors, cut as the parameter says, as far as they reach."""

    def make(vectors, ids):
        unit = unit_vectors(vectors, vectors.shape[1])
        edges = np.cumsum([0, *BLOCK_SIZES[request.param]])
        cuts = [slice(a, b) for a, b in pairwise(edges)]
        return kind([Block(unit[c], ids[c]) for c in cuts], vectors.shape[1])

    return make


@pytest.fixture(scope="module")
def content():
    """Vectors of any length with some repeats, scattered ids, and queries of which some are stored."""
    rng = np.random.default_rng(3)
    vectors = rng.standard_normal((N, DIM)).astype(np.float32) * rng.uniform(0.01, 100, (N, 1)).astype("f4")
    vectors[50], vectors[200] = vectors[10], vectors[10] * 2
    ids = rng.choice(10**12, N, replace=False)
    queries = np.concatenate([vectors[:7], rng.standard_normal((N_QUERIES - 7, DIM)).astype(np.float32)])
    return vectors, ids, queries


@pytest.fixture
def index(build, content):
    return build(*content[:2])


def cosines(queries, vectors):
    """Cosine similarity in float64."""
    q, v = queries.astype(np.float64), vectors.astype(np.float64)
    return q @ v.T / np.outer(np.linalg.norm(q, axis=1), np.linalg.norm(v, axis=1))


def assert_nearest(found, queries, vectors, ids, k):
    """The scores are right, and no vector that is clearly nearer was left out or put later."""
    expected = cosines(queries, vectors)
    k = min(k, len(ids))
    assert found.scores.shape == found.ids.shape == (len(queries), k)
    assert (found.scores.dtype, found.ids.dtype) == (np.float32, np.int64)
    assert np.abs(found.scores).max(initial=0) <= 1
    column = {vector_id: i for i, vector_id in enumerate(ids.tolist())}
    for row, best in enumerate(-np.sort(-expected, axis=1)[:, :k]):
        np.testing.assert_allclose(found.scores[row], best, rtol=0, atol=TOLERANCE)
        assert len(set(found.ids[row].tolist())) == k
        own = expected[row, [column[i] for i in found.ids[row].tolist()]]
        np.testing.assert_allclose(own, best, rtol=0, atol=TOLERANCE)
        order = list(zip((-found.scores[row]).tolist(), found.ids[row].tolist(), strict=True))
        assert order == sorted(order)


# --- Neighbours ----------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 2, 10, N - 1, N, N + 1, 10**9])
def test_the_nearest_are_found_and_never_more_than_there_are(index, content, k):
    vectors, ids, queries = content
    assert_nearest(index.search(queries, k), queries, vectors, ids, k)


def test_one_query_gets_what_it_gets_among_others(index, content):
    queries = content[2]
    together = index.search(queries, 20)
    for row in range(len(queries)):
        alone = index.search(queries[row : row + 1], 20)
        assert np.array_equal(alone.ids[0], together.ids[row])
        np.testing.assert_allclose(alone.scores[0], together.scores[row], rtol=0, atol=TOLERANCE)


def test_a_stored_vector_finds_itself_and_its_copies_in_order_of_id(index, content):
    vectors, ids, _ = content
    copies = sorted(ids[[10, 50, 200]].tolist())
    found = index.search(vectors[10:11], 4)
    assert found.ids[0, :3].tolist() == copies
    np.testing.assert_allclose(found.scores[0, :3], 1, atol=TOLERANCE)
    assert found.scores[0, 3] < 0.99


@pytest.mark.parametrize("factor", [1e-30, 1e-3, 1e6, 1e30])
def test_the_length_of_a_query_does_not_matter(index, content, factor):
    queries = content[2]
    longer, plain = index.search(queries * np.float32(factor), 5), index.search(queries, 5)
    assert np.array_equal(longer.ids, plain.ids)
    np.testing.assert_allclose(longer.scores, plain.scores, rtol=0, atol=TOLERANCE)


def test_queries_are_not_changed_and_may_be_read_only(index, content):
    queries = content[2].copy()
    queries.flags.writeable = False
    index.search(queries, 3)
    assert np.array_equal(queries, content[2])


def test_queries_may_lie_anyhow_in_memory(index, content):
    queries = content[2]
    expected = index.search(queries, 5)
    for same in (np.asfortranarray(queries), queries.astype(np.float64), np.repeat(queries, 2, axis=0)[::2]):
        assert np.array_equal(index.search(same, 5).ids, expected.ids)


def test_opposite_vectors_score_minus_one_and_nothing_leaves_the_range(kind):
    rng = np.random.default_rng(0)
    unit = unit_vectors(rng.standard_normal((300, 5)).astype(np.float32), 5)
    index = kind([Block(unit, np.arange(300))], 5)
    found = index.search(np.concatenate([unit, -unit]), 300)
    assert (found.scores.max(), found.scores.min()) == (1, -1)


SMALL = st.integers(-2, 2)
GRID = hnp.arrays(np.float32, st.tuples(st.integers(1, 40), st.just(3)), elements=SMALL).filter(
    lambda a: a.any(axis=1).all()
)


@pytest.mark.parametrize("kind_name", INDEXES)
@settings(max_examples=40)
@given(vectors=GRID, queries=GRID, k=st.integers(1, 45), data=st.data())
def test_many_equal_scores_are_handled(kind_name, vectors, queries, k, data):
    ids = np.array(data.draw(st.permutations(range(len(vectors)))))
    cut = data.draw(st.integers(0, len(vectors)))
    unit = unit_vectors(vectors, 3)
    index = INDEXES[kind_name]([Block(unit[:cut], ids[:cut]), Block(unit[cut:], ids[cut:])], 3)
    assert_nearest(index.search(queries, k), queries, vectors, ids, k)


@settings(max_examples=40)
@given(ids=st.permutations(range(30)), k=st.integers(1, 30), n_blocks=st.integers(1, 4))
def test_ties_at_the_last_place_go_to_the_smallest_ids(ids, k, n_blocks):
    """Of the numpy index; faiss keeps those it sees first."""
    one = np.eye(1, 4, dtype=np.float32)
    blocks = [Block(np.repeat(one, len(part), axis=0), part) for part in np.array_split(ids, n_blocks)]
    assert ExactIndex(blocks, 4).search(one, k).ids.tolist() == [list(range(k))]


def test_a_search_in_slices_gives_the_same(content, monkeypatch):
    vectors, ids, queries = content
    index = ExactIndex([Block(unit_vectors(vectors, DIM), ids)], DIM)
    whole = index.search(queries, 9)
    monkeypatch.setattr(exact, "_SCORES_AT_ONCE", 3 * N)
    sliced = index.search(queries, 9)
    assert np.array_equal(sliced.ids, whole.ids)
    np.testing.assert_allclose(sliced.scores, whole.scores, rtol=0, atol=TOLERANCE)


# --- Filters -------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.01, 0.5, 1.0])
def test_only_allowed_ids_are_searched(index, content, share):
    vectors, ids, queries = content
    rows = np.sort(np.random.default_rng(1).choice(N, max(1, int(N * share)), replace=False))
    allowed = np.concatenate([ids[rows][::-1], ids[rows[:1]], [10**15]])  # any order, repeats, unknown
    found = index.search(queries, 12, allowed=allowed)
    assert_nearest(found, queries, vectors[rows], ids[rows], 12)


@pytest.mark.parametrize("allowed", [[], [10**15], [-1]])
def test_where_nothing_is_allowed_nothing_is_found(index, content, allowed):
    found = index.search(content[2], 3, allowed=np.array(allowed, dtype=np.int64))
    assert found.ids.shape == found.scores.shape == (N_QUERIES, 0)


# --- Edges ---------------------------------------------------------------------------------------


def test_an_empty_index_finds_nothing(kind, content):
    nothing = Block(np.empty((0, DIM), dtype=np.float32), np.empty(0, dtype=np.int64))
    for blocks in ([], [nothing]):
        index = kind(blocks, DIM)
        assert len(index) == 0
        assert index.search(content[2], 3).ids.shape == (N_QUERIES, 0)


def test_no_queries_have_no_neighbours(index):
    found = index.search(np.empty((0, DIM), dtype=np.float32), 3)
    assert len(found.ids) == len(found.scores) == 0


def test_its_length_is_the_number_of_vectors(index):
    assert len(index) == N


@pytest.mark.parametrize("k", [0, -1])
def test_k_below_one_is_refused(index, content, k):
    with pytest.raises(ParameterError, match="at least 1"):
        index.search(content[2], k)


def test_queries_of_another_dimension_are_refused(index, content):
    with pytest.raises(DimensionMismatch) as caught:
        index.search(content[2][:, :-1], 3)
    assert (caught.value.got, caught.value.expected) == (DIM - 1, DIM)


def test_a_single_vector_that_is_no_row_is_refused(index, content):
    with pytest.raises(VectorIndexError, match="one row per vector"):
        index.search(content[2][0], 3)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 0.0])
def test_a_query_without_direction_is_refused_by_its_row(index, content, value):
    queries = content[2].copy()
    queries[4, 1:] = value
    queries[4, 0] = 0
    with pytest.raises(InvalidVectorError) as caught:
        index.search(queries, 3)
    assert caught.value.row == 4


@given(
    scores=hnp.arrays(
        np.float32, st.tuples(st.integers(0, 4), st.integers(0, 40)), elements=st.integers(-3, 3)
    ),
    k=st.integers(1, 15),
)
def test_the_best_of_a_row_are_those_of_a_full_sort(scores, k):
    ids = np.tile(np.arange(scores.shape[1])[::-1], (len(scores), 1))
    best = best_of(scores, ids, k)
    for row in range(len(scores)):
        pairs = sorted(zip(-scores[row], ids[row], strict=True))[:k]
        assert [i for _, i in pairs] == best.ids[row].tolist()
        assert [-s for s, _ in pairs] == best.scores[row].tolist()


@given(
    scores=hnp.arrays(np.float32, st.integers(0, 80), elements=st.integers(-9, 9)),
    k=st.integers(1, 12),
    group=st.integers(1, 12),
)
def test_the_best_of_a_long_row_are_those_of_a_full_sort(scores, k, group):
    """Integers, so that many are equal; one query with a vector of length `score` each."""
    n = len(scores)
    ids = np.arange(n)[::-1].astype(np.int64)
    index = ExactIndex([Block(scores[:, None][part], ids[part]) for part in (slice(7), slice(7, n))], dim=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact, "_GROUP", group)
        found = index.search_unit(np.ones((2, 1), dtype=np.float32), k, None)
    pairs = sorted(zip((-scores).tolist(), ids.tolist(), strict=True))[:k]
    for row in range(2):
        assert [(-s, i) for s, i in zip(found.scores[row], found.ids[row], strict=True)] == pairs


@pytest.mark.parametrize("n_queries", [1, exact._FEW_QUERIES, exact._FEW_QUERIES + 1])
def test_few_queries_and_many_leave_the_dead_out(content, n_queries):
    vectors, ids, queries = content
    unit, dead = unit_vectors(vectors, DIM), np.sort(ids[20:60])
    blocks = [Block(unit[c], ids[c], np.intersect1d(ids[c], dead)) for c in (slice(30), slice(30, None))]
    alive = ~np.isin(ids, dead)
    found = ExactIndex(blocks, DIM).search(queries[:n_queries], 9)
    assert_nearest(found, queries[:n_queries], vectors[alive], ids[alive], 9)
