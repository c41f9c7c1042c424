"""What is known of the receptor that a record holds: genes, CDR3, donor; from its metadata and its residues.

Values of the input come first; what the residues say fills in where there are none.
"""

from __future__ import annotations

from collections.abc import Mapping

from plmsearch.domains import CutDomain
from plmsearch.filters.derived import GENE_COLUMNS, gene_names
from plmsearch.numbering import REGIONS
from plmsearch.store.rows import StoredDomain

__all__ = ["DONOR_COLUMNS", "cdr3_of", "derived_value", "donor_of", "genes_of"]

#: Columns that name a donor, the first that a record has.
DONOR_COLUMNS = ("subject_id", "donor")
_CDR3 = REGIONS.index("cdr3")


def genes_of(metadata: Mapping[str, str], domain: StoredDomain | None, segment: str) -> tuple[str, ...]:
    """Return the V or J genes of a record, or of one domain of it, without alleles.

    Parameters
    ----------
    metadata : mapping of str to str
        ``v_call`` and ``j_call`` may list genes of several loci; those of the domain's locus count.
    domain : StoredDomain or None
        Its inferred calls count where the metadata have none of its locus.
    segment : {"v", "j"}

    Returns
    -------
    tuple of str
        In the order of the call; empty if nobody knows.
    """
    return _genes(f"{segment}_gene", metadata, domain)


def _genes(column: str, metadata: Mapping[str, str], domain: StoredDomain | None) -> tuple[str, ...]:
    facts = GENE_COLUMNS[column]
    given = metadata.get(facts.call)
    if domain is None:
        return gene_names(column, given)
    inferred = getattr(domain, facts.inferred) if facts.inferred else None
    return gene_names(column, given, inferred, domain.locus)


def cdr3_of(residues: str, domain: StoredDomain) -> str:
    """Return the CDR3 of a domain, given its residues (`StoredRecord.unit_residues`)."""
    start, end = domain.ends[_CDR3 - 1 : _CDR3 + 1]
    return residues[start:end]


def _cut(residues: str, domain: StoredDomain) -> CutDomain:
    """Return a stored domain with its own residues."""
    end = domain.ends[-1]
    return CutDomain(domain.number, domain.locus, 0, end, residues[:end], domain.ends, domain.is_complete)


def derived_value(
    name: str, metadata: Mapping[str, str], domain: StoredDomain | None, residues: str
) -> str | int | float | bool | None:
    """Return the value of a derived column, of a domain of a record.

    Parameters
    ----------
    name : str
        Of `plmsearch.filters.derived.DERIVED_COLUMNS`, but for ``n_domains``; or ``donor``.
    metadata : mapping of str to str
        Of the record.
    domain : StoredDomain or None
        None: of the record as a whole, of which only the genes that the input calls are known.
    residues : str
        Of the domain.

    Returns
    -------
    str, int, float, bool or None
        Several genes are parted by commas; None where there is no value.
    """
    if name == "donor":
        return donor_of(metadata) or None
    if name in GENE_COLUMNS:
        return ",".join(_genes(name, metadata, domain)) or None
    if domain is None:
        return None
    if name == "cdr3_aa":
        return cdr3_of(residues, domain) or None
    if name in _OF_DOMAIN:
        value: str | float | bool | None = getattr(domain, _OF_DOMAIN[name])
        return None if value == "" else value
    cut = _cut(residues, domain)
    if name.startswith("junction_aa"):
        return (len(cut.junction) if name == "junction_aa_length" else cut.junction) or None
    return cut.region(name.removesuffix("_aa")) or None


#: Derived columns that are fields of a domain.
_OF_DOMAIN: Mapping[str, str] = {
    "locus": "locus",
    "complete_vdj": "is_complete",
    "v_call_inferred": "v_call",
    "j_call_inferred": "j_call",
    "v_identity_aa": "v_identity",
    "species": "species",
}


def donor_of(metadata: Mapping[str, str]) -> str:
    """Return the donor of a record; '' if no column names one."""
    return next((metadata[name] for name in DONOR_COLUMNS if metadata.get(name)), "")
