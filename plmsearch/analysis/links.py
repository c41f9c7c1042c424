"""Which vectors are near enough to be linked: every pair is compared, and no matrix of all pairs is held.

Vectors are compared tile by tile, each pair once, and only within a group (a locus). What is found is
handed on tile by tile: it is for the caller to decide whether all links are held.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from plmsearch.index.base import Block
from plmsearch.index.scaled import in_memory
from plmsearch.types import Float2D, Int1D

__all__ = ["Rows", "exact_links"]

_Float64 = np.ndarray[Any, np.dtype[np.float64]]

#: Rows of a tile: its scores are 16 MB of float32, its two sides 8 MB at 512 dimensions.
_TILE = 2048


class Rows:
    """The vectors of some ids, wherever they lie.

    Parameters
    ----------
    blocks : sequence of Block
    ids : ndarray, dtype=int64, shape=(n,)
        In any order, none twice. Those that no block has are left out.

    Attributes
    ----------
    places : ndarray, dtype=int64, shape=(m,)
        Places in `ids` of those that have a vector, rising.
    """

    def __init__(self, blocks: Sequence[Block], ids: Int1D) -> None:
        self._vectors = [in_memory(block.vectors) for block in blocks]
        own = [np.asarray(block.ids) for block in blocks]
        known = np.concatenate([*own, np.empty(0, dtype=np.int64)])
        order = np.argsort(known, kind="stable")
        at = np.minimum(np.searchsorted(known[order], ids), max(len(known) - 1, 0))
        is_there = known[order][at] == ids if len(known) else np.zeros(len(ids), dtype=bool)
        self.places: Int1D = np.flatnonzero(is_there)
        number = np.repeat(np.arange(len(own)), [len(i) for i in own])
        row = np.concatenate([*(np.arange(len(i)) for i in own), np.empty(0, dtype=np.int64)])
        chosen = order[at[self.places]]
        self._block, self._row = number[chosen], row[chosen]

    def __len__(self) -> int:
        return len(self.places)

    def take(self, rows: Int1D) -> Float2D:
        """Return a copy of some vectors, by their place in `places`.

        Returns
        -------
        ndarray, dtype=float32, shape=(len(rows), d)
        """
        blocks = self._block[rows]
        out: Float2D = np.empty((len(rows), self._vectors[0].shape[1]), dtype=np.float32)
        for number in np.unique(blocks):
            here = np.flatnonzero(blocks == number)
            out[here] = self._vectors[number][self._row[rows[here]]]
        return out


def exact_links(
    take: Callable[[Int1D], Float2D],
    groups: Sequence[Int1D],
    cutoffs: _Float64,
    done: Callable[[int], None] = lambda n: None,
    *,
    tile: int = _TILE,
) -> Iterator[tuple[Int1D, Int1D]]:
    """Yield the pairs whose score reaches the cutoffs of both.

    Parameters
    ----------
    take : callable
        Returns the unit vectors of some rows, dtype=float32, shape=(n, d).
    groups : sequence of ndarray, dtype=int64
        Rows that are compared with each other.
    cutoffs : ndarray, dtype=float64, shape=(n_rows,)
        Lowest score of a link of each row; NaN: it has none.
    done : callable, optional
        Told how many more rows have been compared with all others.
    tile : int
        Rows of one side of a tile.

    Yields
    ------
    first, second : ndarray, dtype=int64, shape=(n_links,)
        Rows; each pair once, at most tile**2 at a time.
    """
    for group in groups:
        rows = group[~np.isnan(cutoffs[group])]
        for top in range(0, len(rows), tile):
            one = rows[top : top + tile]
            vectors = take(one)
            for start in range(top, len(rows), tile):
                other = rows[start : start + tile]
                scores = vectors @ (vectors if start == top else take(other)).T
                yield from _near(scores, one, other, cutoffs, is_diagonal=start == top)
            done(len(one))
        done(len(group) - len(rows))


def _near(
    scores: Float2D, one: Int1D, other: Int1D, cutoffs: _Float64, *, is_diagonal: bool
) -> Iterator[tuple[Int1D, Int1D]]:
    """Yield the links of one tile."""
    # In float32, as the scores are: a cutoff a little above the score it was taken from would lose it.
    left, right = cutoffs[one].astype(np.float32), cutoffs[other].astype(np.float32)
    near = scores >= left[:, None]
    if is_diagonal:
        near &= np.tri(len(one), k=-1, dtype=bool)
    first, second = np.nonzero(near)
    both = scores[first, second] >= right[second]
    if both.any():
        yield one[first[both]], other[second[both]]
