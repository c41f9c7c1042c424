"""Exact search by faiss, over vectors where they lie: the only file that imports faiss.

`faiss.knn` needs no index file and no copy: it multiplies in blocks and keeps a heap per query, so
its memory does not grow with the number of vectors.

Limitations
-----------
Among vectors of equal score at the k-th place faiss keeps the first it sees, not the smallest id.
Where torch is needed too, import it first (both bring an OpenMP runtime), and never fork after
either ran.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from plmsearch.index.base import Block, BlockIndex, Neighbours, best_of, no_neighbours
from plmsearch.index.scaled import ScaledRows
from plmsearch.types import Float1D, Float2D, Int1D

__all__ = ["FaissExactIndex", "faiss_facts", "faiss_module", "inner_products", "set_faiss_threads"]

#: Rows that are computed at once where they are not stored: 8 MiB at 512 components.
_COMPUTED_ROWS = 4096
#: So few products are done before other threads are awake.
_FEW_PAIRS = 1000


def faiss_module() -> Any:
    """Import faiss; what its type stubs say of index classes and parameters is wrong."""
    import faiss

    return faiss


def set_faiss_threads(threads: int) -> None:
    """Use this many threads in every faiss search of the process."""
    import faiss

    faiss.omp_set_num_threads(threads)


def inner_products(queries: Float2D, of: Int1D, vectors: Float2D, rows: Int1D) -> Float1D:
    """Multiply pairs of rows where they lie, on all threads: of many, nothing is gathered first.

    Parameters
    ----------
    queries : ndarray, dtype=float32, shape=(n_queries, d)
    of : ndarray, dtype=int64, shape=(n,)
        Row of `queries` of each pair.
    vectors : ndarray, dtype=float32, shape=(m, d)
        May be mapped from a file; only the rows asked for are read.
    rows : ndarray, dtype=int64, shape=(n,)
        Row of `vectors` of each pair. Rising rows read a file in order.

    Returns
    -------
    ndarray, dtype=float32, shape=(n,)

    Raises
    ------
    IndexError
        If a row is not in its array: faiss would read memory that is not its own.
    """
    faiss = faiss_module()
    for places, n in ((of, len(queries)), (rows, len(vectors))):
        if len(places) and not 0 <= places.min() <= places.max() < n:
            raise IndexError(f"rows {places.min()} to {places.max()} of an array of {n}")
    if len(rows) <= _FEW_PAIRS:
        few: Float1D = np.einsum("ij,ij->i", queries[of], vectors[rows])
        return few
    queries, vectors = (np.ascontiguousarray(a, dtype=np.float32) for a in (queries, vectors))
    of, rows = (np.ascontiguousarray(a, dtype=np.int64) for a in (of, rows))
    out = np.empty(len(rows), dtype=np.float32)
    pointers = [faiss.swig_ptr(a) for a in (queries, of, vectors, rows, out)]
    faiss.pairwise_indexed_inner_product(queries.shape[1], len(rows), *pointers)
    return out


class FaissExactIndex(BlockIndex):
    """`faiss.knn` with inner product on vectors of unit length."""

    def _search_block(self, unit: Float2D, block: Block, k: int) -> Neighbours:
        if not isinstance(block.vectors, ScaledRows):
            return _nearest(unit, block.vectors, block.ids, k)
        best = no_neighbours(len(unit))
        for start in range(0, len(block.ids), _COMPUTED_ROWS):
            rows = slice(start, start + _COMPUTED_ROWS)
            ids = block.ids[rows]
            found = _nearest(unit, block.vectors[rows], ids, min(k, len(ids)))
            best = best_of(np.hstack([best.scores, found.scores]), np.hstack([best.ids, found.ids]), k)
        return best


def _nearest(unit: Float2D, vectors: Float2D, ids: Int1D, k: int) -> Neighbours:
    import faiss

    scores, rows = faiss.knn(unit, vectors, k, metric=faiss.METRIC_INNER_PRODUCT)
    return Neighbours(scores, np.take(ids, rows))


def faiss_facts() -> dict[str, str]:
    """Return faiss's version, threads and compile options."""
    import faiss

    return {
        "faiss": str(faiss.__version__),
        "faiss threads": str(faiss.omp_get_max_threads()),
        "faiss options": str(faiss.get_compile_options()).strip(),
    }
