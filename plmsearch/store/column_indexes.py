"""SQL indexes on metadata columns, made on request: a condition on such a column reads what matches only.

Each is an index on the expression that `plmsearch.store.conditions` compares, over the live records.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import cast

from sqlalchemy import Connection, text

from plmsearch.errors import ParameterError
from plmsearch.filters.tree import Column, Kind
from plmsearch.store.conditions import column_expression, has_path

__all__ = ["drop_column_indexes", "indexed_columns", "make_column_indexes", "remake_column_index"]

_PREFIX = "metadata "


def indexed_columns(connection: Connection) -> set[str]:
    """Return the names of the metadata columns that have an index."""
    rows = connection.execute(text("SELECT name FROM sqlite_master WHERE type = 'index'")).scalars()
    return {name.removeprefix(_PREFIX) for name in rows if name.startswith(_PREFIX)}


def make_column_indexes(connection: Connection, columns: Mapping[str, str]) -> None:
    """Make the indexes that are not there yet.

    Raises
    ------
    ParameterError
        If SQLite cannot index a column of such a name.
    """
    present = indexed_columns(connection)
    for name, kind in columns.items():
        if name not in present:
            _create(connection, name, kind)


def drop_column_indexes(connection: Connection, names: Iterable[str]) -> None:
    """Drop indexes; a column without one is passed over."""
    for name in names:
        connection.exec_driver_sql(f"DROP INDEX IF EXISTS {_quoted(name)}")


def remake_column_index(connection: Connection, name: str, kind: str) -> None:
    """Make an index anew whose column has another type now; nothing if there is none."""
    if name in indexed_columns(connection):
        drop_column_indexes(connection, [name])
        _create(connection, name, kind)


def _create(connection: Connection, name: str, kind: str) -> None:
    if not has_path(name):
        raise ParameterError("column", name, "one without quotes, backslashes and control characters")
    expression = column_expression(Column(name, cast("Kind", kind), is_metadata=True)).compile(
        dialect=connection.dialect, compile_kwargs={"literal_binds": True, "include_table": False}
    )
    connection.exec_driver_sql(
        f"CREATE INDEX {_quoted(name)} ON records ({expression}) WHERE deleted IS NULL"
    )


def _quoted(name: str) -> str:
    """Return the SQL name of a column's index; names of columns are a user's text."""
    return '"' + (_PREFIX + name).replace('"', '""') + '"'
