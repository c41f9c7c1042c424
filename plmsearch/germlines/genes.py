"""Germline genes of variable domains: the nearest V and J by their residues.

Concepts
--------
V: `v_identity_aa` is the share of compared residues from FWR1 to C104 that agree. Which germline is
nearest is decided by that and by the start of CDR3 together; J by the end of CDR3 and FWR4. Germlines
that come out equal are ties, and all are listed.

Limitations
-----------
Residues do not hold what nucleotides do: alleles and genes that differ in silent bases only are ties, and a
mutated chain may be nearest to a gene that it does not stem from. D genes are too short to be found.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from plmsearch.errors import ParameterError
from plmsearch.germlines.gapped import gapped_columns
from plmsearch.germlines.reading import read_germlines
from plmsearch.germlines.records import V_REGIONS, Germline, bundled_germlines, natural_order, species_name
from plmsearch.germlines.scoring import Agreement, Codes, compare, extension, layout
from plmsearch.germlines.species import SpeciesEvidence
from plmsearch.numbering import Domain
from plmsearch.types import Float1D, Float2D

__all__ = ["COLUMNS", "MIN_IDENTITY", "GeneCalls", "GermlineSet", "inferred_columns"]

#: Calls with less identity are left empty. Kappa and lambda chains agree with their nearest heavy V gene to
#: 0.28-0.41, chains with 15% of their bases mutated with their own to 0.55 or more (decision 0017).
MIN_IDENTITY = 0.5
#: Calls on fewer compared residues are left empty.
MIN_V_COMPARED, MIN_J_COMPARED = 40, 5
#: Names of the columns of `inferred_columns`.
COLUMNS = ("v_call_inferred", "j_call_inferred", "v_identity_aa", "species")

_BATCH = 512  # domains laid out at a time
_N_ALIGNED = 24  # germlines that are aligned for a chain with an insertion or deletion
_SAMPLE = 1_000  # domains that species is inferred from
_INNER = V_REGIONS[1:]  # regions whose length is that of the germline unless there is an indel


@dataclass(frozen=True, slots=True)
class GeneCalls:
    """The germline genes of one domain.

    Parameters
    ----------
    v_call, j_call : str
        All alleles that are equally near, in natural order, parted by commas; empty where none is near
        enough.
    v_identity_aa, j_identity_aa : float
        0 to 1, of the nearest; NaN where the call is empty.
    species : str
        Of the germlines; empty if their file does not say.
    v_compared, j_compared : int
        Residues that the identities are shares of: both known.
    """

    v_call: str
    j_call: str
    v_identity_aa: float
    j_identity_aa: float
    species: str
    v_compared: int = 0
    j_compared: int = 0


@dataclass(frozen=True, slots=True)
class _Nearest:
    """The germlines that a domain is nearest to, and how near."""

    names: tuple[str, ...]
    identity: float
    compared: int

    def call(self, least: int) -> tuple[str, float]:
        """Return names and identity; empty if there is too little to compare, or it is too far."""
        if self.compared < least or self.identity < MIN_IDENTITY:
            return "", math.nan
        return ",".join(self.names), self.identity


_NONE = _Nearest((), 0.0, 0)


@dataclass(frozen=True, slots=True)
class _Group:
    """The germlines of one locus, laid out."""

    v: Sequence[Germline]
    j: Sequence[Germline]
    v_codes: Codes
    j_codes: Codes
    lengths: np.ndarray[tuple[int, int], np.dtype[np.int64]]


class GermlineSet:
    """Germline V and J genes, of one species or several.

    Parameters
    ----------
    germlines : sequence of Germline
    source : str
        For messages.
    left_out : sequence of (str, str)
        Genes of the file that cannot be used, with the reason.

    Examples
    --------
    >>> from plmsearch.numbering import ImmunumNumberer
    >>> vh = (
    ...     "EVQLLESGGGLVQPGGSLRLSCAASGFTFSSYAMSWVRQAPGKGLEWVSAISGSGGSTYYADSVKGRFTISRDNSKNTLYLQMNSLRAED"
    ...     "TAVYYCAKDRGYYFDYWGQGTLVTVSS"
    ... )
    >>> calls = GermlineSet.load(None, "human").infer(*ImmunumNumberer().domains(vh))
    >>> calls.v_call, calls.j_call, calls.v_identity_aa
    ('IGHV3-23*01,IGHV3-23D*01', 'IGHJ4*02', 1.0)
    """

    def __init__(
        self, germlines: Sequence[Germline], source: str, left_out: Sequence[tuple[str, str]] = ()
    ) -> None:
        self.germlines, self.source, self.left_out = tuple(germlines), source, tuple(left_out)
        self.species = tuple(sorted({one.species for one in self.germlines}))
        self._groups: dict[str, _Group] = {}

    @classmethod
    def load(cls, path: Path | None, species: str | None) -> GermlineSet:
        """Read germlines.

        Parameters
        ----------
        path : Path or None
            FASTA with headers as of IMGT or OGRDB, nucleotides or residues, gapped or not; or a table
            with columns ``allele`` and ``aa``, and perhaps ``species``. None: the genes that are shipped.
        species : str or None
            Keep the germlines of this species alone. A file that does not name species is taken to be of
            this one. None: all there are.

        Raises
        ------
        InputNotFoundError, FileFormatError
            If the file cannot be read, or names no gene that can be used.
        ParameterError
            If there are no germlines of this species.
        """
        if path is None:
            whole = cls(bundled_germlines(), "the germlines that are shipped")
        else:
            germlines, left_out = read_germlines(path, species or "")
            whole = cls(germlines, path.name, left_out)
        return whole if species is None else whole.of_species(species)

    def of_species(self, species: str) -> GermlineSet:
        """Return the germlines of one species."""
        kept = [one for one in self.germlines if one.species == species_name(species)]
        if not kept:
            names = ", ".join(self.species)
            raise ParameterError("--species", species, f"one of those in {self.source}: {names}")
        return GermlineSet(kept, self.source, self.left_out)

    def infer(self, domain: Domain) -> GeneCalls:
        """Find the nearest V and J genes of a domain, as `infer_all` does."""
        return self.infer_all([domain])[0]

    def infer_all(self, domains: Sequence[Domain]) -> list[GeneCalls]:
        """Find the nearest V and J genes of each domain.

        Parameters
        ----------
        domains : sequence of Domain
            A locus without germlines gets empty calls.

        Returns
        -------
        list of GeneCalls
            In the order of `domains`. Of several species, all calls are of the one that
            `infer_species` finds for these domains.
        """
        if not domains:
            return []
        chosen = self
        if len(self.species) > 1:
            chosen = self.of_species(self.infer_species(domains).species)
        return chosen._infer_of_one_species(domains)

    def infer_species(self, domains: Sequence[Domain]) -> SpeciesEvidence:
        """Find the species whose V genes agree best with a sample of the domains.

        Parameters
        ----------
        domains : sequence of Domain
            1,000 of them, evenly spread, are compared.
        """
        sample = [domains[i] for i in np.linspace(0, len(domains) - 1, min(len(domains), _SAMPLE), dtype=int)]
        found = {species: self.of_species(species)._nearest(sample) for species in self.species}
        return SpeciesEvidence.of(
            {species: [v.identity for v, _ in pairs] for species, pairs in found.items()}
        )

    def _infer_of_one_species(self, domains: Sequence[Domain]) -> list[GeneCalls]:
        species = self.species[0] if self.species else ""
        calls = []
        for v, j in self._nearest(domains):
            v_call, v_identity = v.call(MIN_V_COMPARED)
            j_call, j_identity = j.call(MIN_J_COMPARED)
            calls.append(GeneCalls(v_call, j_call, v_identity, j_identity, species, v.compared, j.compared))
        return calls

    def _nearest(self, domains: Sequence[Domain]) -> list[tuple[_Nearest, _Nearest]]:
        """Return the nearest V and J of each domain, however far."""
        found = [(_NONE, _NONE)] * len(domains)
        for locus in sorted({domain.locus for domain in domains}):
            of_locus = [i for i, domain in enumerate(domains) if domain.locus == locus]
            for first in range(0, len(of_locus), _BATCH):
                part = of_locus[first : first + _BATCH]
                regions = [domains[i].regions for i in part]
                group = self._group(locus)
                for i, *pair in zip(
                    part, _nearest_v(regions, group), _nearest_j(regions, group), strict=True
                ):
                    found[i] = (pair[0], pair[1])
        return found

    def _group(self, locus: str) -> _Group:
        if locus not in self._groups:
            loci = ("TRA", "TRD") if locus in ("TRA", "TRD") else (locus,)  # they share V genes
            v, j = ([g for g in self.germlines if g.segment == s and g.locus in loci] for s in "VJ")
            self._groups[locus] = _Group(
                v,
                j,
                layout([g.regions for g in v], V_REGIONS),
                layout([g.regions for g in j], ("fwr4",)),
                np.array([[len(g.regions[name]) for name in _INNER] for g in v]).reshape(len(v), len(_INNER)),
            )
        return self._groups[locus]


def inferred_columns(germlines: GermlineSet, domains: Sequence[Domain]) -> Mapping[str, list[str | float]]:
    """Infer the genes of domains, as columns of a table.

    Parameters
    ----------
    germlines : GermlineSet
        Of one species, so that the calls do not depend on which domains come together.
    domains : sequence of Domain

    Returns
    -------
    mapping of str to list
        ``v_call_inferred``, ``j_call_inferred``, ``v_identity_aa`` (a number, 0 to 1, to 4 places) and
        ``species``, in the order of `domains`; empty text where there is no call.
    """
    calls = germlines.infer_all(domains)
    return {
        "v_call_inferred": [call.v_call for call in calls],
        "j_call_inferred": [call.j_call for call in calls],
        "v_identity_aa": [round(call.v_identity_aa, 4) if call.v_call else "" for call in calls],
        "species": [call.species if call.v_call or call.j_call else "" for call in calls],
    }


# --- One locus -----------------------------------------------------------------------------------


def _nearest_v(regions: Sequence[Mapping[str, str]], group: _Group) -> list[_Nearest]:
    if not group.v:
        return [_NONE] * len(regions)
    agreement = compare(layout(regions, V_REGIONS), group.v_codes)
    start = extension([one["cdr3"] for one in regions], [g.regions["cdr3"] for g in group.v], backwards=False)
    lengths = np.array([[len(one[name]) for name in _INNER] for one in regions])
    score = agreement.score + start
    other_lengths = (lengths != group.lengths[score.argmax(axis=1)]).any(axis=1)
    for i in np.flatnonzero(other_lengths).tolist():
        _align(regions[i], group.v, score[i], agreement.same[i], agreement.compared[i], start[i])
    return _ties(score, agreement, group.v)


def _align(
    regions: Mapping[str, str],
    germlines: Sequence[Germline],
    score: Float1D,
    same: Float1D,
    compared: Float1D,
    start: Float1D,
) -> None:
    """Count the columns of a chain with an indel again, by alignment, with the germlines that come near."""
    chain = "".join(regions[name] for name in V_REGIONS)
    near = np.argsort(-score, kind="stable")[:_N_ALIGNED]
    for j in near.tolist():
        same[j], compared[j] = gapped_columns(
            chain, "".join(germlines[j].regions[name] for name in V_REGIONS)
        )
    aligned = 2 * same[near] - compared[near] + start[near]
    score[:] = -np.inf
    score[near] = aligned


def _nearest_j(regions: Sequence[Mapping[str, str]], group: _Group) -> list[_Nearest]:
    if not group.j:
        return [_NONE] * len(regions)
    agreement = compare(layout(regions, ("fwr4",)), group.j_codes)
    end = extension([one["cdr3"] for one in regions], [g.regions["cdr3"] for g in group.j], backwards=True)
    return _ties(agreement.score + end, agreement, group.j)


def _ties(score: Float2D, agreement: Agreement, germlines: Sequence[Germline]) -> list[_Nearest]:
    """Return the germlines of the highest score of each chain; the identity is the highest among them."""
    found = []
    for i, best in enumerate(score.max(axis=1)):
        ties = np.flatnonzero(score[i] == best)
        identities = agreement.same[i, ties] / np.maximum(agreement.compared[i, ties], 1).astype(np.float64)
        at = ties[identities.argmax()]
        names = natural_order(name for j in ties.tolist() for name in germlines[j].names)
        found.append(_Nearest(names, float(identities.max()), int(agreement.compared[i, at])))
    return found
