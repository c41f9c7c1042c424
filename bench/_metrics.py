"""Measures of a ranking, exact over ties, and bootstrap intervals over groups.

A ranking is a row of scores over all chains, larger first. Minus infinity means not found: such a chain is
never a right answer, and a query that found nothing gets 0. Where scores are equal the expected value over
every order of the equal ones is taken, so that no method gains from the order of the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


def precision_at_1(scores: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    """Return for each row the chance that its first chain is relevant.

    Parameters are arrays of shape (q, n): float scores, and bool.
    """
    best = scores.max(axis=1, keepdims=True)
    tied = (scores == best) & (best > -np.inf)
    return (tied & relevant).sum(axis=1) / np.maximum(tied.sum(axis=1), 1)


def r_precision(scores: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    """Return for each row the expected share of relevant chains among its first R, R the number of them."""
    out = np.empty(len(scores))
    for i, (row, right) in enumerate(zip(scores, relevant, strict=True)):
        wanted = int(right.sum())
        last = np.partition(row, len(row) - wanted)[len(row) - wanted]
        above, at = row > last, row == last
        found = right[above].sum()
        if last > -np.inf:
            found = found + (wanted - above.sum()) * right[at].mean()
        out[i] = found / wanted
    return out


@dataclass(frozen=True)
class Bootstrap:
    """Resampling of whole groups, the same draws for every method, so that differences are paired.

    Parameters
    ----------
    unit : ndarray, dtype=int64, shape=(q,)
        The group of each query, numbered in any way.
    stratum : ndarray, dtype=int64, shape=(q,)
        The mean is taken within each stratum, then over strata: all zeros is a plain mean.
    weights : ndarray, dtype=float32, shape=(b, u)
        How often each unit is drawn.
    """

    unit: np.ndarray
    stratum: np.ndarray
    weights: np.ndarray

    @classmethod
    def of(cls, unit: np.ndarray, stratum: np.ndarray, n_draws: int, seed: int) -> Bootstrap:
        """Draw as many groups as there are, with replacement, `n_draws` times."""
        _, unit = np.unique(unit, return_inverse=True)
        n_units = int(unit.max()) + 1
        rng = np.random.default_rng(seed)
        drawn = [np.bincount(rng.integers(0, n_units, n_units), minlength=n_units) for _ in range(n_draws)]
        return cls(unit, np.unique(stratum, return_inverse=True)[1], np.array(drawn, np.float32))

    def mean(self, values: np.ndarray) -> float:
        """Return the mean over the queries, macro-averaged over strata."""
        return float(np.mean([values[self.stratum == s].mean() for s in np.unique(self.stratum)]))

    def draws(self, values: np.ndarray) -> np.ndarray:
        """Return the mean in each draw; a stratum that a draw has missed is left out of it."""
        means = []
        for s in np.unique(self.stratum):
            chosen = self.stratum == s
            size = self.weights.shape[1]
            total = np.bincount(self.unit[chosen], values[chosen], size).astype(np.float32)
            count = np.bincount(self.unit[chosen], minlength=size).astype(np.float32)
            with np.errstate(invalid="ignore"):
                means.append((self.weights @ total) / (self.weights @ count))
        return np.nanmean(means, axis=0)


@dataclass(frozen=True)
class Estimate:
    """A value with its 95% percentile interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"

    def signed(self) -> str:
        """Write a difference."""
        return f"{self.value:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


def estimates(values: Mapping[str, np.ndarray], bootstrap: Bootstrap) -> dict[str, Estimate]:
    """Return the estimate of each method from its value for each query."""
    return {name: _estimate(bootstrap.mean(v), bootstrap.draws(v)) for name, v in values.items()}


def differences(values: Mapping[str, np.ndarray], rival: str, bootstrap: Bootstrap) -> dict[str, Estimate]:
    """Return the paired difference of each method to a rival."""
    theirs, their_draws = bootstrap.mean(values[rival]), bootstrap.draws(values[rival])
    return {
        name: _estimate(bootstrap.mean(v) - theirs, bootstrap.draws(v) - their_draws)
        for name, v in values.items()
        if name != rival
    }


def _estimate(value: float, draws: np.ndarray) -> Estimate:
    low, high = np.quantile(draws, [0.025, 0.975])
    return Estimate(value, float(low), float(high))
