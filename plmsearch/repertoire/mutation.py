"""Somatic mutation of the V gene: the share of its nucleotides that differ from the germline.

Of an identity that the table has (``v_identity``), it is what that leaves of 1. Else it is counted in
``sequence_alignment`` against ``germline_alignment``, over the positions of the V gene at which both have
A, C, G or T: a gap, N or any other letter is neither a mutation nor a position.

Where the V gene is, from the first of these that a row has:

- IMGT gaps (a ``.`` in the germline): positions 1 to 312, up to and with the conserved C of the junction
  (104 codons; Lefranc et al. 2003, doi:10.1016/S0145-305X(02)00039-3; shazam's ``IMGT_V``);
- ``v_alignment_start`` and ``v_alignment_end``;
- ``v_germline_start`` and ``v_germline_end``, or ``v_sequence_start`` and ``v_sequence_end``: so many
  letters, without gaps, from the start of the alignment;
- ``junction``, found once in the sequence without gaps: up to and with its first codon.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["MUTATION_COLUMNS", "mutated_shares", "v_part"]

#: Columns that are read.
MUTATION_COLUMNS = (
    "sequence_alignment", "germline_alignment", "germline_alignment_d_mask", "v_alignment_start",
    "v_alignment_end", "v_germline_start", "v_germline_end", "v_sequence_start", "v_sequence_end",
)  # fmt: skip

#: Nucleotides of the V gene in IMGT's numbering, to the end of codon 104.
_IMGT_V = 312
_IMGT_GAP = "."
_GAPS = re.compile("[-.]+")

_IS_BASE = np.zeros(256, dtype=bool)
_IS_BASE[np.frombuffer(b"ACGT", dtype=np.uint8)] = True


def v_part(row: Mapping[str, str], junction: str) -> tuple[str, str]:
    """Return the V gene's part of a sequence and of its germline, aligned.

    Parameters
    ----------
    row : mapping of str to str
        Cells of `MUTATION_COLUMNS`, upper or lower case, "" where there is none.
    junction : str
        Nucleotides; may be empty.

    Returns
    -------
    (str, str)
        Of equal length; both empty if the alignments are not there, differ in length, or nothing says
        where the V gene ends.

    Examples
    --------
    >>> row = dict.fromkeys(MUTATION_COLUMNS, "")
    >>> row |= {"sequence_alignment": "ACGTTGTAAA", "germline_alignment": "ACGATGTNNN"}
    >>> v_part(row, "TGTAAA")
    ('ACGTTGT', 'ACGATGT')
    """
    sequence = row["sequence_alignment"]
    germline = row["germline_alignment"] or row["germline_alignment_d_mask"]
    if not sequence or len(sequence) != len(germline):
        return "", ""
    start, end = _bounds(row, sequence, germline, junction)
    return sequence[start:end], germline[start:end]


def _bounds(row: Mapping[str, str], sequence: str, germline: str, junction: str) -> tuple[int, int]:
    if _IMGT_GAP in germline[:_IMGT_V]:
        return 0, _IMGT_V
    start, end = _pair(row, "v_alignment")
    if end:
        return start, end
    for text, name in ((germline, "v_germline"), (sequence, "v_sequence")):
        start, end = _pair(row, name)
        if end:
            return 0, _place_of(text, end - start)
    plain = _GAPS.sub("", sequence).upper()
    found = plain.find(junction.upper()) if junction else -1
    if found < 0 or plain.find(junction.upper(), found + 1) >= 0:
        return 0, 0
    return 0, _place_of(sequence, found + 3)


def _pair(row: Mapping[str, str], name: str) -> tuple[int, int]:
    """Return where a part begins and ends, counted from 0, the end not included; (0, 0) if not told."""
    # pandas writes a column of whole numbers with gaps as floats
    first, last = (row[f"{name}_{side}"].removesuffix(".0") for side in ("start", "end"))
    if not last.isdecimal() or not (first.isdecimal() or not first):
        return 0, 0
    return int(first or 1) - 1, int(last)


def _place_of(text: str, n_letters: int) -> int:
    """Return where `n_letters` letters that are no gaps end."""
    if _GAPS.search(text) is None:
        return n_letters
    places = [place for place, letter in enumerate(text) if letter not in "-."]
    return places[n_letters - 1] + 1 if 0 < n_letters <= len(places) else len(text)


def mutated_shares(pairs: Sequence[tuple[str, str]]) -> NDArray[np.float64]:
    """Count mutations between aligned sequences.

    Parameters
    ----------
    pairs : sequence of (str, str)
        Sequence and germline, of equal length.

    Returns
    -------
    ndarray, dtype=float64, shape=(n,)
        Share of positions that differ, of those where both have A, C, G or T; NaN if there is none.

    Examples
    --------
    >>> mutated_shares([("ACGT-N", "ACGAAA"), ("", "")])
    array([0.25,  nan])
    """
    width = max((len(sequence) for sequence, _ in pairs), default=0)
    ours, germline = (_letters([pair[side] for pair in pairs], width) for side in (0, 1))
    known = _IS_BASE[ours] & _IS_BASE[germline]
    n_known = known.sum(axis=1)
    differ = (known & (ours != germline)).sum(axis=1)
    return np.asarray(np.where(n_known > 0, differ / np.maximum(n_known, 1), np.nan))


def _letters(texts: Sequence[str], width: int) -> NDArray[np.uint8]:
    """Return upper-case letters as bytes, one row each, padded with spaces."""
    block = "".join(text.ljust(width) for text in texts).upper().encode("ascii", "replace")
    return np.frombuffer(block, dtype=np.uint8).reshape(len(texts), width)
