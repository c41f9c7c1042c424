"""V and J calls of rows without any, by the germline genes that their residues are nearest to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from plmsearch.germlines.genes import GermlineSet
from plmsearch.numbering import Domain, ImmunumNumberer, Numberer

__all__ = ["COLUMNS", "Germlines", "InferredCalls", "infer_calls"]

#: Columns that are written.
COLUMNS = ("v_call_inferred", "j_call_inferred")


@dataclass(frozen=True, slots=True)
class Germlines:
    """Which germline genes to look in.

    Parameters
    ----------
    path : Path or None
        File of germlines; None: those that are shipped.
    species : str or None
        None: inferred from the chains.
    """

    path: Path | None = None
    species: str | None = None


@dataclass(frozen=True, slots=True)
class InferredCalls:
    """Calls of the rows of a table.

    Parameters
    ----------
    calls : list of (str, str)
        V call and J call of each row, all ties listed; "" where there is none.
    told : str
        How the species was chosen.
    source : str
        Where the germlines are from.
    species : str
    """

    calls: list[tuple[str, str]]
    told: str
    source: str
    species: str


def infer_calls(
    chains: Sequence[str], germlines: Germlines, numberer: Numberer | None = None
) -> InferredCalls:
    """Find the nearest germline genes of the heavy variable domain of each chain.

    Parameters
    ----------
    chains : sequence of str, length n
        Residues; "" for a row that is not asked for.
    germlines : Germlines
    numberer : Numberer, optional
        Default: immunum.

    Returns
    -------
    InferredCalls

    Raises
    ------
    InputNotFoundError, FileFormatError, ParameterError
        If the germlines cannot be read, or none are of the species.
    """
    genes = GermlineSet.load(germlines.path, germlines.species)
    numberer = numberer or ImmunumNumberer()
    domain_of: dict[str, Domain] = {}
    for chain in dict.fromkeys(filter(None, chains)):
        heavy = [d for d in numberer.domains(chain, ("IG",)) if d.locus == "IGH"]
        if len(heavy) == 1:
            domain_of[chain] = heavy[0]
    domains = list(domain_of.values())
    told = f"species: {germlines.species}, as given"
    if germlines.species is None:
        evidence = genes.infer_species(domains)
        told = evidence.describe()
        genes = genes.of_species(evidence.species) if evidence.species else genes
    found = {
        chain: (one.v_call, one.j_call)
        for chain, one in zip(domain_of, genes.infer_all(domains), strict=True)
    }
    calls = [found.get(chain, ("", "")) for chain in chains]
    return InferredCalls(calls, told, genes.source, ", ".join(filter(None, genes.species)))
