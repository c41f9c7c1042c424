"""From links to groups: connected components, or Leiden communities of each of them.

Groups are named by their smallest row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import TypeAlias

import numpy as np

from plmsearch.analysis.leiden import communities
from plmsearch.errors import ParameterError
from plmsearch.repertoire.linkage import components
from plmsearch.types import Int1D, Int2D

__all__ = ["MAX_LINKS", "Links", "by_communities", "by_components"]

Links: TypeAlias = Iterator[tuple[Int1D, Int1D]]

#: Links are joined to components when there are so many, or as many as sequences.
_JOINED_AT_ONCE = 1 << 20
#: Links that Leiden holds: about 150 bytes each while they are sorted, and 200 in the largest component.
MAX_LINKS = 10_000_000


def by_components(links: Links, n: int) -> tuple[Int1D, int]:
    """Join linked rows, a part of the links at a time.

    Parameters
    ----------
    links : iterator of (first, second)
        Linked rows, as `plmsearch.analysis.links.exact_links` yields them.
    n : int
        Number of rows.

    Returns
    -------
    labels : ndarray, dtype=int64, shape=(n,)
        Smallest row of each row's component.
    n_links : int

    Examples
    --------
    >>> by_components(iter([(np.array([3, 1]), np.array([2, 2]))]), 4)
    (array([0, 1, 1, 1]), 2)
    """
    labels: Int1D = np.arange(n, dtype=np.int64)
    waiting: list[tuple[Int1D, Int1D]] = []
    n_links = n_waiting = 0

    def join() -> Int1D:
        first, second = (np.concatenate(column) for column in zip(*waiting, strict=True))
        return components(labels, first, second)

    for pair in links:
        waiting.append(pair)
        n_waiting += len(pair[0])
        if n_waiting >= max(_JOINED_AT_ONCE, n):
            labels = join()
            n_links, n_waiting = n_links + n_waiting, 0
            waiting.clear()
    return (join() if waiting else labels), n_links + n_waiting


def by_communities(links: Links, hashes: Sequence[str], density: Fraction, seed: int) -> tuple[Int1D, int]:
    """Divide each component into communities, in an order of rows that does not depend on theirs.

    Parameters
    ----------
    links : iterator of (first, second)
    hashes : sequence of str, length n
        Of each row, all different: rows are looked at in their order.
    density : Fraction
    seed : int
        As `plmsearch.analysis.leiden.communities` takes them.

    Returns
    -------
    labels : ndarray, dtype=int64, shape=(n,)
        Smallest row of each row's community.
    n_links : int

    Raises
    ------
    ParameterError
        If there are more than `MAX_LINKS` links.
    """
    pairs, n_links = [np.empty((2, 0), dtype=np.int32)], 0
    for first, second in links:
        pairs.append(np.array([first, second], dtype=np.int32))
        n_links += len(first)
        if n_links > MAX_LINKS:
            expected = f"components, or the threshold higher: there are more than {MAX_LINKS:,} links"
            raise ParameterError("method", "leiden", expected)
    both = np.concatenate(pairs, axis=1).astype(np.int64)
    of = components(np.arange(len(hashes), dtype=np.int64), both[0], both[1])
    labels: Int1D = of.copy()
    for rows, neighbours in _graphs(of, both, hashes):
        found = rows[np.array(communities(neighbours, density, seed))]
        labels[rows] = found
    return _smallest(labels), n_links


def _graphs(of: Int1D, links: Int2D, hashes: Sequence[str]) -> Iterator[tuple[Int1D, list[list[int]]]]:
    """Yield the rows of each component of three or more, by hash, and the neighbours of each among them."""
    rank = np.empty(len(of), dtype=np.int64)
    rank[sorted(range(len(of)), key=hashes.__getitem__)] = np.arange(len(of))
    order = np.lexsort((rank, of))
    starts = np.append(np.flatnonzero(np.diff(of[order], prepend=-1)), len(of))
    place = np.empty(len(of), dtype=np.int64)
    place[order] = np.arange(len(of)) - np.repeat(starts[:-1], np.diff(starts))
    ends = np.concatenate([links, links[::-1]], axis=1)
    ends = ends[:, np.lexsort((place[ends[1]], place[ends[0]], of[ends[0]]))]
    bounds = np.searchsorted(of[ends[0]], of[order[starts[:-1]]], side="left")
    bounds = np.append(bounds, ends.shape[1])
    for number in np.flatnonzero(np.diff(starts) > 2).tolist():
        rows = order[starts[number] : starts[number + 1]]
        here = ends[:, bounds[number] : bounds[number + 1]]
        cuts = np.searchsorted(place[here[0]], np.arange(1, len(rows)))
        yield rows, [part.tolist() for part in np.split(place[here[1]], cuts)]


def _smallest(labels: Int1D) -> Int1D:
    """Name each group by its smallest row."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return np.asarray(first[inverse], dtype=np.int64)
