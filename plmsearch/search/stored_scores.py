"""Scores of a vector with stored vectors that are named, where what is found was decided otherwise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from plmsearch.index.base import Block
from plmsearch.types import Float1D, Int1D

__all__ = ["StoredScores"]

#: Vectors that are read at once.
_VECTORS_AT_ONCE = 4096


class StoredScores:
    """Scores of stored vectors, by id.

    Parameters
    ----------
    blocks : sequence of Block
        Vectors as a ranking compares them, of unit length.
    """

    def __init__(self, blocks: Sequence[Block]) -> None:
        self._blocks = list(blocks)
        sizes = [len(block.ids) for block in self._blocks]
        ids = np.concatenate([np.empty(0, dtype=np.int64), *(block.ids for block in self._blocks)])
        self._order = np.argsort(ids, kind="stable")
        self._ids = ids[self._order]
        self._ends = np.cumsum(sizes)

    def of(self, vector: Float1D, ids: Int1D) -> Float1D:
        """Return the cosine similarity of a vector with stored ones.

        Parameters
        ----------
        vector : ndarray, dtype=float32, shape=(d,)
            Of unit length.
        ids : ndarray, dtype=int64, shape=(n,)
            May repeat.

        Returns
        -------
        ndarray, dtype=float32, shape=(n,)
            In [-1, 1]; NaN for an id that has no vector.
        """
        distinct, inverse = np.unique(ids, return_inverse=True)
        scores = np.full(len(distinct), np.nan, dtype=np.float32)
        places = np.minimum(np.searchsorted(self._ids, distinct), max(len(self._ids) - 1, 0))
        known = np.flatnonzero(self._ids[places] == distinct) if len(self._ids) else places[:0]
        rows = self._order[places[known]]
        begin = 0
        for block, end in zip(self._blocks, self._ends.tolist(), strict=True):
            inside = np.flatnonzero((rows >= begin) & (rows < end))
            for part in np.array_split(inside, len(inside) // _VECTORS_AT_ONCE + 1):
                scores[known[part]] = np.clip(block.vectors[rows[part] - begin] @ vector, -1, 1)
            begin = end
        of_ids: Float1D = scores[inverse]
        return of_ids
