"""Convergent clusters: alike junctions of several donors. They are no clones: nobody shares an ancestor.

A cluster is what single linkage makes of heavy chains with a common V gene, a common J gene and one
junction length, whatever their donor, if the residues of two junctions agree in `IDENTITY` of places or
more: what publications call public or convergent clonotypes (for instance Robbiani et al. 2020,
doi:10.1038/s41586-020-2456-9, and the `clonotype` of sets of anti-viral antibodies). Only clusters that reach
over two donors or more are kept.
"""

from __future__ import annotations

from collections.abc import Sequence

from plmsearch.repertoire.blocks import Genes, gene_blocks
from plmsearch.repertoire.clonotype import Rearrangements
from plmsearch.repertoire.families import find_families

__all__ = ["IDENTITY", "MOST_DIFFERENT", "convergent_clusters"]

#: Largest share of residues in which two linked junctions differ, and what is equal then.
MOST_DIFFERENT, IDENTITY = 0.2, 0.8


def convergent_clusters(rows: Rearrangements, heavy: Sequence[int], genes: Sequence[Genes]) -> list[str]:
    """Find clusters of junctions over donors.

    Parameters
    ----------
    rows : Rearrangements
    heavy : sequence of int, length n
        Rows that have a family.
    genes : sequence of (V genes, J genes), length n
        Empty where a row has none: such a row is in no cluster.

    Returns
    -------
    list of str, length n_rows
        Numbers from 1, in the order of the clusters' first rows; "" for none. A row that names no donor is
        in none: it may be of any.
    """
    known = [
        (i, g) for i, g in zip(heavy, genes, strict=True) if all(g) and rows.residues[i] and rows.donor[i]
    ]
    junctions = [rows.residues[i] for i, _ in known]
    blocks = gene_blocks([""] * len(known), [len(j) for j in junctions], [g for _, g in known])
    found = find_families(
        junctions, blocks, [""] * len(known), [""] * len(known),
        nucleotides=False, same_v=True, threshold=MOST_DIFFERENT,
    )  # fmt: skip
    donors: dict[int, set[str]] = {}
    for (i, _), label in zip(known, found.labels.tolist(), strict=True):
        donors.setdefault(label, set()).add(rows.donor[i])
    clusters = [""] * len(rows)
    numbers: dict[int, int] = {}
    for (i, _), label in zip(known, found.labels.tolist(), strict=True):
        if len(donors[label]) > 1:
            clusters[i] = str(numbers.setdefault(label, len(numbers) + 1))
    return clusters
