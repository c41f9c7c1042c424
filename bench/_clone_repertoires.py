"""SIMULATED heavy-chain repertoires with whole sequences and known clones, for bench/clones.py.

Recombination is GenAIRR's. Families grow here: their sizes follow a power law; a member descends from
the unmutated founder (star), or from an earlier member of a tree whose root has mutations that all
share. Mutations fall on hot spots (WRC and GYW five times as often, SYC and GRS a third, as roughly in
S5F, Yaari et al. 2013, doi:10.3389/fimmu.2013.00358), two in three are transitions; a stop codon is
drawn anew, and cysteine and tryptophan are kept. A narrow repertoire has few genes and next to no N
additions: many of its clones have nearly equal unmutated junctions.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from Bio.Seq import translate

__all__ = ["KINDS", "Chain", "Kind", "repertoire"]

_LEAST_POOL = 4000
_GENERATIONS = 4  # below the root of a tree
_STOPS = {"TAA", "TAG", "TGA"}
_TRANSITION = dict(zip("ACGT", "GTAC", strict=True))


@dataclass(frozen=True)
class Kind:
    """One kind of repertoire.

    `trunk` and `step` are mutations per base: of the root of a tree, shared by all, and of each
    generation (a star has steps from the founder only). `exponent` and `most` are of the family sizes.
    """

    name: str
    trunk: float
    step: float
    exponent: float
    most: int
    tree: bool = True
    narrow: bool = False


KINDS = (
    Kind("naive-like star", 0.0, 0.01, 2.5, 20, tree=False),
    Kind("memory star", 0.0, 0.05, 2.0, 60, tree=False),
    Kind("young trees", 0.005, 0.005, 2.0, 50),
    Kind("memory trees", 0.02, 0.015, 2.0, 100),
    Kind("expanded trees", 0.03, 0.02, 1.6, 300),
    Kind("hypermutated trees", 0.06, 0.03, 2.0, 100),
    Kind("narrow trees", 0.01, 0.01, 2.0, 30, narrow=True),
    Kind("narrow star", 0.0, 0.03, 2.0, 30, tree=False, narrow=True),
)


@dataclass(frozen=True)
class Chain:
    """One simulated row; `clone` is the truth."""

    clone: str
    v_call: str
    j_call: str
    junction: str
    sequence: str

    @property
    def junction_aa(self) -> str:
        """Residues of the junction."""
        return str(translate(self.junction))

    @property
    def sequence_aa(self) -> str:
        """Residues of the chain."""
        return str(translate(self.sequence[: len(self.sequence) // 3 * 3]))


@functools.cache
def _pool(n: int, seed: int, *, narrow: bool) -> list[tuple[str, str, str, int, int]]:
    """Draw unmutated rearrangements: calls, sequence, and where the junction is."""
    import GenAIRR
    import GenAIRR.data

    warnings.simplefilter("ignore")
    rng = np.random.default_rng(seed)
    data = GenAIRR.data.HUMAN_IGH_OGRDB
    names = [sorted(alleles[0].name for alleles in genes.values())
             for genes in (data.v_alleles, data.d_alleles, data.j_alleles)]  # fmt: skip
    experiment = GenAIRR.Experiment.on("human_igh")
    if narrow:
        v, d, j = ([str(x) for x in rng.choice(n, k, replace=False)]
                   for n, k in zip(names, (12, 4, 3), strict=True))  # fmt: skip
        few, one = [(0, 0.5), (1, 0.3), (2, 0.2)], [(1, 0.4), (2, 0.6)]
        experiment = experiment.restrict_alleles(v=v, d=d, j=j).recombine(np1_lengths=few, np2_lengths=few)
        experiment = experiment.trim(v_3=one, d_5=one, d_3=one, j_5=one)
    else:  # a few V genes make most of a real repertoire
        weights = 1 / np.arange(1, len(names[0]) + 1) ** 0.7
        usage = dict(zip((str(x) for x in rng.permutation(names[0])), weights.tolist(), strict=True))
        experiment = experiment.recombine(v_allele_weights=usage)
    records = experiment.productive_only().run_records(n=n, seed=seed)
    return [(r["v_call"], r["j_call"], r["sequence"].upper(), r["junction_start"], r["junction_end"])
            for r in records]  # fmt: skip


def _mutability(sequence: str, kept: frozenset[int]) -> np.ndarray:
    weights = np.ones(len(sequence))
    for i in range(2, len(sequence) - 2):
        before, base, after = sequence[i - 2 : i], sequence[i], sequence[i + 1 : i + 3]
        if (base == "C" and before[0] in "AT" and before[1] in "AG") or (
            base == "G" and after[0] in "CT" and after[1] in "AT"
        ):
            weights[i] = 5.0
        elif (base == "C" and before[0] in "CG" and before[1] in "CT") or (
            base == "G" and after[0] in "AG" and after[1] in "CG"
        ):
            weights[i] = 0.3
    weights[list(kept)] = 0.0
    return weights / weights.sum()


def _kept(founder: str) -> frozenset[int]:
    """Return the bases of cysteines and tryptophans: C23, W41, C104 and W118 hold a domain together."""
    codons = range(0, len(founder) - 2, 3)
    return frozenset(i + k for i in codons if founder[i : i + 3] in ("TGT", "TGC", "TGG") for k in range(3))


def _mutated(sequence: str, rate: float, kept: frozenset[int], rng: np.random.Generator) -> str:
    """Add a Poisson number of mutations, without a stop codon."""
    n = min(int(rng.poisson(rate * len(sequence))), len(sequence) // 4)
    weights = _mutability(sequence, kept) if n else None
    while n:
        letters = list(sequence)
        for i in rng.choice(len(letters), n, replace=False, p=weights).tolist():
            others = [base for base in "ACGT" if base not in (letters[i], _TRANSITION[letters[i]])]
            letters[i] = _TRANSITION[letters[i]] if rng.random() < 2 / 3 else others[rng.integers(2)]
        new = "".join(letters)
        if not any(new[i : i + 3] in _STOPS for i in range(0, len(new) - 2, 3)):
            return new
        n -= rng.random() < 0.1  # where every draw has a stop
    return sequence


def _family(founder: str, size: int, kind: Kind, rng: np.random.Generator) -> Iterator[str]:
    kept = _kept(founder)
    load = min(rng.gamma(2.0, 0.5), 2.0)  # clones differ in how long they have mutated
    if not kind.tree:
        for _ in range(size):
            yield _mutated(founder, kind.step * load, kept, rng)
        return
    nodes, depths = [_mutated(founder, kind.trunk * load, kept, rng)], [0]
    while len(nodes) < 2 * size:
        parent = rng.integers(len(nodes))
        if depths[parent] < _GENERATIONS:
            nodes.append(_mutated(nodes[parent], kind.step * load, kept, rng))
            depths.append(depths[parent] + 1)
    yield from (nodes[i] for i in rng.choice(len(nodes), size, replace=False).tolist())


def repertoire(kind: Kind, n: int, seed: int) -> list[Chain]:
    """Draw n productive heavy chains, in an order that tells nothing of their clones."""
    rng = np.random.default_rng(seed)
    pool = _pool(max(_LEAST_POOL, n // 4), seed, narrow=kind.narrow)
    chains: list[Chain] = []
    for clone, founder in enumerate(rng.permutation(len(pool)).tolist()):
        v, j, sequence, start, end = pool[founder]
        size = min(int((1 - rng.random()) ** (-1 / (kind.exponent - 1))), kind.most)
        for member in _family(sequence, size, kind, rng):
            chains.append(Chain(str(clone), v, j, member[start:end], member))
        if len(chains) >= n:
            break
    return [chains[i] for i in rng.permutation(len(chains))[:n].tolist()]
