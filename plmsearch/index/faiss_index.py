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

from plmsearch.index.base import Block, BlockIndex, Neighbours
from plmsearch.types import Float2D

__all__ = ["FaissExactIndex", "faiss_facts", "faiss_module", "set_faiss_threads"]


def faiss_module() -> Any:
    """Import faiss; what its type stubs say of index classes and parameters is wrong."""
    import faiss

    return faiss


def set_faiss_threads(threads: int) -> None:
    """Use this many threads in every faiss search of the process."""
    import faiss

    faiss.omp_set_num_threads(threads)


class FaissExactIndex(BlockIndex):
    """`faiss.knn` with inner product on vectors of unit length."""

    def _search_block(self, unit: Float2D, block: Block, k: int) -> Neighbours:
        import faiss

        scores, rows = faiss.knn(unit, block.vectors, k, metric=faiss.METRIC_INNER_PRODUCT)
        return Neighbours(scores, np.take(block.ids, rows))


def faiss_facts() -> dict[str, str]:
    """Return faiss's version, threads and compile options."""
    import faiss

    return {
        "faiss": str(faiss.__version__),
        "faiss threads": str(faiss.omp_get_max_threads()),
        "faiss options": str(faiss.get_compile_options()).strip(),
    }
