"""Translation of nucleotides: the standard genetic code, six frames, open readings.

Frames are 1, 2, 3 (the strand as given, from its first, second or third nucleotide) and -1, -2, -3 (the
same of the reverse complement), as BLAST counts them. A codon with ambiguous IUPAC letters becomes a
residue where all codons it stands for agree, else X; so does a codon with any other character.
"""

from __future__ import annotations

import string
from collections.abc import Iterator
from itertools import product

from plmsearch.errors import ParameterError

__all__ = [
    "FRAMES",
    "as_nucleotides",
    "codes_for",
    "not_a_nucleotide",
    "open_readings",
    "reverse_complement",
    "six_frames",
    "translate",
]

FRAMES = (1, 2, 3, -1, -2, -3)

#: IUPAC nucleotide codes (NC-IUB 1984, doi:10.1093/nar/13.9.3021): what each letter stands for.
_IUPAC = {
    "A": "A", "C": "C", "G": "G", "T": "T", "U": "T", "R": "AG", "Y": "CT", "S": "CG", "W": "AT", "K": "GT",
    "M": "AC", "B": "CGT", "D": "AGT", "H": "ACT", "V": "ACG", "N": "ACGT",
}  # fmt: skip
_COMPLEMENT = str.maketrans("ACGTURYSWKMBDHVN", "TGCAAYRSWMKVHDBN")
_LETTERS = "".join(_IUPAC)
# Not str.upper: it makes letters of the code out of others, such as SS of a German sharp s.
_RAISE = str.maketrans(string.ascii_lowercase, string.ascii_uppercase)

#: The standard genetic code, codons in the order TTT, TTC, TTA, TTG, TCT ... (NCBI table 1).
_RESIDUES = "FFLLSSSSYY**CC*WLLLLPPPPHHQQRRRRIIIMTTTTNNKKSSRRVVVVAAAADDEEGGGG"


class _Codons(dict[tuple[str, str, str], str]):
    """Residue by codon; what is not one of the 64 is resolved when first met."""

    def __missing__(self, codon: tuple[str, str, str]) -> str:
        if not all(letter in _IUPAC for letter in codon):
            return "X"  # not kept: there is no end of such codons
        stands_for = {self[one] for one in product(*(_IUPAC[letter] for letter in codon))}  # type: ignore[index]
        residue = self[codon] = stands_for.pop() if len(stands_for) == 1 else "X"
        return residue


_CODONS = _Codons(zip(product("TCAG", repeat=3), _RESIDUES, strict=True))  # type: ignore[arg-type]


def as_nucleotides(text: str) -> str:
    """Raise case and remove gaps and white space.

    Examples
    --------
    >>> as_nucleotides("gag...gtg-c ")
    'GAGGTGC'
    """
    # Whole-string methods, not an expression: this runs for every row of a repertoire.
    bare = "".join(text.split()).replace(".", "").replace("-", "")
    return bare if bare.isupper() else bare.translate(_RAISE)


def not_a_nucleotide(nucleotides: str) -> str:
    """Return the first character that is no IUPAC nucleotide letter; "" if there is none.

    Examples
    --------
    >>> not_a_nucleotide("ACGTUN"), not_a_nucleotide("EVQL")
    ('', 'E')
    """
    return nucleotides.lstrip(_LETTERS)[:1]


def reverse_complement(nucleotides: str) -> str:
    """Return the other strand, read from its own start; U is read as T.

    Examples
    --------
    >>> reverse_complement("AACGR")
    'YCGTT'
    """
    return nucleotides.translate(_COMPLEMENT)[::-1]


def translate(nucleotides: str, frame: int = 1) -> str:
    """Translate the whole codons of one frame.

    Parameters
    ----------
    nucleotides : str
        Upper case, without gaps.
    frame : {1, 2, 3, -1, -2, -3}

    Returns
    -------
    str
        Residues; ``*`` for a stop, X for what the codon does not determine.

    Raises
    ------
    ParameterError
        If there is no such frame.

    Examples
    --------
    >>> translate("TGTGCNAGATRAC"), translate("GTGTAA", 2), translate("TTAACA", -1)
    ('CAR*', 'C', 'C*')
    """
    if frame not in FRAMES:
        raise ParameterError("frame", frame, "1, 2, 3, -1, -2 or -3")
    strand = nucleotides if frame > 0 else reverse_complement(nucleotides)
    at = abs(frame) - 1
    codons = zip(strand[at::3], strand[at + 1 :: 3], strand[at + 2 :: 3], strict=False)
    return "".join(map(_CODONS.__getitem__, codons))


def codes_for(nucleotides: str, residues: str) -> bool:
    """Tell whether residues can be what nucleotides code for; nothing that is given twice may differ.

    Parameters
    ----------
    nucleotides, residues : str
        Upper case. Gaps count for nothing.

    Returns
    -------
    bool
        True too where one of the two is empty, and where the nucleotides are no whole codons: tools write
        the residue of what is left over each in their own way. X, ``_`` and ``#`` differ from nothing.

    Examples
    --------
    >>> codes_for("TGTGCGNNNTGG", "CAXW"), codes_for("TGTGCGTGG", "CARW"), codes_for("TGTGCGT", "CA_")
    (True, False, True)
    """
    bare, given = as_nucleotides(nucleotides), residues.replace(".", "").replace("-", "")
    if not bare or not given or len(bare) % 3:
        return True
    coded = translate(bare)
    return len(coded) == len(given) and all(
        a == b or a == "X" or b in "X_#" for a, b in zip(coded, given, strict=True)
    )


def six_frames(nucleotides: str) -> dict[int, str]:
    """Translate all frames.

    Parameters
    ----------
    nucleotides : str
        Upper case, without gaps.

    Returns
    -------
    dict of int to str
        Residues by frame, in the order of `FRAMES`.

    Examples
    --------
    >>> six_frames("ATGTAA")
    {1: 'M*', 2: 'C', 3: 'V', -1: 'LH', -2: 'Y', -3: 'T'}
    """
    return {frame: translate(nucleotides, frame) for frame in FRAMES}


def open_readings(nucleotides: str, shortest: int = 1) -> Iterator[tuple[int, str]]:
    """Yield what is between stops, in each of the six frames.

    Parameters
    ----------
    nucleotides : str
        Upper case, without gaps.
    shortest : int
        In residues; shorter ones are passed over.

    Yields
    ------
    frame : int
    residues : str
        Without a stop; frames in the order of `FRAMES`, readings in that of the strand.

    Examples
    --------
    >>> list(open_readings("ATGTAAGTG", shortest=2))
    [(2, 'CK'), (3, 'VS'), (-1, 'HLH'), (-2, 'TY'), (-3, 'LT')]
    """
    for frame, residues in six_frames(nucleotides).items():
        for reading in residues.split("*"):
            if len(reading) >= shortest:
                yield frame, reading
