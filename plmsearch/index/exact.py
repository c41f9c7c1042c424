"""Exact search in plain numpy: the oracle, and the fastest answer to a single small query.

Ties at the k-th place are broken by id, which a heap does not promise.
"""

from __future__ import annotations

import numpy as np

from plmsearch.index.base import Block, BlockIndex, Neighbours, best_of
from plmsearch.index.scaled import ScaledRows
from plmsearch.types import Float1D, Float2D, Int1D
from plmsearch.vectors import unit_vectors

__all__ = ["ExactIndex"]

#: Scores held at once: 64 MiB of float32.
_SCORES_AT_ONCE = 1 << 24
#: So few queries wait for memory, and BLAS for its threads: 52 products of one query with 4,096 vectors
#: took 40 to 400 ms on two busy cores, the same sums by one thread 18 to 25 ms.
_FEW_QUERIES = 4
#: Scores of which only the largest is looked at first.
_GROUP = 256


class ExactIndex(BlockIndex):
    """Matrix product and partial sort.

    Examples
    --------
    >>> vectors = np.eye(3, dtype=np.float32)
    >>> index = ExactIndex([Block(vectors, np.array([7, 8, 9]))], dim=3)
    >>> index.search(np.array([[0.0, 2.0, 0.0]], dtype=np.float32), k=1).ids
    array([[8]])
    """

    def above(
        self, queries: Float2D, threshold: float, *, allowed: Int1D | None = None
    ) -> list[tuple[Float1D, Int1D]]:
        """Find every vector whose score is at least a threshold.

        Parameters
        ----------
        queries : ndarray, dtype=float32, shape=(n_queries, d)
            Any length; not changed.
        threshold : float
        allowed : ndarray, dtype=int64, shape=(m,), optional
            Search only these ids.

        Returns
        -------
        list of (scores, ids)
            One per query: ndarray, dtype=float32, shape=(n,), falling, and ndarray, dtype=int64, shape=(n,).
        """
        unit = unit_vectors(queries, self.dim)
        parts: list[list[tuple[Float1D, Int1D]]] = [[] for _ in unit]
        for block in self.blocks:
            closed = ~np.isin(block.ids, allowed) if allowed is not None else np.zeros(len(block.ids), bool)
            closed |= np.isin(block.ids, block.dead)
            step = max(1, _SCORES_AT_ONCE // len(block.ids))
            for start in range(0, len(unit), step):
                scores = np.clip(_scores(unit[start : start + step], block), -1, 1)
                scores[:, closed] = -np.inf
                for query, row in enumerate(scores, start=start):
                    near = np.flatnonzero(row >= threshold)
                    parts[query].append((row[near], block.ids[near]))
        return [_sorted(part) for part in parts]

    def search_unit(self, unit: Float2D, k: int, allowed: Int1D | None) -> Neighbours:
        """Find the nearest vectors to queries of unit length; scores may leave [-1, 1] by rounding."""
        if len(unit) * sum(len(b.ids) for b in self.blocks) > _SCORES_AT_ONCE:
            return super().search_unit(unit, k, allowed)
        # All scores at once: what is left to do for each block counts when there is one query.
        scores, ids, n_live = [np.empty((len(unit), 0), np.float32)], [np.empty(0, np.int64)], 0
        for block in self.open_blocks(allowed):
            scores.append(_scores(unit, block))
            ids.append(block.ids)
            n_live += block.n_live
            if len(block.dead):
                scores[-1][:, np.isin(block.ids, block.dead)] = -np.inf
        return _top(np.concatenate(scores, axis=1), np.concatenate(ids), min(k, n_live))

    def _search_block(self, unit: Float2D, block: Block, k: int) -> Neighbours:
        step = max(1, _SCORES_AT_ONCE // len(block.ids))
        parts = [_top(_scores(unit[i : i + step], block), block.ids, k) for i in range(0, len(unit), step)]
        return Neighbours(np.concatenate([p.scores for p in parts]), np.concatenate([p.ids for p in parts]))


def _scores(unit: Float2D, block: Block) -> Float2D:
    """Multiply queries with a block."""
    if isinstance(block.vectors, ScaledRows):
        return block.vectors.products(unit, _products)
    return _products(unit, block.vectors)


def _products(unit: Float2D, rows: Float2D) -> Float2D:
    vectors = np.asarray(rows)  # a view without the class of a mapped file, which costs time
    if not 0 < len(unit) <= _FEW_QUERIES:
        return unit @ vectors.T
    return np.stack([np.einsum("nd,d->n", vectors, query) for query in unit])


def _sorted(parts: list[tuple[Float1D, Int1D]]) -> tuple[Float1D, Int1D]:
    """Join what blocks gave, by falling score and rising id."""
    scores = np.concatenate([s for s, _ in parts] or [np.empty(0, np.float32)])
    ids = np.concatenate([i for _, i in parts] or [np.empty(0, np.int64)])
    order = np.lexsort((ids, -scores))
    return scores[order], ids[order]


def _top(scores: Float2D, ids: Int1D, k: int) -> Neighbours:
    """Return the k best columns of each row, ties at the last place by id."""
    if k == scores.shape[1] or not len(scores):
        return best_of(scores, np.broadcast_to(ids, scores.shape), k)
    out = Neighbours(np.empty((len(scores), k), dtype=np.float32), np.empty((len(scores), k), dtype=np.int64))
    for place, row in enumerate(scores):
        near = np.flatnonzero(row >= _least(row, k))
        best = best_of(row[near][None], ids[near][None], k)
        out.scores[place], out.ids[place] = best.scores[0], best.ids[0]
    return out


def _least(row: Float1D, k: int) -> np.float32:
    """Return a score that the k best of a row reach, and few others do."""
    # The maxima of k groups are k scores: the least of them is no more than the k-th best of all.
    n_groups = len(row) // _GROUP
    tops = row[: n_groups * _GROUP].reshape(n_groups, _GROUP).max(axis=1) if n_groups >= k else row
    least: np.float32 = np.partition(tops, len(tops) - k)[len(tops) - k]
    return least
