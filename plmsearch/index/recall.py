"""How much of what exact search finds an approximate one finds, and the effort that a recall takes.

Recall@k is the share of the k nearest neighbours that were found; of vectors at the same distance as
the k-th any will do. It is measured on vectors that are taken out of the index for the measurement: a
stored vector finds itself too easily. Half of them choose the effort, the other half, which had no part
in that, say what it achieves.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from plmsearch.index.approximate import EFFORTS, ApproximateIndex, Engine, rows_of
from plmsearch.index.base import Block, Neighbours
from plmsearch.index.faiss_index import FaissExactIndex
from plmsearch.types import Float1D, Int1D

__all__ = ["K", "Measured", "measure", "recalls"]

#: Neighbours that a recall is about.
K = 10
#: Scores nearer than this are the same: what float32 rounding makes of one distance.
_SAME_SCORE = 1e-6
#: One-sided 95% of a normal distribution, for a difference of two means: so sure is it that the second
#: half, as large as the first, reaches the asked recall too.
_Z = 1.645 * np.sqrt(2)


@dataclass(frozen=True, slots=True)
class Measured:
    """What an engine achieves.

    Parameters
    ----------
    effort : int
    recall : float
        Mean recall@10 over queries that did not choose the effort.
    n_queries : int
        Their number.
    seconds_per_query : float
        On this machine, many queries at once.
    exact_seconds_per_query : float
        Likewise, of exact search.
    """

    effort: int
    recall: float
    n_queries: int
    seconds_per_query: float
    exact_seconds_per_query: float


def recalls(found: Neighbours, truth: Neighbours) -> Float1D:
    """Return the recall of each query.

    Parameters
    ----------
    found, truth : Neighbours
        Of the same queries; `truth` by exact search, and its width is k.

    Returns
    -------
    ndarray, dtype=float32, shape=(n_queries,)
    """
    k = truth.scores.shape[1]
    good = found.scores[:, :k] >= truth.scores[:, -1:] - _SAME_SCORE
    share: Float1D = (good.sum(axis=1) / k).astype(np.float32)
    return share


def measure(engine: Engine, blocks: Sequence[Block], held: Int1D, asked: float) -> Measured | None:
    """Find the least effort that reaches a recall, and what it reaches on other queries.

    Parameters
    ----------
    engine : Engine
        Without the rows in `held`.
    blocks : sequence of Block
        All rows, those too.
    held : ndarray, dtype=int64, shape=(n,)
        Rows, counted over the blocks, in random order; at least 4.
    asked : float
        Recall@10.

    Returns
    -------
    Measured or None
        None if no effort short of visiting everything reaches it.
    """
    queries, dim = rows_of(blocks, held), blocks[0].vectors.shape[1]
    held_ids = np.concatenate([b.ids for b in blocks])[held]
    without = [Block(b.vectors, b.ids, np.union1d(b.dead, np.intersect1d(b.ids, held_ids))) for b in blocks]
    exact = FaissExactIndex(without, dim)
    started = time.perf_counter()
    truth = exact.search(queries, K)
    exact_seconds = (time.perf_counter() - started) / len(held)
    half = len(held) // 2

    def search(rows: slice, effort: int) -> tuple[Float1D, float]:
        index = ApproximateIndex(without, FaissExactIndex([], dim), dim, engine, effort, FaissExactIndex)
        begun = time.perf_counter()
        found = index.search(queries[rows], K)
        seconds = (time.perf_counter() - begun) / len(queries[rows])
        return recalls(found, Neighbours(truth.scores[rows], truth.ids[rows])), seconds

    for effort in (e for e in EFFORTS if e <= engine.most_effort):
        chosen, _ = search(slice(0, half), effort)
        if _surely_above(chosen, asked):
            reached, seconds = search(slice(half, None), effort)
            return Measured(effort, float(reached.mean()), len(reached), seconds, exact_seconds)
    return None


def _surely_above(found: Float1D, asked: float) -> bool:
    """Tell whether a mean is above a value by more than chance."""
    exact = found.astype(np.float64)
    error = exact.std(ddof=1) / np.sqrt(len(exact))
    return bool(exact.mean() - _Z * error >= asked or exact.min() == 1)
