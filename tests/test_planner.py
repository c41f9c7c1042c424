"""The planner weighs the time of an import against the time of a search, and never the answer."""

import subprocess
import sys

import numpy as np
import pytest

from plmsearch.index import faiss_index, planner
from plmsearch.index.base import Block
from plmsearch.index.exact import ExactIndex
from plmsearch.index.faiss_index import FaissExactIndex
from plmsearch.index.planner import exact_index
from plmsearch.vectors import unit_vectors

DIM = 8


def blocks(*sizes):
    rng = np.random.default_rng(0)
    starts = np.cumsum([0, *sizes])
    return [
        Block(unit_vectors(rng.standard_normal((n, DIM)), DIM), np.arange(start, start + n))
        for start, n in zip(starts, sizes, strict=False)
    ]


@pytest.mark.parametrize(("n_queries", "kind"), [(1, ExactIndex), (10, ExactIndex), (11, FaissExactIndex)])
def test_many_pairs_go_to_faiss(monkeypatch, n_queries, kind):
    monkeypatch.setattr(planner, "_NUMPY_PAIRS", 1000)
    index = exact_index(blocks(60, 40), DIM, n_queries)
    assert type(index) is kind
    assert (len(index), index.dim) == (100, DIM)


def test_no_vectors_need_no_faiss():
    assert type(exact_index([], DIM, 10**9)) is ExactIndex


def test_both_choices_give_the_same_answer(monkeypatch):
    queries = np.random.default_rng(1).standard_normal((20, DIM)).astype(np.float32)
    found = []
    for limit in (0, 10**9):
        monkeypatch.setattr(planner, "_NUMPY_PAIRS", limit)
        found.append(exact_index(blocks(50, 1, 30), DIM, len(queries)).search(queries, 5))
    assert np.array_equal(found[0].ids, found[1].ids)
    np.testing.assert_allclose(found[0].scores, found[1].scores, rtol=0, atol=1e-6)


def test_threads_are_set_only_where_faiss_answers(monkeypatch):
    told = []
    monkeypatch.setattr(planner, "set_faiss_threads", told.append)
    monkeypatch.setattr(planner, "_NUMPY_PAIRS", 100)
    exact_index(blocks(10), DIM, 10, threads=3)
    exact_index(blocks(10), DIM, 11)
    assert told == []
    exact_index(blocks(10), DIM, 11, threads=3)
    assert told == [3]


def test_the_threads_of_faiss_are_those_asked_for():
    import faiss

    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(2)
    try:
        faiss_index.set_faiss_threads(1)
        assert faiss.omp_get_max_threads() == 1
    finally:
        faiss.omp_set_num_threads(before)


def test_a_small_search_imports_neither_faiss_nor_torch():
    code = (
        "import sys, numpy as np\n"
        "from plmsearch.index.base import Block\n"
        "from plmsearch.index.planner import exact_index\n"
        "one = np.eye(3, dtype=np.float32)\n"
        "exact_index([Block(one, np.arange(3))], 3, 3).search(one, 2)\n"
        "sys.exit('faiss' in sys.modules or 'torch' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
