"""The chains of the live records, for pairing them (`plmsearch.search.pairs`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from sqlalchemy import case, func, select

from plmsearch.filters.tree import Column, Condition
from plmsearch.store import tables as t
from plmsearch.store.catalog_reader import CatalogReader
from plmsearch.store.conditions import column_expression, sql_condition
from plmsearch.types import Int1D

__all__ = ["matching_keys", "stored_chains"]

_AT_ONCE = 10_000


def stored_chains(
    reader: CatalogReader, columns: Sequence[str], loci: Sequence[str]
) -> Iterator[tuple[int, int, int, str, tuple[str | None, ...]]]:
    """Yield the variable domains of live records, those of one cell next to each other.

    Parameters
    ----------
    reader : CatalogReader
    columns : sequence of str
        Metadata to give with each, as text; among them ``cell_id``, ``sample_id`` and ``repertoire_id``.
    loci : sequence of str
        Of the domains.

    Yields
    ------
    key : int
        Of the record.
    number : int
        Of the domain.
    sequence_id : int
        Of its residues.
    locus : str
    values : tuple of str or None
        Of the columns.
    """
    r, d = t.records.c, t.domains.c
    values = {name: column_expression(Column(name, "text", is_metadata=True)) for name in columns}
    cell = func.nullif(values["cell_id"], "")
    sample = func.coalesce(func.nullif(values["sample_id"], ""), func.nullif(values["repertoire_id"], ""))
    query = (
        select(r.key, d.number, d.sequence_id, d.locus, *values.values())
        .select_from(t.records.join(t.domains, d.source_id == r.sequence_id))
        .where(r.deleted.is_(None), d.locus.in_(loci))
        .order_by(cell, case((cell.is_(None), None), else_=sample), r.key, d.number)
    )
    with reader.begin() as connection:
        for row in connection.execution_options(yield_per=_AT_ONCE).execute(query):
            yield row[0], row[1], row[2], row[3], tuple(row[4:])


def matching_keys(reader: CatalogReader, condition: Condition) -> Int1D:
    """Return the keys of the live records that meet a condition, rising; dtype=int64."""
    query = select(t.records.c.key).where(t.records.c.deleted.is_(None), sql_condition(condition))
    with reader.begin() as connection:
        keys = connection.execute(query.order_by(t.records.c.key)).scalars()
        return np.fromiter(keys, dtype=np.int64)
