"""The residue alphabet, normalisation and the identity of a sequence.

Concepts
--------
A *sequence* is a residue string; its identity is the SHA-256 of its normalised form, so the same
protein is embedded once however many records carry it. Normalising raises case, drops the stop
``*`` at the end and removes alignment gaps; each of these is counted, never silent.

Limitations
-----------
DNA is recognised by its letters alone: at least 20 of them, only A C G T U N, three different
bases. A shorter or less varied nucleotide string cannot be told from a peptide.
"""

from __future__ import annotations

import hashlib
import re
import string
from collections.abc import Mapping
from dataclasses import dataclass, field

from plmsearch.errors import EmptySequenceError, InvalidResidueError, NucleotideSequenceError
from plmsearch.types import SequenceHash

__all__ = [
    "AMBIGUOUS_RESIDUES",
    "CHAIN_SEPARATOR",
    "RESIDUES",
    "STANDARD_RESIDUES",
    "Normalised",
    "SequenceRecord",
    "Unusable",
    "absent_sequence_hash",
    "is_nucleotide",
    "mask_invalid",
    "normalise",
    "sequence_hash",
    "validate",
]

#: Between the chains of one record.
CHAIN_SEPARATOR = ";"

STANDARD_RESIDUES = "ACDEFGHIKLMNPQRSTVWY"
#: IUPAC letters beyond the 20: unknown, Asx, Glx, selenocysteine, pyrrolysine, Leu/Ile.
AMBIGUOUS_RESIDUES = "XBZUOJ"
RESIDUES = STANDARD_RESIDUES + AMBIGUOUS_RESIDUES

_NOT_RESIDUE = re.compile(f"[^{RESIDUES}]")
_WHITESPACE = re.compile(r"\s+")
_LOWERCASE = re.compile("[a-z]")
# Not str.upper: it makes residues out of other alphabets, such as SS of a German sharp s.
_RAISE = str.maketrans(string.ascii_lowercase, string.ascii_uppercase)
_NUCLEOTIDES = re.compile(r"[ACGTUN]+")
_MIN_NUCLEOTIDES = 20


@dataclass(frozen=True, slots=True)
class Unusable:
    """Why a reader could not have the residues of a row.

    Parameters
    ----------
    reason : str
    must_stop : bool
        Whether that is an error unless such records are to be skipped; else the row is left out.
    hint : str
        What to do about it.
    """

    reason: str
    must_stop: bool = False
    hint: str = ""


@dataclass(frozen=True, slots=True)
class SequenceRecord:
    """One named entry of an input, as read.

    Parameters
    ----------
    record_id : str
        The name; of a FASTA header, its first word.
    sequence : str
        Residues as given, not yet normalised.
    description : str
        The rest of the header, or empty.
    metadata : mapping of str to object
        Every other column. Values are str, int, float or bool; an absent key is a null.
    source : str
        Name of the input, for messages.
    row : int or None
        Place in the input, counted from 1.
    notes : tuple of str
        What its reader noticed and what is counted, such as ``without_light``.
    residue_source : str
        Column the residues were taken or translated from; empty where there was no choice.
    chain_kinds : tuple of str
        ``heavy`` or ``light`` for each chain of `sequence`, as the columns they come from are called; empty
        where nothing calls them so.
    unusable : Unusable or None
        Why there are no residues, where the reader knows.
    """

    record_id: str
    sequence: str
    description: str = ""
    metadata: Mapping[str, object] = field(default_factory=dict)
    source: str = ""
    row: int | None = None
    notes: tuple[str, ...] = ()
    residue_source: str = ""
    chain_kinds: tuple[str, ...] = ()
    unusable: Unusable | None = None


@dataclass(frozen=True, slots=True)
class Normalised:
    """A normalised residue string and what normalising changed.

    Parameters
    ----------
    residues : str
        Upper case, without gaps, white space and final stop.
    changes : mapping of str to int
        Count of characters changed, by kind: ``lowercase``, ``gaps``, ``stop``, ``whitespace``.
        Kinds that did not occur are absent.
    """

    residues: str
    changes: Mapping[str, int] = field(default_factory=dict)


def normalise(raw: str) -> Normalised:
    """Raise case, remove gaps and white space, drop the final stop.

    Parameters
    ----------
    raw : str
        Residues as given.

    Returns
    -------
    Normalised
        May still hold letters that are no residues: see `validate`.

    Examples
    --------
    >>> normalise("evq-L..V*")
    Normalised(residues='EVQLV', changes={'lowercase': 3, 'gaps': 3, 'stop': 1})
    """
    if raw.isascii() and raw.isalpha() and raw.isupper():
        return Normalised(raw)
    changes: dict[str, int] = {}
    text = _WHITESPACE.sub("", raw)
    _count(changes, "whitespace", len(raw) - len(text))
    _count(changes, "lowercase", len(_LOWERCASE.findall(text)))
    text = text.translate(_RAISE)
    ungapped = text.replace("-", "").replace(".", "")
    _count(changes, "gaps", len(text) - len(ungapped))
    residues = ungapped.removesuffix("*")
    _count(changes, "stop", len(ungapped) - len(residues))
    return Normalised(residues, changes)


def _count(changes: dict[str, int], kind: str, n: int) -> None:
    if n:
        changes[kind] = n


def is_nucleotide(residues: str) -> bool:
    """Tell whether a normalised sequence reads as DNA or RNA.

    Examples
    --------
    >>> is_nucleotide("GAGGTGCAGCTGGTGGAGTCTGG")
    True
    >>> is_nucleotide("EVQLVESGGGLVQPGGSLRLSCAAS")
    False
    """
    return (
        len(residues) >= _MIN_NUCLEOTIDES
        and _NUCLEOTIDES.fullmatch(residues) is not None
        and len(set(residues) & set("ACGTU")) >= 3
    )


def validate(residues: str, record_id: str, *, source: str = "", row: int | None = None) -> None:
    """Refuse what is no protein sequence.

    Parameters
    ----------
    residues : str
        Normalised residues.
    record_id, source, row
        For the message.

    Raises
    ------
    EmptySequenceError
        If there are no residues.
    InvalidResidueError
        If a character is not one of `RESIDUES`.
    NucleotideSequenceError
        If the sequence reads as DNA or RNA.
    """
    if not residues:
        raise EmptySequenceError(record_id, source=source, row=row)
    bad = _NOT_RESIDUE.search(residues)
    if bad:
        raise InvalidResidueError(record_id, bad.group(), bad.start() + 1, source=source, row=row)
    if is_nucleotide(residues):
        raise NucleotideSequenceError(record_id, source=source, row=row)


def mask_invalid(residues: str) -> tuple[str, int]:
    """Replace each character that is no residue by X.

    Returns
    -------
    residues : str
    n_masked : int

    Examples
    --------
    >>> mask_invalid("EV*L?")
    ('EVXLX', 2)
    """
    return _NOT_RESIDUE.subn("X", residues)


def absent_sequence_hash(record_id: str) -> SequenceHash:
    r"""Return what stands for the identity of a sequence that is not known: one of its own per record.

    Parameters
    ----------
    record_id : str

    Returns
    -------
    str
        SHA-256 of ``\0external\0`` and the id in UTF-8, 64 lower-case hexadecimal digits. It is the
        hash of no sequence, for no residue is a zero byte.

    Examples
    --------
    >>> absent_sequence_hash("P12345") == absent_sequence_hash("P12346")
    False
    """
    return SequenceHash(hashlib.sha256(b"\0external\0" + record_id.encode()).hexdigest())


def sequence_hash(residues: str) -> SequenceHash:
    """Return the identity of a normalised sequence.

    Parameters
    ----------
    residues : str
        Normalised residues.

    Returns
    -------
    str
        SHA-256, 64 lower-case hexadecimal digits.

    Examples
    --------
    >>> sequence_hash("EVQL")[:12]
    '5121e62898fd'
    """
    return SequenceHash(hashlib.sha256(residues.encode("ascii")).hexdigest())
