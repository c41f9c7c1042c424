"""Which index answers a search.

Exact search compares every query with every vector that may be a hit. An approximate engine has to be
read into memory first, so it pays for many queries, or for a process that stays; and behind a selective
filter it finds too little. Costs are counted in seconds, from what was measured when the engine was
built.

Limitations
-----------
The measurements are those of the machine that built the engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from plmsearch.index.base import Block, VectorIndex
from plmsearch.index.exact import ExactIndex
from plmsearch.index.faiss_index import FaissExactIndex, set_faiss_threads

__all__ = ["Costs", "Plan", "choose_search", "exact_index"]

# Importing faiss took 0.27 s where numpy scored and sorted about 70 million pairs a second, so below
# this many pairs a process that searches once is done before faiss is there.
_NUMPY_PAIRS = 20_000_000
#: A few queries wait for memory, not for arithmetic: bytes per second of a desktop's memory, by one core.
_SCAN_BYTES_PER_S = 8e9
#: Reading a file that is in the page cache twice: its SHA-256 is compared first.
_LOAD_BYTES_PER_S = 5e8
#: Behind a filter that leaves less than this, the nearest that may be returned lie among many that may not:
#: at equal effort an index finds less than was measured without a filter, and exact search is not far behind.
_LEAST_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Costs:
    """What an engine costs.

    Parameters
    ----------
    n_vectors : int
        It holds.
    file_bytes : int
        To be read first; 0 if it is in memory.
    seconds_per_query, exact_seconds_per_query : float
        Of the engine and of exact search over the same vectors, many queries at once.
    """

    n_vectors: int
    file_bytes: int
    seconds_per_query: float
    exact_seconds_per_query: float


@dataclass(frozen=True, slots=True)
class Plan:
    """A choice and its reason; `is_final` if hits would be lost otherwise, not only time."""

    use_engine: bool
    reason: str
    is_final: bool = False


def choose_search(n_queries: int, n_selected: int, dim: int, costs: Costs) -> Plan:
    """Choose between an engine and exact search.

    Parameters
    ----------
    n_queries : int
        Of this search.
    n_selected : int
        Vectors of the engine that may be hits.
    dim : int
    costs : Costs

    Returns
    -------
    Plan

    Examples
    --------
    >>> costs = Costs(1_000_000, 800_000_000, 0.0005, 0.008)
    >>> [choose_search(n, 1_000_000, 512, costs).use_engine for n in (1, 1000)]
    [False, True]
    """
    share = n_selected / max(costs.n_vectors, 1)
    if share < _LEAST_SHARE:
        reason = f"the filter leaves {share:.2%} of the vectors, under {_LEAST_SHARE:.0%}"
        return Plan(False, reason, is_final=True)
    exact = max(n_queries * costs.exact_seconds_per_query * share, n_selected * dim * 4 / _SCAN_BYTES_PER_S)
    engine = costs.file_bytes / _LOAD_BYTES_PER_S + n_queries * costs.seconds_per_query / share
    expected = f"exact search would take about {exact:.2g} s, the index {engine:.2g} s"
    return Plan(engine < exact, f"{expected}{' with reading it' if costs.file_bytes else ''}")


def exact_index(
    blocks: Sequence[Block],
    dim: int,
    n_queries: int,
    threads: int | None = None,
    *,
    n_allowed: int | None = None,
) -> VectorIndex:
    """Return an exact index for a search.

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
