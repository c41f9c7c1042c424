"""Files of germline genes: FASTA as IMGT and OGRDB write it, and tables.

A FASTA header names the allele (``IGHV1-18*01``) anywhere between bars, white space or double
underscores; IMGT's also names species and codon start (``M99641|IGHV1-18*01|Homo sapiens|F|...``).
Sequences are nucleotides or residues, with gaps or without. Of nucleotides, V genes are read in the
frame the header says, else the first; J genes in the one with the J-motif.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from plmsearch.errors import FileFormatError, TableFormatError
from plmsearch.formats.compression import peek
from plmsearch.formats.delimited import open_delimited
from plmsearch.formats.fasta import read_fasta
from plmsearch.germlines.records import KNOWN_SPECIES, Germline, j_regions, merged, species_name, v_regions

__all__ = ["read_germlines"]

_ALLELE = re.compile(r"(IG[HKL]|TR[ABGD])([VJ])[A-Z0-9(][-/\w().]*(?:\*\w+)?", re.ASCII)
_PARTS = re.compile(r"[|\s]|__")
_GAPS = str.maketrans("", "", ".-")
_NUCLEOTIDES = frozenset("ACGTUN")
_MIN_NUCLEOTIDES = 0.9  # share of letters; the others may stand for several bases, such as R
_CODON_START = 7  # field of IMGT's headers, counted from 0
_STARTS = ("1", "2", "3")

_BASES = "TCAG"
# Standard genetic code (NCBI table 1), codons in the order TTT, TTC, TTA, TTG, TCT ...
_CODE = "FFLLSSSSYY**CC*WLLLLPPPPHHQQRRRRIIIMTTTTNNKKSSRRVVVVAAAADDEEGGGG"
_RESIDUE_OF = {
    a + b + c: _CODE[16 * i + 4 * j + k]
    for i, a in enumerate(_BASES)
    for j, b in enumerate(_BASES)
    for k, c in enumerate(_BASES)
}


def read_germlines(path: Path, species: str = "") -> tuple[tuple[Germline, ...], tuple[tuple[str, str], ...]]:
    """Read germline V and J genes.

    Parameters
    ----------
    path : Path
        FASTA, or a table with columns ``allele`` and ``aa``, and perhaps ``species``; may be compressed.
    species : str, optional
        Of germlines whose species the file does not say.

    Returns
    -------
    germlines : tuple of Germline
        Alleles of identical residues merged.
    left_out : tuple of (str, str)
        V and J genes that cannot be used, and why: pseudogenes for the most part.

    Raises
    ------
    InputNotFoundError, FileFormatError
        If the file cannot be read, or there is no V gene in it that can be used.
    """
    source = path.name
    entries = _fasta(path, source) if peek(path, source).lstrip()[:1] == b">" else _table(path, source)
    germlines: list[Germline] = []
    left_out: list[tuple[str, str]] = []
    n_named = 0
    for name, named, letters, codon_start in entries:
        match = _ALLELE.search(name)
        n_named += match is not None
        if match is None:
            continue
        locus, segment = match.groups()
        cut = _cut(letters, locus, segment, codon_start) if letters else "no sequence"
        if isinstance(cut, str):
            left_out.append((match.group(), cut))
        else:
            germlines.append(Germline(named or species_name(species), locus, segment, (match.group(),), cut))
    if not any(one.segment == "V" for one in germlines):
        reason = "names no V gene such as IGHV3-23*01" if not n_named else "has no V gene that can be used"
        raise FileFormatError(source, reason, hint="germlines are FASTA of IMGT or OGRDB, or a table")
    return merged(germlines), tuple(left_out)


Entry = tuple[str, str, str, int | None]


def _fasta(path: Path, source: str) -> Iterator[Entry]:
    for record in read_fasta(path, source):
        fields = f"{record.record_id} {record.description}".strip().split("|")
        parts = [part for field in fields for part in _PARTS.split(field)]
        name = next((part for part in parts if _ALLELE.fullmatch(part)), "")
        start = fields[_CODON_START].strip() if len(fields) > _CODON_START else ""
        yield name, _species_of(fields), _letters(record.sequence), int(start) if start in _STARTS else None


def _table(path: Path, source: str) -> Iterator[Entry]:
    table = open_delimited(path, source)
    if not {"allele", "aa"}.issubset(table.columns):
        columns = ", ".join(table.columns[:6])
        raise TableFormatError(
            source, f"has columns {columns}", hint="a table of germlines has allele and aa"
        )
    at = {name: table.columns.index(name) for name in ("allele", "aa", "species") if name in table.columns}
    for _, cells in table.rows():
        row = {name: cells[i] or "" for name, i in at.items()}
        yield row["allele"], species_name(row.get("species", "")), _letters(row["aa"]), None


def _species_of(fields: Sequence[str]) -> str:
    """Species that a FASTA header names: as a field, behind the first word or behind two underscores."""
    texts = [text for field in fields for text in (field, *field.split("__"), field.partition(" ")[2])]
    return next((short for text in texts if (short := species_name(text)) in KNOWN_SPECIES), "")


def _letters(sequence: str) -> str:
    return sequence.translate(_GAPS).upper()


def _cut(letters: str, locus: str, segment: str, codon_start: int | None) -> dict[str, str] | str:
    """Cut into regions; a text is the reason why that cannot be."""
    if sum(letter in _NUCLEOTIDES for letter in letters) >= _MIN_NUCLEOTIDES * len(letters):
        starts = [codon_start] if codon_start else [1] if segment == "V" else [1, 2, 3]
        proteins = [_translated(letters[start - 1 :]) for start in starts]
    else:
        proteins = [letters]
    for protein in proteins:
        residues = protein.partition("*")[0]
        if segment == "J" and residues != protein:
            continue
        regions = v_regions(residues, locus) if segment == "V" else j_regions(residues)
        if regions is not None:
            return dict(regions)
    return "no variable domain up to a stop codon" if segment == "V" else "no J-motif without a stop codon"


def _translated(nucleotides: str) -> str:
    letters = nucleotides.replace("U", "T")
    return "".join(_RESIDUE_OF.get(letters[i : i + 3], "X") for i in range(0, len(letters) - 2, 3))
