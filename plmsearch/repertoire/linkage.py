"""Single linkage of equally long strings by Hamming distance, without a matrix of all pairs.

All functions are pure. A *letter* that is not of the alphabet (N, X, a gap) is unknown, and an unknown
letter is never a mismatch. Distances are counts; the caller divides by the length.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "NUCLEOTIDES",
    "RESIDUES",
    "Forest",
    "close_pairs",
    "components",
    "encode",
    "forest",
    "join_forests",
    "mismatches",
    "most_mismatches",
    "near_pairs",
    "nearest",
    "single_linkage",
    "thinned",
]  # fmt: skip

Codes: TypeAlias = NDArray[np.uint8]
Ints: TypeAlias = NDArray[np.int64]

NUCLEOTIDES = "ACGT"
RESIDUES = "ACDEFGHIKLMNPQRSTVWY"

#: Rows of one tile of the product that counts matches: 2,048 x 2,048 float32 are 16 MB.
_TILE = 2048
#: Below so many rows comparing letter by letter costs less than a product.
_FEW = 48


def encode(strings: Sequence[str], alphabet: str) -> Codes:
    """Write equally long strings as numbers.

    Parameters
    ----------
    strings : sequence of str
        Upper case, ASCII, one length.
    alphabet : str

    Returns
    -------
    ndarray, dtype=uint8, shape=(n, length)
        1 for the first letter of `alphabet`, and so on; 0 for every other letter.

    Examples
    --------
    >>> encode(["TGT", "TGN"], NUCLEOTIDES)
    array([[4, 3, 4],
           [4, 3, 0]], dtype=uint8)
    """
    table = np.zeros(256, np.uint8)
    for code, letter in enumerate(alphabet, 1):
        table[ord(letter)] = code
    joined = "".join(strings).encode("ascii", "replace")
    return table[np.frombuffer(joined, np.uint8)].reshape(len(strings), -1)


def mismatches(first: Codes, second: Codes) -> Ints:
    """Count the positions at which two letters are known and differ, along the last axis."""
    differ = (first != second) & (first != 0) & (second != 0)
    return np.asarray(np.count_nonzero(differ, axis=-1), np.int64)


def most_mismatches(threshold: float, length: int) -> int:
    """Return the largest count whose share of the length is no more than a threshold.

    Compared as Change-O does, ``count / length <= threshold`` in double precision; -1 if the
    threshold is negative.

    Examples
    --------
    >>> most_mismatches(0.15, 60), most_mismatches(0.1, 29)
    (9, 2)
    """
    within = np.arange(length + 1) / length <= threshold
    return int(np.count_nonzero(within)) - 1


def close_pairs(codes: Codes, most: int) -> Iterator[tuple[Ints, Ints]]:
    """Yield the pairs of rows that differ at no more than a number of positions.

    Parameters
    ----------
    codes : ndarray, dtype=uint8, shape=(n, length)
        As `encode` returns them.
    most : int
        Largest number of mismatches.

    Yields
    ------
    first, second : ndarray, dtype=int64, shape=(n_pairs,)
        Rows, ``first < second``; every pair once, tile by tile.
    """
    for first, second, _ in near_pairs(codes, most):
        yield first, second


def near_pairs(codes: Codes, most: int) -> Iterator[tuple[Ints, Ints, Ints]]:
    """Yield the rows and the mismatches of the pairs that `close_pairs` finds, tile by tile."""
    n, length = codes.shape
    if n < 2 or most < 0:
        return
    if n <= _FEW:
        first, second = (rows.astype(np.int64) for rows in np.triu_indices(n, 1))
        counts = mismatches(codes[first], codes[second])
        close = counts <= most
        yield first[close], second[close], counts[close]
        return
    left, right = _factors(codes)
    for top in range(0, n, _TILE):
        for start in range(top, n, _TILE):
            matches = left[top : top + _TILE] @ right[start : start + _TILE].T
            first, second = np.nonzero(matches >= length - most - 0.5)
            upper = first + top < second + start
            first, second = first[upper], second[upper]
            counts = length - np.rint(matches[first, second]).astype(np.int64)
            yield first + top, second + start, counts


def _factors(codes: Codes) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return matrices whose product counts the matches of every row with every other.

    One indicator column per position and letter; an unknown letter has all ones of its position and so
    matches each letter once. Two unknown letters would match as often as there are letters: further
    columns take off all but one.
    """
    letters = np.unique(codes)
    known = letters[letters != 0]
    unknown = codes == 0
    blocks = [((codes == letter) | unknown).astype(np.float32) for letter in known]
    if not unknown.any():
        one = np.concatenate(blocks, axis=1)
        return one, one
    excess = unknown.astype(np.float32)
    left = np.concatenate([*blocks, -(len(known) - 1.0) * excess], axis=1, dtype=np.float32)
    return left, np.concatenate([*blocks, excess], axis=1)


def components(labels: Ints, first: Ints, second: Ints) -> Ints:
    """Join the groups of linked items.

    Parameters
    ----------
    labels : ndarray, dtype=int64, shape=(n,)
        Group of each item: the smallest item of the group. Not changed.
    first, second : ndarray, dtype=int64, shape=(n_links,)
        Linked items.

    Returns
    -------
    ndarray, dtype=int64, shape=(n,)
        As `labels`, after joining.

    Examples
    --------
    >>> components(np.arange(5), np.array([3, 4]), np.array([1, 3]))
    array([0, 1, 2, 1, 1])
    """
    return _joined(labels, first, second)[0]


def _joined(labels: Ints, first: Ints, second: Ints) -> tuple[Ints, Ints]:
    """Join groups; return the labels, and which links it took, without a cycle.

    Each round hooks the larger of two labels below the smaller, by one link each, and then shortens all
    paths (Shiloach and Vishkin 1982, doi:10.1016/0196-6774(82)90008-6): O(log n) rounds in practice.
    """
    labels = labels.copy()
    links = np.arange(len(first))
    used: list[Ints] = []
    while True:
        a, b = labels[first], labels[second]
        apart = a != b
        if not apart.any():
            return labels, np.concatenate([*used, links[:0]])
        first, second, links = first[apart], second[apart], links[apart]
        low, high = np.minimum(a[apart], b[apart]), np.maximum(a[apart], b[apart])
        high, taken = np.unique(high, return_index=True)
        used.append(links[taken])
        labels[high] = low[taken]
        while (shorter := labels[labels]).tobytes() != labels.tobytes():
            labels = shorter


@dataclass(frozen=True, slots=True)
class Forest:
    """Links by which single linkage joins rows, nearest first; as a minimum spanning forest.

    Parameters
    ----------
    first, second : ndarray, dtype=int64, shape=(n_links,)
        Rows.
    distance : ndarray, dtype=int64, shape=(n_links,)
        Mismatches, ascending.
    """

    first: Ints
    second: Ints
    distance: Ints

    def groups(self, n: int, most: int) -> Ints:
        """Return the smallest row of the group of each of n rows, links of up to `most` mismatches."""
        end = int(np.searchsorted(self.distance, most, side="right"))
        return components(np.arange(n, dtype=np.int64), self.first[:end], self.second[:end])


def forest(codes: Codes, most: int) -> Forest:
    """Find the links of single linkage at every distance up to one.

    Parameters
    ----------
    codes : ndarray, dtype=uint8, shape=(n, length)
    most : int
        Largest number of mismatches.

    Returns
    -------
    Forest
        Fewer than n links: each tile of pairs is thinned to its own forest before the next.

    Examples
    --------
    >>> found = forest(encode(["AAAA", "CCCC", "AAAC", "AACC"], NUCLEOTIDES), 2)
    >>> found.distance, found.groups(4, 1)
    (array([1, 1, 2]), array([0, 1, 0, 0]))
    """
    n = len(codes)
    return join_forests(n, [thinned(n, *pairs) for pairs in near_pairs(codes, most)])


def join_forests(n: int, parts: Sequence[Forest]) -> Forest:
    """Return the forest of all links of some forests of n rows."""
    if not parts:
        none = np.zeros(0, np.int64)
        return Forest(none, none, none)
    if len(parts) == 1:
        return parts[0]
    columns = (np.concatenate([getattr(p, name) for p in parts]) for name in ("first", "second", "distance"))
    return thinned(n, *columns)


def thinned(n: int, first: Ints, second: Ints, distance: Ints) -> Forest:
    """Keep the links that join something, nearest first."""
    labels = np.arange(n, dtype=np.int64)
    kept = []
    for level in np.unique(distance):
        at = np.flatnonzero(distance == level)
        labels, used = _joined(labels, first[at], second[at])
        kept.append(at[used])
    chosen = np.concatenate([*kept, np.zeros(0, np.int64)]).astype(np.int64)
    return Forest(first[chosen], second[chosen], distance[chosen])


def single_linkage(codes: Codes, most: int) -> Ints:
    """Group rows by single linkage.

    Parameters
    ----------
    codes : ndarray, dtype=uint8, shape=(n, length)
    most : int
        Rows with no more mismatches than this are linked.

    Returns
    -------
    ndarray, dtype=int64, shape=(n,)
        Smallest row of each row's group.

    Examples
    --------
    >>> single_linkage(encode(["AAAA", "CCCC", "AAAC", "AACC"], NUCLEOTIDES), 1)
    array([0, 1, 0, 0])
    """
    labels = np.arange(len(codes), dtype=np.int64)
    for first, second in close_pairs(codes, most):
        labels = components(labels, first, second)
    return labels


def nearest(codes: Codes, rows: Ints) -> Ints:
    """Count the mismatches of some rows with the nearest other row.

    Parameters
    ----------
    codes : ndarray, dtype=uint8, shape=(n, length)
        n is 2 or more.
    rows : ndarray, dtype=int64, shape=(n_rows,)

    Returns
    -------
    ndarray, dtype=int64, shape=(n_rows,)
    """
    found = np.zeros(len(rows), np.int64)
    for i, row in enumerate(rows.tolist()):
        counts = mismatches(codes, codes[row])
        counts[row] = codes.shape[1]
        found[i] = counts.min()
    return found
