"""Columns that follow from a record's residues and calls: known to filters and hits, stored nowhere.

Concepts
--------
A record may have several values in such a column: one for each variable domain, or one for each gene that a
call lists. A comparison holds for a record if it holds for *one* of its values; its negation (``!=``,
``not``) if it holds for *none* of them; without a value a record meets neither. Of one value this is SQL's
logic.

A column that an input brought is stored, and stands before a derived one of the same name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from plmsearch.filters.tree import Kind
from plmsearch.genes import call_families, call_genes, call_isotypes
from plmsearch.numbering import REGIONS

__all__ = ["DERIVED_COLUMNS", "GENE_COLUMNS", "GeneColumn", "derived_columns", "gene_names"]


@dataclass(frozen=True, slots=True)
class GeneColumn:
    """A column of genes.

    Parameters
    ----------
    call : str
        Metadata column that it is parsed from, as AIRR calls it.
    parse : callable
        Returns what a call lists.
    inferred : str
        Column of `plmsearch.store.tables.domains` that counts where the input has no call of a domain's
        locus; '' for none.
    """

    call: str
    parse: Callable[[str], tuple[str, ...]]
    inferred: str = ""


GENE_COLUMNS: Mapping[str, GeneColumn] = {
    "v_gene": GeneColumn("v_call", call_genes, "v_call"),
    "v_family": GeneColumn("v_call", call_families, "v_call"),
    "j_gene": GeneColumn("j_call", call_genes, "j_call"),
    "isotype": GeneColumn("c_call", call_isotypes),
}

#: Type of every derived column, in the order in which they are listed.
DERIVED_COLUMNS: Mapping[str, Kind] = {
    **{f"{region}_aa": "text" for region in REGIONS},
    "junction_aa": "text",
    "junction_aa_length": "int",
    "locus": "text",
    "complete_vdj": "bool",
    "n_domains": "int",
    **dict.fromkeys(GENE_COLUMNS, "text"),
    "v_call_inferred": "text",
    "j_call_inferred": "text",
    "v_identity_aa": "float",
    "species": "text",
}


def derived_columns(metadata: Iterable[str], *, has_domains: bool) -> dict[str, Kind]:
    """Return the derived columns of a database.

    Parameters
    ----------
    metadata : iterable of str
        Names of its metadata columns.
    has_domains : bool
        Whether the variable domains of a sequence are known.

    Returns
    -------
    dict of str to str
        Types, by name: columns of domains where there are domains, those of genes where there are calls too.
        A name that the metadata have is left out.

    Examples
    --------
    >>> derived_columns(["v_call", "c_call", "isotype"], has_domains=False)
    {'v_gene': 'text', 'v_family': 'text'}
    """
    stored = set(metadata)

    def is_known(name: str) -> bool:
        column = GENE_COLUMNS.get(name)
        if column is None:
            return has_domains
        return column.call in stored or (has_domains and bool(column.inferred))

    return {n: kind for n, kind in DERIVED_COLUMNS.items() if n not in stored and is_known(n)}


@lru_cache(maxsize=1 << 16)
def gene_names(
    column: str, given: str | None, inferred: str | None = None, locus: str | None = None
) -> tuple[str, ...]:
    """Return the genes of a record, or of one of its domains.

    Parameters
    ----------
    column : str
        Of `GENE_COLUMNS`.
    given : str or None
        The call of the input.
    inferred : str or None
        The call that was inferred from the residues of a domain.
    locus : str or None
        Of the domain: genes of other loci do not count, and `inferred` does where none is left. None: of the
        record, every gene that is given.

    Returns
    -------
    tuple of str
        Distinct, in the order of the call; empty if nobody knows.

    Examples
    --------
    >>> gene_names("v_family", "IGHV1-69*01,IGHV1-69D*01"), gene_names("v_gene", None, "IGKV1-5*03", "IGK")
    (('IGHV1',), ('IGKV1-5',))
    >>> gene_names("v_gene", "IGHV3-9*01", "IGKV1-5*03", "IGK")
    ('IGKV1-5',)
    """
    parse = GENE_COLUMNS[column].parse
    names = parse(given or "")
    if locus is None:
        return names
    return tuple(name for name in names if name.startswith(locus)) or parse(inferred or "")
