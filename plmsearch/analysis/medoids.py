"""The member of each cluster that is nearest to all others.

The medoid of a cluster of unit vectors has the highest mean cosine to the other members. The sum of these
cosines is the inner product with the sum of all members, less 1, so it is found exactly in O(n d), without
comparing pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from plmsearch.types import Float2D, Int1D

__all__ = ["medoids"]

_Float64 = np.ndarray[Any, np.dtype[np.float64]]

#: Vectors that are held at once: 32 MB of float32 at 512 dimensions.
_ROWS_AT_ONCE = 16_384
#: Mean cosines nearer to each other than this are equal: they are sums of products of float32.
_ROUNDING = 1e-6


def medoids(take: Callable[[Int1D], Float2D], labels: Int1D) -> tuple[Int1D, _Float64]:
    """Return the medoid of each row's cluster, and the row's score to it.

    Parameters
    ----------
    take : callable
        Returns the unit vectors of some rows, dtype=float32, shape=(n, d).
    labels : ndarray, dtype=int64, shape=(n,)
        Cluster of each row.

    Returns
    -------
    medoid : ndarray, dtype=int64, shape=(n,)
        A row; of equally near ones the first.
    score : ndarray, dtype=float64, shape=(n,)
        Cosine to it, in [-1, 1]; 1 for the medoid itself.

    Examples
    --------
    >>> unit = np.array([[1, 0], [0.8, 0.6], [0.6, 0.8]], dtype=np.float32)
    >>> medoid, score = medoids(lambda rows: unit[rows], np.array([7, 7, 7]))
    >>> medoid, score.round(2)
    (array([1, 1, 1]), array([0.8 , 1.  , 0.96]))
    """
    medoid, score = np.arange(len(labels)), np.ones(len(labels))
    for members in _clusters(labels):
        sizes = np.diff(np.flatnonzero(np.diff(labels[members], prepend=-1, append=-2)))
        if len(sizes) == 1 and len(members) > _ROWS_AT_ONCE:
            medoid[members], score[members] = _of_large(take, members)
        else:
            medoid[members], score[members] = _of_small(take(members), members, sizes)
    return medoid, score


def _clusters(labels: Int1D) -> Iterator[Int1D]:
    """Yield the rows of whole clusters of two or more, as many at once as are held; or one larger one."""
    order = np.argsort(labels, kind="stable")
    starts = np.flatnonzero(np.diff(labels[order], prepend=-1))
    sizes = np.diff(np.append(starts, len(order)))
    waiting: list[Int1D] = []
    n = 0
    for start, size in zip(starts[sizes > 1].tolist(), sizes[sizes > 1].tolist(), strict=True):
        if waiting and n + size > _ROWS_AT_ONCE:
            yield np.concatenate(waiting)
            waiting, n = [], 0
        waiting.append(order[start : start + size])
        n += size
    if waiting:
        yield np.concatenate(waiting)


def _of_small(vectors: Float2D, members: Int1D, sizes: Int1D) -> tuple[Int1D, _Float64]:
    """Find the medoids of clusters that lie one after the other."""
    starts = np.cumsum(sizes) - sizes
    cluster = np.repeat(np.arange(len(sizes)), sizes)
    sums = np.add.reduceat(vectors, starts, axis=0, dtype=np.float64)
    near = np.einsum("ij,ij->i", vectors, sums[cluster])
    best = np.maximum.reduceat(near, starts)
    is_best = near >= (best - _ROUNDING * sizes)[cluster]
    candidates = np.flatnonzero(is_best)
    _, first = np.unique(cluster[candidates], return_index=True)
    at = candidates[first][cluster]
    return members[at], _scores(vectors, vectors[at], members == members[at])


def _of_large(take: Callable[[Int1D], Float2D], members: Int1D) -> tuple[Int1D, _Float64]:
    """Find the medoid of one cluster, some members at a time."""
    parts = [members[i : i + _ROWS_AT_ONCE] for i in range(0, len(members), _ROWS_AT_ONCE)]
    total = np.sum([take(part).sum(axis=0, dtype=np.float64) for part in parts], axis=0)
    near = np.concatenate([take(part) @ total for part in parts])
    at = int(np.flatnonzero(near >= near.max() - _ROUNDING * len(members))[0])
    best = take(members[at : at + 1])
    scores = [_scores(take(part), best, part == members[at]) for part in parts]
    return np.full(len(members), members[at]), np.concatenate(scores)


def _scores(vectors: Float2D, others: Float2D, is_same: np.ndarray) -> _Float64:
    pairs = np.broadcast_to(others, vectors.shape)
    scores = np.einsum("ij,ij->i", vectors, pairs, dtype=np.float64)
    return np.where(is_same, 1.0, np.clip(scores, -1.0, 1.0))
