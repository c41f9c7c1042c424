"""Families by junction and V region: links that V regions forbid, and links that only they allow.

A pair of rows of one block is linked if

- V regions do not speak against it: junctions that differ as much, or more, are to be expected of at least
  `LACKING` of relatives with V regions so far apart; and
- an unrelated pair that is as close in its junction *and* shares as many mutations of the V region is met
  with chance `wanted` at most, which is `null.FALSE_LINKS` over the unrelated sequences of the block. Both
  are independent for unrelated pairs, so the chances are multiplied. Without a shared mutation this is the
  rule of junctions alone.

Of these links the nearest that connect a family, by junction and V region together, are kept, and of those
the ones that the ancestors of both sides do not speak against (`plmsearch.repertoire.lineages`). Members of a
family are then what links connect.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from plmsearch.repertoire.lineages import grow
from plmsearch.repertoire.linkage import Codes, Forest, join_forests, most_mismatches, near_pairs, thinned
from plmsearch.repertoire.null import MOST_SHARE
from plmsearch.repertoire.vregions import VRegions, v_regions

__all__ = ["COARSE", "LACKING", "BlockRule", "refine"]

Ints: TypeAlias = NDArray[np.int64]

#: Junctions within this share of mismatches count as one family where mutations are looked for.
COARSE = 0.2
#: Share of true links that may be lost to each of the two questions to V regions.
LACKING = 0.05
#: Pairs whose V regions are compared at once: 285 letters each.
_CHUNK = 50_000


@dataclass(frozen=True, slots=True)
class BlockRule:
    """Which links a block may have.

    Parameters
    ----------
    most : int
        Mismatches of junctions that need no shared mutation.
    chances : ndarray, dtype=float64, shape=(length + 1,), or None
        Of unrelated junctions within 0, 1, ... mismatches; None: no links beyond `most`.
    wanted : float
        Largest chance of a false link.
    """

    most: int
    chances: NDArray[np.float64] | None = None
    wanted: float = 0.0

    def allows(self, differ: Ints, shared: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Tell which pairs are closer than unrelated ones."""
        if self.chances is None:
            return np.asarray(differ <= self.most)
        return np.asarray((differ <= self.most) | (self.chances[differ] * shared <= self.wanted))


def refine(
    codes: Sequence[Codes], of_row: Ints, regions: Sequence[str], genes: Sequence[str], coarse: Ints,
    rules: Sequence[BlockRule], *, nucleotides: bool,
) -> tuple[Ints, int]:  # fmt: skip
    """Group rows by junction and V region.

    Parameters
    ----------
    codes : sequence of ndarray, dtype=uint8, shape=(n_nodes, length)
        Distinct junctions of each block.
    of_row : ndarray, dtype=int64, shape=(n,)
        Junction of each row, counted through all blocks.
    regions : sequence of str, length n
        V regions.
    genes : sequence of str, length n
        Donor and V gene.
    coarse : ndarray, dtype=int64, shape=(n_junctions,)
        Families as junctions within `COARSE` make them.
    rules : sequence of BlockRule

    Returns
    -------
    labels : ndarray, dtype=int64, shape=(n,)
        Equal for rows of one family.
    n_with_v : int
        Rows whose V region says something.
    """
    numbers: dict[tuple[int, str], int] = {}
    variant_of = np.array(
        [numbers.setdefault(key, len(numbers)) for key in zip(of_row.tolist(), regions, strict=True)],
        np.int64,
    )
    n_rows = np.bincount(variant_of)
    first_rows = np.unique(variant_of, return_index=True)[1]
    nodes = of_row[first_rows]
    found = v_regions(
        [text for _, text in numbers],
        [genes[row] for row in first_rows.tolist()],
        coarse[nodes],
        nucleotides=nucleotides,
    )
    labels = np.arange(len(nodes), dtype=np.int64)
    # not in order of the input's rows: which of equally near links are kept must not depend on it
    keys = list(numbers)
    order = np.array(sorted(range(len(keys)), key=keys.__getitem__), np.int64)
    ends = np.cumsum([0, *map(len, codes)])
    cuts = np.searchsorted(nodes[order], ends).tolist()
    for block, (start, end) in enumerate(itertools.pairwise(cuts)):
        members = order[start:end]
        if len(members) > 1:
            junctions = codes[block][nodes[members] - ends[block]]
            groups = _linked(junctions, members, found, rules[block], n_rows[members])
            labels[members] = members[groups]
    return labels[variant_of], int(np.count_nonzero(found.known[variant_of]))


def _linked(junctions: Codes, members: Ints, v: VRegions, rule: BlockRule, n_rows: Ints) -> Ints:
    """Group the distinct rows of one block; return the first of each group."""
    length, n = junctions.shape[1], len(members)
    most = rule.most if rule.chances is None else max(rule.most, most_mismatches(MOST_SHARE, length))
    forests: list[Forest] = []
    for pairs in near_pairs(junctions, most):
        for start in range(0, len(pairs[0]), _CHUNK):
            one, other, differ = (part[start : start + _CHUNK] for part in pairs)
            evidence = v.evidence(members[one], members[other], differ, length)
            linked = rule.allows(differ, evidence.shared) & (evidence.lacking >= LACKING)
            apart = differ + evidence.apart
            forests.append(thinned(n, one[linked], other[linked], apart[linked]))
    regions = np.where(v.known[members, None] > 0, v.codes[members], 0).astype(np.uint8)
    letters = np.concatenate([junctions, regions], axis=1)
    return grow(join_forests(n, forests), letters, length, n_rows, LACKING)
