"""What repertoire statistics consist of.

Words
-----
A *unit* is what is counted: a row, a molecule (``umi_count``), a read (``duplicate_count``) or a cell. A
*clone* is a ``clone_id`` of one donor in one table: clones never span donors, nor tables, because ids are
numbered anew in each. A *clonotype* is an equal V gene (the first one listed), J gene and ``junction_aa``;
the same one in two donors is convergence.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from plmsearch.repertoire.diversity import MIN_DEPTH, N_BOOTSTRAPS, Diversity
from plmsearch.repertoire.row_reader import ReadReport
from plmsearch.repertoire.rows import CountName
from plmsearch.repertoire.sharing import Shared, Tally
from plmsearch.repertoire.usage import Lengths, Mutation, Usage

__all__ = [
    "CloneSizes",
    "Convergence",
    "Group",
    "LeftOut",
    "RepertoireSummary",
    "SampleTotals",
    "StatisticsOptions",
]


@dataclass(frozen=True, slots=True)
class StatisticsOptions:
    """What is counted, and how.

    Parameters
    ----------
    by : str or None
        Column of the donor; None: ``subject_id``, else ``donor``, else each table is one donor.
    count : str
        Unit: ``rows`` (default: it is always there, and the copies of a PCR do not make it larger),
        ``duplicate_count``, ``umi_count`` or ``cells``.
    productive : bool
        Leave out rows that the table calls not productive.
    locus : str or None
        Locus whose clones are counted; None: IGH, else the one of most rows. Light chains carry the
        ``clone_id`` of their heavy chain, and would count a clone twice.
    min_depth : int
        Units below which a sample or donor is not compared with others.
    n_bootstraps : int
        Samples redrawn for each band; at least 2.
    seed : int
        Of the redrawn samples.
    filtered : bool
        Leave out contigs that 10x's filtered set has not: no cell, or of low confidence.
    """

    by: str | None = None
    count: CountName = "rows"
    productive: bool = False
    locus: str | None = None
    min_depth: int = MIN_DEPTH
    n_bootstraps: int = N_BOOTSTRAPS
    seed: int = 1
    filtered: bool = False


@dataclass(frozen=True, slots=True)
class Group:
    """A sample, or a donor with all samples.

    Parameters
    ----------
    donor : str
    sample : str or None
        None for the donor.
    """

    donor: str
    sample: str | None = None

    @property
    def level(self) -> str:
        """``sample`` or ``donor``."""
        return "donor" if self.sample is None else "sample"


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Rows or groups that a part does without.

    Parameters
    ----------
    part : str
        Of the report.
    reason : str
    n : int
    unit : str
        ``rows``, ``samples`` or ``donors``.
    """

    part: str
    reason: str
    n: int
    unit: str = "rows"


@dataclass(frozen=True, slots=True)
class SampleTotals:
    """Size of one sample, in every unit.

    Parameters
    ----------
    group : Group
    n_records : int
        Rows, also those that count for nothing.
    duplicates, umis : int
        Sums over the rows that tell; -1 if none does.
    n_cells : int
        Distinct cells.
    total : int
        In the unit that is counted.
    """

    group: Group
    n_records: int
    duplicates: int
    umis: int
    n_cells: int
    total: int


@dataclass(frozen=True, slots=True)
class CloneSizes:
    """Clones of one sample or donor, the largest first.

    Parameters
    ----------
    group : Group
    names : list of str
        ``clone_id``.
    sizes : ndarray, dtype=int64, shape=(c,)
        In units.
    n_records, duplicates, umis : ndarray, dtype=int64, shape=(c,)
        Rows, and sums of the columns; -1 where no row tells.
    """

    group: Group
    names: list[str]
    sizes: NDArray[np.int64]
    n_records: NDArray[np.int64]
    duplicates: NDArray[np.int64]
    umis: NDArray[np.int64]

    @property
    def total(self) -> int:
        """Units in all."""
        return int(self.sizes.sum())

    def top_share(self, n: int) -> float:
        """Return the share of units in the `n` largest clones."""
        return float(self.sizes[:n].sum() / self.total)


@dataclass(frozen=True, slots=True)
class Convergence:
    """What donors have come to independently.

    Parameters
    ----------
    kind : str
        ``clonotype`` or ``convergent_cluster``.
    donors : tuple of str
    pairs : list of Shared
        Numbers are places in `donors`.
    depth : int
        Common depth; 0 if there is none.
    tallies : list of Tally
        Found in several donors.
    names : dict of int to str
        Of what is tallied.
    """

    kind: str
    donors: tuple[str, ...]
    pairs: list[Shared]
    depth: int
    tallies: list[Tally]
    names: dict[int, str]


@dataclass(frozen=True, slots=True)
class RepertoireSummary:
    """Everything that is known of a repertoire.

    Parameters
    ----------
    options : StatisticsOptions
    read : ReadReport
    locus : str
        Whose clones are counted.
    has_clones : bool
        Whether any table has a ``clone_id``.
    samples : list of SampleTotals
    clones : list of CloneSizes
        Of samples, then of donors.
    depths : dict of str to int
        Common depth by level; 0 if there is none.
    diversity : list of (Group, Diversity)
    usage : list of Usage
        Numbers of samples are places in `samples`, here and below.
    mutation : list of Mutation
    cdr3 : list of Lengths
    clone_sharing : list of Shared
        Between samples of one donor.
    not_shared : int
        Pairs of samples of one donor whose clones cannot be compared: they are of different tables.
    convergence : list of Convergence
    left_out : list of LeftOut
    """

    options: StatisticsOptions
    read: ReadReport
    locus: str
    has_clones: bool
    samples: list[SampleTotals]
    clones: list[CloneSizes] = field(repr=False)
    depths: dict[str, int]
    diversity: list[tuple[Group, Diversity]] = field(repr=False)
    usage: list[Usage] = field(repr=False)
    mutation: list[Mutation] = field(repr=False)
    cdr3: list[Lengths] = field(repr=False)
    clone_sharing: list[Shared] = field(repr=False)
    not_shared: int
    convergence: list[Convergence] = field(repr=False)
    left_out: list[LeftOut]

    @property
    def donors(self) -> tuple[str, ...]:
        """Donors, in the order of their first row."""
        return tuple(dict.fromkeys(sample.group.donor for sample in self.samples))

    @property
    def n_uncounted(self) -> int:
        """Rows that count for nothing anywhere."""
        return sum(one.n for one in self.left_out if one.part == "all parts")
