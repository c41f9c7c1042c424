"""From residue embeddings to one vector. Pure functions over arrays.

Pooling sees residues only: special tokens were removed by the model's file, and padding is cut off
here by length, so its values never matter. A sequence read in several windows is pooled window by
window into a `Partial`, and the partials are combined in window order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from plmsearch.types import Float1D, Float2D

__all__ = ["Partial", "combine_mean", "max_pool", "mean_pool", "weighted_sum"]


@dataclass(frozen=True, slots=True)
class Partial:
    """What one window contributes to a mean.

    Parameters
    ----------
    total : ndarray, dtype=float32, shape=(d,)
        Weighted sum.
    weight : float
        Sum of the weights.
    """

    total: Float1D
    weight: float


def mean_pool(residues: Float2D) -> Float1D:
    """Average the residue embeddings of one sequence.

    Parameters
    ----------
    residues : ndarray, dtype=float32, shape=(n_residues, d)
        Residues only.

    Returns
    -------
    ndarray, dtype=float32, shape=(d,)
        Not normalised.

    Notes
    -----
    Definition: fair-esm ``scripts/extract.py --include mean``.

    Examples
    --------
    >>> mean_pool(np.array([[1.0, 0.0], [3.0, 2.0]], dtype=np.float32))
    array([2., 1.], dtype=float32)
    """
    return combine_mean([weighted_sum(residues, None)])


def weighted_sum(residues: Float2D, weights: Float1D | None) -> Partial:
    """Sum residue embeddings, each times its weight.

    Parameters
    ----------
    residues : ndarray, dtype=float32, shape=(n_residues, d)
    weights : ndarray, dtype=float32, shape=(n_residues,), or None
        None: every residue counts once.
    """
    if weights is None:
        return Partial(residues.sum(axis=0, dtype=np.float32), float(len(residues)))
    return Partial(weights @ residues, float(weights.sum(dtype=np.float64)))


def combine_mean(partials: Sequence[Partial]) -> Float1D:
    """Join the windows of one sequence into its mean.

    Parameters
    ----------
    partials : sequence of Partial
        In window order; summed in float64.

    Returns
    -------
    ndarray, dtype=float32, shape=(d,)
    """
    total = np.sum([p.total for p in partials], axis=0, dtype=np.float64)
    return cast(Float1D, (total / sum(p.weight for p in partials)).astype(np.float32))


def max_pool(residues: Float2D) -> Float1D:
    """Take the largest value of each component over the residues.

    Examples
    --------
    >>> max_pool(np.array([[1.0, 0.0], [-3.0, 2.0]], dtype=np.float32))
    array([1., 2.], dtype=float32)
    """
    return cast(Float1D, residues.max(axis=0))
