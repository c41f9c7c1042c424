"""What two groups of a repertoire have in common.

Two questions, never one number: whether *clones of one donor* are found in several of its samples, and
whether *donors* have come to the same clonotypes on their own (convergence). The measures are the same.

References
----------
Morisita-Horn: Horn 1966, Am Nat 100:419, doi:10.1086/282436. Jaccard at a depth: clones expected in both
of two samples of that many units over those expected in either (Hurlbert's rarefaction).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from plmsearch.repertoire.hypergeometric import log_moments

__all__ = ["Members", "Shared", "Tally", "members_of", "shared", "tally"]


@dataclass(frozen=True, slots=True)
class Members:
    """What a group consists of.

    Parameters
    ----------
    codes : ndarray, dtype=int32, shape=(m,)
        Clones or clonotypes, distinct and rising.
    sizes : ndarray, dtype=int64, shape=(m,)
        Units of each, above 0.
    """

    codes: NDArray[np.int32]
    sizes: NDArray[np.int64]

    @property
    def n(self) -> int:
        """Units in all."""
        return int(self.sizes.sum())


@dataclass(frozen=True, slots=True)
class Shared:
    """What two groups have in common.

    Parameters
    ----------
    first, second : int
        Numbers of the groups.
    n_first, n_second, n_shared : int
        Clones or clonotypes of each, and of both.
    jaccard : float
        Those of both over those of either.
    morisita_horn : float
        0 to 1; by units, so that large ones count for most. Nearly independent of depth.
    depth : int
        Units at which `jaccard_at_depth` is expected; 0 if one of the groups has fewer.
    jaccard_at_depth : float
        NaN without a depth.
    """

    first: int
    second: int
    n_first: int
    n_second: int
    n_shared: int
    jaccard: float
    morisita_horn: float
    depth: int
    jaccard_at_depth: float


@dataclass(frozen=True, slots=True)
class Tally:
    """In how many groups something is.

    Parameters
    ----------
    code : int
    groups : tuple of int
        Two or more.
    total : int
        Units in all.
    """

    code: int
    groups: tuple[int, ...]
    total: int


def members_of(codes: NDArray[np.int32], weights: NDArray[np.int64]) -> Members:
    """Gather the rows of a group; a code of -1 and a weight of 0 are left out."""
    kept = (codes >= 0) & (weights > 0)
    distinct, places = np.unique(codes[kept], return_inverse=True)
    sizes = np.zeros(len(distinct), dtype=np.int64)
    np.add.at(sizes, places, weights[kept])
    return Members(distinct, sizes)


def shared(groups: Sequence[Members], depth: int, numbers: Sequence[int] | None = None) -> list[Shared]:
    """Compare every two groups.

    Parameters
    ----------
    groups : sequence of Members
        Of at least one unit each.
    depth : int
        Units at which the Jaccard index is expected too; 0: at none.
    numbers : sequence of int, optional
        Of the groups; 0, 1, 2 ... by default.
    """
    numbers = range(len(groups)) if numbers is None else numbers
    seen = [_chances(group, depth) for group in groups]
    return [_pair((numbers[i], numbers[k]), groups[i], groups[k], seen[i], seen[k], depth)
            for i, k in combinations(range(len(groups)), 2)]  # fmt: skip


def _chances(group: Members, depth: int) -> NDArray[np.float64] | None:
    """Return the chance of each member to be among `depth` units; None if there are fewer."""
    if not 0 < depth <= group.n:
        return None
    sizes, places = np.unique(group.sizes, return_inverse=True)
    return np.asarray(np.exp(log_moments(sizes, group.n, depth, np.zeros(1)))[places, 0])


def _pair(
    numbers: tuple[int, int],
    a: Members,
    b: Members,
    seen_a: NDArray[np.float64] | None,
    seen_b: NDArray[np.float64] | None,
    depth: int,
) -> Shared:
    common, in_a, in_b = np.intersect1d(a.codes, b.codes, assume_unique=True, return_indices=True)
    n_either = len(a.codes) + len(b.codes) - len(common)
    at_depth = np.nan
    if seen_a is not None and seen_b is not None:
        both = float(seen_a[in_a] @ seen_b[in_b])
        at_depth = both / (float(seen_a.sum()) + float(seen_b.sum()) - both)
    share_a, share_b = a.sizes / a.n, b.sizes / b.n
    overlap = 2 * float(share_a[in_a] @ share_b[in_b]) / float(share_a @ share_a + share_b @ share_b)
    return Shared(
        *numbers, n_first=len(a.codes), n_second=len(b.codes), n_shared=len(common),
        jaccard=len(common) / n_either, morisita_horn=overlap,
        depth=0 if np.isnan(at_depth) else depth, jaccard_at_depth=at_depth,
    )  # fmt: skip


def tally(groups: Sequence[Members]) -> list[Tally]:
    """List what is in two groups or more: in most groups first, then of most units.

    Parameters
    ----------
    groups : sequence of Members

    Returns
    -------
    list of Tally
    """
    codes = np.concatenate([group.codes for group in groups] or [np.zeros(0, np.int32)])
    sizes = np.concatenate([group.sizes for group in groups] or [np.zeros(0, np.int64)])
    which = np.repeat(np.arange(len(groups)), [len(group.codes) for group in groups])
    order = np.argsort(codes, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(codes[order]) > 0]) if len(codes) else np.zeros(0, int)
    found: list[Tally] = []
    for start, stop in _several(starts, len(codes)):
        rows = order[start:stop]
        found.append(Tally(int(codes[rows[0]]), tuple(which[rows].tolist()), int(sizes[rows].sum())))
    return sorted(found, key=lambda t: (-len(t.groups), -t.total, t.code))


def _several(starts: NDArray[np.int64], n: int) -> Iterable[tuple[int, int]]:
    stops = np.append(starts[1:], n)
    more = stops - starts > 1
    return zip(starts[more].tolist(), stops[more].tolist(), strict=True)
