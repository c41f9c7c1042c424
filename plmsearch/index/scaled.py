"""Vectors that are compared otherwise than they are stored, without a second copy of them.

Concepts
--------
A centre taken off and unit length leave of a raw vector v the row s (v - c): s, the *scale*, is one over the
length of the difference. With s and the number of c known for each row, a scan of the raw vectors costs
little more than one of rows that were written out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from plmsearch.types import Float1D, Float2D, Int1D

__all__ = ["ScaledRows", "VectorRows", "in_memory"]

#: Components that are centred at once: 1 MiB of float32 stays in the cache between the difference and its
#: product with a query. Of rows of 512, steps of 256 and of 1,024 were slower.
_AT_ONCE = 1 << 18


@dataclass(frozen=True, slots=True, eq=False)
class ScaledRows:
    """Rows of unit length that are computed where they are read; an array as far as rows are asked for.

    Parameters
    ----------
    raw : ndarray, dtype=float32, shape=(n, d)
        May be mapped from a file.
    scale : ndarray, dtype=float32, shape=(n,)
        One over the length of each row less its centre.
    centres : ndarray, dtype=float32, shape=(m, d)
        Without rows where nothing is taken off.
    which : ndarray, dtype=int64, shape=(n,)
        Row of `centres` of each vector; not looked at where there are fewer than two.

    Examples
    --------
    >>> raw = np.array([[4.0, 5.0], [1.0, 3.0]], dtype=np.float32)
    >>> centres = np.array([[1.0, 1.0]], dtype=np.float32)
    >>> rows = ScaledRows(raw, np.float32([1 / 5, 1 / 2]), centres, np.array([0, 0]))
    >>> rows[:]
    array([[0.6, 0.8],
           [0. , 1. ]], dtype=float32)
    """

    raw: Float2D
    scale: Float1D
    centres: Float2D
    which: Int1D

    def __len__(self) -> int:
        return len(self.raw)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and components."""
        return self.raw.shape

    def __getitem__(self, rows: slice | Int1D) -> Float2D:
        """Return a copy of some rows; dtype=float32, shape=(n, d)."""
        raw, which, scale = self.raw[rows], self.which[rows], self.scale[rows]
        out: Float2D = np.empty(raw.shape, dtype=np.float32)
        for part in self._parts(len(raw)):
            np.multiply(self._centred(raw[part], which[part], out[part]), scale[part, None], out=out[part])
        return out

    def products(self, unit: Float2D, multiply: Callable[[Float2D, Float2D], Float2D]) -> Float2D:
        """Multiply queries with all rows.

        Parameters
        ----------
        unit : ndarray, dtype=float32, shape=(n_queries, d)
        multiply : callable
            Takes queries and rows, returns their inner products, shape=(n_queries, n_rows).

        Returns
        -------
        ndarray, dtype=float32, shape=(n_queries, n)
        """
        if not len(self.centres):
            return multiply(unit, self.raw) * self.scale
        scores: Float2D = np.empty((len(unit), len(self)), dtype=np.float32)
        for part in self._parts(len(self)):
            out: Float2D = np.empty((part.stop - part.start, self.shape[1]), dtype=np.float32)
            scores[:, part] = multiply(unit, self._centred(self.raw[part], self.which[part], out))
        scores *= self.scale
        return scores

    def _parts(self, n_rows: int) -> Iterator[slice]:
        step = max(1, _AT_ONCE // max(1, self.shape[1]))
        for start in range(0, n_rows, step):
            yield slice(start, min(start + step, n_rows))

    def _centred(self, raw: Float2D, which: Int1D, out: Float2D) -> Float2D:
        """Return vectors less their centres, in `out` if there are any."""
        if not len(self.centres):
            return raw
        if len(self.centres) == 1:
            np.subtract(raw, self.centres[0], out=out)
        else:
            np.take(self.centres, which, axis=0, out=out, mode="clip")  # other modes copy through a buffer
            np.subtract(raw, out, out=out)
        return out


#: What a block holds.
VectorRows = Float2D | ScaledRows


def in_memory(vectors: VectorRows) -> VectorRows:
    """Return what rows are quickly taken from: a view without the class of a mapped file."""
    return vectors if isinstance(vectors, ScaledRows) else np.asarray(vectors)
