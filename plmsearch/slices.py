"""Take an iterable in slices."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

__all__ = ["slices"]

T = TypeVar("T")


def slices(values: Iterable[T], n: int) -> Iterator[list[T]]:
    """Yield lists of up to `n` values, in order; `itertools.batched` of Python 3.12, as lists.

    Examples
    --------
    >>> list(slices("abcde", 2))
    [['a', 'b'], ['c', 'd'], ['e']]
    """
    remaining = iter(values)
    while part := list(islice(remaining, n)):
        yield part
