"""Clonal families: single linkage of junctions within blocks, at a threshold that suits each block.

Everything here is pure and knows no table. Rows with equal junctions in one block are one *node*.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from plmsearch.repertoire.hybrid import COARSE, BlockRule, refine
from plmsearch.repertoire.linkage import (
    NUCLEOTIDES,
    RESIDUES,
    Codes,
    encode,
    forest,
    most_mismatches,
    nearest,
    single_linkage,
)
from plmsearch.repertoire.null import (
    FALSE_LINKS,
    MOST_SHARE,
    Null,
    null_distances,
    reference_counts,
    unrelated_groups,
)

__all__ = ["Families", "Limit", "find_families"]

Ints: TypeAlias = NDArray[np.int64]

#: Junctions no further apart than this count once in the null and among the families of a block: one
#: or two mismatches of 45 nucleotides, the reach of sequencing errors and of the last mutations.
NEAR_COPY = 0.04
#: Distances to the nearest are taken from so many nodes, evenly spread: enough for a picture.
_MOST_NEAREST = 5000


@dataclass(frozen=True, slots=True)
class Limit:
    """Where one block of two nodes or more was cut.

    Parameters
    ----------
    length : int
        Of its junctions, in letters.
    n_nodes : int
        Distinct junctions.
    most : int
        Most mismatches of a link.
    """

    length: int
    n_nodes: int
    most: int


@dataclass(frozen=True, slots=True)
class Families:
    """What `find_families` found.

    Parameters
    ----------
    labels : ndarray, dtype=int64, shape=(n,)
        Smallest row of each row's family.
    limits : tuple of Limit
        Of every block in which there was something to decide.
    null : Null or None
        None with a given threshold.
    nearest : ndarray, dtype=float64, shape=(n_sampled,)
        Share of mismatches of a junction with the nearest other one of its block.
    n_with_v : int
        Rows whose V region was compared.
    """

    labels: Ints
    limits: tuple[Limit, ...]
    null: Null | None
    nearest: NDArray[np.float64]
    n_with_v: int = 0

    @property
    def thresholds(self) -> NDArray[np.float64]:
        """Largest share of mismatches of a link in each of `limits`."""
        return np.array([limit.most / limit.length for limit in self.limits])

    @property
    def n_null_pairs(self) -> int:
        """Unrelated pairs of the input."""
        return self.null.n_pairs if self.null else 0

    def unrelated(self, edges: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the share of unrelated pairs between edges."""
        return self.null.histogram(edges) if self.null else np.zeros(len(edges) - 1)


@dataclass(frozen=True, slots=True)
class _Nodes:
    """Distinct junctions of each block, block after block, in an order free of that of the rows."""

    of_row: Ints
    junctions: list[str]
    kinds: list[str]
    groups: list[str]
    bounds: Ints  # of the blocks; shape (n_blocks + 1,)

    def through(self, groups: Sequence[Ints]) -> Ints:
        """Number the groups of each block through all of them."""
        starts = zip(self.bounds[:-1].tolist(), groups, strict=True)
        return np.concatenate([start + group for start, group in starts] or [np.zeros(0, np.int64)])


def find_families(
    junctions: Sequence[str],
    blocks: Ints,
    kinds: Sequence[str],
    groups: Sequence[str],
    *,
    nucleotides: bool,
    same_v: bool,
    threshold: float | None = None,
    v: Sequence[str] | None = None,
) -> Families:
    """Join the rows of each block whose junctions are close.

    Parameters
    ----------
    junctions : sequence of str, length n
        Upper case; of one length within a block.
    blocks : ndarray, dtype=int64, shape=(n,)
        Rows of different blocks are never joined.
    kinds : sequence of str, length n
        What a block is but for its length: donor and genes.
    groups : sequence of str, length n
        What junctions must have in common to be compared in the null: a J gene, or "".
    nucleotides : bool
        Whether the letters are nucleotides or residues.
    same_v : bool
        Whether rows of a block share a V gene.
    threshold : float, optional
        Largest share of mismatches of a link, 0 to 1; from the null if left out.
    v : sequence of str, length n, optional
        V regions before the junction (`plmsearch.repertoire.vregions.v_region_before`), to be taken into
        account. With a threshold they forbid links, but add none.

    Returns
    -------
    Families

    Notes
    -----
    O(m**2 * length) time for a block of m distinct junctions, as one matrix product; memory does not
    grow with m**2.
    """
    nodes = _nodes(junctions, blocks, kinds, groups)
    codes = _encoded(nodes, NUCLEOTIDES if nucleotides else RESIDUES)
    if threshold is None:
        cut = _automatic(nodes, codes, 3 if nucleotides else 1, same_v=same_v)
    else:
        most = [most_mismatches(threshold, c.shape[1]) for c in codes]
        cut = _Cut([single_linkage(c, m) for c, m in zip(codes, most, strict=True)], most)
    labels, n_with_v = nodes.through(cut.groups)[nodes.of_row], 0
    if v is not None and len(v):
        coarse = [single_linkage(c, most_mismatches(COARSE, c.shape[1])) for c in codes]
        genes = [kind.rsplit("\t", 1)[0] for kind in kinds]
        labels, n_with_v = refine(
            codes, nodes.of_row, v, genes, nodes.through(coarse), cut.rules(codes), nucleotides=nucleotides
        )
    limits = tuple(Limit(c.shape[1], len(c), m) for c, m in zip(codes, cut.most, strict=True) if len(c) > 1)
    return Families(_smallest_rows(labels), limits, cut.null, _nearest(codes), n_with_v)


@dataclass(frozen=True, slots=True)
class _Cut:
    """Where each block is cut: groups of its junctions, and what they follow from."""

    groups: list[Ints]
    most: list[int]
    null: Null | None = None
    opportunities: Sequence[float] = ()

    def rules(self, codes: Sequence[Codes]) -> list[BlockRule]:
        """Return what links of each block must keep to."""
        if self.null is None:
            return [BlockRule(most) for most in self.most]
        return [
            BlockRule(most, self.null.chances(c.shape[1], n), FALSE_LINKS / max(n, 1.0))
            for c, most, n in zip(codes, self.most, self.opportunities, strict=True)
        ]


def _automatic(nodes: _Nodes, codes: Sequence[Codes], codon: int, *, same_v: bool) -> _Cut:
    """Find the most mismatches of the links of each block, and the groups they make.

    Unrelated families are counted first as sets of near copies, then as the families that follow, times
    their mean size: near copies are too many where a family has mutated far.
    """
    links = [forest(c, most_mismatches(MOST_SHARE, c.shape[1])) for c in codes]
    near = [
        tree.groups(len(c), most_mismatches(NEAR_COPY, c.shape[1]))
        for tree, c in zip(links, codes, strict=True)
    ]
    null = _null(nodes, codes, near, codon, same_v=same_v)
    starts = nodes.bounds[:-1].tolist()
    names = [(nodes.kinds[start], c.shape[1]) for start, c in zip(starts, codes, strict=True)]
    groups, most, mean_size, opportunities = near, [0] * len(codes), 1.0, [0.0] * len(codes)
    for _ in range(2):
        counts = [len(np.unique(labels)) for labels in groups]
        opportunities = (mean_size * unrelated_groups(names, counts, codon)).tolist()
        most = [
            null.most_mismatches(c.shape[1], expected) if len(c) > 1 else 0
            for c, expected in zip(codes, opportunities, strict=True)
        ]
        groups = [tree.groups(len(c), m) for tree, c, m in zip(links, codes, most, strict=True)]
        mean_size = len(nodes.junctions) / max(sum(len(np.unique(labels)) for labels in groups), 1)
    return _Cut(groups, most, null, opportunities)


def _nodes(junctions: Sequence[str], blocks: Ints, kinds: Sequence[str], groups: Sequence[str]) -> _Nodes:
    numbers: dict[tuple[int, str], int] = {}
    names: list[tuple[str, str]] = []
    of_row = np.zeros(len(junctions), np.int64)
    rows = zip(blocks.tolist(), junctions, zip(kinds, groups, strict=True), strict=True)
    for row, (block, junction, name) in enumerate(rows):
        node = numbers.setdefault((block, junction), len(numbers))
        if node == len(names):
            names.append(name)
        else:
            names[node] = min(names[node], name)
        of_row[row] = node
    keys = list(numbers)
    # the first node of a block gives its kind: by name first, so that the order of rows does not matter
    order = sorted(range(len(keys)), key=lambda i: (keys[i][0], names[i], keys[i][1]))
    place = np.zeros(len(order), np.int64)
    place[order] = np.arange(len(order))
    sorted_blocks = np.array([keys[i][0] for i in order], np.int64)
    bounds = np.flatnonzero(np.diff(sorted_blocks, prepend=-1, append=-1)).astype(np.int64)
    sorted_names = [names[i] for i in order]
    return _Nodes(
        of_row=place[of_row],
        junctions=[keys[i][1] for i in order],
        kinds=[kind for kind, _ in sorted_names],
        groups=[group for _, group in sorted_names],
        bounds=bounds,
    )


def _encoded(nodes: _Nodes, alphabet: str) -> list[Codes]:
    """Return the junctions of each block as numbers."""
    ends = nodes.bounds.tolist()
    return [encode(nodes.junctions[a:b], alphabet) for a, b in itertools.pairwise(ends)]


def _smallest_rows(labels: Ints) -> Ints:
    """Name each group by its first row instead of any number."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return np.asarray(first[inverse], np.int64)


def _null(nodes: _Nodes, codes: Sequence[Codes], near: Sequence[Ints], codon: int, *, same_v: bool) -> Null:
    """Measure the null on one junction of each set of near copies."""
    kept: dict[int, list[Codes]] = {}
    groups: dict[int, list[str]] = {}
    for start, c, labels in zip(nodes.bounds[:-1].tolist(), codes, near, strict=True):
        rows = np.flatnonzero(labels == np.arange(len(c)))
        kept.setdefault(c.shape[1], []).append(c[rows])
        groups.setdefault(c.shape[1], []).extend(nodes.groups[start + row] for row in rows.tolist())
    by_length = {}
    for length, parts in kept.items():
        together = np.concatenate(parts)
        # blocks are numbered in order of the input's rows: sort, so that draws do not depend on it
        order = np.lexsort(tuple(together.T[::-1]))
        by_length[length] = together[order], [groups[length][i] for i in order.tolist()]
    measured = null_distances(by_length, codon, same_v=same_v)
    return Null(measured.counts, reference_counts(nucleotides=codon == 3, same_v=same_v))


def _nearest(codes: Sequence[Codes]) -> NDArray[np.float64]:
    several = [c for c in codes if len(c) > 1]
    step = max(sum(map(len, several)) // _MOST_NEAREST, 1)
    found, skip = [], 0
    for c in several:
        rows = np.arange(skip, len(c), step)
        skip = skip + step * len(rows) - len(c)
        if len(rows):
            found.append(nearest(c, rows) / c.shape[1])
    return np.concatenate(found) if found else np.zeros(0)
