"""Clonal families from vectors: single linkage of cosine distances, at a threshold that grows with n.

No gene call is needed. Blocks are rows of one donor and one CDR3 length, as for junctions: members of a
family have one length, and two chains whose CDR3s differ in length by one to `MOST_SHIFTS` residues are
*unrelated for certain*, and lie as far apart as unrelated ones of one length (measured on simulated chains:
1% quantile 0.45 and 0.46, 0.1% 0.35 and 0.35). Their distances are the null. Its lower tail is a power,
``P(d <= x) = c x**m``, the form that minima take (docs/calibration.md); the fitted power stands in where
pairs are too few to count.

Distances are counted in hundredths, so that the forest of all links can be cut at any of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from plmsearch.repertoire.linkage import Forest, join_forests, thinned
from plmsearch.repertoire.null import FALSE_LINKS, MOST_SHIFTS, unrelated_groups
from plmsearch.types import Float2D

__all__ = ["LEVELS", "MOST_DISTANCE", "VectorFamilies", "find_vector_families"]

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]

LEVELS = 100  # levels of distance in 1
#: No link is longer: a hundredth and more of unrelated pairs are as near.
MOST_DISTANCE = 0.4
#: Chains no further apart count once in the null and among the families of a block.
NEAR_COPY = 0.05
_MOST_SAMPLED = 6000  # chains of the null: 18 million pairs
_FIT = (0.01, 0.1)  # range of P in which the power is fitted (as `plmsearch.search.nulls` does)
_LEAST_COUNT = 10
_TILE = 2048
_SEED = 20261125


@dataclass(frozen=True, slots=True)
class VectorFamilies:
    """What `find_vector_families` found.

    Parameters
    ----------
    labels : ndarray, dtype=int64, shape=(n,)
        Smallest row of each row's family.
    thresholds : ndarray, dtype=float64, shape=(n_blocks,)
        Largest cosine distance of a link in each block of two different rows or more.
    null_counts : ndarray, dtype=int64, shape=(2 * LEVELS + 1,)
        Unrelated pairs by distance, in hundredths, rounded up; empty with a given threshold.
    nearest : ndarray, dtype=float64, shape=(n_different,)
        Distance of each different row to the nearest other of its block; inf beyond `MOST_DISTANCE`.
    """

    labels: Ints
    thresholds: Floats
    null_counts: Ints
    nearest: Floats

    @property
    def n_null_pairs(self) -> int:
        """Unrelated pairs of the input."""
        return int(self.null_counts.sum())

    def unrelated(self, edges: Floats) -> Floats:
        """Return the share of unrelated pairs between edges."""
        if not self.n_null_pairs:
            return np.zeros(len(edges) - 1)
        places = (np.arange(len(self.null_counts)) - 0.5) / LEVELS  # a level is what was rounded up to it
        counted = np.histogram(np.maximum(places, 0), edges, weights=self.null_counts)[0]
        return np.asarray(counted / self.n_null_pairs)


def find_vector_families(
    vectors: Float2D,
    of_row: Ints,
    donors: Sequence[str],
    lengths: Sequence[int],
    threshold: float | None = None,
) -> VectorFamilies:
    """Join rows of one donor and one CDR3 length whose vectors are close.

    Parameters
    ----------
    vectors : ndarray, dtype=float32, shape=(m, d)
        Of unit length; may be mapped from a file.
    of_row : ndarray, dtype=int64, shape=(n,)
        Vector of each row.
    donors : sequence of str, length n
    lengths : sequence of int, length n
        Residues of CDR3 or of the junction; only differences matter.
    threshold : float, optional
        Largest cosine distance of a link; from the null if left out.

    Notes
    -----
    O(m**2 d) time for a block of m rows, as products of 2,048 x 2,048 rows; memory is that of the largest
    block's vectors.
    """
    # a node is a vector in a block: rows of equal residues share it
    node_of: dict[tuple[str, int, int], int] = {}
    keys = zip(donors, lengths, of_row.tolist(), strict=True)
    node = np.array([node_of.setdefault(key, len(node_of)) for key in keys], np.int64)
    nodes_of: dict[tuple[str, int], list[int]] = {}
    for number, (donor, length, _) in enumerate(node_of):
        nodes_of.setdefault((donor, length), []).append(number)
    names = sorted(nodes_of)
    place = np.array([vector for _, _, vector in node_of], np.int64)
    blocks = _Blocks(names, [np.array(nodes_of[name], np.int64) for name in names], vectors, place)
    most = MOST_DISTANCE if threshold is None else threshold
    forests = [_forest(blocks.vectors_of(members), _level(most)) for members in blocks.members]
    null = np.zeros(0, np.int64)
    if threshold is None:
        cuts, null = _automatic(blocks, forests)
    else:
        cuts = [_level(threshold)] * len(names)
    labels = np.zeros(len(node_of), np.int64)
    for members, tree, cut in zip(blocks.members, forests, cuts, strict=True):
        labels[members] = members[tree.groups(len(members), cut)]
    first_row = np.unique(labels[node], return_index=True, return_inverse=True)
    several = [len(members) > 1 for members in blocks.members]
    return VectorFamilies(
        np.asarray(first_row[1][first_row[2]], np.int64),
        np.array([cut / LEVELS for cut, is_some in zip(cuts, several, strict=True) if is_some]),
        null,
        np.concatenate([*(_nearest(t, len(m)) for t, m in zip(forests, blocks.members, strict=True)), []]),
    )


@dataclass(frozen=True, slots=True)
class _Blocks:
    """Nodes of each block: donor and CDR3 length."""

    names: list[tuple[str, int]]
    members: list[Ints]
    vectors: Float2D
    place: Ints  # row of `vectors` of each node

    def vectors_of(self, nodes: Ints) -> Float2D:
        return self.vectors[self.place[nodes]]


def _level(distance: float) -> int:
    """Return the last level within a distance."""
    return int(distance * LEVELS + 1e-6)


def _levels(cosines: NDArray[np.float32]) -> Ints:
    """Return distances in hundredths, rounded up but for what is rounding of float32."""
    levels = np.ceil((1.0 - cosines.astype(np.float64)) * LEVELS - 1e-3)
    return np.asarray(np.maximum(levels, 0), np.int64)


# --- Links -------------------------------------------------------------------------------------------


def _forest(vectors: Float2D, most: int) -> Forest:
    """Find the links of single linkage of one block up to a level."""
    n = len(vectors)
    parts = []
    for top in range(0, n, _TILE):
        for start in range(top, n, _TILE):
            cosines = vectors[top : top + _TILE] @ vectors[start : start + _TILE].T
            first, second = np.nonzero(cosines >= 1.0 - (most + 1e-3) / LEVELS)
            upper = first + top < second + start
            first, second = first[upper], second[upper]
            levels = _levels(cosines[first, second])
            parts.append(thinned(n, first + top, second + start, levels))
    return join_forests(n, parts)


def _nearest(tree: Forest, n: int) -> Floats:
    found = np.full(n, np.inf)
    for ends in (tree.first, tree.second):
        np.minimum.at(found, ends, tree.distance / LEVELS)
    return found if n > 1 else found[:0]


# --- Threshold ---------------------------------------------------------------------------------------


def _automatic(blocks: _Blocks, forests: Sequence[Forest]) -> tuple[list[int], Ints]:
    """Find the level at which each block is cut: as `families` does for junctions."""
    sizes = [len(members) for members in blocks.members]
    groups = [tree.groups(n, _level(NEAR_COPY)) for tree, n in zip(forests, sizes, strict=True)]
    null = _null(blocks, groups)
    cuts, mean_size = [0] * len(sizes), 1.0
    for _ in range(2):
        counts = [len(np.unique(labels)) for labels in groups]
        opportunities = mean_size * unrelated_groups(blocks.names, counts, 1)
        cuts = [_cut(null, expected) for expected in opportunities.tolist()]
        groups = [tree.groups(n, cut) for tree, n, cut in zip(forests, sizes, cuts, strict=True)]
        mean_size = sum(sizes) / max(sum(len(np.unique(labels)) for labels in groups), 1)
    return cuts, null


def _null(blocks: _Blocks, groups: Sequence[Ints]) -> Ints:
    """Count unrelated pairs by distance: of one donor, CDR3s one to `MOST_SHIFTS` residues apart."""
    kept = [members[np.unique(labels)] for members, labels in zip(blocks.members, groups, strict=True)]
    share = min(1.0, _MOST_SAMPLED / max(sum(map(len, kept)), 1))
    rng = np.random.default_rng(_SEED)
    drawn = {}
    for name, nodes in zip(blocks.names, kept, strict=True):
        chosen = rng.choice(nodes, max(1, round(share * len(nodes))), replace=False)
        drawn[name] = blocks.vectors_of(np.sort(chosen))
    counts = np.zeros(2 * LEVELS + 1, np.int64)
    for (donor, length), shift in itertools.product(blocks.names, range(1, MOST_SHIFTS + 1)):
        other = drawn.get((donor, length + shift))
        if other is not None:
            levels = _levels(drawn[donor, length] @ other.T)
            counts += np.bincount(np.minimum(levels, 2 * LEVELS).ravel(), minlength=len(counts))
    return counts


def _cut(null: Ints, opportunities: float) -> int:
    """Return the last level that keeps to `FALSE_LINKS`; 0 where there is no null."""
    n = int(null.sum())
    if n == 0:
        return 0
    wanted = FALSE_LINKS / max(opportunities, 1.0)
    chances = np.cumsum(null) / n
    most = int(np.searchsorted(chances, wanted, side="right")) - 1
    if n * wanted < _LEAST_COUNT:
        most = min(_by_power(chances, n, wanted), _last_below(chances, _LEAST_COUNT / n))
    return min(max(most, 0), _level(MOST_DISTANCE))


def _last_below(chances: Floats, chance: float) -> int:
    return int(np.searchsorted(chances, chance, side="right")) - 1


def _by_power(chances: Floats, n: int, wanted: float) -> int:
    """Continue the null below what can be counted."""
    fitted = np.flatnonzero((chances >= _FIT[0]) & (chances <= _FIT[1]) & (chances * n >= _LEAST_COUNT))
    if len(fitted) < 2:
        return 0
    slope, offset = np.polyfit(np.log(fitted / LEVELS), np.log(chances[fitted]), 1)
    return int(np.exp((np.log(wanted) - offset) / slope) * LEVELS)
