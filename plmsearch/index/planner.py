"""Which index answers a search.

Limitations
-----------
Both choices are exact; they differ in the time it takes to import faiss, and in speed on many
queries.
"""

from __future__ import annotations

from collections.abc import Sequence

from plmsearch.index.base import Block, VectorIndex
from plmsearch.index.exact import ExactIndex
from plmsearch.index.faiss_index import FaissExactIndex, set_faiss_threads

__all__ = ["plan_index"]

# Importing faiss took 0.27 s where numpy scored and sorted about 70 million pairs a second, so below
# this many pairs a process that searches once is done before faiss is there.
_NUMPY_PAIRS = 20_000_000


def plan_index(
    blocks: Sequence[Block],
    dim: int,
    n_queries: int,
    threads: int | None = None,
    *,
    n_allowed: int | None = None,
) -> VectorIndex:
    """Choose the index for a search.

    Parameters
    ----------
    blocks : sequence of Block
    dim : int
    n_queries : int
        Queries of this search.
    threads : int, optional
        CPU threads of faiss, for the whole process.
    n_allowed : int, optional
        Vectors that a filter leaves to be searched; all if None.

    Returns
    -------
    VectorIndex
        Numpy for few pairs, faiss for many; both exact.
    """
    n_vectors = sum(len(b.ids) for b in blocks)
    n_pairs = n_queries * (n_vectors if n_allowed is None else min(n_allowed, n_vectors))
    if n_pairs <= _NUMPY_PAIRS:
        return ExactIndex(blocks, dim)
    if threads is not None:
        set_faiss_threads(threads)
    return FaissExactIndex(blocks, dim)
