"""Variable domains as they are embedded: cut out of a chain before a model sees it, with their regions.

Concepts
--------
A record may hold several chains, written with `CHAIN_SEPARATOR` between them, and a chain several domains
(an scFv). The *unit* that an antibody model reads is one domain, FWR1 to FWR4: leader, linker and constant
residues are left out, because AntiBERTy knows nothing else (with CH1 behind it, a heavy chain finds its own
variable domain in 0 to 10% of cases). A *region* is a set of residues of that domain; it is pooled in the
context of the whole domain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from plmsearch.numbering import REGIONS, Domain, Numberer, Receptor
from plmsearch.regions import REGION_SETS
from plmsearch.sequences import CHAIN_SEPARATOR

__all__ = ["CHAIN_SEPARATOR", "REGION_SETS", "CutDomain", "chains_without", "cut_domains", "region_places"]


@dataclass(frozen=True, slots=True)
class CutDomain:
    """A variable domain of a record.

    Parameters
    ----------
    number : int
        From 1, in order of place: ``id#1``, ``id#2``.
    locus : str
    start, end : int
        Place in the residues of the record (separators count), from 0, half-open.
    residues : str
    ends : tuple of int
        Where each of `plmsearch.numbering.REGIONS` ends, counted in residues of the domain; rising, the last
        is their number. An empty region ends where the one before it does.
    is_complete : bool
        Whether it reaches from IMGT position 1 to the end of FWR4.
    """

    number: int
    locus: str
    start: int
    end: int
    residues: str
    ends: tuple[int, ...]
    is_complete: bool = True

    def region(self, name: str) -> str:
        """Return the residues of a region or of a set of regions, '' if there are none.

        Examples
        --------
        >>> CutDomain(1, "IGH", 0, 9, "EVQARDWGQ", (3, 3, 3, 3, 3, 6, 9)).region("cdr3")
        'ARD'
        """
        return "".join(self.residues[start:end] for start, end in region_places(self.ends, name))

    @property
    def junction(self) -> str:
        """CDR3 with the residues before and behind it, as AIRR's ``junction_aa``."""
        start, end = self.ends[REGIONS.index("fwr3")], self.ends[REGIONS.index("cdr3")]
        return self.residues[max(0, start - 1) : end + 1]


def region_places(ends: Sequence[int], name: str) -> list[tuple[int, int]]:
    """Return where the residues of a region set are, as pairs of start and end; without empty ones.

    Examples
    --------
    >>> region_places((26, 34, 51, 59, 97, 110, 121), "cdrs")
    [(26, 34), (51, 59), (97, 110)]
    """
    starts = dict(zip(REGIONS, (0, *ends[:-1]), strict=True))
    places = ((starts[r], ends[REGIONS.index(r)]) for r in REGION_SETS[name])
    return [(start, end) for start, end in places if end > start]


def cut_domains(
    residues: str, numberer: Numberer, receptors: Sequence[Receptor] = ("IG",)
) -> tuple[CutDomain, ...]:
    """Cut the variable domains out of the chains of a record.

    Parameters
    ----------
    residues : str
        Chains with `CHAIN_SEPARATOR` between them.
    numberer : Numberer
    receptors : sequence of {"IG", "TR"}
        As `plmsearch.numbering.Numberer.domains` takes them.

    Returns
    -------
    tuple of CutDomain
        In order of place. A domain's regions are found in the domain alone, where it can be numbered alone:
        so they depend on its residues, not on the chain it was cut from.
    """
    found: list[CutDomain] = []
    offset = 0
    for chain in residues.split(CHAIN_SEPARATOR):
        for domain in numberer.domains(chain, receptors):
            cut = chain[domain.start : domain.end]
            own = domain if cut == chain else _numbered_alone(cut, domain, numberer, receptors)
            ends = tuple(accumulate(len(own.regions[name]) for name in REGIONS))
            start = offset + domain.start
            number = len(found) + 1
            found.append(CutDomain(number, own.locus, start, start + len(cut), cut, ends, own.is_complete))
        offset += len(chain) + len(CHAIN_SEPARATOR)
    return tuple(found)


def chains_without(residues: str, starts: Sequence[int]) -> list[int]:
    """Return which chains of a record hold none of its variable domains, counted from 1.

    Parameters
    ----------
    residues : str
        Chains with `CHAIN_SEPARATOR` between them.
    starts : sequence of int
        Where the domains of the record begin, as `CutDomain.start`.

    Examples
    --------
    >>> chains_without("MKTAYI;EVQLVE;AIRM", [7])
    [1, 3]
    """
    numbers = {1 + residues.count(CHAIN_SEPARATOR, 0, start) for start in starts}
    return [n for n in range(1, 2 + residues.count(CHAIN_SEPARATOR)) if n not in numbers]


def _numbered_alone(cut: str, domain: Domain, numberer: Numberer, receptors: Sequence[Receptor]) -> Domain:
    alone = numberer.domains(cut, receptors)
    is_same = len(alone) == 1 and (alone[0].start, alone[0].end) == (0, len(cut))
    return alone[0] if is_same else domain
