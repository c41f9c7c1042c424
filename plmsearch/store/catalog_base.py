"""A connection to the catalog, and what every question to it is made of."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

from sqlalchemy import ColumnElement, Connection, Engine, Row, Select, func, select
from sqlalchemy.exc import DBAPIError

from plmsearch.errors import StorageError
from plmsearch.filters.tree import Condition
from plmsearch.slices import slices
from plmsearch.store import tables as t
from plmsearch.store.conditions import sql_condition
from plmsearch.store.connection import sqlite_module
from plmsearch.store.rows import (
    Counters,
    StoredMetadata,
    StoredRecord,
)

__all__ = [
    "IN_LIST",
    "AnyRow",
    "AnySelect",
    "CatalogBase",
    "live",
    "locus_column",
    "select_records",
    "stored_records",
    "whole_residues",
]

AnyRow: TypeAlias = "Row[*tuple[Any, ...]]"
AnySelect: TypeAlias = "Select[*tuple[Any, ...]]"

#: Values of one IN list; SQLite's default limit on bound parameters was 999 before 3.32.
IN_LIST = 900


class CatalogBase:
    """The catalog behind an engine.

    Parameters
    ----------
    engine : Engine
        What `plmsearch.store.connection.open_catalog` returned.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._joined: Connection | None = None

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """Run one transaction, or go on with that of `at_once`; what is refused becomes a `StorageError`."""
        if self._joined is not None:
            yield self._joined
            return
        try:
            with self._engine.begin() as connection:
                yield connection
        except DBAPIError as exc:
            raise StorageError("catalog.sqlite", str(exc.orig)) from exc
        except UnicodeDecodeError as exc:  # pages have no checksums: a flipped bit is read as it lies
            raise StorageError(
                "catalog.sqlite", "it holds text that is not UTF-8", hint="restore it from a backup"
            ) from exc
        except UnicodeEncodeError as exc:  # such as half of a surrogate pair, from a file name or argument
            reason = f"{exc.object!r} is no valid Unicode and cannot be stored or looked up"
            raise StorageError("catalog.sqlite", reason) from exc

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Make one transaction of all that is asked and changed until the end: it is kept as a whole, or not.

        By one thread only.
        """
        with self.begin() as connection:
            self._joined = connection
            try:
                yield
            finally:
                self._joined = None

    def counters(self) -> Counters:
        """Return the next free ids. Only the holder of the lock may use them."""
        c = t.state.c
        row = self._all(select(c.next_sequence_id, c.next_record_key, c.next_segment_id))[0]
        return Counters(*row)

    def _scalar(self, query: AnySelect) -> Any:
        with self.begin() as connection:
            return connection.execute(query).scalar_one()

    def _all(self, query: AnySelect) -> Sequence[AnyRow]:
        with self.begin() as connection:
            return connection.execute(query).all()

    def _plain(self, query: AnySelect) -> list[tuple[Any, ...]]:
        """Return rows as the driver gives them, without SQLAlchemy's class around each."""
        with self.begin() as connection:
            cursor = connection.execute(query).cursor
            try:
                return [] if cursor is None else list(cursor.fetchall())
            except sqlite_module().Error as exc:  # SQLAlchemy does not see it
                raise StorageError("catalog.sqlite", str(exc)) from exc

    def _in(self, query: AnySelect, column: ColumnElement[Any], values: Iterable[Any]) -> list[AnyRow]:
        """Run a query once per slice of a long IN list, in one transaction."""
        rows: list[AnyRow] = []
        with self.begin() as connection:
            for part in slices(values, IN_LIST):
                rows.extend(connection.execute(query.where(column.in_(part))).all())
        return rows


def live(condition: Condition | None = None) -> list[ColumnElement[bool]]:
    """Return what holds for the live records that meet a condition."""
    alive = t.records.c.deleted.is_(None)
    return [alive] if condition is None else [alive, sql_condition(condition)]


def select_records(condition: Condition | None = None) -> AnySelect:
    """Select what `stored_records` reads, of live records that meet a condition."""
    r, s = t.records.c, t.sequences.c
    return (
        select(r.key, r.record_id, r.sequence_id, r.description, r.metadata, s.residues, s.hash)
        .select_from(t.records.join(t.sequences))
        .where(*live(condition))
    )


def stored_records(rows: Iterable[Sequence[Any]]) -> Iterator[StoredRecord]:
    """Yield the records of `select_records`; residues are checked once for neighbours that share them."""
    last, whole, hash_hex = -1, "", ""
    for key, record_id, sequence_id, description, metadata, residues, hash_bytes in rows:
        if sequence_id != last:
            last, whole, hash_hex = (
                sequence_id,
                whole_residues(sequence_id, residues, hash_bytes),
                hash_bytes.hex(),
            )
        metadata_read = StoredMetadata(metadata)
        yield StoredRecord(key, record_id, sequence_id, description, metadata_read, whole, hash_hex)


def whole_residues(sequence_id: int, residues: str, hash_bytes: bytes) -> str:
    """Return residues that are what was stored: SQLite would hand out a flipped bit as it lies."""
    if residues and hashlib.sha256(residues.encode()).digest() != hash_bytes:
        reason = f"the residues of sequence {sequence_id} do not have the hash that is stored"
        raise StorageError("catalog.sqlite", reason, hint="restore it from a backup")
    return residues


def locus_column(by_domain: bool) -> ColumnElement[Any]:
    """Return the locus of a row of `sequences`: of the chain, or of the variable domain it is of others.

    The numberer that found a domain gave its locus; the same residues numbered alone, or by a later version,
    may be no domain. Domains with equal residues are of one locus: `min` picks it.
    """
    s, d = t.sequences.c, t.domains.c
    if not by_domain:
        return s.locus
    return select(func.min(d.locus)).where(d.sequence_id == s.id).correlate(t.sequences).scalar_subquery()
