"""Fit a centre or a whitening on the vectors of a database.

Limitations
-----------
A centre fitted on one clonal family takes off what its members share, and leaves noise: 200 variants
of one antibody then have a median cosine near 0. Nothing here can see that, and a fitted transform
moves with the database; so it is the caller's choice, never the default.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import numpy as np

from plmsearch.errors import ParameterError
from plmsearch.transform import Transform, check_loci
from plmsearch.types import Float1D, Float2D, Int1D
from plmsearch.vectors import check_vectors

__all__ = ["MAX_COMPONENTS", "MIN_CENTRE", "VECTORS_PER_COMPONENT", "fit_centre", "fit_whiten", "min_whiten"]

Float64: TypeAlias = np.ndarray[tuple[Any, ...], np.dtype[np.float64]]

#: Vectors a centre is fitted on at least. Centred on their own mean, n vectors of equal length have an
#: average cosine of -1 / (n - 1): at 100 this is -0.01.
MIN_CENTRE = 100

#: Directions that whitening keeps at most: with 256 of 512, whitening helped in both sets that it was
#: tried on; the rest hold little but noise.
MAX_COMPONENTS = 256

#: Vectors per kept direction. The relative standard error of a variance estimated from n vectors is
#: sqrt(2 / n), and sample eigenvalues spread by (1 +- sqrt(m / n))^2 (Marchenko and Pastur 1967,
#: doi:10.1070/SM1967v001n04ABEH001994): at m = n / 10 by a factor of about 2 either way.
VECTORS_PER_COMPONENT = 10

#: Fewer kept directions than this are no basis for a score: in m directions the cosine of unrelated
#: whitened vectors scatters by 1 / sqrt(m), 0.125 at 64.
_MIN_COMPONENTS = 64

#: Variances are not taken below this share of the largest: a direction is stretched by at most
#: sqrt(1000), about 32 times the strongest, or the noise of the weakest would outvote the rest.
_VARIANCE_FLOOR = 1e-3

_AT_ONCE = 1 << 18  # components taken at once: 2 MiB of float64


@dataclass(slots=True)
class _Moments:
    """Of the vectors of one locus: how many, their mean and their scatter, in float64."""

    n: int
    mean: Float64
    scatter: Float64 | None = None  # sum of the outer products of the differences from the mean


def fit_centre(vectors: Float2D, loci: Sequence[str]) -> Transform:
    """Take the mean of each locus as its centre.

    Parameters
    ----------
    vectors : ndarray, dtype=float32, shape=(n, d)
        Raw, one per distinct sequence.
    loci : sequence of str
        One per row; ``""`` where there is none, such as for other proteins.

    Returns
    -------
    Transform
        Of kind ``centre``. A locus of fewer than `MIN_CENTRE` vectors gets no centre of its own; it uses
        that of ``""``: of the vectors without a locus if there are enough, else the mean of the other
        centres. `Transform.n_fitted` has the counts of all.

    Raises
    ------
    ParameterError
        If no locus has enough vectors.
    InvalidVectorError
        If a row is not finite or all zero.
    """
    counts, moments = _moments(vectors, loci, MIN_CENTRE, scatter=False)
    return Transform("centre", _centres(moments), n_fitted=counts)


def fit_whiten(vectors: Float2D, loci: Sequence[str], n_components: int = MAX_COMPONENTS) -> Transform:
    """Fit a centre and a whitening projection for each locus.

    Parameters
    ----------
    vectors : ndarray, dtype=float32, shape=(n, d)
        Raw, one per distinct sequence.
    loci : sequence of str
        One per row; ``""`` where there is none.
    n_components : int
        Directions to keep at most, 1..`MAX_COMPONENTS`. The number is the same for every locus: no more
        than d, than one per `VECTORS_PER_COMPONENT` vectors of the smallest fitted locus, and than there
        are directions with any variance.

    Returns
    -------
    Transform
        Of kind ``whiten``. Loci with fewer than `min_whiten` vectors are treated as in `fit_centre`;
        the projection of ``""`` is then of the scatter within loci, pooled.

    Raises
    ------
    ParameterError
        If no locus has enough vectors, they do not vary, or `n_components` is out of range.
    InvalidVectorError
        If a row is not finite or all zero.

    Notes
    -----
    PCA whitening: column i is u_i / sqrt(max(v_i, f v_1)), with eigenvectors u and eigenvalues v of the
    covariance (divisor n - 1) in falling order and f = 1/1000. The floor is there because the
    smallest sample variances are the worst estimated and the most amplified. Raw vectors so
    transformed have covariance I in the directions above the floor.
    """
    if not 1 <= n_components <= MAX_COMPONENTS:
        raise ParameterError("n_components", n_components, f"1..{MAX_COMPONENTS}")
    counts, moments = _moments(vectors, loci, min_whiten(vectors.shape[1]), scatter=True)
    if "" not in moments:
        moments |= {"": _pooled(moments)}
    share = min(moment.n for moment in moments.values()) // VECTORS_PER_COMPONENT
    kept = min(n_components, vectors.shape[1], share)
    spectra = {name: _spectrum(moment) for name, moment in moments.items()}
    kept = min([kept, *(len(values) for values, _ in spectra.values())])
    if kept < 1:
        raise ParameterError("vectors", f"{len(vectors)} alike", "vectors that differ from each other")
    projections = {name: _whitener(*spectrum, kept) for name, spectrum in spectra.items()}
    return Transform("whiten", _centres(moments), projections, counts)


def min_whiten(dim: int) -> int:
    """Return how many vectors of a locus whitening is fitted on at least.

    Examples
    --------
    >>> min_whiten(512)
    640
    """
    return max(MIN_CENTRE, VECTORS_PER_COMPONENT * min(_MIN_COMPONENTS, dim))


def _moments(
    vectors: Float2D, loci: Sequence[str], minimum: int, *, scatter: bool
) -> tuple[dict[str, int], dict[str, _Moments]]:
    """Count the vectors of every locus, and sum up those that have enough."""
    check_loci(vectors, loci)
    check_vectors(vectors)
    names = np.asarray(loci, dtype=np.str_)
    counts = {str(name): int((names == name).sum()) for name in np.unique(names)}
    enough = [name for name, n in counts.items() if n >= minimum]
    if not enough:
        found = ", ".join(f"{n} {name or 'without a locus'}" for name, n in counts.items()) or "none"
        raise ParameterError("vectors", found, f"at least {minimum} of one locus to fit a transform on")
    return counts, {name: _sum_up(vectors, np.flatnonzero(names == name), scatter=scatter) for name in enough}


def _sum_up(vectors: Float2D, rows: Int1D, *, scatter: bool) -> _Moments:
    step = max(1, _AT_ONCE // vectors.shape[1])
    parts = [rows[i : i + step] for i in range(0, len(rows), step)]
    mean: Float64 = np.zeros(vectors.shape[1])
    for part in parts:
        mean += vectors[part].sum(axis=0, dtype=np.float64)
    mean /= len(rows)
    if not scatter:
        return _Moments(len(rows), mean)
    total: Float64 = np.zeros((vectors.shape[1], vectors.shape[1]))
    for part in parts:
        difference = vectors[part] - mean
        total += difference.T @ difference
    return _Moments(len(rows), mean, total)


def _centres(moments: Mapping[str, _Moments]) -> dict[str, Float1D]:
    """Round the means; add that of an unknown locus: the mean of the means, each counting alike."""
    means = {name: moment.mean for name, moment in moments.items()}
    if "" not in means:
        means |= {"": np.mean(list(means.values()), axis=0)}
    return {name: mean.astype(np.float32) for name, mean in means.items()}


def _pooled(moments: Mapping[str, _Moments]) -> _Moments:
    """Join the scatter within loci; every locus but one costs a degree of freedom more."""
    n = sum(moment.n for moment in moments.values()) - (len(moments) - 1)
    mean: Float64 = np.mean([moment.mean for moment in moments.values()], axis=0)
    within = [moment.scatter for moment in moments.values() if moment.scatter is not None]
    return _Moments(n, mean, np.sum(within, axis=0))


def _spectrum(moments: _Moments) -> tuple[Float64, Float64]:
    """Eigenvalues of the covariance that are no rounding, in falling order, and their vectors."""
    assert moments.scatter is not None
    values, axes = np.linalg.eigh(moments.scatter / (moments.n - 1))
    values, axes = values[::-1], axes[:, ::-1]
    # float32 vectors carry 6e-8 of their length as rounding; its square is variance of no direction.
    rounding = len(values) * np.finfo(np.float32).eps ** 2 * (values[0] + moments.mean @ moments.mean)
    n_real = int((values > rounding).sum())
    return values[:n_real], axes[:, :n_real]


def _whitener(values: Float64, axes: Float64, kept: int) -> Float2D:
    """Scale the first axes; of the two signs of an axis, its largest component is positive."""
    first = axes[:, :kept]
    signs = np.sign(first[np.abs(first).argmax(axis=0), np.arange(kept)])
    scale = np.sqrt(np.maximum(values[:kept], _VARIANCE_FLOOR * values[0]))
    return cast(Float2D, (first * (signs / scale)).astype(np.float32))
