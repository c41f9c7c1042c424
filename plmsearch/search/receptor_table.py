"""The receptors of a database in memory: what is compared by CDR3 and genes alone, in arrays.

A *row* of the table is a variable domain of a live record; a record with two domains has two rows. The CDR3
of a locus are held once each, with a list of the rows that have it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from plmsearch.search.cdr3 import Cdr3List, Cdr3Options, Float64s
from plmsearch.search.receptors import genes_of
from plmsearch.store.rows import ReceptorRow
from plmsearch.types import Bool1D, Int1D

__all__ = ["Matches", "Receptor", "ReceptorTable"]


class Receptor(NamedTuple):
    """What is searched with.

    Parameters
    ----------
    cdr3 : str
    locus : str or None
        None: any.
    v, j : tuple of str
        Genes, without alleles; empty if nobody knows.
    """

    cdr3: str
    locus: str | None = None
    v: tuple[str, ...] = ()
    j: tuple[str, ...] = ()


class Matches(NamedTuple):
    """Rows of a table that fit a receptor.

    Parameters
    ----------
    rows : ndarray, dtype=int64, shape=(n,)
    identities : ndarray, dtype=float64, shape=(n,)
        Of the CDR3, 0 to 1.
    """

    rows: Int1D
    identities: Float64s


@dataclass(frozen=True, slots=True)
class _Locus:
    """The distinct CDR3 of a locus; the rows of number i are ``rows[starts[i]:starts[i + 1]]``."""

    cdr3s: Cdr3List
    rows: Int1D
    starts: Int1D


class _Genes:
    """The V or J genes of each row, as a number of a set of genes."""

    def __init__(self, segment: str) -> None:
        self._segment = segment
        self._of_call: dict[tuple[str, str, str], int] = {}
        self._sets: dict[tuple[str, ...], int] = {}

    def code(self, row: ReceptorRow) -> int:
        is_v = self._segment == "v"
        given, inferred = (row.v_given, row.v_call) if is_v else (row.j_given, row.j_call)
        key = (given or "", row.locus, inferred or "")
        if key not in self._of_call:
            genes = genes_of({f"{self._segment}_call": key[0]}, row.domain, self._segment)
            self._of_call[key] = self._sets.setdefault(genes, len(self._sets))
        return self._of_call[key]

    def sharing(self, genes: Sequence[str]) -> Bool1D:
        """Tell of each set whether it has one of some genes."""
        wanted = frozenset(genes)
        shared = (not wanted.isdisjoint(one) for one in self._sets)
        return np.fromiter(shared, dtype=np.bool_, count=len(self._sets))


class ReceptorTable:
    """The receptors of a database, or of a part of it.

    Parameters
    ----------
    rows : iterable of ReceptorRow
        In order of insertion.

    Attributes
    ----------
    keys, source_ids, numbers, vector_ids : ndarray, dtype=int64, shape=(n,)
        Of each row: key of the record, sequence of the record, number of the domain, sequence of the domain.
    lengths : ndarray, dtype=int32, shape=(n,)
        Of the CDR3, in residues.

    Notes
    -----
    About 60 bytes a row, and 150 for each distinct CDR3.
    """

    def __init__(self, rows: Iterable[ReceptorRow]) -> None:
        self._v, self._j = _Genes("v"), _Genes("j")
        places: list[tuple[int, int, int, int]] = []
        cdr3s: dict[str, dict[str, int]] = {}
        members: dict[str, tuple[list[int], list[int]]] = {}
        v_codes, j_codes, lengths = [], [], []
        for row in rows:
            numbers = cdr3s.setdefault(row.locus, {})
            of_locus = members.setdefault(row.locus, ([], []))
            of_locus[0].append(len(places))
            of_locus[1].append(numbers.setdefault(row.cdr3, len(numbers)))
            places.append((row.key, row.source_id, row.number, row.sequence_id))
            lengths.append(len(row.cdr3))
            v_codes.append(self._v.code(row))
            j_codes.append(self._j.code(row))
        table = np.array(places, dtype=np.int64).reshape(-1, 4)
        self.keys, self.source_ids, self.numbers, self.vector_ids = table.T.copy()
        self.lengths = np.array(lengths, dtype=np.int32)
        self._codes = {"v": np.array(v_codes, dtype=np.int32), "j": np.array(j_codes, dtype=np.int32)}
        self._loci = {name: _of_locus(list(cdr3s[name]), *members[name]) for name in cdr3s}

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def loci(self) -> tuple[str, ...]:
        """The loci there are."""
        return tuple(self._loci)

    def find(self, receptor: Receptor, wishes: Cdr3Options) -> Matches:
        """Return every row that fits a receptor, nearest CDR3 first, then in order of insertion.

        Parameters
        ----------
        receptor : Receptor
            A row of no known gene shares none.
        wishes : Cdr3Options
            Its `k` does not count.
        """
        loci = self._loci.values() if receptor.locus is None else [self._loci.get(receptor.locus)]
        parts = [_rows(one, receptor.cdr3, wishes) for one in loci if one is not None]
        rows = np.concatenate([np.empty(0, dtype=np.int64), *(part.rows for part in parts)])
        identities = np.concatenate([np.empty(0, dtype=np.float64), *(part.identities for part in parts)])
        for segment, genes, known in (("v", receptor.v, self._v), ("j", receptor.j, self._j)):
            if segment in wishes.same:
                is_same = known.sharing(genes)[self._codes[segment][rows]]
                rows, identities = rows[is_same], identities[is_same]
        order = np.lexsort((rows, -identities))
        return Matches(rows[order], identities[order])


def _of_locus(cdr3s: Sequence[str], rows: Sequence[int], numbers: Sequence[int]) -> _Locus:
    of_row = np.array(numbers, dtype=np.int64)
    order = np.argsort(of_row, kind="stable")
    counts = np.bincount(of_row, minlength=len(cdr3s))
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return _Locus(Cdr3List(cdr3s), np.array(rows, dtype=np.int64)[order], starts)


def _rows(locus: _Locus, cdr3: str, wishes: Cdr3Options) -> Matches:
    """Return the rows of a locus whose CDR3 is near enough."""
    numbers, identities = locus.cdr3s.find(cdr3, wishes.least, same_length=wishes.same_length)
    starts = locus.starts[numbers]
    counts = locus.starts[numbers + 1] - starts
    before = np.cumsum(counts) - counts
    places = np.arange(int(counts.sum())) + np.repeat(starts - before, counts)
    return Matches(locus.rows[places], np.repeat(identities, counts))
