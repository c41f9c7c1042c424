"""What is left of clones in a smaller sample: moments of the hypergeometric distribution.

Of a clone of x among n units, k are among m units drawn without replacement with probability
C(x, k) C(n - x, m - k) / C(n, m). Sums over k run over the values that have any weight, from ratios of
neighbouring terms, so that no factorial is needed and a million units cost little more than a thousand.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

__all__ = ["log_moments"]

#: Values of k on each side of the mode: this many standard deviations, and this many more. What lies
#: outside weighs less than 1e-15 of the whole.
_REACH = 9
_MORE = 12
#: Standard deviation of k above which sums are expanded around the mean: at least the square of it is
#: drawn, and what the expansion lacks is below 1e-7 of the whole.
_WIDE = 200.0
#: Cells of one block of (x, k).
_BLOCK = 1 << 18
_TINY = 1e-9


def log_moments(
    sizes: NDArray[np.int64], n: int, depth: int, orders: NDArray[np.float64], *, max_knots: int = 1 << 14
) -> NDArray[np.float64]:
    """Return the log of the expected (k / depth)^q of clones of some sizes.

    Parameters
    ----------
    sizes : ndarray, dtype=int64, shape=(v,)
        Rising, from 0 to n.
    n, depth : int
        Units in all, and drawn; 1 <= depth <= n.
    orders : ndarray, dtype=float64, shape=(q,)
        For order 1 the moment is that of -(k / depth) log(k / depth), for order 0 that k is above 0.
    max_knots : int
        Of more sizes than these, the moments of some are found by interpolation of the logs (error
        below 1e-4 with 500).

    Returns
    -------
    ndarray, dtype=float64, shape=(v, q)
        ``-inf`` for a moment of 0.

    Examples
    --------
    >>> np.exp(log_moments(np.array([1, 4]), 10, 5, np.array([0.0, 2.0]))).round(6)
    array([[0.5     , 0.02    ],
           [0.97619 , 0.186667]])
    """
    if len(sizes) > max_knots:
        knots = _knots(sizes, max_knots)
        logs = log_moments(knots, n, depth, orders, max_knots=max_knots)
        return np.stack([np.interp(np.log(sizes), np.log(knots), column) for column in logs.T], axis=1)
    moments = np.zeros((len(sizes), len(orders)))
    if depth == n:
        moments = _weighed(sizes[:, None] / n, np.ones((len(sizes), 1)), orders)
    else:
        wide = _spread(sizes, n, depth) > _WIDE
        moments[wide] = _expanded(sizes[wide], n, depth, orders)
        narrow = np.flatnonzero(~wide)
        for rows, shares, weights in _blocks(sizes[narrow], n, depth):
            moments[narrow[rows]] = _weighed(shares, weights, orders)
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(moments))


def _knots(sizes: NDArray[np.int64], n_knots: int) -> NDArray[np.int64]:
    """Choose sizes: all of the small ones, the others evenly in their logs; 0 is not among them."""
    small = sizes[sizes > 0][: n_knots // 2]
    wanted = np.geomspace(max(int(small[-1]), 1), int(sizes[-1]), n_knots - len(small))
    others = sizes[np.minimum(np.searchsorted(sizes, wanted), len(sizes) - 1)]
    return np.unique(np.concatenate([small, others]))


def _weighed(
    shares: NDArray[np.float64], weights: NDArray[np.float64], orders: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the weighted sums of share^q, for order 1 of -share log share, shape (rows, orders)."""
    some = np.where(shares > 0, weights, 0.0)
    logs = np.log(np.where(shares > 0, shares, 1.0))
    sums = np.empty((len(shares), len(orders)))
    # a loop, because (rows, k, orders) in one array would not stay in the cache
    for i, order in enumerate(orders):
        terms = -shares * logs if abs(order - 1.0) < _TINY else np.exp(order * logs)
        sums[:, i] = np.einsum("rk,rk->r", some, terms)
    return sums


def _spread(sizes: NDArray[np.int64], n: int, depth: int) -> NDArray[np.float64]:
    """Return the standard deviation of k."""
    shares = sizes / n
    return np.asarray(np.sqrt(depth * shares * (1 - shares) * ((n - depth) / max(n - 1, 1))))


def _expanded(
    sizes: NDArray[np.int64], n: int, depth: int, orders: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return moments to the second order around the mean, for clones of which very many are drawn."""
    shares = (sizes / n)[:, None]
    squared = (_spread(sizes, n, depth) / depth)[:, None] ** 2
    powers = shares**orders * (1 + orders * (orders - 1) / 2 * squared / shares**2)
    entropy = -shares * np.log(shares) - squared / (2 * shares)
    return np.asarray(np.where(np.abs(orders - 1.0) < _TINY, entropy, powers))


def _blocks(
    sizes: NDArray[np.int64], n: int, depth: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]]:
    """Yield rows, the shares k / depth, shape (r, k), and their weights."""
    x = sizes.astype(np.float64)
    spread = _spread(sizes, n, depth)
    mode = np.floor((x + 1) * (depth + 1) / (n + 2))
    reach = np.ceil(_REACH * spread + _MORE)
    low = np.maximum(np.maximum(mode - reach, 0), depth - (n - x))
    high = np.minimum(np.minimum(mode + reach, x), depth)
    widths = (high - low).astype(np.int64) + 1
    order = np.argsort(widths, kind="stable")
    start = 0
    while start < len(order):
        stop = start + 1
        while stop < len(order) and (stop + 1 - start) * widths[order[stop]] <= _BLOCK:
            stop += 1
        rows = order[start:stop]
        k = low[rows, None] + np.arange(int(widths[rows].max()))
        yield rows, k / depth, _weights(x[rows, None], k, high[rows, None], n, depth)
        start = stop


def _weights(
    x: NDArray[np.float64], k: NDArray[np.float64], high: NDArray[np.float64], n: int, depth: int
) -> NDArray[np.float64]:
    """Return the probability of each k, up to `high`, from the ratios of neighbours."""
    before = k[:, :-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.log(x - before) + np.log(depth - before) - np.log(before + 1)
        ratios -= np.log(n - x - depth + before + 1)
    logs = np.concatenate([np.zeros((len(k), 1)), np.cumsum(np.where(before < high, ratios, 0.0), 1)], 1)
    logs = np.where(k <= high, logs, -np.inf)
    weights = np.exp(logs - logs.max(1, keepdims=True))
    return np.asarray(weights / weights.sum(1, keepdims=True))
