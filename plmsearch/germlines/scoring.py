"""How well chains agree with germlines, position by position, for many of both at once.

Concepts
--------
Residues are laid out in *slots*: FWR1 from its end, for a chain may lack the first residues; other
regions from both sides, as IMGT puts its gaps in the middle. Two chains with regions of the same lengths
are so compared position by position. A slot is a letter of the 20, a gap, or unknown: X and other
letters, and what lies in front of FWR1. A column counts if both are known and not both are gaps; it
agrees if both have the same letter. The score is agreeing columns less the others.

At CDR3, where a V gene ends and a J gene begins somewhere, the two are compared outwards from C104 and
from position 118 for as long as that raises the score.

All counts are sums of products of 0 and 1 in float32, exact far beyond 1,000 columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from plmsearch.sequences import STANDARD_RESIDUES
from plmsearch.types import Float2D

__all__ = ["Agreement", "compare", "extension", "layout"]

Codes: TypeAlias = np.ndarray[tuple[Any, Any], np.dtype[np.uint8]]

#: Slots of each region: IMGT's positions, with room for insertions.
_SLOTS = {"fwr1": 30, "cdr1": 24, "fwr2": 24, "cdr2": 24, "fwr3": 48, "fwr4": 14}
_OPEN = ("fwr1", "fwr4")  # cut off by a primer or a read's end, at the outer side

_N_LETTERS = len(STANDARD_RESIDUES)
_GAP, _UNKNOWN = _N_LETTERS, _N_LETTERS + 1
#: Residues of CDR3 that are compared at most: no V or J gene of IMGT brings more.
_END_SLOTS = 24

_CODES = np.full(256, _UNKNOWN, dtype=np.uint8)
_CODES[np.frombuffer(STANDARD_RESIDUES.encode(), dtype=np.uint8)] = np.arange(_N_LETTERS)


@dataclass(frozen=True, slots=True)
class Agreement:
    """Columns of n chains with m germlines.

    Parameters
    ----------
    same : ndarray, dtype=float32, shape=(n, m)
        Columns with the same letter.
    compared : ndarray, dtype=float32, shape=(n, m)
        Columns that count.
    """

    same: Float2D
    compared: Float2D

    @property
    def score(self) -> Float2D:
        """Agreeing columns less the others: float32, shape (n, m)."""
        return 2 * self.same - self.compared


def layout(regions: Sequence[Mapping[str, str]], names: Sequence[str]) -> Codes:
    """Lay some regions of each chain out in slots: uint8, shape (n, slots)."""
    width = sum(_SLOTS[name] for name in names)
    text = "".join(_laid(one[name], name) for one in regions for name in names)
    return _codes(text).reshape(len(regions), width)


def compare(chains: Codes, germlines: Codes) -> Agreement:
    """Compare every chain with every germline; both laid out in the same slots."""
    letters_a, known_a, gap_a = _indicators(chains)
    letters_b, known_b, gap_b = _indicators(germlines)
    same: Float2D = letters_a @ letters_b.T
    compared: Float2D = known_a @ known_b.T - gap_a @ gap_b.T
    return Agreement(same, compared)


def extension(chains: Sequence[str], germlines: Sequence[str], *, backwards: bool) -> Float2D:
    """Score CDR3 outwards from its conserved end, as far as that raises the score.

    Parameters
    ----------
    chains, germlines : sequence of str
        CDR3 of n chains, and what m germlines bring to it.
    backwards : bool
        From the end, as for J genes.

    Returns
    -------
    ndarray, dtype=float32, shape=(n, m)
        Agreeing less other residues, at best; at least 0.
    """
    a, b = (_codes("".join(_end(one, backwards) for one in group)) for group in (chains, germlines))
    a, b = a.reshape(-1, 1, _END_SLOTS), b.reshape(1, -1, _END_SLOTS)
    steps = np.where(a == b, np.int8(1), np.int8(-1))
    steps[(a == _UNKNOWN) | (b == _UNKNOWN)] = 0
    steps[(a == _GAP) | (b == _GAP)] = -_END_SLOTS  # past the end of either
    best: Float2D = np.cumsum(steps, axis=2, dtype=np.int16).max(axis=2, initial=0).astype(np.float32)
    return best


def _laid(residues: str, name: str) -> str:
    """Spread the residues of a region; ``-`` is a gap, ``?`` unknown; too many are cut in the middle."""
    slots = _SLOTS[name]
    if name in _OPEN:
        return residues[-slots:].rjust(slots, "?") if name == "fwr1" else residues[:slots].ljust(slots, "?")
    left = (min(len(residues), slots) + 1) // 2
    right = min(len(residues), slots) - left
    return residues[:left] + "-" * (slots - left - right) + residues[len(residues) - right :]


def _end(residues: str, backwards: bool) -> str:
    return (residues[::-1] if backwards else residues)[:_END_SLOTS].ljust(_END_SLOTS, "-")


def _codes(text: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
    raw = np.frombuffer(text.encode("ascii", "replace"), dtype=np.uint8)
    codes = _CODES[raw]
    codes[raw == ord("-")] = _GAP
    return codes


def _indicators(codes: Codes) -> tuple[Float2D, Float2D, Float2D]:
    """Return which letter, known or not, gap or not, as 0 and 1: shapes (n, 20 * slots) and (n, slots)."""
    letters = codes[:, :, None] == np.arange(_N_LETTERS, dtype=np.uint8)
    known = (codes != _UNKNOWN).astype(np.float32)
    return letters.reshape(len(codes), -1).astype(np.float32), known, (codes == _GAP).astype(np.float32)
