"""Count the distinct values of a stream in bounded memory, rather too few than too many."""

from __future__ import annotations

import heapq

__all__ = ["DistinctCount"]

_N_KEPT = 1024
_BITS = 64
#: The standard error of the estimate is 1 / sqrt(1022), or 3 percent: this is five times that.
_CAUTION = 0.85


class DistinctCount:
    """The k smallest of uniform hashes tell how many there are.

    Bar-Yossef et al. 2002 (Counting distinct elements in a data stream): of n hashes that are uniform in
    [0, 1) the k-th smallest is near k/n. With k or fewer the count is exact.

    Examples
    --------
    >>> import hashlib
    >>> count = DistinctCount()
    >>> for n in range(5000):
    ...     count.add(hashlib.sha256(str(n % 3000).encode()).hexdigest())
    >>> 2000 < count.at_least < 3000
    True
    """

    def __init__(self) -> None:
        self._kept: set[int] = set()
        self._largest: list[int] = []  # a heap of the negatives of what is kept

    def add(self, hash_hex: str) -> None:
        """Take one value, by a hash of at least 64 bits in hexadecimal."""
        value = int(hash_hex[: _BITS // 4], 16)
        if value in self._kept:
            return
        if len(self._kept) < _N_KEPT:
            heapq.heappush(self._largest, -value)
        elif value < -self._largest[0]:
            self._kept.discard(-heapq.heapreplace(self._largest, -value))
        else:
            return
        self._kept.add(value)

    @property
    def at_least(self) -> int:
        """A number that is hardly ever more than that of the distinct values."""
        if len(self._kept) < _N_KEPT:
            return len(self._kept)
        return int(_CAUTION * (_N_KEPT - 1) / (-self._largest[0] / 2**_BITS))
