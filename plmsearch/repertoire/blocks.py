"""Blocks: rows between which a family may reach, because donor, junction length and genes agree.

Rows whose call lists several genes agree with each of them. As ``DefineClones.py --act set`` of
Change-O (Gupta et al. 2015, doi:10.1093/bioinformatics/btv359) has it, such a row joins what it agrees
with: a block has a set of V genes and a set of J genes, and two blocks that share a gene of each kind
are one.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Genes", "gene_blocks", "key_blocks", "merge_genes"]

Ints: TypeAlias = NDArray[np.int64]
#: V genes and J genes of one row.
Genes: TypeAlias = tuple[frozenset[str], frozenset[str]]


@dataclass(slots=True)
class _Group:
    v: set[str]
    j: set[str]
    members: list[Genes] = field(default_factory=list)

    def pairs(self) -> Iterable[tuple[str, str]]:
        return itertools.product(self.v, self.j)


def merge_genes(calls: Iterable[Genes]) -> dict[Genes, int]:
    """Number the groups of calls that reach each other through shared genes.

    Parameters
    ----------
    calls : iterable of (V genes, J genes)
        Neither set empty.

    Returns
    -------
    dict of (V genes, J genes) to int
        Equal numbers for one group.

    Notes
    -----
    A group covers every pair of one of its V genes with one of its J genes; groups that cover a common
    pair are one, which widens what they cover, until nothing changes. The order of the calls does not
    matter. (Change-O goes through the rows once, and there the order can matter.)

    Examples
    --------
    >>> j = frozenset({"IGHJ4"})
    >>> one, two, both = (frozenset({"A"}), j), (frozenset({"B"}), j), (frozenset({"A", "B"}), j)
    >>> len(set(merge_genes([one, two]).values())), len(set(merge_genes([one, two, both]).values()))
    (2, 1)
    """
    owners: dict[tuple[str, str], _Group] = {}
    for call in dict.fromkeys(calls):
        group = _Group(set(call[0]), set(call[1]), [call])
        while hit := _others(owners, group):
            for other in hit:
                group.v |= other.v
                group.j |= other.j
                group.members += other.members
                for pair in other.pairs():
                    owners[pair] = group
        for pair in group.pairs():
            owners[pair] = group
    groups = {id(group): group for group in owners.values()}
    return {call: number for number, group in enumerate(groups.values()) for call in group.members}


def _others(owners: dict[tuple[str, str], _Group], group: _Group) -> list[_Group]:
    """Return the other groups that cover a pair of this one."""
    found = (owners.get(pair) for pair in group.pairs())
    return list({id(other): other for other in found if other is not None and other is not group}.values())


def key_blocks(keys: Sequence[Hashable]) -> Ints:
    """Number rows by their key, in order of first appearance.

    Examples
    --------
    >>> key_blocks(["b", "a", "b"])
    array([0, 1, 0])
    """
    numbers: dict[Hashable, int] = {}
    return np.fromiter((numbers.setdefault(key, len(numbers)) for key in keys), np.int64, len(keys))


def gene_blocks(donors: Sequence[str], lengths: Sequence[int], genes: Sequence[Genes]) -> Ints:
    """Number the blocks of donor, junction length, V and J genes.

    Parameters
    ----------
    donors : sequence of str, length n
    lengths : sequence of int, length n
        Of the junctions, in letters.
    genes : sequence of (V genes, J genes), length n

    Returns
    -------
    ndarray, dtype=int64, shape=(n,)
        Number of each row's block.
    """
    listed: dict[tuple[str, int], dict[Genes, None]] = {}
    for donor, length, one in zip(donors, lengths, genes, strict=True):
        listed.setdefault((donor, length), {})[one] = None
    merged = {place: merge_genes(calls) for place, calls in listed.items()}
    return key_blocks([(d, n, merged[d, n][one]) for d, n, one in zip(donors, lengths, genes, strict=True)])
