"""How often genes and isotypes are used, and how mutations and CDR3 lengths are distributed.

Everything is counted in the units that rows weigh. A call that lists several genes is divided equally
among them, so that shares sum to 1 and no gene of an ambiguous call is preferred.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from plmsearch.genes import call_families, call_genes, call_isotypes
from plmsearch.repertoire.rows import Codes, RepertoireRows

__all__ = [
    "LOCI_WITH_MUTATION",
    "MUTATION_BIN",
    "QUANTILES",
    "USAGE_KINDS",
    "Lengths",
    "Mutation",
    "Usage",
    "call_is_named",
    "cdr3_lengths",
    "mutation",
    "usage",
    "weighted_quantiles",
]

#: What is counted, in order.
USAGE_KINDS = ("v_family", "v_gene", "j_gene", "isotype", "c_gene")
#: Of a distribution: 5%, 25%, 50%, 75% and 95% of the units are at or below these.
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_HEAVY = "IGH"
#: Loci whose V genes mutate; T-cell receptors do not.
LOCI_WITH_MUTATION = ("IGH", "IGK", "IGL")
#: Width of a bar of mutated shares, and how many bars there are; the last takes what is beyond.
MUTATION_BIN, N_MUTATION_BINS = 0.01, 31


@dataclass(frozen=True, slots=True)
class Usage:
    """Use of one gene or isotype in one sample.

    Parameters
    ----------
    sample : int
        Number of the sample.
    locus, kind, name : str
    count : float
        Units; a fraction where calls list several.
    share : float
        Of the units of the sample and locus that have such a call.
    """

    sample: int
    locus: str
    kind: str
    name: str
    count: float
    share: float


@dataclass(frozen=True, slots=True)
class Mutation:
    """Mutated share of V nucleotides of one sample, locus and isotype.

    Parameters
    ----------
    sample : int
    locus : str
    isotype : str
        Class such as ``IgG``; ``ambiguous`` where a call lists several classes, ``not called`` without a
        call, ``all`` for all rows of the locus.
    total : int
        Units.
    mean, unmutated : float
        Mean share; share of the units with no mutation at all.
    quantiles : tuple of float
        At `QUANTILES`.
    histogram : ndarray, dtype=int64, shape=(31,)
        Units by bars of 0.01.
    """

    sample: int
    locus: str
    isotype: str
    total: int
    mean: float
    unmutated: float
    quantiles: tuple[float, ...]
    histogram: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Lengths:
    """CDR3 lengths of one sample and locus.

    Parameters
    ----------
    sample : int
    locus : str
    total : int
        Units.
    mean : float
        Residues.
    quantiles : tuple of float
        Residues, at `QUANTILES`.
    counts : ndarray, dtype=int64, shape=(l,)
        Units by length, from 0.
    """

    sample: int
    locus: str
    total: int
    mean: float
    quantiles: tuple[float, ...]
    counts: NDArray[np.int64]


# --- Use of genes ----------------------------------------------------------------------------------


def usage(rows: RepertoireRows) -> list[Usage]:
    """Count genes and isotypes by sample and locus.

    Parameters
    ----------
    rows : RepertoireRows
        With weights.

    Returns
    -------
    list of Usage
        By sample, locus, kind, falling count. Isotypes are counted for heavy chains only.
    """
    v, j, c = ((rows.v_call, rows.v_calls), (rows.j_call, rows.j_calls), (rows.c_call, rows.c_calls))
    columns = {"v_family": v, "v_gene": v, "j_gene": j, "isotype": c, "c_gene": c}
    found: list[Usage] = []
    for kind, (codes, calls) in columns.items():
        found += _used(rows, codes, calls.texts, kind)
    place = {locus: i for i, locus in enumerate(sorted(rows.loci.texts))}
    kinds = {kind: i for i, kind in enumerate(USAGE_KINDS)}
    return sorted(found, key=lambda u: (u.sample, place[u.locus], kinds[u.kind], -u.count, u.name))


def _families(call: str) -> tuple[str, ...]:
    """Return the family of each listed gene: a family with two of three genes gets two thirds."""
    return tuple(family for gene in call_genes(call) for family in call_families(gene))


def _heavy_genes(call: str) -> tuple[str, ...]:
    return tuple(gene for gene in call_isotypes(call) if gene.startswith(_HEAVY))


def _classes(call: str) -> tuple[str, ...]:
    """Return the class of each listed gene: IgG for IGHG1."""
    return tuple(f"Ig{gene[len(_HEAVY)]}" for gene in _heavy_genes(call))


#: Names that a call lists, by what is counted.
_NAMES: dict[str, Callable[[str], tuple[str, ...]]] = {
    "v_family": _families,
    "v_gene": call_genes,
    "j_gene": call_genes,
    "isotype": _classes,
    "c_gene": _heavy_genes,
}
_HEAVY_ONLY = ("isotype", "c_gene")


def call_is_named(codes: NDArray[np.int32], calls: Codes, kind: str) -> NDArray[np.bool_]:
    """Tell which rows have a call that names something of a kind."""
    names_of = _NAMES[kind]
    return np.array([bool(names_of(call)) for call in calls.texts], dtype=bool)[codes]


def _used(
    rows: RepertoireRows,
    codes: NDArray[np.int32],
    calls: Sequence[str],
    kind: str,
) -> Iterator[Usage]:
    counts: dict[tuple[int, str], dict[str, float]] = defaultdict(lambda: defaultdict(float))
    names_of, texts = cache(_NAMES[kind]), rows.loci.texts
    for (sample, locus, call), weight in _by_key(rows.weight, rows.sample, rows.locus, codes):
        place = texts[locus]
        if kind in _HEAVY_ONLY and place != _HEAVY:
            continue
        names = names_of(calls[call])
        for name in names:
            counts[sample, place][name] += weight / len(names)
    for (sample, place), of_names in counts.items():
        total = sum(of_names.values())
        for name, count in of_names.items():
            yield Usage(sample, place, kind, name, count, count / total)


def _by_key(weights: NDArray[np.int64], *keys: NDArray[np.int32]) -> Iterator[tuple[tuple[int, ...], int]]:
    """Sum weights by several codes; only sums above 0."""
    sizes = [int(key.max(initial=0)) + 1 for key in keys]
    joined = np.zeros(len(weights), dtype=np.int64)
    for key, size in zip(keys, sizes, strict=True):
        joined = joined * size + key
    distinct, places = np.unique(joined, return_inverse=True)
    sums = np.zeros(len(distinct), dtype=np.int64)
    np.add.at(sums, places, weights)
    kept = sums > 0
    parts = []
    for size in reversed(sizes):
        distinct, code = np.divmod(distinct, size)
        parts.append(code[kept].tolist())
    yield from zip(zip(*reversed(parts), strict=True), sums[kept].tolist(), strict=True)


# --- Distributions ---------------------------------------------------------------------------------


def weighted_quantiles(
    values: NDArray[np.float64], weights: NDArray[np.int64], shares: Sequence[float] = QUANTILES
) -> tuple[float, ...]:
    """Return the smallest values at or below which such shares of the weight lie.

    Notes
    -----
    `numpy.quantile` with ``method="inverted_cdf"`` of values that are repeated by their weights.

    Examples
    --------
    >>> weighted_quantiles(np.array([3.0, 1.0]), np.array([1, 9]), (0.5, 0.95))
    (1.0, 3.0)
    """
    order = np.argsort(values, kind="stable")
    below = np.cumsum(weights[order])
    # a hair less than the share, because 0.95 times 20 is more than 19
    places = np.searchsorted(below, np.asarray(shares) * below[-1] * (1 - 1e-12), side="left")
    return tuple(values[order][np.minimum(places, len(values) - 1)].tolist())


def mutation(rows: RepertoireRows) -> list[Mutation]:
    """Describe the mutations of V genes by sample, locus and isotype; T-cell receptors have none.

    Returns
    -------
    list of Mutation
        By sample, locus, isotype, each locus with ``all`` first.
    """
    isotypes, of_call = _isotype_codes(rows)
    known = ~np.isnan(rows.mutated) & (rows.weight > 0)
    found = []
    for sample, locus, chosen in _groups(rows, known):
        if locus not in LOCI_WITH_MUTATION:
            continue
        found.append(_mutation(rows, chosen, sample, locus, "all"))
        for i, name in enumerate(isotypes if locus == _HEAVY else ()):
            some = chosen[of_call[rows.c_call[chosen]] == i]
            if len(some):
                found.append(_mutation(rows, some, sample, locus, name))
    return found


def _isotype_codes(rows: RepertoireRows) -> tuple[list[str], NDArray[np.int64]]:
    """Return names of classes in the order of the locus, and the place of each call among them."""
    names = ["IgM", "IgD", "IgG", "IgA", "IgE", "ambiguous", "not called"]
    places = []
    for call in rows.c_calls.texts:
        classes = set(_classes(call))
        name = "not called" if not classes else classes.pop() if len(classes) == 1 else "ambiguous"
        places.append(names.index(name))
    return names, np.array(places, dtype=np.int64)


def _groups(rows: RepertoireRows, chosen: NDArray[np.bool_]) -> Iterator[tuple[int, str, NDArray[np.int64]]]:
    """Yield sample, locus and the places of their rows among some rows; loci by name."""
    loci = rows.loci.texts
    rank = np.argsort(np.argsort(loci)) if loci else np.zeros(0, dtype=np.int64)
    places = np.flatnonzero(chosen)
    keys = rows.sample[places].astype(np.int64) * max(len(loci), 1) + rank[rows.locus[places]]
    order = np.argsort(keys, kind="stable")
    distinct, starts = np.unique(keys[order], return_index=True)
    for part in np.split(places[order], starts[1:]) if len(distinct) else ():
        yield int(rows.sample[part[0]]), loci[rows.locus[part[0]]], part


def _mutation(
    rows: RepertoireRows, chosen: NDArray[np.int64], sample: int, locus: str, isotype: str
) -> Mutation:
    shares, weights = rows.mutated[chosen].astype(np.float64), rows.weight[chosen]
    total = int(weights.sum())
    bars = np.minimum((shares / MUTATION_BIN + 1e-6).astype(np.int64), N_MUTATION_BINS - 1)
    return Mutation(
        sample, locus, isotype, total,
        mean=float(shares @ weights / total),
        unmutated=float(weights[shares <= 0].sum() / total),
        quantiles=weighted_quantiles(shares, weights),
        histogram=_sums(bars, weights, N_MUTATION_BINS),
    )  # fmt: skip


def cdr3_lengths(rows: RepertoireRows) -> list[Lengths]:
    """Describe CDR3 lengths in residues, the conserved C and W or F not counted.

    Returns
    -------
    list of Lengths
        By sample and locus.
    """
    known = (rows.cdr3 >= 0) & (rows.weight > 0)
    found = []
    for sample, locus, chosen in _groups(rows, known):
        lengths, weights = rows.cdr3[chosen].astype(np.int64), rows.weight[chosen]
        total = int(weights.sum())
        found.append(
            Lengths(
                sample, locus, total,
                mean=float(lengths @ weights / total),
                quantiles=weighted_quantiles(lengths.astype(np.float64), weights),
                counts=_sums(lengths, weights, int(lengths.max()) + 1),
            )
        )  # fmt: skip
    return found


def _sums(places: NDArray[np.int64], weights: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    sums = np.zeros(n, dtype=np.int64)
    np.add.at(sums, places, weights)
    return sums
