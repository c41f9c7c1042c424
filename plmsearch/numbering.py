"""Antibody numbering: where the variable domains of a chain are, and their IMGT regions.

Concepts
--------
A *domain* counts only where the conserved C104 and W118 or F118 are in place with a non-empty CDR3
between them. One of the two may be another residue, as in engineered VHH (15 of 2,533 chains of therapeutic
antibodies), where C23, W41, G121 and T122 are in place too, and if it is C104 that is missing, G119 and no
C beside 104. Heavily mutated chains are aligned with less confidence than the 0.5 that immunum asks for;
down to 0.2 they count if C23, W41, C104 and W118 or F118 are all in place and the locus is the best of all
seven (of the proteins named below, those with the four reach 0.13; simulated chains with half of their
framework changed 0.26). An aligner alone is not enough: `immunum.Annotator.number` accepts 427 of 3,069
SCOPe domains and Pfam proteins, some at confidence 1.0, and not one of them has a CDR3. The price is that
chains cut off before position 118 do not count either: 2.5% of a published set of 5,412 heavy chains, nearly
all of them without a CDR3 or a J gene.

Where a domain begins and ends is settled by what V and J genes can hold there, and by what is joined to it,
so that a chain without its first or last residues is the same domain alone and in a construct: position 1
counts if it is a residue that V genes of the locus have there; FWR4 ends with a residue that J genes have at
its position, heavy chains at 128 at the latest, light ones at 127; a constant domain and a linker of four
glycines and a serine are left out. A chain that ends with a residue that no J gene has there (0.7% of 12,589
published and therapeutic domains) so loses it, and counts as incomplete.

Regions are IMGT's (Lefranc et al. 2003, doi:10.1016/S0145-305X(02)00039-3), spelt as in AIRR:
FWR1 1-26, CDR1 27-38, FWR2 39-55, CDR2 56-65, FWR3 66-104, CDR3 105-117, FWR4 118-128.

Limitations
-----------
Ends that genes leave open stay so: an incomplete ``VTVS`` before an A that begins no known constant domain
ends with that A, and 4 of 5,542 published heavy chains, cut off at their start, take residues of a leader for
their own. TRA and TRD share V genes, so a delta chain may be named TRA. T-cell receptors are found less
surely than antibodies: immunum's confidence in some alpha chains is below its own least one.
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

from plmsearch.regions import REGIONS

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

_REGION_ENDS = (26, 38, 55, 65, 104, 117, 128)  # last IMGT position of each region

_LOCI = {"H": "IGH", "K": "IGK", "L": "IGL", "A": "TRA", "B": "TRB", "G": "TRG", "D": "TRD"}
_CHAINS = {"IG": "ig", "TR": "tcr", "any": "all"}

_NOT_LETTER = re.compile(r"[^A-Za-z]")
_POSITION = re.compile(r"\d+")
# immunum refuses more than 10,000 residues (immunum.SegmentationResult.error_kind). No variable
# domain is near 500 residues, so each one lies whole in some window.
_WINDOW = 10_000
_OVERLAP = 500
#: Least confidence of a domain with C23, W41, C104 and W or F118; of others it is immunum's own, 0.5.
_LEAST_CONFIDENCE = 0.2
#: The four, apart by more than twice or less than half of what germline V genes have between them (10 to 17
#: and 49 to 61 residues; 2,108 alleles of ANARCI 2024.05.21): where nothing matches, no alignment is needed.
_FOUR = re.compile("C.{5,35}W.{25,120}C.{2,100}[WF]")
_FOUR_PLACES = ("23", "41", "104", "118")
#: Residues to leave out at the end of a stretch that is looked at again; linkers have 5 to 30.
_CUTS = range(5, 45, 5)
#: Residues that V genes have at IMGT position 1: those of 1% of the alleles of a locus and more (human,
#: mouse, rat, rabbit, macaque, pig, cow and alpaca; the germline sets of ANARCI 2024.05.21).
_FIRST = {"IGH": "QED", "IGK": "DEAQNS", "IGL": "QSNE"}
#: Residues that J genes have at IMGT positions 118 to 128 (same sets; alleles with W or F, G, any, G).
_FWR4 = {
    "IGH": ("W", "G", "QPRKAT", "G", "TVLAI", "LTSQMREVP", "VLIN", "TSYV", "VID", "SA", "SA"),
    "IGK": ("F", "G", "AGSQEPTK", "G", "T", "KESRN", "LV", "EVD", "ILVMP", "KEN"),
    "IGL": ("F", "G", "GSRTAE", "G", "T", "KRQTH", "LV", "TS", "VAID", "LTI"),
}
#: The linker of single-chain Fv (Huston et al. 1988, doi:10.1073/pnas.85.16.5879); no V or J gene holds it.
_LINKER = "GGGGS"
#: What follows a domain and begins with residues that its last positions may be: the linker, and constant
#: domains of heavy chains; human IGHG, IGHA, IGHD, IGHE; mouse Ighg1, Ighg2a, Ighg2b and Ighg3 (UniProt
#: P01857, P01876, P01880, P01854, P01868, P01863, P01867, P03987).
_FOLLOWING = re.compile(f"{_LINKER}|ASTKG|ASPTSP|APTKAP|ASTQSP|AKTTPP|AKTTAP|ATTTAP")
_LONGEST_START = 6
#: Last IMGT position of FWR4.
_LAST = {"IGH": "128"}
_LAST_OF_OTHERS = "127"


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
    is_complete : bool
        Whether it reaches from IMGT position 1 to the end of FWR4 (128 of a heavy chain, 127 of others).
    """

    locus: str
    start: int
    end: int
    regions: Mapping[str, str]
    confidence: float
    is_complete: bool = True


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
        self._annotators: dict[str, immunum.Annotator] = {}

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
                break
        else:
            found = ()
        return _without_overlap((*found, *self._faint(readable, residues, receptors, found)))

    def describe(self) -> str:
        """Return scheme, tool and version, such as ``IMGT immunum 2.0.0``."""
        return f"IMGT immunum {metadata.version('immunum')}"

    def _search(self, receptor: Receptor, readable: str, residues: str) -> Iterator[Domain]:
        annotator = self._annotator(receptor)
        for offset in range(0, max(len(readable) - _OVERLAP, 1), _WINDOW - _OVERLAP):
            results = annotator.number_domains(readable[offset : offset + _WINDOW])
            found = [_to_domain(result, residues, offset) for result in results]
            yield from (domain for domain in found if domain is not None)
            if any(found):
                refused = (r for r, domain in zip(results, found, strict=True) if domain is None)
                yield from self._shortened(annotator, refused, readable, residues, offset)

    def _shortened(
        self,
        annotator: immunum.Annotator,
        refused: Iterable[immunum.NumberingResult],
        readable: str,
        residues: str,
        offset: int,
    ) -> Iterator[Domain]:
        """Look again at what was no domain beside one, without its end.

        A domain that ends before position 128 is aligned into the linker that follows it, and W118 with it:
        27 of 6,000 single-chain Fv made of real chains lost a domain so.
        """
        for result in refused:
            if result.query_start is None or result.query_end is None:
                continue
            start = offset + result.query_start
            for cut in _CUTS:
                stretch = readable[start : offset + result.query_end + 1 - cut]
                found = [_to_domain(r, residues, start) for r in annotator.number_domains(stretch)]
                if any(found):
                    yield from (domain for domain in found if domain is not None)
                    break

    def _faint(
        self, readable: str, residues: str, receptors: Sequence[Receptor], found: Sequence[Domain]
    ) -> Iterator[Domain]:
        """Look for domains of low confidence beside those found, at all loci at once."""
        allowed = found[0].locus[:2] if found else receptors
        for start, end in _between(found, len(readable)):
            for offset in range(start, max(end - _OVERLAP, start + 1), _WINDOW - _OVERLAP):
                stretch = readable[offset : min(offset + _WINDOW, end)]
                if not _FOUR.search(stretch):
                    continue
                for result in self._annotator("any").number_domains(stretch):
                    domain = _to_domain(result, residues, offset)
                    if domain is not None and domain.locus[:2] in allowed and _has_four(result):
                        yield domain

    def _annotator(self, receptor: Receptor | Literal["any"]) -> immunum.Annotator:
        import immunum

        if receptor not in self._annotators:
            least = _LEAST_CONFIDENCE if receptor == "any" else None
            self._annotators[receptor] = immunum.Annotator([_CHAINS[receptor]], "imgt", least)
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
    locus = _LOCI[str(result.chain)]
    early = _early_by(numbering) if locus.startswith("TR") else 0
    sizes["cdr3"], sizes["fwr4"] = sizes["cdr3"] - early, sizes["fwr4"] + early
    if sizes["cdr3"] < 1 or not (early or _has_anchors(numbering)):
        return None
    start, end = offset + result.query_start, offset + result.query_end + 1
    numbering = dict(numbering)
    if locus in _FIRST:
        places = list(numbering)
        n_before, n_behind = _surplus(locus, residues.upper(), start, end, sizes)
        n_before += n_before == 0 and "1" in numbering and numbering["1"] not in _FIRST[locus]
        for position in places[:n_before] + places[len(places) - n_behind :]:
            del numbering[position]
        start, sizes["fwr1"] = start + n_before, sizes["fwr1"] - n_before
        end, sizes["fwr4"] = end - n_behind, sizes["fwr4"] - n_behind
    return Domain(
        locus=locus,
        start=start,
        end=end,
        regions=_cut(residues[start:end], (sizes[name] for name in REGIONS)),
        confidence=float(result.confidence or 0.0),
        is_complete="1" in numbering and _LAST.get(locus, _LAST_OF_OTHERS) in numbering,
    )


def _surplus(locus: str, residues: str, start: int, end: int, sizes: Mapping[str, int]) -> tuple[int, int]:
    """Count the residues at the start of FWR1 and at the end of FWR4 that are not the domain's."""
    cdr1, fwr4 = start + sizes["fwr1"], end - sizes["fwr4"]
    within = min(start + 2 * len(_LINKER) - 1, cdr1)  # further on, GGGGS may be FWR1 of a VHH
    linker = residues.rfind(_LINKER, max(0, start - len(_LINKER) + 1), within)
    first = start if linker < 0 else linker + len(_LINKER)
    while linker >= 0 and first + len(_LINKER) <= cdr1 and residues.startswith(_LINKER, first):
        first += len(_LINKER)
    following = _FOLLOWING.search(residues, fwr4, end + _LONGEST_START - 1)
    last = min(end, fwr4 + len(_FWR4[locus]), following.start() if following else end)
    while last > fwr4 + 1 and residues[last - 1] not in _FWR4[locus][last - 1 - fwr4]:
        last -= 1
    return first - start, end - last


def _early_by(numbering: Mapping[str, str]) -> int:
    """Return by how many positions the F or W of F-G-X-G, with which FWR4 begins, comes before 118.

    immunum gives alpha chains of T-cell receptors an FWR4 as long as that of others, and so F comes at 116.
    """
    at = numbering.get
    if at("104") != "C" or at("118") in ("W", "F"):
        return 0
    places = (p for p in (117, 116, 115) if at(str(p)) in ("W", "F"))
    return next((118 - p for p in places if at(str(p + 1)) == at(str(p + 3)) == "G"), 0)


def _has_anchors(numbering: Mapping[str, str]) -> bool:
    """Apply the rule on conserved residues."""
    at = numbering.get
    has_cysteine, has_aromatic = at("104") == "C", at("118") in ("W", "F")
    if has_cysteine and has_aromatic:
        return True
    others = (at("23"), at("41"), at("121"), at("122")) == ("C", "W", "G", "T")
    is_shifted = "C" in (at("102"), at("103"), at("105"), at("106"))  # by residues put in or left out of FWR3
    return others and (has_cysteine or (has_aromatic and at("119") == "G" and not is_shifted))


def _has_four(result: immunum.NumberingResult) -> bool:
    assert result.numbering is not None  # it has a domain
    cysteine, tryptophan, second, aromatic = map(result.numbering.get, _FOUR_PLACES)
    return (cysteine, tryptophan, second) == ("C", "W", "C") and aromatic in ("W", "F")


def _between(found: Iterable[Domain], length: int) -> Iterator[tuple[int, int]]:
    """Yield the stretches, start and end, that no domain covers."""
    at = 0
    for domain in found:
        yield at, domain.start
        at = domain.end
    yield at, length


@functools.cache
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
