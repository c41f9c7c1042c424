"""Diversity of repertoires with confidence bands, compared at equal depth.

A larger sample has more clones, whatever the repertoire. So repertoires are compared at one number of
units, that of the smallest one that is large enough to say something; those below are named and left
out. Bands are normal intervals around the estimate, with the standard deviation over samples redrawn
from an estimated assemblage in which clones that were not seen have their share (Chao et al. 2014,
Ecological Monographs 84:45, appendix G).

alakazam (``alphaDiversity``) compares at equal depth too, but takes the mean over random samples of
that depth and their spread; here the expectation over all such samples is computed, and the band says
how well it is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from plmsearch.repertoire.abundance import (
    Abundance,
    Extrapolation,
    coverage,
    estimated_hill,
    hill,
    hill_from_sums,
    rarefied_hill,
    unseen,
)
from plmsearch.repertoire.hypergeometric import log_moments

__all__ = [
    "MIN_DEPTH",
    "N_BOOTSTRAPS",
    "ORDERS",
    "Curve",
    "Diversity",
    "common_depth",
    "diversity",
    "resample",
]

#: Orders of a profile: 0 to 4, as alakazam's default.
ORDERS = tuple(round(0.1 * i, 1) for i in range(41))
#: Units below which a sample is not compared (alakazam's ``min_n``).
MIN_DEPTH = 30
#: Samples redrawn for a band.
N_BOOTSTRAPS = 100
_Z = 1.959964  # the normal quantile of 0.975: bands are 95% intervals
_CURVE_ORDERS = (0, 1, 2)
#: Points of a rarefaction curve as parts of the sample; twice a sample is as far as one should predict
#: (Chao et al. 2014).
_BELOW = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
_ABOVE = (1.0, 1.2, 1.4, 1.6, 1.8, 2.0)
#: Sizes whose moments are computed for the redrawn samples; the others are interpolated (error below
#: 0.001, the same in all of them).
_KNOTS = 192
#: Clones of up to so many units are redrawn by size, larger ones each by itself.
_RARE = 8
#: Values above are counted by sorting, not in an array of their own.
_DENSE = 1 << 24


@dataclass(frozen=True, slots=True)
class Curve:
    """Estimates along one axis, with their bands.

    Parameters
    ----------
    at : ndarray, dtype=float64, shape=(p,)
        Orders of a profile, or depths of a rarefaction.
    estimate, low, high : ndarray, dtype=float64, shape=(p,) or (p, 3)
        Effective numbers of clones; for a rarefaction of order 0, 1 and 2.
    """

    at: NDArray[np.float64]
    estimate: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Diversity:
    """Diversity of one repertoire.

    Parameters
    ----------
    n, n_clones : int
        Units and clones.
    coverage : float
        Estimated share of the repertoire that its clones make up.
    observed, estimated : ndarray, dtype=float64, shape=(3,)
        Hill numbers of order 0, 1, 2 of the sample, and estimates for the whole repertoire.
    depth : int
        Units at which it is compared; 0 if it is not.
    profile : Curve or None
        Hill numbers of `ORDERS` at that depth.
    rarefaction : Curve
        Up to twice the sample.
    curve_coverage : ndarray, dtype=float64, shape=(p,)
        Coverage at the depths of the rarefaction.
    """

    n: int
    n_clones: int
    coverage: float
    observed: NDArray[np.float64]
    estimated: NDArray[np.float64]
    depth: int
    profile: Curve | None
    rarefaction: Curve
    curve_coverage: NDArray[np.float64]


def common_depth(sizes: Sequence[int], min_depth: int) -> int:
    """Return the depth at which repertoires can be compared; 0 if none is deep enough.

    Examples
    --------
    >>> common_depth([1000, 12, 400], 30), common_depth([12], 30)
    (400, 0)
    """
    return min((n for n in sizes if n >= min_depth), default=0)


def diversity(
    abundance: Abundance, depth: int, rng: np.random.Generator, n_bootstraps: int = N_BOOTSTRAPS
) -> Diversity:
    """Estimate the diversity of one repertoire.

    Parameters
    ----------
    abundance : Abundance
        At least one unit.
    depth : int
        Common depth of the comparison; a repertoire of fewer units gets no profile.
    rng : Generator
        For the redrawn samples.
    n_bootstraps : int
        At least 2.
    """
    compared = depth if 0 < depth <= abundance.n else 0
    drawn = _Redrawn(resample(abundance, rng, n_bootstraps))
    depths = _depths(abundance.n)
    estimates = np.array([_hill_at(abundance, int(m)) for m in depths])
    spreads = np.array([drawn.hill_at(int(m)).std(axis=0, ddof=1) for m in depths])
    profile = None
    if compared:
        profile = _curve(
            np.array(ORDERS),
            rarefied_hill(abundance, ORDERS, compared),
            drawn.rarefied(ORDERS, compared).std(axis=0, ddof=1),
        )
    return Diversity(
        n=abundance.n, n_clones=abundance.n_clones, coverage=coverage(abundance, abundance.n),
        observed=hill(abundance, _CURVE_ORDERS), estimated=estimated_hill(abundance),
        depth=compared, profile=profile,
        rarefaction=_curve(depths.astype(np.float64), estimates, spreads),
        curve_coverage=np.array([coverage(abundance, int(m)) for m in depths]),
    )  # fmt: skip


def _curve(at: NDArray[np.float64], estimate: NDArray[np.float64], spread: NDArray[np.float64]) -> Curve:
    reach = _Z * spread
    # a sample of one unit and more has at least one clone
    return Curve(at, estimate, np.maximum(estimate - reach, 1.0), estimate + reach)


def _depths(n: int) -> NDArray[np.int64]:
    parts = np.array([1.0 / n, *_BELOW, *_ABOVE]) * n
    return np.unique(np.maximum(np.rint(parts), 1).astype(np.int64))


def _hill_at(abundance: Abundance, depth: int) -> NDArray[np.float64]:
    if depth <= abundance.n:
        return rarefied_hill(abundance, _CURVE_ORDERS, depth)
    return Extrapolation.of(abundance).hill_at(depth)


# --- Redrawn samples -------------------------------------------------------------------------------


def resample(abundance: Abundance, rng: np.random.Generator, n_bootstraps: int) -> list[Abundance]:
    """Draw samples of the same size from an estimated assemblage.

    Parameters
    ----------
    abundance : Abundance
    rng : Generator
    n_bootstraps : int

    Returns
    -------
    list of Abundance
        The share of a clone of x of n units is x/n (1 - w (1 - x/n)^n); what that leaves is divided
        equally among as many unseen clones as Chao1 estimates (Chao et al. 2014, appendix G).
    """
    shares, unseen_share, n_unseen = _assemblage(abundance)
    common = abundance.values > _RARE
    of_classes = [*(shares * abundance.times)[~common], unseen_share]
    n_of_classes = [*abundance.times[~common].tolist(), n_unseen]
    chances = np.concatenate([np.repeat(shares[common], abundance.times[common]), of_classes])
    chances /= chances.sum()
    n_common = int(abundance.times[common].sum())
    samples = []
    for _ in range(n_bootstraps):
        drawn = rng.multinomial(abundance.n, chances)
        parts = [drawn[:n_common]]
        for total, n_clones in zip(drawn[n_common:].tolist(), n_of_classes, strict=True):
            parts.append(_scatter(rng, total, n_clones))
        samples.append(Abundance.of(np.concatenate(parts)))
    return samples


def _assemblage(abundance: Abundance) -> tuple[NDArray[np.float64], float, int]:
    """Return the share of each clone by its size, and the share and number of unseen clones."""
    n, missed = abundance.n, unseen(abundance)
    unseen_share = 1.0 - coverage(abundance, n)
    observed = abundance.values / n
    lost = np.exp(n * np.log1p(-np.minimum(observed, 1 - 1e-16)))
    weight = unseen_share / float((observed * lost) @ abundance.times) if unseen_share > 0 else 0.0
    return observed * (1.0 - weight * lost), unseen_share, max(int(np.ceil(missed)), 1)


def _scatter(rng: np.random.Generator, total: int, n_clones: int) -> NDArray[np.int64]:
    """Give units to clones of equal share; return the sizes of those that got some."""
    if total == 0:
        return np.zeros(0, dtype=np.int64)
    which = rng.integers(n_clones, size=total)
    if n_clones > _DENSE:
        return np.unique(which, return_counts=True)[1].astype(np.int64)
    return np.bincount(which)


class _Redrawn:
    """Redrawn samples of one repertoire; they have its number of units."""

    def __init__(self, samples: Sequence[Abundance]) -> None:
        self._samples = samples
        self._beyond = [Extrapolation.of(sample) for sample in samples]
        self._n = samples[0].n
        self._sizes = np.unique(np.concatenate([sample.values for sample in samples]))
        self._places = [np.searchsorted(self._sizes, sample.values) for sample in samples]

    def rarefied(self, orders: Sequence[float], depth: int) -> NDArray[np.float64]:
        """Return Hill numbers at a depth, shape (samples, orders); the same moments serve all samples."""
        given = np.asarray(orders, dtype=np.float64)
        moments = np.exp(log_moments(self._sizes, self._n, depth, given, max_knots=_KNOTS))
        sums = np.array(
            [s.times @ moments[place] for s, place in zip(self._samples, self._places, strict=True)],
            dtype=np.float64,
        )
        return hill_from_sums(sums, given)

    def hill_at(self, depth: int) -> NDArray[np.float64]:
        if depth <= self._n:
            return self.rarefied(_CURVE_ORDERS, depth)
        return np.stack([beyond.hill_at(depth) for beyond in self._beyond])
