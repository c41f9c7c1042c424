"""Antibody numbering: where the variable domains of a chain are, and their IMGT regions.

Concepts
--------
A *domain* counts only where the conserved C104 and W118 or F118 are in place with a non-empty CDR3
between them. An aligner alone is not enough: `immunum.Annotator.number` accepts 427 of 3,069 SCOPe
domains and Pfam proteins, some at confidence 1.0, and not one of them has a CDR3. The price is that
chains cut off before position 118 do not count either: 2.5% of a published set of 5,412 heavy
chains, nearly all of them without a CDR3 or a J gene.

Regions are IMGT's (Lefranc et al. 2003, doi:10.1016/S0145-305X(02)00039-3), spelt as in AIRR:
FWR1 1-26, CDR1 27-38, FWR2 39-55, CDR2 56-65, FWR3 66-104, CDR3 105-117, FWR4 118-128.

Limitations
-----------
The first residue of a domain that follows a leader or a linker may be off by one or two residues:
IMGT position 1 is too variable to be certain. TRA and TRD share V genes, so a delta chain may be
named TRA.
"""

from __future__ import annotations

import functools
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, get_args

if TYPE_CHECKING:
    import immunum

__all__ = [
    "REGIONS",
    "Domain",
    "ImmunumNumberer",
    "Numberer",
    "Receptor",
    "chain_locus",
    "is_antibody",
    "is_t_cell_receptor",
    "locus_and_cdr3",
]

Receptor: TypeAlias = Literal["IG", "TR"]
RECEPTORS: tuple[Receptor, ...] = get_args(Receptor)

REGIONS = ("fwr1", "cdr1", "fwr2", "cdr2", "fwr3", "cdr3", "fwr4")
_REGION_ENDS = (26, 38, 55, 65, 104, 117, 128)  # last IMGT position of each region

_LOCI = {"H": "IGH", "K": "IGK", "L": "IGL", "A": "TRA", "B": "TRB", "G": "TRG", "D": "TRD"}
_CHAINS: Mapping[Receptor, str] = {"IG": "ig", "TR": "tcr"}

_NOT_LETTER = re.compile(r"[^A-Za-z]")
_POSITION = re.compile(r"\d+")
# immunum refuses more than 10,000 residues (immunum.SegmentationResult.error_kind). No variable
# domain is near 500 residues, so each one lies whole in some window.
_WINDOW = 10_000
_OVERLAP = 500


@dataclass(frozen=True, slots=True)
class Domain:
    """One variable domain of a chain.

    Parameters
    ----------
    locus : str
        ``IGH``, ``IGK``, ``IGL``, ``TRA``, ``TRB``, ``TRG`` or ``TRD``.
    start, end : int
        Place in the input, counted in residues from 0, half-open.
    regions : mapping of str to str
        Residues of each of `REGIONS`, in that order; a region the chain lacks is empty, CDR3 never.
        Joined, they are ``residues[start:end]``.
    confidence : float
        Of the alignment, 0 to 1, as the numbering tool reports it.
    """

    locus: str
    start: int
    end: int
    regions: Mapping[str, str]
    confidence: float


class Numberer(Protocol):
    """A tool that finds variable domains."""

    def domains(self, residues: str, receptors: Sequence[Receptor] = RECEPTORS) -> tuple[Domain, ...]:
        """Return the variable domains of a chain, in order of place."""
        ...

    def describe(self) -> str:
        """Return scheme, tool and version, as an embedding space records them."""
        ...


class ImmunumNumberer:
    """IMGT numbering by immunum.

    Examples
    --------
    >>> vh = (
    ...     "EVQLVESGGGLVQPGGSLRLSCAASGFTFSSYAMSWVRQAPGKGLEWVSAISGSGGSTYYADSVKGRFTISRDNSKNTLYLQMNSLRAED"
    ...     "TAVYYCAKDRGYYFDYWGQGTLVTVSS"
    ... )
    >>> (domain,) = ImmunumNumberer().domains("GSHM" + vh + "ASTKG")
    >>> domain.locus, domain.start, domain.end, domain.regions["cdr3"]
    ('IGH', 4, 121, 'AKDRGYYFDY')
    """

    def __init__(self) -> None:
        self._annotators: dict[Receptor, immunum.Annotator] = {}

    def domains(self, residues: str, receptors: Sequence[Receptor] = RECEPTORS) -> tuple[Domain, ...]:
        """Find the variable domains of a chain.

        Parameters
        ----------
        residues : str
            Of any length. Letters beyond the 20 are allowed, lower case too; a character that is no
            letter is read as an unknown residue.
        receptors : sequence of {"IG", "TR"}
            Tried in this order; the first with a domain decides. Immunoglobulin comes first because
            the loci of both together number half as many chains per second.

        Returns
        -------
        tuple of Domain
            In order of place, not overlapping; empty where there is none. The regions are cut from
            `residues` as given.
        """
        readable = _NOT_LETTER.sub("X", residues).upper()
        for receptor in receptors:
            found = _without_overlap(self._search(receptor, readable, residues))
            if found:
                return found
        return ()

    def describe(self) -> str:
        """Return scheme, tool and version, such as ``IMGT immunum 2.0.0``."""
        return f"IMGT immunum {metadata.version('immunum')}"

    def _search(self, receptor: Receptor, readable: str, residues: str) -> Iterator[Domain]:
        annotator = self._annotator(receptor)
        for offset in range(0, max(len(readable) - _OVERLAP, 1), _WINDOW - _OVERLAP):
            for result in annotator.number_domains(readable[offset : offset + _WINDOW]):
                domain = _to_domain(result, residues, offset)
                if domain is not None:
                    yield domain

    def _annotator(self, receptor: Receptor) -> immunum.Annotator:
        import immunum

        if receptor not in self._annotators:
            self._annotators[receptor] = immunum.Annotator([_CHAINS[receptor]], "imgt")
        return self._annotators[receptor]


def is_antibody(residues: str, numberer: Numberer | None = None) -> bool:
    """Tell whether a chain holds an immunoglobulin variable domain.

    Parameters
    ----------
    residues : str
        A heavy or light chain, whole or its variable domain alone, a single-chain Fv, or any
        protein.
    numberer : Numberer, optional
        Default: immunum.

    Examples
    --------
    >>> is_antibody("MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQAPILSRVGDGTQDNLSGAEKAVQ")
    False
    """
    return bool((numberer or _default_numberer()).domains(residues, ("IG",)))


def is_t_cell_receptor(residues: str, numberer: Numberer | None = None) -> bool:
    """Tell whether a chain that is no antibody holds a T-cell receptor variable domain.

    Parameters
    ----------
    residues : str
    numberer : Numberer, optional
        Default: immunum.
    """
    return bool((numberer or _default_numberer()).domains(residues, ("TR",)))


def chain_locus(residues: str, numberer: Numberer | None = None) -> str:
    """Return the locus of a chain.

    Parameters
    ----------
    residues : str
    numberer : Numberer, optional
        Default: immunum.

    Returns
    -------
    str
        That of its variable domain; empty where it has none, or domains of different loci.

    Examples
    --------
    >>> chain_locus("MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQAPILSRVGDGTQDNLSGAEKAVQ")
    ''
    """
    return _locus_and_cdr3((numberer or _default_numberer()).domains(residues))[0]


@functools.lru_cache(maxsize=4096)
def locus_and_cdr3(residues: str) -> tuple[str, str]:
    """Return the locus of a chain, as `chain_locus` does, and the CDR3 of its first variable domain.

    Returns
    -------
    locus, cdr3 : str
        Both empty where there is no such domain, or domains of different loci.
    """
    return _locus_and_cdr3(_default_numberer().domains(residues))


def _locus_and_cdr3(domains: Sequence[Domain]) -> tuple[str, str]:
    if len({domain.locus for domain in domains}) != 1:
        return "", ""
    return domains[0].locus, domains[0].regions["cdr3"]


@functools.cache
def _default_numberer() -> Numberer:
    return ImmunumNumberer()


def _to_domain(result: immunum.NumberingResult, residues: str, offset: int) -> Domain | None:
    """Apply the rule of the module docstring to one alignment."""
    numbering = result.numbering
    if numbering is None or result.query_start is None or result.query_end is None:
        return None
    sizes = Counter(_region_of(position) for position in numbering)
    if numbering.get("104") != "C" or numbering.get("118") not in ("W", "F") or not sizes["cdr3"]:
        return None
    start, end = offset + result.query_start, offset + result.query_end + 1
    return Domain(
        locus=_LOCI[str(result.chain)],
        start=start,
        end=end,
        regions=_cut(residues[start:end], (sizes[name] for name in REGIONS)),
        confidence=float(result.confidence or 0.0),
    )


def _region_of(position: str) -> str:
    """Region of an IMGT position such as ``112A``."""
    match = _POSITION.match(position)
    assert match is not None  # immunum positions are a number and an insertion letter
    return REGIONS[bisect_left(_REGION_ENDS, int(match.group()))]


def _cut(residues: str, sizes: Iterable[int]) -> dict[str, str]:
    regions, at = {}, 0
    for name, size in zip(REGIONS, sizes, strict=True):
        regions[name] = residues[at : at + size]
        at += size
    assert at == len(residues)  # IMGT numbers each residue of a domain once, in order
    return regions


def _without_overlap(found: Iterable[Domain]) -> tuple[Domain, ...]:
    """Keep the longest where windows saw one domain twice."""
    kept: list[Domain] = []
    for domain in sorted(found, key=lambda d: d.start):
        if not kept or domain.start >= kept[-1].end:
            kept.append(domain)
        elif domain.end - domain.start > kept[-1].end - kept[-1].start:
            kept[-1] = domain
    return tuple(kept)
