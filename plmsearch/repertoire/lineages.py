"""Families grown from their nearest rows outwards, and links refused for what their ancestors looked like.

Of two families, some two rows may be as alike as relatives are, by luck of their mutations. The ancestors
have no such luck: in the consensus of a family the mutations of single rows are gone. So links are taken
nearest first, by the differences of junction and V region together, as a phylogeny would join them, and
wherever both sides have two rows or more, their consensus sequences are compared: lineages whose junctions
differ more than their V regions tell of are not joined.

Formula. A lineage that took u differences in L letters of V regions takes, for as long, j differences in a
junction of l letters. With a flat prior on how long that was, j is negative binomial with mean
``(u + 1) * l / L`` and size ``u + 1``. Junctions mutate faster than V regions in some families and slower in
others (hot spots, selection): the size becomes ``1 / (1 / (u + 1) + VARIANCE)``.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from plmsearch.repertoire.linkage import Codes, Forest

__all__ = ["VARIANCE", "chance_of_more", "grow"]

Ints: TypeAlias = NDArray[np.int64]
Counts: TypeAlias = NDArray[np.int32]

#: Squared coefficient of variation of the ratio of mutations in junction and V region between families,
#: beyond counting: 0.17 in the 8 families of alakazam's ExampleDb with four distinct rows and 20 differences.
VARIANCE = 1 / 6
#: Rows on either side that make a consensus.
_LEAST_ROWS = 2
_TURNS = 2


def chance_of_more(differ: int, apart: int, length: int, v_length: int) -> float:
    """Return the chance that junctions of relatives differ as much or more.

    Parameters
    ----------
    differ : int
        Letters by which the junctions differ.
    apart : int
        Letters by which the V regions differ.
    length, v_length : int
        Letters of the junction and of the V region that can differ.

    Returns
    -------
    float
        The upper tail of the module's formula; 1 for no difference.

    Examples
    --------
    >>> [round(chance_of_more(differ, 0, 60, 285), 3) for differ in (1, 2, 3)]
    [0.172, 0.032, 0.006]
    """
    mean = (apart + 1) * length / v_length
    size = 1 / (1 / (apart + 1) + VARIANCE)
    success = mean / (mean + size)
    within, term = 0.0, math.exp(size * math.log1p(-success))
    for count in range(differ):
        within += term
        term *= success * (size + count) / (count + 1)
    return max(0.0, 1.0 - within)


def grow(links: Forest, letters: Codes, length: int, n_rows: Ints, least: float) -> Ints:
    """Join rows link by link, unless their lineages speak against it.

    Parameters
    ----------
    links : Forest
        Of the distinct rows, nearest first.
    letters : ndarray, dtype=uint8, shape=(n, length + width)
        Junction and V region of each distinct row; 0 is unknown.
    length : int
        Of the junctions.
    n_rows : ndarray, dtype=int64, shape=(n,)
        Rows of the input that are equal to each.
    least : float
        Links with a smaller `chance_of_more` are refused.

    Returns
    -------
    ndarray, dtype=int64, shape=(n,)
        Smallest row of each row's group.

    Notes
    -----
    A refused link is tried once more when both sides have grown: the ancestor of few rows is seen less
    clearly. Equal rows count as rows, since several transcripts or cells had that
    sequence, but once for the consensus.
    """
    root = list(range(len(letters)))
    lineages = _Lineages(letters, length, n_rows)
    waiting = list(zip(links.first.tolist(), links.second.tolist(), strict=True))
    for _ in range(_TURNS):
        refused = []
        for one, other in waiting:
            low, high = sorted((_find(root, one), _find(root, other)))
            if lineages.chance(low, high) >= least:
                lineages.join(low, high)
                root[high] = low
            else:
                refused.append((one, other))
        waiting = refused
    return np.array([_find(root, row) for row in range(len(root))], np.int64)


def _find(root: list[int], row: int) -> int:
    while root[row] != row:
        root[row] = root[root[row]]
        row = root[row]
    return row


class _Lineages:
    """Letters of each group of rows, counted, by the smallest row; of a row alone they are its own."""

    def __init__(self, letters: Codes, length: int, n_rows: Ints) -> None:
        self.letters, self.length = letters, length
        self._sizes = n_rows.tolist()
        self._counts: dict[int, Counts] = {}
        self._n_letters = int(letters.max(initial=0))

    def chance(self, low: int, high: int) -> float:
        """Return `chance_of_more` for two groups; 1 where nothing tells."""
        if min(self._sizes[low], self._sizes[high]) < _LEAST_ROWS:
            return 1.0
        one, other = self._consensus(low), self._consensus(high)
        known = np.logical_and(one.any(axis=1), other.any(axis=1))
        differ = np.logical_and(known, ~np.any(one & other, axis=1))
        v_length = int(known[self.length :].sum())
        if v_length == 0:
            return 1.0
        junction, v_region = int(differ[: self.length].sum()), int(differ[self.length :].sum())
        return chance_of_more(junction, v_region, self.length, v_length)

    def join(self, low: int, high: int) -> None:
        """Make one group of two."""
        counts = self._counts.pop(low, None)
        counts = self._own(low) if counts is None else counts
        others = self._counts.pop(high, None)
        if others is None:
            self._add(counts, high)
        else:
            counts += others
        self._counts[low] = counts
        self._sizes[low] += self._sizes[high]

    def _consensus(self, row: int) -> NDArray[np.bool_]:
        """Return the most frequent letters of each position, all of them where several are."""
        counts = self._counts.get(row)
        counts = self._own(row) if counts is None else counts
        most = counts.max(axis=1, keepdims=True)
        return np.asarray((counts == most) & (most > 0))

    def _own(self, row: int) -> Counts:
        counts = np.zeros((self.letters.shape[1], self._n_letters), np.int32)
        self._add(counts, row)
        return counts

    def _add(self, counts: Counts, row: int) -> None:
        known = np.flatnonzero(self.letters[row])
        counts[known, self.letters[row, known] - 1] += 1
