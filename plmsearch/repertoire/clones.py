"""Clonal families of a rearrangement table: which rows take part, how, and what is told about it.

A family lies within one donor. Heavy chains are grouped; a light chain has the family of its cell, and
a T-cell receptor, which does not mutate, the one of its own clonotype.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, get_args

from plmsearch.errors import ParameterError
from plmsearch.repertoire.blocks import Genes, merge_genes
from plmsearch.repertoire.clonotype import Rearrangements, genes_of
from plmsearch.repertoire.convergence import convergent_clusters
from plmsearch.repertoire.families import Families
from plmsearch.repertoire.family_vectors import RowVectors
from plmsearch.repertoire.heavy import (
    CALL_METHODS,
    METHODS,
    Method,
    choose_method,
    group_heavy,
    junctions_of,
    readable,
)
from plmsearch.repertoire.vector_families import VectorFamilies

__all__ = ["AUTO", "METHODS", "V_CALLS", "CloneOptions", "Clones", "Status", "assign_clones"]

AUTO = "auto"
VCall: TypeAlias = Literal["set", "first"]
V_CALLS: tuple[VCall, ...] = get_args(VCall)

#: Why a row has no family.
Status: TypeAlias = Literal[
    "", "no_junction", "no_calls", "no_vector", "not_productive", "not_filtered", "light_unpaired", "tcr",
    "other_locus",
]  # fmt: skip

_HEAVY = ("IGH", "")  # a row whose locus nothing tells is taken for a heavy chain, and said so
_LIGHT = ("IGK", "IGL")
_TCR = ("TRA", "TRB", "TRG", "TRD")


@dataclass(frozen=True, slots=True)
class CloneOptions:
    """How rows are grouped.

    Parameters
    ----------
    method : {"auto", "junction", "cdr3", "embedding", "hybrid"}
        auto: hybrid where most heavy chains have V and J calls and a V region, junction where they have
        calls only, else cdr3.
    threshold : float or None
        Largest share of mismatches of a link, or cosine distance; None: found, block by block.
    v_call : {"set", "first"}
        Of a call that lists several genes all, or the first.
    split_light : bool
        Divide families by the V and J genes of the light chain of the cell.
    productive : bool
        Leave out rows that the input says are not productive.
    convergent : bool
        Find convergent clusters even if there is one donor.
    filtered : bool
        Leave out contigs that 10x's filtered set has not: no cell, or of low confidence.

    Raises
    ------
    ParameterError
        If a value is none of these.
    """

    method: str = "auto"
    threshold: float | None = None
    v_call: VCall = "set"
    split_light: bool = False
    productive: bool = False
    convergent: bool = False
    filtered: bool = False

    def __post_init__(self) -> None:
        if self.method not in (AUTO, *METHODS):
            raise ParameterError("method", self.method, f"one of {', '.join((AUTO, *METHODS))}")
        if self.v_call not in V_CALLS:
            raise ParameterError("v-call", self.v_call, f"one of {', '.join(V_CALLS)}")
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise ParameterError("threshold", self.threshold, "from 0 to 1")


@dataclass(slots=True)
class Clones:
    """Families of the rows of a table.

    Parameters
    ----------
    clone_id : list of str
        "" for none. Families are numbered from 1 in the order of their first row.
    status : list of Status
        Why a row has none; "" where it has one.
    method : {"junction", "cdr3", "embedding", "hybrid"}
        As it was chosen.
    unit : {"nucleotides", "residues"}
        Of junctions.
    families : Families or VectorFamilies
        Of the heavy chains that took part.
    n_heavy : int
        How many these are.
    n_assumed_heavy : int
        Rows whose locus nothing tells.
    n_donors : int
    sizes : list of int
        Heavy chains of each family that has some, the largest first.
    n_light : int
        Light chains with a family.
    receptor_sizes : list of int
        Rows of each clonotype of T-cell receptors, the largest first.
    vectors : RowVectors or None
        What method embedding compared.
    convergent : list of str or None
        Convergent cluster of each row, "" for none; None where they were not looked for.
    """

    clone_id: list[str]
    status: list[Status]
    method: Method
    unit: str
    families: Families | VectorFamilies
    n_heavy: int
    n_assumed_heavy: int
    n_donors: int
    sizes: list[int] = field(default_factory=list)
    n_light: int = 0
    receptor_sizes: list[int] = field(default_factory=list)
    vectors: RowVectors | None = None
    convergent: list[str] | None = None

    def status_counts(self) -> dict[str, int]:
        """Count the rows without a family by reason."""
        return dict(sorted(Counter(status for status in self.status if status).items()))


def assign_clones(rows: Rearrangements, options: CloneOptions, vectors: RowVectors | None = None) -> Clones:
    """Group the rows of a table into clonal families.

    Parameters
    ----------
    rows : Rearrangements
    options : CloneOptions
    vectors : RowVectors, optional
        Of all rows; needed by method embedding.

    Returns
    -------
    Clones
    """
    status = _first_status(rows, options)
    heavy = [i for i, s in enumerate(status) if not s and rows.locus[i] in _HEAVY]
    junctions, unit = junctions_of(rows, heavy)
    method = choose_method(rows, heavy, options.method)
    genes = {i: genes_of(rows.calls[i], first=options.v_call == "first") for i in heavy}
    for i in heavy:
        if not readable(junctions[i], unit):
            status[i] = "no_junction"
        elif method in CALL_METHODS and not all(genes[i]):
            status[i] = "no_calls"
        elif method == "embedding" and (vectors is None or vectors.of_row[i] < 0):
            status[i] = "no_vector"
    heavy = [i for i in heavy if not status[i]]
    found = group_heavy(rows, heavy, [genes[i] for i in heavy], method, unit, options.threshold, vectors)
    family: dict[int, Hashable] = dict(zip(heavy, found.labels.tolist(), strict=True))
    if options.split_light:
        family = _split_by_light(rows, family, first=options.v_call == "first")
    _add_light(rows, family, status)
    _add_tcr(rows, family, status)
    ids = _numbered(family, len(rows))
    donors = {rows.donor[i] for i in heavy}
    clusters = None
    if options.convergent or len(donors - {""}) > 1:
        clusters = convergent_clusters(rows, heavy, [genes[i] for i in heavy])
    return Clones(
        ids, status, method, unit, found, n_heavy=len(heavy),
        n_assumed_heavy=sum(1 for i in heavy if not rows.locus[i]), n_donors=len(donors),
        sizes=_sizes(ids, rows, _HEAVY), n_light=sum(_sizes(ids, rows, _LIGHT)),
        receptor_sizes=_sizes(ids, rows, _TCR), vectors=vectors, convergent=clusters,
    )  # fmt: skip


def _first_status(rows: Rearrangements, options: CloneOptions) -> list[Status]:
    known = {*_HEAVY, *_LIGHT, *_TCR}
    status: list[Status] = []
    for locus, is_productive, is_filtered in zip(rows.locus, rows.productive, rows.filtered, strict=True):
        if options.productive and not is_productive:
            status.append("not_productive")
        elif options.filtered and not is_filtered:
            status.append("not_filtered")
        else:
            status.append("" if locus in known else "other_locus")
    return status


# --- Light chains and T-cell receptors -----------------------------------------------------------


def _cell(rows: Rearrangements, i: int) -> tuple[str, str, str] | None:
    cell = rows.cell[i]
    return None if cell is None else (rows.donor[i], *cell)


def _best_of_cells(rows: Rearrangements, members: Sequence[int]) -> dict[tuple[str, str, str], int]:
    """Choose one row of each cell: a productive one, highest umi_count, else duplicate_count.

    Of equals the one whose sequence comes last, so that the order of rows does not matter.
    """

    def rank(i: int) -> tuple[object, ...]:
        content = (
            rows.nucleotides[i],
            rows.residues[i],
            rows.calls[i],
            rows.v_nucleotides[i],
            rows.v_residues[i],
        )
        return rows.productive[i], rows.weight[i], *content

    best: dict[tuple[str, str, str], int] = {}
    for i in members:
        cell = _cell(rows, i)
        if cell is not None and (cell not in best or rank(i) > rank(best[cell])):
            best[cell] = i
    return best


def _add_light(rows: Rearrangements, family: dict[int, Hashable], status: list[Status]) -> None:
    """Give each light chain the family of its cell's heavy chain."""
    heavy_of = _best_of_cells(rows, list(family))
    for i, locus in enumerate(rows.locus):
        if locus not in _LIGHT or status[i]:
            continue
        cell = _cell(rows, i)
        if cell in heavy_of:
            family[i] = family[heavy_of[cell]]
        else:
            status[i] = "light_unpaired"


def _split_by_light(rows: Rearrangements, family: dict[int, Hashable], *, first: bool) -> dict[int, Hashable]:
    """Divide families by the V and J genes of the light chain of the cell.

    A heavy chain without one stays with the largest part: nothing tells it apart.
    """
    light_of = _best_of_cells(rows, [i for i, locus in enumerate(rows.locus) if locus in _LIGHT])
    members: dict[Hashable, list[int]] = {}
    for i, label in family.items():
        members.setdefault(label, []).append(i)
    divided: dict[int, Hashable] = {}
    for label, rows_of in members.items():
        genes = {}
        for i in rows_of:
            light = light_of.get(_cell(rows, i) or ("", "", ""))
            if light is not None and all(calls := genes_of(rows.calls[light], first=first)):
                genes[i] = calls
        parts = merge_genes(genes.values())
        part_of = {i: parts[calls] for i, calls in genes.items()}
        sizes = Counter(part_of.values())
        named = {parts[calls]: calls for calls in sorted(parts, key=_names_of, reverse=True)}
        # of equal parts the one of the first gene by name: the order of rows does not matter
        largest = min(sizes, key=lambda part: (-sizes[part], _names_of(named[part])), default=0)
        divided |= {i: (label, part_of.get(i, largest)) for i in rows_of}
    return divided


def _names_of(genes: Genes) -> tuple[list[str], list[str]]:
    return sorted(genes[0]), sorted(genes[1])


def _add_tcr(rows: Rearrangements, family: dict[int, Hashable], status: list[Status]) -> None:
    """Group T-cell receptor chains of one donor, locus, V and J genes and nucleotide junction."""
    for i, locus in enumerate(rows.locus):
        if locus not in _TCR or status[i]:
            continue
        v, j = genes_of(rows.calls[i], first=False)
        if v and j and rows.nucleotides[i]:
            family[i] = (rows.donor[i], locus, v, j, rows.nucleotides[i])
        else:
            status[i] = "tcr"


def _numbered(family: dict[int, Hashable], n: int) -> list[str]:
    """Number families in the order of their first row."""
    numbers: dict[Hashable, int] = {}
    ids = [""] * n
    for i in sorted(family):
        ids[i] = str(numbers.setdefault(family[i], len(numbers) + 1))
    return ids


def _sizes(ids: Sequence[str], rows: Rearrangements, loci: Sequence[str]) -> list[int]:
    """Count the rows of some loci by family, the largest first."""
    counts = Counter(one for one, locus in zip(ids, rows.locus, strict=True) if one and locus in loci)
    return sorted(counts.values(), reverse=True)
