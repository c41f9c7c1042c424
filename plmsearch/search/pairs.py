"""Which chains are a pair: heavy and light variable domain of one record, or of one cell.

Concepts
--------
A record that holds heavy and light domains is a pair by itself (an scFv, or chains written ``VH;VL``); of
several, the first heavy goes with the first light domain, the second with the second. Other chains are paired
by cell: those of one ``cell_id`` of one sample (``sample_id``, else ``repertoire_id``). Droplets hold more
than one cell now and then, and a second light chain is often expressed, so a cell may have several chains of
a kind: of the productive ones that with the most UMIs (``umi_count``) counts, among equals that with the
largest ``duplicate_count``, then the first. The others stay records that are found singly.

Limitations
-----------
A barcode names a cell within one sample only. Where records of two samples lack ``sample_id`` and
``repertoire_id``, equal barcodes are taken for one cell; `Pairs.n_without_sample` counts the pairs whose
sample is not named.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import groupby
from math import isfinite
from typing import NamedTuple

import numpy as np

from plmsearch.formats.airr import airr_bool
from plmsearch.types import Bool1D, Int1D

__all__ = ["LIGHT_LOCI", "PAIR_COLUMNS", "Chain", "Pairs", "chain_of", "is_paired_locus", "pair_chains"]

HEAVY_LOCUS = "IGH"
LIGHT_LOCI = ("IGK", "IGL")

#: Metadata that say which chains are a pair, and which chain of a cell counts (AIRR's spelling).
PAIR_COLUMNS = ("sample_id", "repertoire_id", "cell_id", "umi_count", "duplicate_count", "productive")

#: A count that is not known: fewer than any that is.
UNKNOWN = -1.0


class Chain(NamedTuple):
    """A variable domain, as far as pairing goes.

    Parameters
    ----------
    record : int
        Number of its record, in order of insertion or input.
    number : int
        Of the domain in its record, from 1.
    unit : int
        Equal for equal residues: the vector id of a stored domain.
    locus : str
    sample, cell : str
        '' where there is none.
    umi_count, duplicate_count : float
        `UNKNOWN` where there is none.
    is_productive : bool
        Unless the input says that it is not.
    """

    record: int
    number: int
    unit: int
    locus: str
    sample: str = ""
    cell: str = ""
    umi_count: float = UNKNOWN
    duplicate_count: float = UNKNOWN
    is_productive: bool = True

    @property
    def is_heavy(self) -> bool:
        """Whether it is a heavy chain; a light one otherwise."""
        return self.locus == HEAVY_LOCUS

    @property
    def group(self) -> tuple[str, str, int]:
        """What chains that may be a pair have in common; sorted by it, `pair_chains` takes them."""
        return (self.cell, self.sample, 0) if self.cell else ("", "", self.record)


class Pair(NamedTuple):
    """Two chains, and how many distinct ones of each kind there were to choose from."""

    heavy: Chain
    light: Chain
    n_heavy: int
    n_light: int


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs in order of their heavy chains, as columns.

    Parameters
    ----------
    heavy, light : ndarray, dtype=int64, shape=(n,)
        Units of the chains.
    heavy_record, light_record, heavy_number, light_number : ndarray, dtype=int64, shape=(n,)
    light_locus : ndarray, dtype=int64, shape=(n,)
        Place in `LIGHT_LOCI`.
    n_heavy, n_light : ndarray, dtype=int64, shape=(n,)
        Distinct productive chains of the kind in the cell, or distinct domains in the record.
    lone : ndarray, dtype=int64, shape=(m,)
        Records with chains of one kind only, rising.
    n_spare : int
        Chains of which another of the same kind was taken.
    n_unproductive : int
        Chains of cells that are not productive, and so of no pair.
    n_without_sample : int
        Pairs of cells without ``sample_id`` and ``repertoire_id``.
    """

    heavy: Int1D
    light: Int1D
    heavy_record: Int1D
    light_record: Int1D
    heavy_number: Int1D
    light_number: Int1D
    light_locus: Int1D
    n_heavy: Int1D
    n_light: Int1D
    lone: Int1D
    n_spare: int = 0
    n_unproductive: int = 0
    n_without_sample: int = 0

    def __len__(self) -> int:
        return len(self.heavy)

    @property
    def has_siblings(self) -> Bool1D:
        """Whether the target's record holds several pairs, for each; bool, shape=(n,)."""
        _, place, count = np.unique(self.heavy_record, return_inverse=True, return_counts=True)
        several: Bool1D = count[place] > 1
        return several

    def take(self, places: Int1D) -> Pairs:
        """Return some of the pairs, in the order of `places`; what is counted stays."""
        columns = {f.name: getattr(self, f.name) for f in fields(self)}
        chosen = {n: v[places] for n, v in columns.items() if n != "lone" and isinstance(v, np.ndarray)}
        return Pairs(**{**columns, **chosen})


def is_paired_locus(locus: str) -> bool:
    """Tell whether chains of a locus can be of a pair."""
    return locus == HEAVY_LOCUS or locus in LIGHT_LOCI


def chain_of(record: int, number: int, unit: int, locus: str, values: Mapping[str, str | None]) -> Chain:
    """Return a chain from the metadata of its record.

    Parameters
    ----------
    record, number, unit, locus
        As `Chain`.
    values : mapping of str to str
        Those of `PAIR_COLUMNS` that there are.

    Examples
    --------
    >>> chain_of(1, 1, 7, "IGH", {"cell_id": "c1", "repertoire_id": "r", "umi_count": "12"}).group
    ('c1', 'r', 0)
    """
    return Chain(
        record,
        number,
        unit,
        locus,
        values.get("sample_id") or values.get("repertoire_id") or "",
        values.get("cell_id") or "",
        _count(values.get("umi_count")),
        _count(values.get("duplicate_count")),
        airr_bool(values.get("productive") or "") is not False,
    )


def _count(text: str | None) -> float:
    """Read a count; what is none is not known."""
    try:
        count = float(text or "")
    except ValueError:
        return UNKNOWN
    return count if isfinite(count) and count >= 0 else UNKNOWN


def pair_chains(chains: Iterable[Chain]) -> Pairs:
    """Pair chains.

    Parameters
    ----------
    chains : iterable of Chain
        Of `is_paired_locus`; those of one `Chain.group` next to each other, in order of record and number.

    Returns
    -------
    Pairs

    Examples
    --------
    >>> heavy = Chain(1, 1, 10, "IGH", "s", "c1")
    >>> light = [Chain(2, 1, 11, "IGK", "s", "c1", 3.0), Chain(3, 1, 12, "IGL", "s", "c1", 8.0)]
    >>> pairs = pair_chains([heavy, *light])
    >>> pairs.heavy.tolist(), pairs.light.tolist(), pairs.n_light.tolist()
    ([10], [12], [2])
    """
    tally = _Tally()
    for _, group in groupby(chains, key=lambda chain: chain.group):
        loose: list[Chain] = []
        for _, of_record in groupby(group, key=lambda chain: chain.record):
            loose.extend(_paired_in_record(list(of_record), tally))
        if loose:
            _pair_cell(loose, tally)
    return tally.pairs()


def _paired_in_record(chains: list[Chain], tally: _Tally) -> list[Chain]:
    """Take the pairs of one record; return its chains if it holds none."""
    heavy, light = _by_kind(chains)
    if not (heavy and light):
        return chains
    counts = _n_distinct(heavy), _n_distinct(light)
    for one, other in zip(heavy, light, strict=False):
        tally.add(Pair(one, other, *counts))
    tally.n_spare += abs(len(heavy) - len(light))
    return []


def _pair_cell(chains: Sequence[Chain], tally: _Tally) -> None:
    """Take the pair of one cell, or note that its chains are alone."""
    productive = [c for c in chains if c.is_productive or not c.cell]
    heavy, light = _by_kind(productive)
    tally.n_unproductive += len(chains) - len(productive)
    if not (chains[0].cell and heavy and light):
        tally.lone.extend(dict.fromkeys(c.record for c in productive))
        return
    tally.add(Pair(min(heavy, key=_merit), min(light, key=_merit), _n_distinct(heavy), _n_distinct(light)))
    tally.n_spare += len(productive) - 2
    tally.n_without_sample += not chains[0].sample


def _by_kind(chains: Iterable[Chain]) -> tuple[list[Chain], list[Chain]]:
    heavy: list[Chain] = []
    light: list[Chain] = []
    for chain in chains:
        (heavy if chain.is_heavy else light).append(chain)
    return heavy, light


def _n_distinct(chains: Iterable[Chain]) -> int:
    return len({chain.unit for chain in chains})


def _merit(chain: Chain) -> tuple[float, float, int, int]:
    """Return a key that is least for the chain of a kind that counts."""
    return -chain.umi_count, -chain.duplicate_count, chain.record, chain.number


class _Tally:
    """Collects pairs as columns: 72 bytes each."""

    def __init__(self) -> None:
        self._columns = [array("q") for _ in range(9)]
        self.lone = array("q")
        self.n_spare = self.n_unproductive = self.n_without_sample = 0

    def add(self, pair: Pair) -> None:
        heavy, light = pair.heavy, pair.light
        values = (
            *(heavy.unit, light.unit, heavy.record, light.record, heavy.number, light.number),
            *(LIGHT_LOCI.index(light.locus), pair.n_heavy, pair.n_light),
        )
        for column, value in zip(self._columns, values, strict=True):
            column.append(value)

    def pairs(self) -> Pairs:
        table = np.array(self._columns, dtype=np.int64)
        table = table[:, np.lexsort((table[4], table[2]))]
        lone: Int1D = np.unique(np.array(self.lone, dtype=np.int64))
        return Pairs(
            *(table[0], table[1], table[2], table[3], table[4], table[5], table[6], table[7], table[8]),
            lone,
            self.n_spare,
            self.n_unproductive,
            self.n_without_sample,
        )
