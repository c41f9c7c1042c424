"""Isotypes of constant-region calls, in the spellings of IMGT, 10x and the clinic."""

from __future__ import annotations

import re

__all__ = ["call_isotypes"]

# IGHM, IGHG1*03, IGHG2B, IgG, IgA1; not the D gene IGHD3-10, nor IGHV3-23.
_CONSTANT = re.compile(r"IGH?([MDGAE])(P|[1-4][A-C]?)?(?![A-Z0-9-])", re.IGNORECASE | re.ASCII)


def call_isotypes(call: str) -> tuple[str, ...]:
    """Return every subclass that a constant-region call lists, such as ``IgG1``; ``IgG`` if none is told.

    Examples
    --------
    >>> call_isotypes("IGHG1*01,IGHG2*02"), call_isotypes("Homsap IGHM F"), call_isotypes("IGKC")
    (('IgG1', 'IgG2'), ('IgM',), ())
    """
    found = (match[1].upper() + (match[2] or "").upper() for match in _CONSTANT.finditer(call))
    return tuple(dict.fromkeys("Ig" + name for name in found))
