"""How close unrelated junctions come by chance, and the threshold that follows from it.

The question is how many sequences of other families a sequence finds within a distance t. If a block
holds m of them, and P(t) is the probability that two unrelated junctions of one block are no further
apart than t, it finds m P(t): the threshold of the block is the largest t at which that is no more than
`FALSE_LINKS`. It falls as the input grows, because m grows.

P(t) is measured on the input itself, on pairs that are unrelated for certain: junctions of *different
length*. Members of a family have one length (but for insertions and deletions, which are rare); two
rearrangements of the same V and J gene whose lengths differ by one to `MOST_SHIFTS` codons are as alike
as two of the same length, once the codons too many are taken out of the longer one. They are taken out
behind the third codon, where the V gene has ended, so that D and J stay in line as they do in
rearrangements of one length. On simulated rearrangements this agrees with pairs of equal length or is
slightly too close (docs/decisions/0016-clonal-thresholds.md). Of sequences that are near copies of each
other only one takes part, so that a large family counts once.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from plmsearch.repertoire.linkage import Codes, mismatches, most_mismatches

__all__ = [
    "FALSE_LINKS",
    "MOST_SHARE",
    "MOST_SHIFTS",
    "Null",
    "null_distances",
    "reference_counts",
    "reference_key",
    "unrelated_groups",
]

Ints: TypeAlias = NDArray[np.int64]

#: Expected links of a sequence to sequences of other families.
FALSE_LINKS = 0.01

#: No link is longer than this share of the junction: a tenth and more of unrelated pairs are as near.
MOST_SHARE = 0.35

MOST_SHIFTS = 3  # codons
_KEPT = 3  # codons at the start that the V gene encodes: C104 and the two behind it
_MOST_PAIRS = 1_000_000  # of one length: resolves 1e-5
_CHUNK = 100_000
_SEED = 20261124
#: Pairs that must lie within the distance that is looked up: 10 give it within a third.
_LEAST_COUNT = 10


Counts: TypeAlias = Mapping[int, Ints]


@dataclass(frozen=True, slots=True)
class Null:
    """Distances of unrelated junctions.

    Parameters
    ----------
    counts : mapping of int to ndarray, dtype=int64, shape=(length + 1,)
        Junction length in letters -> number of pairs with 0, 1, ... mismatches.
    reference : mapping, likewise
        Of simulated junctions; used as far as `counts` holds too few.
    """

    counts: Counts
    reference: Counts = field(default_factory=dict)

    @property
    def n_pairs(self) -> int:
        """Number of pairs of the input's own."""
        return sum(int(counts.sum()) for counts in self.counts.values())

    def histogram(self, edges: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the share of the input's own pairs between edges of the share of mismatches."""
        if not self.counts:
            return np.zeros(len(edges) - 1)
        places = np.concatenate([np.arange(len(c)) / length for length, c in self.counts.items()])
        weights = np.concatenate(list(self.counts.values()))
        return np.asarray(np.histogram(places, edges, weights=weights)[0] / self.n_pairs)

    def most_mismatches(self, length: int, opportunities: float) -> int:
        """Return the largest number of mismatches that keeps to `FALSE_LINKS`.

        Parameters
        ----------
        length : int
            Of the junctions, in letters.
        opportunities : float
            Comparisons with unrelated sequences that can go wrong; fewer than one count as one.

        Returns
        -------
        int
            At least 0: nothing could tell equal junctions of one block apart. At most `MOST_SHARE` of
            the length.
        """
        wanted = FALSE_LINKS / max(opportunities, 1.0)
        most = int(np.searchsorted(self.chances(length, opportunities), wanted, side="right")) - 1
        return min(max(most, 0), most_mismatches(MOST_SHARE, length))

    def chances(self, length: int, opportunities: float) -> NDArray[np.float64]:
        """Return the chance that two unrelated junctions have no more than 0, 1, ... mismatches.

        Parameters
        ----------
        length : int
            Of the junctions, in letters.
        opportunities : float
            As `most_mismatches` takes them: how small a chance has to be resolved.

        Returns
        -------
        ndarray, dtype=float64, shape=(length + 1,)
            Rising.
        """
        needed = _LEAST_COUNT * max(opportunities, 1.0) / FALSE_LINKS
        within, n = _within(self.counts, length, needed)
        if n < needed and self.reference:
            others, n_others = _within(self.reference, length, needed - n)
            share = min((needed - n) / n_others, 1.0)
            within, n = within + share * others, n + share * n_others
        # one pair more than was seen: what was not seen in n pairs may still be one in n
        return np.asarray((within + 1.0) / (n + 1.0))


def _within(counts: Counts, length: int, needed: float) -> tuple[NDArray[np.float64], float]:
    """Count pairs within 0 .. length mismatches, and all, of as near lengths as it takes."""
    limits = np.arange(length + 1) / length
    within, n = np.zeros(length + 1), 0.0
    for other in sorted(counts, key=lambda other: (abs(other - length), other)):
        sums = np.cumsum(counts[other])
        within += sums[np.minimum(np.floor(limits * other + 1e-9).astype(int), len(sums) - 1)]
        n += float(sums[-1])
        if n >= needed:
            break
    return within, n


def unrelated_groups(
    names: Sequence[tuple[str, int]], n_groups: Sequence[int], codon: int
) -> NDArray[np.float64]:
    """Estimate how many unrelated groups a block holds, from the blocks of other lengths.

    A block may be one large family, which says nothing of what is unrelated to it. The blocks of the
    same kind that are one to `MOST_SHIFTS` codons longer or shorter are as likely to be met by chance: the
    mean of the six, without the largest, which may hold much of one family.

    Parameters
    ----------
    names : sequence of (kind, length)
        Kind (donor and genes) and junction length of each block; several may be alike.
    n_groups : sequence of int
        Groups in each block.
    codon : int
        Letters of a residue.
    """
    counts: dict[tuple[str, int], int] = {}
    for name, n in zip(names, n_groups, strict=True):
        counts[name] = counts.get(name, 0) + n
    shifts = [codon * s for s in range(-MOST_SHIFTS, MOST_SHIFTS + 1) if s]
    around = [[counts.get((kind, length + shift), 0) for shift in shifts] for kind, length in names]
    counted = np.sort(np.array(around, float).reshape(-1, len(shifts)), axis=1)
    return np.asarray(counted[:, :-1].mean(axis=1))


def reference_key(*, nucleotides: bool, same_v: bool) -> str:
    """Name a table of the reference."""
    return ("nucleotides" if nucleotides else "residues") + (", same genes" if same_v else "")


@functools.cache
def reference_counts(*, nucleotides: bool, same_v: bool) -> Counts:
    """Return the distances of simulated junctions, measured as `null_distances` does.

    Made by ``scripts/make_null.py``.
    """
    text = files("plmsearch.repertoire").joinpath("null.json").read_text("utf-8")
    table = json.loads(text)[reference_key(nucleotides=nucleotides, same_v=same_v)]
    return {int(length): np.array(counts, np.int64) for length, counts in table.items()}


ByLength: TypeAlias = Mapping[int, tuple[Codes, Sequence[str]]]


def null_distances(by_length: ByLength, codon: int, *, same_v: bool) -> Null:
    """Measure the distances of unrelated junctions.

    Parameters
    ----------
    by_length : mapping of int to (codes, groups)
        Junction length -> the junctions, dtype=uint8, shape=(n, length), and the group of each; only
        junctions of one group are compared. One of each set of near copies, in an order that does not
        depend on that of the input.
    codon : int
        Letters of a residue: 3 for nucleotides, 1 for amino acids.
    same_v : bool
        Count what the V gene encodes as equal: in a block it is, and junctions of one V gene are too few.

    Returns
    -------
    Null
    """
    rng = np.random.default_rng(_SEED)
    counts = {}
    for length in sorted(by_length):
        if length > _KEPT * codon:
            found = _counts(by_length, length, codon, _KEPT * codon if same_v else 0, rng)
            if found.any():
                counts[length] = found
    return Null(counts)


def _counts(by_length: ByLength, length: int, codon: int, skip: int, rng: np.random.Generator) -> Ints:
    """Count pairs by mismatches, between junctions that have, or were cut to, one length."""
    shifts = [s for s in range(MOST_SHIFTS + 1) if length + s * codon in by_length]
    parts = [by_length[length + s * codon] for s in shifts]
    at = _KEPT * codon
    codes = np.concatenate(
        [
            np.delete(part[0], np.s_[at : at + s * codon], axis=1)
            for s, part in zip(shifts, parts, strict=True)
        ]
    )
    shift = np.repeat(shifts, [len(part[0]) for part in parts])
    rows_of: dict[str, list[int]] = {}
    for row, group in enumerate(group for part in parts for group in part[1]):
        rows_of.setdefault(group, []).append(row)
    members = [np.array(rows, np.int64) for rows in rows_of.values() if len(rows) > 1]
    n_pairs = sum(len(rows) * (len(rows) - 1) // 2 for rows in members)
    total = np.zeros(length + 1, np.int64)
    for rows in members:
        for first, second in _pairs(rows, min(1.0, _MOST_PAIRS / n_pairs), rng):
            apart = shift[first] != shift[second]
            one, other = codes[first[apart], skip:], codes[second[apart], skip:]
            total += np.bincount(mismatches(one, other), minlength=length + 1)
    return total


def _pairs(rows: Ints, share: float, rng: np.random.Generator) -> Iterator[tuple[Ints, Ints]]:
    """Yield all pairs of rows or, where that is too many, as many random ones as the share says."""
    n = len(rows)
    if share == 1.0:
        first, second = np.triu_indices(n, 1)
        for start in range(0, len(first), _CHUNK):
            yield rows[first[start : start + _CHUNK]], rows[second[start : start + _CHUNK]]
        return
    left = math.ceil(share * (n * (n - 1) // 2))
    while left > 0:
        size = min(left, _CHUNK)
        yield rows[rng.integers(0, n, size)], rows[rng.integers(0, n, size)]
        left -= size
