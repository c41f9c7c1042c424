"""What every vector must be before it is stored or compared."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import numpy as np

from plmsearch.errors import DimensionMismatch, InvalidVectorError, VectorIndexError
from plmsearch.types import Float2D

__all__ = ["check_vectors", "unit_error", "unit_parts", "unit_vectors", "vector_lengths"]

Float64: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.float64]]

#: Components taken at once: 2 MiB of float64, which stay in the cache.
_AT_ONCE = 1 << 18


def check_vectors(vectors: Float2D) -> None:
    """Refuse vectors that have no direction.

    Parameters
    ----------
    vectors : ndarray, dtype=float32, shape=(n, d)

    Raises
    ------
    InvalidVectorError
        Naming the first row that holds NaN or infinity, or is all zero.
    """
    for _ in _parts(vectors):
        pass


def unit_vectors(vectors: Float2D, dim: int) -> Float2D:
    """Scale vectors to unit length, in a new array.

    Parameters
    ----------
    vectors : ndarray, dtype=float32, shape=(n, d)
    dim : int
        The d that is expected.

    Returns
    -------
    ndarray, dtype=float32, shape=(n, d)

    Raises
    ------
    VectorIndexError
        If the array is not of rank 2.
    DimensionMismatch
        If the shape is not (n, dim).
    InvalidVectorError
        If a row is not finite or all zero.

    Examples
    --------
    >>> unit_vectors(np.array([[3.0, 4.0]], dtype=np.float32), 2)
    array([[0.6, 0.8]], dtype=float32)
    """
    with np.errstate(over="ignore"):  # becomes infinity, which is refused below
        array = np.asarray(vectors, dtype=np.float32)
    if array.ndim != 2:
        raise VectorIndexError(
            f"the vectors are an array of shape {array.shape}", hint=f"one row per vector: (n, {dim})"
        )
    if array.shape[1] != dim:
        raise DimensionMismatch(array.shape[1], dim)
    unit: Float2D = np.empty(array.shape, dtype=np.float32)
    start = 0
    for part in unit_parts(array):
        unit[start : start + len(part)] = part
        start += len(part)
    return unit


def unit_parts(vectors: Float2D) -> Iterator[Float2D]:
    """Yield what `unit_vectors` returns some rows at a time, of about 1 MiB.

    Parameters
    ----------
    vectors : ndarray, dtype=float32, shape=(n, d)

    Raises
    ------
    InvalidVectorError
        If a row is not finite or all zero.
    """
    for _, part, lengths in _parts(vectors):
        yield np.divide(part, lengths, out=part).astype(np.float32)


def vector_lengths(vectors: Float2D) -> Float64:
    """Return the Euclidean length of each vector.

    Parameters
    ----------
    vectors : ndarray, dtype=float32, shape=(n, d)

    Returns
    -------
    ndarray, dtype=float64, shape=(n,)

    Raises
    ------
    InvalidVectorError
        If a row is not finite or all zero.

    Examples
    --------
    >>> vector_lengths(np.array([[3.0, 4.0]], dtype=np.float32))
    array([5.])
    """
    found: Float64 = np.empty(len(vectors))
    for rows, _, lengths in _parts(vectors):
        found[rows] = lengths[:, 0]
    return found


def unit_error(unit: Float2D, vectors: Float2D) -> float:
    """Return how far vectors are from those that `unit_vectors` makes of others.

    Parameters
    ----------
    unit, vectors : ndarray, dtype=float32, shape=(n, d)

    Returns
    -------
    float
        Largest difference of two components; 0 without rows, NaN if `unit` holds one.

    Raises
    ------
    InvalidVectorError
        If a row of `vectors` is not finite or all zero.
    """
    largest = 0.0
    for rows, part, lengths in _parts(vectors):
        exact = np.divide(part, lengths, out=part)
        largest = np.maximum(largest, np.abs(unit[rows] - exact).max())
    return float(largest)


def _parts(vectors: Float2D) -> Iterator[tuple[slice, Float64, Float64]]:
    """Yield some rows at a time: where they are, a copy in float64, and their lengths as a column.

    In float64 the square of no float32 overflows, or vanishes; and summed in float32, squares would
    move a self-score by more than 1e-6 at 5,120 dimensions.
    """
    n_rows = max(1, _AT_ONCE // max(1, vectors.shape[1]))
    for start in range(0, len(vectors), n_rows):
        rows = slice(start, start + n_rows)
        part = vectors[rows].astype(np.float64)
        squares = np.einsum("nd,nd->n", part, part)
        good = np.isfinite(squares) & (squares > 0)
        if not good.all():
            row = int(np.flatnonzero(~good)[0])
            reason = "is all zero" if squares[row] == 0 else "holds NaN or infinity"
            raise InvalidVectorError(start + row, reason)
        yield rows, part, np.sqrt(squares)[:, None]
