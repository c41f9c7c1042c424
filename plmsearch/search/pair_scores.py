"""Every query pair against every pair, exactly, some targets at a time.

The score of two pairs is the mean of the cosine similarity of their heavy and that of their light chains.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from plmsearch.index.base import Block, Neighbours, best_of, no_neighbours
from plmsearch.index.scaled import in_memory
from plmsearch.search.pairs import Pairs
from plmsearch.types import Bool1D, Float1D, Float2D, Int1D

__all__ = ["NearPairs", "Tile", "UnitRows", "nearest_pairs", "rescored", "tiles"]

#: Pairs whose vectors are copied at once: 2 x 16 MiB at 1,024 components.
_TILE = 4096


class Tile(NamedTuple):
    """Some of the pairs that are searched.

    Parameters
    ----------
    places : ndarray, dtype=int64, shape=(t,)
        In the `Pairs`, rising.
    heavy, light : ndarray, dtype=float32, shape=(t, d)
        Of unit length.
    """

    places: Int1D
    heavy: Float2D
    light: Float2D


class NearPairs(NamedTuple):
    """The nearest pairs of one query pair.

    Parameters
    ----------
    places : ndarray, dtype=int64, shape=(m,)
        In the `Pairs`.
    scores, heavy, light : ndarray, dtype=float32, shape=(m,)
        In [-1, 1]; `scores`, the mean of the other two, falls.
    """

    places: Int1D
    scores: Float1D
    heavy: Float1D
    light: Float1D


class UnitRows:
    """Vectors of blocks, by id.

    Parameters
    ----------
    blocks : sequence of Block
    dim : int
    """

    def __init__(self, blocks: Sequence[Block], dim: int) -> None:
        self._dim = dim
        self._vectors = [in_memory(b.vectors) for b in blocks]
        sizes = [len(b.ids) for b in blocks]
        ids = np.concatenate([b.ids for b in blocks] or [np.empty(0, np.int64)])
        order = np.argsort(ids, kind="stable")
        self._ids: Int1D = ids[order]
        self._block: Int1D = np.repeat(np.arange(len(blocks)), sizes)[order]
        self._row: Int1D = np.concatenate([np.arange(n) for n in sizes] or [np.empty(0, np.int64)])[order]

    def has(self, ids: Int1D) -> Bool1D:
        """Tell which of some ids have a vector."""
        found: Bool1D = np.isin(ids, self._ids)
        return found

    def take(self, ids: Int1D) -> Float2D:
        """Return the vectors of ids that have one, in their order; dtype=float32, shape=(n, d)."""
        place = np.searchsorted(self._ids, ids)
        block, row = self._block[place], self._row[place]
        out: Float2D = np.empty((len(ids), self._dim), dtype=np.float32)
        for number in np.unique(block):
            mine = block == number
            out[mine] = self._vectors[number][row[mine]]
        return out


def tiles(pairs: Pairs, places: Int1D, rows: UnitRows) -> Iterator[Tile]:
    """Yield the vectors of some of the pairs, in order.

    Parameters
    ----------
    pairs : Pairs
    places : ndarray, dtype=int64, shape=(n,)
        Rising.
    rows : UnitRows
    """
    for start in range(0, len(places), _TILE):
        part = places[start : start + _TILE]
        yield Tile(part, rows.take(pairs.heavy[part]), rows.take(pairs.light[part]))


def nearest_pairs(
    heavy: Float2D, light: Float2D, targets: Iterable[Tile], k: int, excluded: Sequence[Int1D]
) -> Neighbours:
    """Find the nearest pairs of each query pair.

    Parameters
    ----------
    heavy, light : ndarray, dtype=float32, shape=(q, d)
        Of unit length.
    targets : iterable of Tile
    k : int
        At least 1.
    excluded : sequence of ndarray, dtype=int64
        Of each query, places that it may not find.

    Returns
    -------
    Neighbours
        `ids` are places. Fewer than k columns where there are fewer pairs; minus infinity is none.
    """
    best = no_neighbours(len(heavy))
    for tile in targets:
        scores = heavy @ tile.heavy.T
        scores += light @ tile.light.T
        scores *= np.float32(0.5)
        for row, places in enumerate(excluded):
            if len(places):
                scores[row, np.isin(tile.places, places)] = -np.inf
        ids = np.broadcast_to(tile.places, scores.shape)
        best = best_of(np.hstack([best.scores, scores]), np.hstack([best.ids, ids]), k)
    return best


def rescored(
    heavy: Float1D, light: Float1D, places: Int1D, pairs: Pairs, rows: UnitRows, min_score: float | None
) -> NearPairs:
    """Return what a query pair found with the scores of both chains, sorted by (-score, place).

    Parameters
    ----------
    heavy, light : ndarray, dtype=float32, shape=(d,)
        Of unit length.
    places : ndarray, dtype=int64, shape=(m,)
    pairs : Pairs
    rows : UnitRows
    min_score : float or None
        Leave out pairs of a lower score.

    Returns
    -------
    NearPairs
        Summed in float64: the score of two pairs does not depend on what they were compared together with.
    """
    of_heavy = _cosines(heavy, rows.take(pairs.heavy[places]))
    of_light = _cosines(light, rows.take(pairs.light[places]))
    scores = (of_heavy + of_light) / 2
    order = np.lexsort((places, -scores))
    if min_score is not None:
        order = order[scores[order] >= min_score]
    found = [values[order].astype(np.float32) for values in (scores, of_heavy, of_light)]
    return NearPairs(places[order], found[0], found[1], found[2])


def _cosines(query: Float1D, vectors: Float2D) -> np.ndarray[tuple[Any], np.dtype[np.float64]]:
    products = np.einsum("nd,d->n", vectors.astype(np.float64), query.astype(np.float64))
    clipped: np.ndarray[tuple[Any], np.dtype[np.float64]] = np.clip(products, -1, 1)
    return clipped
