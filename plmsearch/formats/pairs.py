r"""Clusters as MMseqs2 writes them: representative and member, one pair a line, without a header.

A tab in an id is written ``\t``, a line feed ``\n``, as in the other tables.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TextIO

from plmsearch.formats.cells import TSV_ESCAPES

__all__ = ["write_pairs"]


def write_pairs(pairs: Iterable[tuple[str, str]], out: TextIO) -> None:
    r"""Write pairs as they come.

    Parameters
    ----------
    pairs : iterable of (str, str)
        Representative and member.
    out : text file

    Examples
    --------
    >>> import io
    >>> out = io.StringIO()
    >>> write_pairs([("a", "a"), ("a", "b\tc")], out)
    >>> out.getvalue()
    'a\ta\na\tb\\tc\n'
    """
    for pair in pairs:
        out.write("\t".join(cell.translate(TSV_ESCAPES) for cell in pair) + "\n")
