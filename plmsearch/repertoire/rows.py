"""The rows of rearrangement tables as columns of numbers: what repertoire statistics are made of.

Texts are kept once each and rows hold their codes, so that a million rows take some hundred megabytes,
whatever the width of the table; alignments are used and let go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["COUNTS", "Codes", "CountName", "RepertoireRows", "counted_rows"]

CountName = Literal["rows", "duplicate_count", "umi_count", "cells"]
#: What can be counted.
COUNTS: tuple[CountName, ...] = ("rows", "duplicate_count", "umi_count", "cells")


@dataclass(slots=True)
class Codes:
    """Distinct values and their numbers, in the order of first appearance.

    Parameters
    ----------
    numbers : dict
        Number of each value.
    """

    numbers: dict[object, int] = field(default_factory=dict)

    def of(self, values: Iterable[object]) -> NDArray[np.int32]:
        """Return the number of each value; -1 for None."""
        numbers = self.numbers
        return np.array(
            [-1 if value is None else numbers.setdefault(value, len(numbers)) for value in values],
            dtype=np.int32,
        )

    @property
    def values(self) -> list[object]:
        """Distinct values, by number."""
        return list(self.numbers)

    @property
    def texts(self) -> list[str]:
        """Distinct values that are text, by number."""
        return [str(value) for value in self.numbers]


@dataclass(slots=True)
class RepertoireRows:
    """Columns of equal length, one entry for each row; a code of -1 stands for nothing.

    Parameters
    ----------
    sample : ndarray, dtype=int32, shape=(n,)
        Number of (donor, sample).
    locus, v_call, j_call, c_call : ndarray, dtype=int32, shape=(n,)
    clone, clonotype, cluster : ndarray, dtype=int32, shape=(n,)
        Clone of one donor in one table; V gene, J gene and junction; convergent cluster.
    cell : ndarray, dtype=int32, shape=(n,)
        Cell within its sample.
    productive : ndarray, dtype=bool, shape=(n,)
        False only where the table says so.
    duplicates, umis : ndarray, dtype=int64, shape=(n,)
        -1 where not told.
    cdr3 : ndarray, dtype=int32, shape=(n,)
        Residues; -1 where not known.
    mutated : ndarray, dtype=float32, shape=(n,)
        Share of V nucleotides; NaN where not known.
    weight : ndarray, dtype=int64, shape=(n,)
        What the row counts for.
    samples, loci, v_calls, j_calls, c_calls, clones, clonotypes, clusters : Codes
        What the numbers stand for.
    """

    sample: NDArray[np.int32]
    locus: NDArray[np.int32]
    v_call: NDArray[np.int32]
    j_call: NDArray[np.int32]
    c_call: NDArray[np.int32]
    clone: NDArray[np.int32]
    clonotype: NDArray[np.int32]
    cluster: NDArray[np.int32]
    cell: NDArray[np.int32]
    productive: NDArray[np.bool_]
    duplicates: NDArray[np.int64]
    umis: NDArray[np.int64]
    cdr3: NDArray[np.int32]
    mutated: NDArray[np.float32]
    weight: NDArray[np.int64]
    samples: Codes
    loci: Codes
    v_calls: Codes
    j_calls: Codes
    c_calls: Codes
    clones: Codes
    clonotypes: Codes
    clusters: Codes

    def __len__(self) -> int:
        return len(self.sample)


def counted_rows(rows: RepertoireRows, count: CountName) -> tuple[NDArray[np.int64], dict[str, int]]:
    """Find what each row counts for.

    Parameters
    ----------
    rows : RepertoireRows
    count : str
        ``rows``: 1 each. ``duplicate_count``, ``umi_count``: as the column says. ``cells``: 1 for one
        row of each cell and locus: a productive one, of these that of most UMIs, then most duplicates, then
        the first.

    Returns
    -------
    weights : ndarray, dtype=int64, shape=(n,)
        0 for a row that is left out.
    left_out : dict of str to int
        Rows that count for nothing, by reason.
    """
    weigh: dict[CountName, Callable[[RepertoireRows], tuple[NDArray[np.int64], dict[str, int]]]] = {
        "rows": lambda rows: (np.ones(len(rows), dtype=np.int64), {}),
        "duplicate_count": lambda rows: _told(rows.duplicates, count),
        "umi_count": lambda rows: _told(rows.umis, count),
        "cells": _one_of_each_cell,
    }
    weights, left_out = weigh[count](rows)
    return weights, {reason: n for reason, n in left_out.items() if n}


def _told(counts: NDArray[np.int64], name: str) -> tuple[NDArray[np.int64], dict[str, int]]:
    empty, none = int((counts < 0).sum()), int((counts == 0).sum())
    return np.maximum(counts, 0), {f"{name} is empty": empty, f"{name} is 0": none}


def _one_of_each_cell(rows: RepertoireRows) -> tuple[NDArray[np.int64], dict[str, int]]:
    n = len(rows)
    order = np.lexsort((np.arange(n), -rows.duplicates, -rows.umis, ~rows.productive, rows.locus, rows.cell))
    new = np.ones(n, dtype=bool)
    keys: Sequence[NDArray[np.int32]] = (rows.cell[order], rows.locus[order])
    if n > 1:
        new[1:] = np.logical_or.reduce([key[1:] != key[:-1] for key in keys])
    weights = np.zeros(n, dtype=np.int64)
    weights[order] = new & (rows.cell[order] >= 0)
    without = int((rows.cell < 0).sum())
    others = n - without - int(weights.sum())
    return weights, {"no cell_id": without, "another chain of its cell and locus counts": others}
