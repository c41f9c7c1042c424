"""What is known of the receptor that a record holds: genes, CDR3, donor; from its metadata and its residues.

Values of the input come first; what the residues say fills in where there are none.
"""

from __future__ import annotations

from collections.abc import Mapping

from plmsearch.domains import CutDomain
from plmsearch.genes import call_genes
from plmsearch.store.rows import StoredDomain

__all__ = ["DONOR_COLUMNS", "cdr3_of", "donor_of", "genes_of"]

#: Columns that name a donor, the first that a record has.
DONOR_COLUMNS = ("subject_id", "donor")
_CALLS = {"v": "v_call", "j": "j_call"}


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
    given = call_genes(metadata.get(_CALLS[segment], ""))
    if domain is None:
        return given
    own = tuple(gene for gene in given if gene.startswith(domain.locus))
    inferred = domain.v_call if segment == "v" else domain.j_call
    return own or call_genes(inferred or "")


def cdr3_of(residues: str, domain: StoredDomain) -> str:
    """Return the CDR3 of a domain, given its residues (`StoredRecord.unit_residues`)."""
    end = domain.ends[-1]
    cut = CutDomain(domain.number, domain.locus, 0, end, residues[:end], domain.ends)
    return cut.region("cdr3")


def donor_of(metadata: Mapping[str, str]) -> str:
    """Return the donor of a record; '' if no column names one."""
    return next((metadata[name] for name in DONOR_COLUMNS if metadata.get(name)), "")
