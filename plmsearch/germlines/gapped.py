"""Chains whose regions have other lengths than the germline's: global alignment by parasail."""

from __future__ import annotations

import re
from typing import Any

__all__ = ["gapped_columns"]

# BLAST's 11/1 in parasail's terms, where opening includes the first residue of a gap.
_GAP_OPEN, _GAP_EXTEND = 12, 1
_AS_SCORED = str.maketrans("UOJ", "CXL")  # letters that BLOSUM62 lacks
_STANDARD = frozenset("ACDEFGHIKLMNPQRSTVWY")
_CIGAR = re.compile(r"(\d+)([=XID])")


def gapped_columns(chain: str, germline: str) -> tuple[int, int]:
    """Align two V genes from FWR1 to C104 and count columns.

    Parameters
    ----------
    chain, germline : str
        At least one residue each.

    Returns
    -------
    same, compared : int
        Columns with the same letter, and all columns with two of the 20 residues or a gap. A gap in
        front, where one of the two begins later, does not count.
    """
    import parasail

    queried, reference = chain.translate(_AS_SCORED), germline.translate(_AS_SCORED)
    traced: Any = parasail.nw_trace_striped_16(queried, reference, _GAP_OPEN, _GAP_EXTEND, parasail.blosum62)
    runs = [(int(n), op) for n, op in _CIGAR.findall(traced.cigar.decode.decode("ascii"))]
    same = compared = at = there = 0
    for i, (n, op) in enumerate(runs):
        if op in "=X":
            pairs = list(zip(chain[at : at + n], germline[there : there + n], strict=True))
            known = [a == b for a, b in pairs if a in _STANDARD and b in _STANDARD]
            same, compared = same + sum(known), compared + len(known)
        elif i > 0:
            compared += n
        at += n * (op != "D")
        there += n * (op != "I")
    return same, compared
