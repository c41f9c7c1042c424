"""Germline V and J genes cut into IMGT regions, and the set that is shipped.

Concepts
--------
A *germline* here is one protein of one locus and species, under every name it has: alleles that differ
in nucleotides only, and genes that are copies of one another, cannot be told apart from residues.
V genes have FWR1 to FWR3 and the start of CDR3, J genes the end of CDR3 and FWR4.

``genes.tsv`` is made by ``scripts/make_germlines.py``; its first lines say from what, and under which
licence.
"""

from __future__ import annotations

import csv
import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from plmsearch.numbering import REGIONS, ImmunumNumberer, Numberer, Receptor

__all__ = [
    "KNOWN_SPECIES",
    "V_REGIONS",
    "Germline",
    "bundled_germlines",
    "j_regions",
    "merged",
    "natural_order",
    "species_name",
    "v_regions",
]

_FILE = Path(__file__).with_name("genes.tsv")

#: The regions that a V gene has whole; CDR3 it only begins.
V_REGIONS = REGIONS[:5]

# What makes a V gene a whole domain, so that it can be numbered: the end of CDR3 and FWR4 by a common human
# J gene. TRAV genes need the long one.
_J_ENDS = {"IGH": "DYWGQGTLVTVSS", "IGK": "TFGQGTKVEIK", "IGL": "VFGGGTKLTVL", "TRB": "NTGELFFGEGSRLTVL"}
_J_ENDS |= dict.fromkeys(("TRA", "TRD", "TRG"), "DSSYKLIFGSGTRLLVRP")
# J-motif of IMGT, from position 118: W or F, G, any, G; C in TRAJ35, A for the first G in TRGJ genes.
_J_MOTIF = re.compile(r"[WFC][GA][A-Z]G")
_MAX_BEFORE = 3  # residues that the numbering may leave out in front of FWR1
_SPECIES = {
    "homo sapiens": "human",
    "macaca mulatta": "rhesus",
    "mus musculus": "mouse",
    "oryctolagus cuniculus": "rabbit",
    "rattus norvegicus": "rat",
    "vicugna pacos": "alpaca",
}
#: Species that `species_name` knows by their Latin names.
KNOWN_SPECIES = frozenset(_SPECIES.values())
_DIGITS = re.compile(r"(\d+)")


@dataclass(frozen=True, slots=True)
class Germline:
    """One germline protein.

    Parameters
    ----------
    species : str
        In lower case, such as ``human``; empty where a file does not say.
    locus : str
        ``IGH``, ``IGK``, ``IGL``, ``TRA``, ``TRB``, ``TRG`` or ``TRD``.
    segment : str
        ``V`` or ``J``.
    names : tuple of str
        Alleles, in natural order.
    regions : mapping of str to str
        Residues of each of `plmsearch.numbering.REGIONS`; those that the gene lacks are empty.
    """

    species: str
    locus: str
    segment: str
    names: tuple[str, ...]
    regions: Mapping[str, str]


@functools.cache
def bundled_germlines() -> tuple[Germline, ...]:
    """Return the germlines that are shipped: immunoglobulin genes of human and mouse."""
    with _FILE.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader((line for line in file if not line.startswith("#")), delimiter="\t")
        return tuple(
            Germline(
                row["species"],
                row["locus"],
                row["segment"],
                tuple(row["names"].split(",")),
                {region: row[region] for region in REGIONS},
            )
            for row in rows
        )


def v_regions(residues: str, locus: str, numberer: Numberer | None = None) -> Mapping[str, str] | None:
    """Cut a V gene into its regions.

    Parameters
    ----------
    residues : str
        From FWR1, which may lack its first residues, to the start of CDR3.
    locus : str
        Of the gene, by its name; delta genes may be numbered as alpha.
    numberer : Numberer, optional
        Default: immunum. The J gene that it needs to see a domain is added, and taken off again.

    Returns
    -------
    mapping of str to str, or None
        None if there is no such domain, as in most pseudogenes.
    """
    receptors: tuple[Receptor, ...] = ("IG",) if locus.startswith("IG") else ("TR",)
    found = (numberer or _numberer()).domains(residues + _J_ENDS[locus], receptors)
    if len(found) != 1 or found[0].start > _MAX_BEFORE:
        return None
    regions = dict(found[0].regions)
    regions["fwr1"] = residues[: found[0].start] + regions["fwr1"]
    framework = sum(len(regions[name]) for name in V_REGIONS)
    if framework > len(residues):
        return None
    return regions | {"cdr3": residues[framework:], "fwr4": ""}


def j_regions(residues: str) -> Mapping[str, str] | None:
    """Cut a J gene at the W or F of position 118, by IMGT's J-motif; None if it has none."""
    match = _J_MOTIF.search(residues)
    if match is None:
        return None
    ends = {"cdr3": residues[: match.start()], "fwr4": residues[match.start() :]}
    return {name: ends.get(name, "") for name in REGIONS}


def merged(germlines: Iterable[Germline]) -> tuple[Germline, ...]:
    """Give each distinct protein of a species, locus and segment all its names; order as found."""
    names: dict[tuple[str, str, str, tuple[str, ...]], list[str]] = {}
    for one in germlines:
        key = (one.species, one.locus, one.segment, tuple(one.regions[name] for name in REGIONS))
        names.setdefault(key, []).extend(one.names)
    return tuple(
        Germline(species, locus, segment, natural_order(found), dict(zip(REGIONS, regions, strict=True)))
        for (species, locus, segment, regions), found in names.items()
    )


def species_name(text: str) -> str:
    """Return the short name of a species, in lower case; a species of another name keeps it.

    Examples
    --------
    >>> species_name("Homo sapiens"), species_name("Mus_musculus_C57BL/6"), species_name("Human")
    ('human', 'mouse', 'human')
    """
    plain = text.strip().lower().replace("_", " ")
    return next((short for latin, short in _SPECIES.items() if plain.startswith(latin)), plain)


def natural_order(names: Iterable[str]) -> tuple[str, ...]:
    """Sort distinct names with numbers by value: ``IGHV3-9*01`` before ``IGHV3-23*01``.

    Examples
    --------
    >>> natural_order(["IGHV3-23*04", "IGHV3-9*01", "IGHV3-23*01", "IGHV3-9*01"])
    ('IGHV3-9*01', 'IGHV3-23*01', 'IGHV3-23*04')
    """
    return tuple(sorted(set(names), key=_natural_key))


def _natural_key(name: str) -> tuple[Sequence[tuple[int, str]], str]:
    parts = _DIGITS.split(name)
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts if part], name


@functools.cache
def _numberer() -> Numberer:
    return ImmunumNumberer()
