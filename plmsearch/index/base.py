"""The interface of an index, and what all of them check and promise.

Concepts
--------
A *block* is a run of vectors of unit length with their ids, as they lie in one file. An index never
returns id -1 or padding: where fewer than k vectors may be found, fewer are returned.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from plmsearch.errors import ParameterError
from plmsearch.index.scaled import VectorRows
from plmsearch.types import Float2D, Int1D, Int2D
from plmsearch.vectors import unit_vectors

__all__ = ["Block", "BlockIndex", "Neighbours", "VectorIndex", "best_of", "no_neighbours"]

#: Allowed vectors that are copied at once.
_COPY_BYTES = 64 << 20
#: Rows of more than this many times k are partitioned before what is left is sorted.
_SORTED_AT_ONCE = 3


@dataclass(frozen=True, slots=True)
class Block:
    """Vectors of unit length and their ids.

    Parameters
    ----------
    vectors : ndarray, dtype=float32, shape=(n, d); or ScaledRows
        The second is computed from raw vectors where it is read.
    ids : ndarray, dtype=int64, shape=(n,)
        At least 0, unique over all blocks of an index.
    dead : ndarray, dtype=int64, shape=(m,)
        Those of the ids that are never found.
    """

    vectors: VectorRows
    ids: Int1D
    dead: Int1D = field(default_factory=lambda: np.empty(0, dtype=np.int64))

    @property
    def n_live(self) -> int:
        """Vectors that can be found."""
        return len(self.ids) - len(self.dead)


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The nearest vectors of each query.

    Parameters
    ----------
    scores : ndarray, dtype=float32, shape=(n_queries, k)
        Cosine similarity in [-1, 1], falling along a row.
    ids : ndarray, dtype=int64, shape=(n_queries, k)
        Equal scores come in order of id.
    """

    scores: Float2D
    ids: Int2D


class VectorIndex(ABC):
    """Vectors that can be searched."""

    def __init__(self, blocks: Sequence[Block], dim: int) -> None:
        self.blocks = [b for b in blocks if b.n_live]
        self.dim = dim

    def __len__(self) -> int:
        return sum(b.n_live for b in self.blocks)

    def search(self, queries: Float2D, k: int, *, allowed: Int1D | None = None) -> Neighbours:
        """Find the nearest vectors.

        Parameters
        ----------
        queries : ndarray, dtype=float32, shape=(n_queries, d)
            Any length; not changed.
        k : int
            At least 1. At most as many neighbours are returned as there are vectors to search.
        allowed : ndarray, dtype=int64, shape=(m,), optional
            Search only these ids; ids that are not in the index are ignored.

        Returns
        -------
        Neighbours

        Raises
        ------
        ParameterError
            If k < 1.
        DimensionMismatch, InvalidVectorError
            If the queries cannot be searched with.
        """
        if k < 1:
            raise ParameterError("k", k, "at least 1")
        unit = unit_vectors(queries, self.dim)
        found = self.search_unit(unit, k, allowed)
        return Neighbours(np.clip(found.scores, -1, 1), found.ids)

    @abstractmethod
    def search_unit(self, unit: Float2D, k: int, allowed: Int1D | None) -> Neighbours:
        """Find the nearest vectors to queries of unit length; scores may leave [-1, 1] by rounding."""


class BlockIndex(VectorIndex):
    """An index that is searched block by block."""

    def search_unit(self, unit: Float2D, k: int, allowed: Int1D | None) -> Neighbours:
        """Find the nearest vectors to queries of unit length; scores may leave [-1, 1] by rounding."""
        blocks = self.open_blocks(allowed) if len(unit) else ()
        found = [self._search_live(unit, b, min(k, b.n_live)) for b in blocks]
        if not found:
            return no_neighbours(len(unit))
        scores = np.concatenate([f.scores for f in found], axis=1)
        return best_of(scores, np.concatenate([f.ids for f in found], axis=1), k)

    def open_blocks(self, allowed: Int1D | None) -> Iterator[Block]:
        """Yield the blocks that hold something to be found, cut to the ids that are allowed."""
        for block in self.blocks:
            parts = [block] if allowed is None else _select(block, allowed)
            yield from (part for part in parts if part.n_live)

    def _search_live(self, unit: Float2D, block: Block, k: int) -> Neighbours:
        """Return the k nearest live vectors of one block, asking for more until there are enough."""
        n, n_dead = len(block.ids), len(block.dead)
        wanted = min(n, k + min(n_dead, k))
        while True:
            found = self._search_block(unit, block, wanted)
            if not n_dead:
                return found
            is_dead = np.isin(found.ids, block.dead)
            if wanted == n or ((~is_dead).sum(axis=1) >= k).all():
                return best_of(np.where(is_dead, np.float32(-np.inf), found.scores), found.ids, k)
            wanted = min(n, 2 * wanted)

    @abstractmethod
    def _search_block(self, unit: Float2D, block: Block, k: int) -> Neighbours:
        """Return the k nearest of one block, in any order; 1 <= k <= len(block.ids)."""


def no_neighbours(n_queries: int) -> Neighbours:
    """Return what a search of nothing finds."""
    return Neighbours(np.empty((n_queries, 0), dtype=np.float32), np.empty((n_queries, 0), dtype=np.int64))


def _select(block: Block, allowed: Int1D) -> Iterator[Block]:
    """Yield the allowed vectors of a block: itself, or copies of bounded size."""
    is_allowed = np.isin(block.ids, allowed)
    if is_allowed.all():
        yield block
        return
    rows = np.flatnonzero(is_allowed)
    step = max(1, _COPY_BYTES // (block.vectors.shape[1] * 4))
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        ids = block.ids[part]
        yield Block(block.vectors[part], ids, np.intersect1d(ids, block.dead))


def best_of(scores: Float2D, ids: Int2D, k: int) -> Neighbours:
    """Keep the k best of each row, sorted by (-score, id).

    Parameters
    ----------
    scores : ndarray, dtype=float32, shape=(n_queries, m)
    ids : ndarray, dtype=int64, shape=(n_queries, m)
    k : int

    Returns
    -------
    Neighbours
        min(k, m) columns.
    """
    if scores.shape[1] > _SORTED_AT_ONCE * k:
        scores, ids = _shortlist(scores, ids, k)
    order = np.lexsort((ids, -scores), axis=1)[:, :k]
    return Neighbours(np.take_along_axis(scores, order, axis=1), np.take_along_axis(ids, order, axis=1))


def _shortlist(scores: Float2D, ids: Int2D, k: int) -> tuple[Float2D, Int2D]:
    """Return columns of each row that hold its k best and every tie with the last of them."""
    n = scores.shape[1]
    is_near = scores >= np.partition(scores, n - k, axis=1)[:, n - k, None]
    width = int(is_near.sum(axis=1).max(initial=0))
    places = np.argsort(~is_near, axis=1, kind="stable")[:, :width]
    return np.take_along_axis(scores, places, axis=1), np.take_along_axis(ids, places, axis=1)
