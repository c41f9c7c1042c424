"""What V regions say of descent: mutations that two chains share, and differences that they lack.

Junctions alone cannot tell whether two chains descend from one rearrangement where rearrangements are
alike (few genes, next to no N additions) or mutations many. The V region before the junction knows more:

- Chains that descend from one mutated cell *share* mutations. Between unrelated chains the number of
  shared ones is Poisson with mean ``excess * n_i * n_j / length``, where n_i and n_j are the mutations of
  each, and `excess` (hot spots) is measured on the input. HILARy (Spisak et al. 2024,
  doi:10.7554/eLife.86181) uses the same count.
- The junctions of two relatives have differed for as long as their V regions have. A pair with u
  differences in V regions of L letters expects ``(u + 1) * l / L`` in junctions of l letters; a pair with
  nearly equal V regions whose junctions differ by far more has two rearrangements.

The germline is not needed: a mutation is what differs from the consensus of the input's chains with that V
gene, each family counted once. A letter that many families have is no mutation but an allele or a hot spot.

Limitations
-----------
V regions are compared position by position, from the junction backwards: behind an insertion or deletion
everything differs. A chain with more than a quarter of its letters mutated is taken to say nothing.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from plmsearch.repertoire.linkage import NUCLEOTIDES, RESIDUES, Codes, encode, mismatches

__all__ = ["Evidence", "VRegions", "poisson_tail", "v_region_before", "v_regions"]

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]

#: Residues of a V region that are compared: human heavy V genes have 95 to 98 before C104 (IMGT).
_MOST_RESIDUES = 95
#: A letter of this share of families, or of more, is no mutation of one of them.
_COMMON = 0.1
#: A larger share of mutated letters comes from an insertion, a deletion or a wrong call.
_MOST_MUTATED = 0.25
#: Pairs of unrelated chains that `excess` is measured on.
_MOST_PAIRS = 200_000
_SEED = 20261125


@dataclass(frozen=True, slots=True)
class Evidence:
    """What V regions say of pairs of rows.

    Parameters
    ----------
    shared : ndarray, dtype=float64, shape=(n_pairs,)
        Chance that unrelated chains with as many mutations share as many, or more; 1 where nothing is known.
    lacking : ndarray, dtype=float64, shape=(n_pairs,)
        Chance that the junctions of relatives differ as much or more, given the V regions.
    apart : ndarray, dtype=int64, shape=(n_pairs,)
        Letters by which the V regions differ; 0 where nothing is known.
    """

    shared: Floats
    lacking: Floats
    apart: Ints


@dataclass(frozen=True, slots=True)
class VRegions:
    """V regions as numbers.

    Parameters
    ----------
    codes : ndarray, dtype=uint8, shape=(n, width)
        Aligned at their end, the junction; 0 is unknown.
    mutations : ndarray, dtype=uint8, shape=(n, width)
        The letters that are mutations, 0 elsewhere.
    known, n_mutations : ndarray, dtype=int64, shape=(n,)
        Known letters, 0 where a V region says nothing; letters of `mutations`.
    excess : float
        How many times more mutations unrelated chains share than if all positions mutated alike; 1 or more.
    """

    codes: Codes
    mutations: Codes
    known: Ints
    n_mutations: Ints
    excess: float

    def evidence(self, first: Ints, second: Ints, differ: Ints, length: int) -> Evidence:
        """Judge pairs of rows.

        Parameters
        ----------
        first, second : ndarray, dtype=int64, shape=(n_pairs,)
            Rows.
        differ : ndarray, dtype=int64, shape=(n_pairs,)
            Mismatches of their junctions.
        length : int
            Of the junctions.
        """
        one, other = self.mutations[first], self.mutations[second]
        n_shared = np.count_nonzero((one == other) & (one != 0), axis=1)
        v_length = np.minimum(self.known[first], self.known[second])
        silent = v_length == 0
        v_length = np.maximum(v_length, 1)
        mean = self.excess * self.n_mutations[first] * self.n_mutations[second] / v_length
        apart = mismatches(self.codes[first], self.codes[second])
        shared = poisson_tail(n_shared, mean)
        lacking = poisson_tail(differ, (apart + 1.0) * length / v_length)
        return Evidence(
            np.where(silent, 1.0, shared), np.where(silent, 1.0, lacking), np.where(silent, 0, apart)
        )


def poisson_tail(counts: Ints, means: Floats) -> Floats:
    """Return the chance of at least so many events; 1 for 0.

    Examples
    --------
    >>> poisson_tail(np.array([0, 1, 3]), np.array([2.0, 0.5, 0.1])).round(5).tolist()
    [1.0, 0.39347, 0.00015]
    """
    # summed from the count upwards: what is left of 1 would be rounding where the tail is small
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1.0, counts.max(initial=0) + 1.0)))])
    safe = np.maximum(means, 1e-12)
    term = np.exp(counts * np.log(safe) - safe - logs[counts])
    total, step = term.copy(), counts.astype(np.float64)
    while np.any(term > 1e-4 * total):
        step += 1.0
        term = term * safe / step
        total += term
    return np.asarray(np.where(counts == 0, 1.0, np.minimum(total, 1.0)))


def v_region_before(sequence: str, junction: str, codon: int) -> str:
    """Return the letters before a junction, as many as are compared; "" if it is not in just one place.

    Examples
    --------
    >>> v_region_before("CAGTGTGCG", "TGTGCG", 3)
    'CAG'
    """
    at = sequence.find(junction) if junction else -1
    if at < 0 or sequence.find(junction, at + 1) >= 0:
        return ""
    return sequence[max(0, at - codon * _MOST_RESIDUES) : at]


def v_regions(
    regions: Sequence[str], genes: Sequence[Hashable], families: Ints, *, nucleotides: bool
) -> VRegions:
    """Find the mutations of V regions.

    Parameters
    ----------
    regions : sequence of str, length n
        As `v_region_before` returns them.
    genes : sequence of hashable, length n
        V gene (and donor) of each: those of one gene have one consensus.
    families : ndarray, dtype=int64, shape=(n,)
        Families as far as they are known; each counts once.
    nucleotides : bool
        Or residues.
    """
    width = max(map(len, regions), default=0)
    codes = encode([r.rjust(width, "-") for r in regions], NUCLEOTIDES if nucleotides else RESIDUES)
    mutations = np.zeros_like(codes)
    rows_of: dict[Hashable, list[int]] = {}
    for row, gene in enumerate(genes):
        if regions[row]:
            rows_of.setdefault(gene, []).append(row)
    for members in rows_of.values():
        rows = np.array(members, np.int64)
        mutations[rows] = _mutations(codes[rows], families[rows])
    known = np.count_nonzero(codes, axis=1).astype(np.int64)
    n_mutations = np.count_nonzero(mutations, axis=1).astype(np.int64)
    odd = n_mutations > _MOST_MUTATED * known
    known[odd] = 0
    excess = _excess(mutations, known, n_mutations, families, list(rows_of.values()))
    return VRegions(codes, mutations, known, n_mutations, excess)


def _mutations(codes: Codes, families: Ints) -> Codes:
    """Return the letters that differ from the consensus of one gene and that few families have."""
    _, family = np.unique(families, return_inverse=True)
    n_families = int(family.max()) + 1
    sizes = np.bincount(family)
    weights = 1.0 / sizes[family]
    letters = range(1, int(codes.max(initial=0)) + 1)
    consensus = np.argmax([weights @ (codes == letter) for letter in letters], axis=0) + 1
    found = np.where(codes == consensus, 0, codes).astype(np.uint8)
    most = max(1, int(_COMMON * n_families))
    for letter in letters:
        rows, places = np.nonzero(found == letter)
        pairs = np.unique(np.stack([family[rows], places]), axis=1)  # a family has it in some member
        common = np.bincount(pairs[1], minlength=codes.shape[1]) > most
        found[(found == letter) & common] = 0
    return found


def _excess(
    mutations: Codes, known: Ints, n_mutations: Ints, families: Ints, genes: Sequence[Sequence[int]]
) -> float:
    """Compare the mutations that unrelated chains of one gene share with what equal positions would give."""
    rng = np.random.default_rng(_SEED)
    n_shared = expected = 0.0
    share = min(1.0, _MOST_PAIRS / max(sum(len(rows) ** 2 for rows in genes), 1))
    for members in genes:
        rows = np.array(members, np.int64)
        rows = rows[known[rows] > 0]
        rows = rows[np.unique(families[rows], return_index=True)[1]]  # one of each family
        drawn = rng.integers(0, max(len(rows), 1), (2, int(share * len(rows) ** 2)))
        drawn = drawn[:, drawn[0] != drawn[1]]
        first, second = rows[drawn]
        one, other = mutations[first], mutations[second]
        n_shared += np.count_nonzero((one == other) & (one != 0))
        expected += float((n_mutations[first] * n_mutations[second] / known[first]).sum())
    return max(1.0, (n_shared + 1.0) / (expected + 1.0))
