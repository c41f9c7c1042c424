"""Heavy chains grouped by one of the methods."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias, cast, get_args

from plmsearch.repertoire.blocks import Genes, gene_blocks, key_blocks
from plmsearch.repertoire.clonotype import Rearrangements, genes_of
from plmsearch.repertoire.families import Families, find_families
from plmsearch.repertoire.family_vectors import RowVectors
from plmsearch.repertoire.linkage import NUCLEOTIDES, RESIDUES
from plmsearch.repertoire.vector_families import VectorFamilies, find_vector_families

__all__ = [
    "CALL_METHODS",
    "INFERRED",
    "METHODS",
    "Method",
    "choose_method",
    "group_heavy",
    "has_calls",
    "junctions_of",
    "readable",
]

Method: TypeAlias = Literal["junction", "cdr3", "embedding", "hybrid"]
METHODS: tuple[Method, ...] = get_args(Method)
#: Methods that need a V and a J gene.
CALL_METHODS: tuple[Method, ...] = ("junction", "hybrid")

#: Junctions are compared as nucleotides if so large a share of the rows that have one has nucleotides.
_MOSTLY = 0.9
#: Share of heavy chains with a junction that need calls, where these are inferred.
INFERRED = 0.98
#: With V and J calls for at least this share of heavy chains, calls are used; and V regions likewise.
_CALLED = 0.5


def choose_method(rows: Rearrangements, heavy: Sequence[int], wanted: str) -> Method:
    """Return the method that is wanted or, for ``auto``, that the rows allow."""
    if wanted != "auto":
        return cast(Method, wanted)
    if not has_calls(rows, heavy, _CALLED):
        return "cdr3"
    n_with_v = sum(bool(rows.v_nucleotides[i] or rows.v_residues[i]) for i in heavy)
    return "hybrid" if n_with_v >= _CALLED * len(heavy) else "junction"


def has_calls(rows: Rearrangements, heavy: Sequence[int], share: float = _CALLED) -> bool:
    """Tell whether at least a share of heavy chains have a V and a J gene."""
    n_called = sum(all(genes_of(rows.calls[i], first=True)) for i in heavy)
    return bool(heavy) and n_called >= share * len(heavy)


def junctions_of(rows: Rearrangements, heavy: Sequence[int]) -> tuple[list[str], str]:
    """Choose nucleotides or residues for all rows: their distances are not the same thing."""
    n_nucleotides = sum(bool(rows.nucleotides[i]) for i in heavy)
    n_any = sum(bool(rows.nucleotides[i] or rows.residues[i]) for i in heavy)
    unit = "nucleotides" if n_nucleotides >= _MOSTLY * n_any else "residues"
    return (rows.nucleotides if unit == "nucleotides" else rows.residues), unit


def readable(junction: str, unit: str) -> bool:
    """Tell whether half of the letters or more are known: others would be near to everything."""
    alphabet = NUCLEOTIDES if unit == "nucleotides" else RESIDUES
    return bool(junction) and 2 * sum(map(junction.count, alphabet)) >= len(junction)


def group_heavy(
    rows: Rearrangements,
    heavy: Sequence[int],
    genes: Sequence[Genes],
    method: Method,
    unit: str,
    threshold: float | None,
    vectors: RowVectors | None,
) -> Families | VectorFamilies:
    """Group heavy chains.

    Parameters
    ----------
    rows : Rearrangements
    heavy : sequence of int, length n
        Rows that take part.
    genes : sequence of (V genes, J genes), length n
    method : {"junction", "cdr3", "embedding", "hybrid"}
    unit : {"nucleotides", "residues"}
    threshold : float or None
    vectors : RowVectors or None
        Of all rows; needed by method embedding.

    Returns
    -------
    Families or VectorFamilies
        Labels are places in `heavy`.
    """
    is_nucleotides = unit == "nucleotides"
    donors = [rows.donor[i] for i in heavy]
    junctions = [(rows.nucleotides if is_nucleotides else rows.residues)[i] for i in heavy]
    lengths = [len(junction) for junction in junctions]
    if method == "embedding" and vectors is not None:
        codons = [-(-n // 3) if is_nucleotides else n for n in lengths]
        return find_vector_families(vectors.vectors, vectors.of_row[list(heavy)], donors, codons, threshold)
    with_genes = method in CALL_METHODS
    if with_genes:
        blocks = gene_blocks(donors, lengths, genes)
        groups = [min(j) for _, j in genes]
        kinds = [f"{d}\t{min(v)}\t{min(j)}" for d, (v, j) in zip(donors, genes, strict=True)]
    else:
        blocks = key_blocks(list(zip(donors, lengths, strict=True)))
        groups, kinds = [""] * len(junctions), donors
    v_regions = rows.v_nucleotides if is_nucleotides else rows.v_residues
    return find_families(
        junctions,
        blocks,
        kinds,
        groups,
        nucleotides=is_nucleotides,
        same_v=with_genes,
        threshold=threshold,
        v=[v_regions[i] for i in heavy] if method == "hybrid" else None,
    )
