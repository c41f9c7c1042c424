"""Derived columns as SQL: the values of a record, and conditions on them.

Values are rows of a subquery that is correlated with `plmsearch.store.tables.records`. Genes are parsed by a
function of Python's that every connection knows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import ColumnElement, FromClause, Select, func, literal, null, or_, select

from plmsearch.filters.derived import GENE_COLUMNS, gene_names
from plmsearch.numbering import REGIONS
from plmsearch.store import tables as t

__all__ = ["FUNCTIONS", "Test", "any_value"]

_d, _s = t.domains.c, t.sequences.c
_NOTHING = "[]"


@lru_cache(maxsize=1 << 16)
def _genes_json(column: str, given: str | None, inferred: str | None, locus: str | None) -> str:
    return json.dumps(gene_names(column, given, inferred, locus))


#: Functions that SQL calls, by name, with their number of arguments: all are deterministic.
FUNCTIONS: Mapping[str, tuple[int, Callable[..., Any]]] = {"plmsearch_genes": (4, _genes_json)}


@dataclass(frozen=True, slots=True)
class Test:
    """What is asked of a value.

    Parameters
    ----------
    holds : callable
        Takes a value, returns a condition.
    equal_to : tuple of str
        The values that meet it, where it asks for no more than to be one of these.
    """

    holds: Callable[[ColumnElement[Any]], ColumnElement[bool]]
    equal_to: tuple[Any, ...] = ()


def any_value(name: str, given: ColumnElement[Any], test: Test | None = None) -> ColumnElement[bool]:
    """Return whether a record has a value in a derived column that meets a test.

    Parameters
    ----------
    name : str
        Of `plmsearch.filters.derived.DERIVED_COLUMNS`.
    given : ColumnElement
        The call of the input, where the column is one of genes.
    test : Test, optional
        None: whether there is a value.

    Returns
    -------
    ColumnElement of bool
        Never null.
    """
    if name in GENE_COLUMNS:
        return _any_gene(name, given, test)
    value, query = _values(name)
    met = value.is_not(None) if test is None else test.holds(value)
    return query.where(met).correlate(t.records).exists()


# --- Genes ---------------------------------------------------------------------------------------


def _any_gene(name: str, given: ColumnElement[Any], test: Test | None) -> ColumnElement[bool]:
    """Ask the genes that the input gives, then those of domains of which it gives none."""
    met = _in_array(func.plmsearch_genes(name, given, null(), null()), test)
    inferred = GENE_COLUMNS[name].inferred
    if not inferred:
        return met
    of_domain = _in_array(func.plmsearch_genes(name, given, _d[inferred], _d.locus), test)
    query = _from_domains(t.domains).where(_d[inferred].is_not(None), of_domain)
    return or_(met, query.correlate(t.records).exists())


def _in_array(array: ColumnElement[Any], test: Test | None) -> ColumnElement[bool]:
    """Return whether a value of a JSON array meets a test; a plain text search where that is enough."""
    if test is None:
        return array != _NOTHING
    if test.equal_to:
        return or_(*(func.instr(array, json.dumps(value)) > 0 for value in test.equal_to))
    each = func.json_each(array).table_valued("value", joins_implicitly=True)
    query = select(literal(1)).select_from(each).where(test.holds(each.c.value))
    return query.correlate(t.records, t.domains).exists()


# --- Domains -------------------------------------------------------------------------------------

_OF_DOMAIN: Mapping[str, ColumnElement[Any]] = {
    "locus": _d.locus,
    "complete_vdj": _d.is_complete,
    "v_call_inferred": func.nullif(_d.v_call, ""),
    "j_call_inferred": func.nullif(_d.j_call, ""),
    "v_identity_aa": _d.v_identity,
    "species": func.nullif(_d.species, ""),
}


def _values(name: str) -> tuple[ColumnElement[Any], Select[Any]]:
    """Return what a value is, and a query with a row for each."""
    if name == "n_domains":
        return _s.n_domains, select(literal(1)).where(_s.id == t.records.c.sequence_id)
    if name in _OF_DOMAIN:
        return _OF_DOMAIN[name], _from_domains(t.domains)
    is_length = name == "junction_aa_length"
    residues = func.nullif(_residues("junction_aa" if is_length else name), "")
    value = func.length(residues) if is_length else residues
    return value, _from_domains(t.domains.join(t.sequences, _s.id == _d.sequence_id))


def _from_domains(source: FromClause) -> Select[Any]:
    return select(literal(1)).select_from(source).where(_d.source_id == t.records.c.sequence_id)


def _residues(name: str) -> ColumnElement[Any]:
    """Return the residues of a region, or of CDR3 with the residues beside it."""
    if name == "junction_aa":
        start = func.max(0, _d.fwr3_end - 1)
        return func.substr(_s.residues, start + 1, _d.cdr3_end + 1 - start)
    region = name.removesuffix("_aa")
    place = REGIONS.index(region)
    begin: ColumnElement[Any] = _d[f"{REGIONS[place - 1]}_end"] if place else literal(0)
    return func.substr(_s.residues, begin + 1, _d[f"{region}_end"] - begin)
