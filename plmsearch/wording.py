"""Words that agree with the number before them."""

from __future__ import annotations

__all__ = ["counted"]


def counted(n: int, one: str, many: str = "", *, style: str = "") -> str:
    """Write a number and what it counts.

    Parameters
    ----------
    n : int
    one, many : str
        What follows 1, and any other number; `many` is `one` with an s if left out.
    style : str
        Of the number, such as ``,`` for thousands.

    Examples
    --------
    >>> counted(1, "row"), counted(0, "row"), counted(2, "family is", "families are")
    ('1 row', '0 rows', '2 families are')
    >>> counted(12345, "record", style=",")
    '12,345 records'
    """
    return f"{n:{style}} {one if n == 1 else many or f'{one}s'}"
