"""Abundances: how many clones have how many units, and the diversity that follows from it.

A repertoire is taken for a sample of n units (rows, molecules or cells) from an assemblage of clones, as
ecologists take individuals of species. Only the counts of counts matter, so that a million clones of one
row are one entry here.

References
----------
.. [1] Hill 1973, Ecology 54:427, doi:10.2307/1934352: the numbers.
.. [2] Chao & Jost 2012, Ecology 93:2533, doi:10.1890/11-1952.1: coverage, observed, rarefied, extrapolated.
.. [3] Chao et al. 2014, Ecological Monographs 84:45, doi:10.1890/13-0133.1: rarefied and extrapolated Hill
   numbers (table 1), bootstrap (appendix G).
.. [4] Chao, Wang & Jost 2013, Methods Ecol Evol 4:1091, doi:10.1111/2041-210X.12108: entropy.
.. [5] Chao & Jost 2015, Methods Ecol Evol 6:873, doi:10.1111/2041-210X.12349: profiles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from plmsearch.repertoire.hypergeometric import log_moments

__all__ = [
    "Abundance",
    "Extrapolation",
    "coverage",
    "estimated_hill",
    "hill",
    "hill_from_sums",
    "rarefied_hill",
    "unseen",
]

_TINY = 1e-9
#: Of whole numbers to 19: 1 + 1/2 + ... + 1/(x - 1), less Euler's constant. From 20 on `_digamma` has a
#: series that is exact in float64.
_DIGAMMA = np.cumsum([-np.euler_gamma, 0.0, *(1.0 / np.arange(1, 19))])


@dataclass(frozen=True, slots=True)
class Abundance:
    """Counts of counts.

    Parameters
    ----------
    values : ndarray, dtype=int64, shape=(v,)
        Distinct sizes of clones, rising, all above 0.
    times : ndarray, dtype=int64, shape=(v,)
        How many clones have each.
    """

    values: NDArray[np.int64]
    times: NDArray[np.int64]

    @classmethod
    def of(cls, sizes: ArrayLike) -> Abundance:
        """Gather the sizes of clones; a size of 0 is no clone.

        Examples
        --------
        >>> Abundance.of([1, 5, 0, 1])
        Abundance(values=array([1, 5]), times=array([2, 1]))
        """
        given = np.asarray(sizes, dtype=np.int64)
        values, times = np.unique(given[given > 0], return_counts=True)
        return cls(values, times.astype(np.int64))

    @property
    def n(self) -> int:
        """Units in all."""
        return int(self.values @ self.times)

    @property
    def n_clones(self) -> int:
        """Clones in all."""
        return int(self.times.sum())

    def with_size(self, size: int) -> int:
        """Count the clones of one size: 1 gives the singletons, f1 of the literature."""
        return int(self.times[self.values == size].sum())


def _is_one(orders: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.asarray(np.abs(orders - 1.0) < _TINY)


def hill_from_sums(sums: NDArray[np.float64], orders: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn sums of p^q, for order 1 the entropy, into Hill numbers.

    Parameters
    ----------
    sums : ndarray, dtype=float64, shape=(..., q)
    orders : ndarray, dtype=float64, shape=(q,)
    """
    one = _is_one(orders)
    powers = 1.0 / np.where(one, 1.0, 1.0 - orders)
    return np.asarray(np.exp(np.where(one, sums, powers * np.log(np.where(one, 1.0, sums)))))


def hill(abundance: Abundance, orders: Sequence[float]) -> NDArray[np.float64]:
    """Return the Hill numbers of the sample itself.

    Parameters
    ----------
    abundance : Abundance
        At least one unit.
    orders : sequence of float
        q: 0 counts clones, 1 is the exponential of Shannon's entropy, 2 the inverse of Simpson's index.

    Returns
    -------
    ndarray, dtype=float64, shape=(len(orders),)
        Effective numbers of clones: (sum p^q)^(1/(1-q)) [1]_.

    Examples
    --------
    >>> hill(Abundance.of([2, 2, 2, 2]), (0, 1, 2)).round(6)
    array([4., 4., 4.])
    """
    return rarefied_hill(abundance, orders, abundance.n)


def rarefied_hill(abundance: Abundance, orders: Sequence[float], depth: int) -> NDArray[np.float64]:
    """Return the Hill numbers expected of `depth` units drawn without replacement.

    Parameters
    ----------
    abundance : Abundance
    orders : sequence of float
    depth : int
        From 1 to the number of units.

    Returns
    -------
    ndarray, dtype=float64, shape=(len(orders),)
        Of the expected counts of counts (Chao et al. 2014 [3]_, eq. 4).
    """
    given = np.asarray(orders, dtype=np.float64)
    moments = np.exp(log_moments(abundance.values, abundance.n, depth, given))
    return hill_from_sums(np.asarray(abundance.times @ moments, dtype=np.float64), given)


def unseen(abundance: Abundance) -> float:
    """Estimate how many clones the sample has missed: Chao1 in its bias-corrected form, a lower bound."""
    n, f1, f2 = abundance.n, abundance.with_size(1), abundance.with_size(2)
    pairs = f1 * f1 / (2 * f2) if f2 else f1 * (f1 - 1) / 2
    return (n - 1) / n * pairs if n else 0.0


def _missing_share(abundance: Abundance) -> float:
    """Return A of Chao & Jost 2012, so that the share of units of unseen clones is f1 / n * A."""
    f1, missed = abundance.with_size(1), unseen(abundance)
    return abundance.n * missed / (abundance.n * missed + f1) if missed else 0.0


def coverage(abundance: Abundance, depth: int) -> float:
    """Estimate the share of the assemblage that clones of a sample of `depth` units make up.

    Parameters
    ----------
    abundance : Abundance
    depth : int
        At least 1; above the number of units it is extrapolated.

    Returns
    -------
    float
        0 to 1 (Chao & Jost 2012 [2]_, eq. 4a, 4b, 12).
    """
    n, f1 = abundance.n, abundance.with_size(1)
    if depth < n:
        seen = np.exp(log_moments(abundance.values - 1, n - 1, depth, np.zeros(1)))[:, 0]
        return 1.0 - float((abundance.values * abundance.times) @ (1.0 - seen)) / n
    share = _missing_share(abundance)
    return 1.0 - f1 / n * share ** (depth - n + 1)


def estimated_hill(abundance: Abundance) -> NDArray[np.float64]:
    """Estimate the Hill numbers of order 0, 1 and 2 of the whole assemblage.

    Returns
    -------
    ndarray, dtype=float64, shape=(3,)
        Chao1 (a lower bound); the exponential of Chao, Wang & Jost's entropy [4]_; the inverse of the
        unbiased Simpson index, NaN where every clone has one unit.
    """
    n = abundance.n
    same = float((abundance.values * (abundance.values - 1.0)) @ abundance.times)
    simpson = n * (n - 1.0) / same if same else np.nan
    return np.array([abundance.n_clones + unseen(abundance), np.exp(_entropy(abundance)), simpson])


def _entropy(abundance: Abundance) -> float:
    n, f1, f2 = abundance.n, abundance.with_size(1), abundance.with_size(2)
    values = abundance.values.astype(np.float64)
    seen = float((values / n * (_digamma(np.array([n]))[0] - _digamma(abundance.values))) @ abundance.times)
    if not f1 or n < 2:
        return seen
    a = 2 * f2 / ((n - 1) * f1 + 2 * f2) if f2 else 2 / ((n - 1) * (f1 - 1) + 2)
    return seen if a >= 1 else seen + f1 / n * _tail(-np.log1p(-a), n - 1)


def _tail(rate: float, n: int) -> float:
    """Sum exp(-rate j) / (n + j) over j from 1 up.

    It is what (1-A)^(1-n) (-log A - sum of (1-A)^r / r) comes to, without the cancellation: the integral
    of exp(-n s) / (exp(rate + s) - 1), by the trapezium rule in log s.
    """
    step = 0.05
    u = np.exp(np.arange(-45.0, 5.0, step))
    return float(np.sum(np.exp(-u) * u / np.expm1(rate + u / n)) * step / n)


def _digamma(x: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the derivative of the log of the gamma function, for whole numbers of 1 and more."""
    large = np.maximum(x, len(_DIGAMMA)).astype(np.float64)
    square = 1.0 / large**2
    series = square * (1 / 12 - square * (1 / 120 - square * (1 / 252 - square * (1 / 240 - square / 132))))
    small = _DIGAMMA[np.minimum(x, len(_DIGAMMA) - 1)]
    return np.where(x < len(_DIGAMMA), small, np.log(large) - 0.5 / large - series)


@dataclass(frozen=True, slots=True)
class Extrapolation:
    """What a sample tells of larger ones, whatever their depth: worked out once for all depths.

    Parameters
    ----------
    n, n_clones : int
        Units and clones of the sample.
    missed : float
        Clones it has missed (`unseen`).
    once : int
        Clones of one unit.
    observed, estimated : float
        Shannon's entropy of the sample, and of the assemblage: no less.
    pairs : float
        Share of pairs of units that are of one clone.
    """

    n: int
    n_clones: int
    missed: float
    once: int
    observed: float
    estimated: float
    pairs: float

    @classmethod
    def of(cls, abundance: Abundance) -> Extrapolation:
        """Work it out; at least one unit."""
        n = abundance.n
        observed = float(np.log(hill(abundance, (1,)))[0])
        same = float((abundance.values * (abundance.values - 1.0)) @ abundance.times)
        return cls(
            n=n, n_clones=abundance.n_clones, missed=unseen(abundance), once=abundance.with_size(1),
            observed=observed, estimated=max(_entropy(abundance), observed),
            pairs=same / (n * (n - 1.0)) if n > 1 else 0.0,
        )  # fmt: skip

    def hill_at(self, depth: int) -> NDArray[np.float64]:
        """Predict the Hill numbers of order 0, 1 and 2 of a larger sample.

        Parameters
        ----------
        depth : int
            Above the number of units; predictions hold to about twice that [3]_.

        Returns
        -------
        ndarray, dtype=float64, shape=(3,)
            Chao et al. 2014 [3]_, table 1.
        """
        n, more, missed = self.n, depth - self.n, self.missed
        gained = missed * -np.expm1(more * np.log1p(-self.once / (n * missed + self.once))) if missed else 0.0
        entropy = (n * self.observed + more * self.estimated) / depth
        simpson = 1.0 / (1.0 / depth + (depth - 1.0) / depth * self.pairs)
        return np.array([self.n_clones + gained, np.exp(entropy), simpson])
