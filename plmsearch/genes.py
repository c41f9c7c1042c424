"""Names of V, D, J and constant genes in the spellings of IMGT, OGRDB, IgBLAST and 10x.

A *call* is what a tool wrote for one row: an allele (``IGHV1-2*01``), a gene (``IGHV1-2``), IMGT's form
with species and function (``Homsap IGHV1-2*01 F``), an OGRDB cluster (``IGHVF6-G21*09``), or a list of
any of these. What is compared is the set of genes of a call: every gene that is listed counts. Names in
lower case (``ighv1-2*01``) or MGI's (``Ighv1-2``) are read as those of IMGT, which has capitals only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

__all__ = ["call_families", "call_genes", "call_isotypes", "call_locus", "locus_name"]

# The start of a name as in Change-O (changeo.Gene.gene_regex), which is what the field groups by; the
# rest of a name ends at the allele, at white space or at what parts a list. In lower case the same letters
# begin words ("traditional"): there a name has to begin and go on as genes do.
_GENE = re.compile(
    r"(?:(?:IG[HKL]|TR[ABGD])[VDJ][A-Z0-9(]"
    r"|(?<![A-Za-z0-9])(?i:(?:IG[HKL]|TR[ABGD])[VDJ](?:F?[0-9]|\()))[-/\w().]*",
    re.ASCII,
)
_FAMILY = re.compile(r"(?:IG[HKL]|TR[ABGD])[VDJ](?:F?[0-9]+|[^-/]+)", re.ASCII)
# A constant gene: what follows tells the gene of IgD from D genes such as IGHD3-10. Classes as words
# (IgG1) stand in tables of sorted cells.
_CONSTANT = re.compile(
    r"(?<![A-Z0-9])(?:(?P<gene>IGH(?:[DM]|E|EP[0-9]|A[12]?|G[1-4]?[ABC]?|GP)|IGKC|IGLC[0-9]*|TR[AD]C|TR[BG]C[0-9]*)"
    r"|IG-?(?P<isotype>[DME]|A[12]?|G[1-4]?[ABC]?))(?![A-Z0-9-])",
    re.ASCII | re.IGNORECASE,
)
_LOCUS = re.compile(r"IG[HKL]|TR[ABGD]", re.ASCII)
#: How the Observed Antibody Space names loci.
_LETTERS = {"H": "IGH", "K": "IGK", "L": "IGL"}


def call_genes(call: str) -> tuple[str, ...]:
    """Return every gene that a call lists.

    Parameters
    ----------
    call : str
        As in ``v_call`` or ``j_call``; may be empty.

    Returns
    -------
    tuple of str
        Distinct, in the order of the call, without alleles; empty if no gene is named. A name that is not
        in capitals where genes are is raised.

    Examples
    --------
    >>> call_genes("Homsap IGHV3-11*05 F, or Homsap IGHV3-11*06 F")
    ('IGHV3-11',)
    >>> call_genes("IGHV1-69*01,IGHV1-69D*01"), call_genes("IGHVF6-G21*09"), call_genes("None")
    (('IGHV1-69', 'IGHV1-69D'), ('IGHVF6-G21',), ())
    >>> call_genes("ighv1-2*01"), call_genes("Ighv1-2")
    (('IGHV1-2',), ('IGHV1-2',))
    """
    names = _GENE.findall(call)
    return tuple(dict.fromkeys(name if name[:4].isupper() else name.upper() for name in names))


def call_families(call: str) -> tuple[str, ...]:
    """Return the family (IMGT subgroup) of every gene that a call lists.

    Examples
    --------
    >>> call_families("IGHV1-2*01,IGHV1/OR15-1*01,IGHV3-30-3*01"), call_families("IGHVF6-G21*09")
    (('IGHV1', 'IGHV3'), ('IGHVF6',))
    """
    matches = (_FAMILY.match(gene) for gene in call_genes(call))
    return tuple(dict.fromkeys(match.group() for match in matches if match))


def call_isotypes(call: str) -> tuple[str, ...]:
    """Return every constant gene that a call lists, which is what says the isotype.

    Parameters
    ----------
    call : str
        As in AIRR's ``c_call`` or 10x's ``c_gene``; may be empty.

    Returns
    -------
    tuple of str
        Distinct, in the order of the call, without alleles, spelt as AIRR does: ``IGHG1``, and ``IGHG``
        where no subclass is told. A class as a word, ``IgG1``, becomes its gene. Empty if there is none;
        D genes, whose names begin as that of IgD does, are none.

    Examples
    --------
    >>> call_isotypes("Homsap IGHG1*01 F, or Homsap IGHG2*03 F"), call_isotypes("IGHD*02")
    (('IGHG1', 'IGHG2'), ('IGHD',))
    >>> call_isotypes("IgA"), call_isotypes("IGHD3-10*01"), call_isotypes("None")
    (('IGHA',), (), ())
    """
    return tuple(dict.fromkeys(_constant_genes(call)))


def _constant_genes(call: str) -> Iterator[str]:
    for match in _CONSTANT.finditer(call):
        yield (match["gene"] or f"IGH{match['isotype']}").upper()


def call_locus(call: str) -> str:
    """Return the locus of the first gene that a call names, such as ``IGH``; empty if there is none.

    Examples
    --------
    >>> call_locus("Homsap IGKV1-5*01 F"), call_locus("ighv1-2"), call_locus("IgG1"), call_locus("")
    ('IGK', 'IGH', 'IGH', '')
    """
    match = _LOCUS.search(call) or _LOCUS.search(" ".join((*call_genes(call), *_constant_genes(call))))
    return match.group() if match else ""


def locus_name(text: str) -> str:
    """Return a locus as AIRR names it: upper case, and IGH, IGK, IGL for the H, K, L of OAS.

    Examples
    --------
    >>> locus_name("igh "), locus_name("K"), locus_name("Multi"), locus_name("")
    ('IGH', 'IGK', 'MULTI', '')
    """
    name = text.strip().upper()
    return _LETTERS.get(name, name)
