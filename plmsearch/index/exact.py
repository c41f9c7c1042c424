"""Exact search in plain numpy: the oracle, and the fastest answer to a single small query.

Ties at the k-th place are broken by id, which a heap does not promise.
"""

from __future__ import annotations

import numpy as np

from plmsearch.index.base import Block, BlockIndex, Neighbours, best_of
from plmsearch.types import Float1D, Float2D, Int1D
from plmsearch.vectors import unit_vectors

__all__ = ["ExactIndex"]

#: Scores held at once: 64 MiB of float32.
_SCORES_AT_ONCE = 1 << 24


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
                scores = np.clip(unit[start : start + step] @ block.vectors.T, -1, 1)
                scores[:, closed] = -np.inf
                for query, row in enumerate(scores, start=start):
                    near = np.flatnonzero(row >= threshold)
                    parts[query].append((row[near], block.ids[near]))
        return [_sorted(part) for part in parts]

    def _search_block(self, unit: Float2D, block: Block, k: int) -> Neighbours:
        step = max(1, _SCORES_AT_ONCE // len(block.ids))
        parts = [_top(unit[i : i + step] @ block.vectors.T, block, k) for i in range(0, len(unit), step)]
        return Neighbours(np.concatenate([p.scores for p in parts]), np.concatenate([p.ids for p in parts]))


def _sorted(parts: list[tuple[Float1D, Int1D]]) -> tuple[Float1D, Int1D]:
    """Join what blocks gave, by falling score and rising id."""
    scores = np.concatenate([s for s, _ in parts] or [np.empty(0, np.float32)])
    ids = np.concatenate([i for _, i in parts] or [np.empty(0, np.int64)])
    order = np.lexsort((ids, -scores))
    return scores[order], ids[order]


def _top(scores: Float2D, block: Block, k: int) -> Neighbours:
    """Return the k best columns of each row, ties at the last place by id."""
    n = scores.shape[1]
    if k == n:
        return best_of(scores, np.broadcast_to(block.ids, scores.shape), k)
    kth = np.partition(scores, n - k, axis=1)[:, n - k]
    out = Neighbours(np.empty((len(scores), k), dtype=np.float32), np.empty((len(scores), k), dtype=np.int64))
    for row, threshold in enumerate(kth):
        candidates = np.flatnonzero(scores[row] >= threshold)
        best = best_of(scores[row, candidates][None], block.ids[candidates][None], k)
        out.scores[row], out.ids[row] = best.scores[0], best.ids[0]
    return out
