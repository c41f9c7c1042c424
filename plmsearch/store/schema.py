"""The catalog's schema version, by Alembic.

A new catalog is what every migration makes of an empty one, so that there is one way to a schema, not two.
Opening a database only reads the version: Alembic is imported when a schema is made or changed.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import DatabaseError, OperationalError

from plmsearch.errors import NotADatabase, SchemaOutdatedError, SchemaTooNewError
from plmsearch.store.connection import sqlite_module

__all__ = ["HEAD", "check_schema", "create_schema", "migrations_directory", "schema_version"]

#: Newest revision in ``migrations/versions``; a test compares.
HEAD = "0005"


def migrations_directory() -> Path:
    """Return the migrations: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "migrations"
    return installed if installed.is_dir() else package.parent / "migrations"


def create_schema(connection: Connection) -> None:
    """Run every migration that the catalog lacks, in the transaction of `connection`.

    For an empty catalog they run once in a process, whatever the number of databases it makes.
    """
    if connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar_one():
        _migrate(connection, migrations_directory())
        return
    for statement, values in _statements(migrations_directory()):
        connection.exec_driver_sql(statement, values)


@cache
def _statements(migrations: Path) -> tuple[tuple[str, tuple[object, ...]], ...]:
    """Return SQL, and the values for it, that makes what the migrations make of an empty catalog."""
    engine = create_engine("sqlite://", module=sqlite_module())
    with engine.begin() as connection:
        _migrate(connection, migrations)
        made = connection.exec_driver_sql("SELECT type, name, sql FROM sqlite_master ORDER BY rowid").all()
        statements: list[tuple[str, tuple[object, ...]]] = [(sql, ()) for _, _, sql in made if sql]
        for table in (name for kind, name, _ in made if kind == "table"):
            rows = connection.exec_driver_sql(f'SELECT * FROM "{table}"').all()  # noqa: S608
            marks = ", ".join("?" * len(rows[0])) if rows else ""
            statements += [(f'INSERT INTO "{table}" VALUES ({marks})', tuple(row)) for row in rows]  # noqa: S608
    engine.dispose()
    return tuple(statements)


def _migrate(connection: Connection, migrations: Path) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    # Alembic interpolates % in option values.
    config.set_main_option("script_location", str(migrations).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def schema_version(connection: Connection, directory: Path) -> str:
    """Return the schema version of a catalog.

    Raises
    ------
    NotADatabase
        If there is none.
    """
    try:
        found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
    except DatabaseError as exc:
        if isinstance(exc, OperationalError) and "no such table" not in str(exc.orig):
            raise  # the disk is full, or cannot be read: that says nothing about the catalog
        raise NotADatabase(directory, "catalog.sqlite has no schema version or cannot be read") from exc
    if found is None:
        raise NotADatabase(directory, "catalog.sqlite has no schema version")
    return str(found)


def check_schema(connection: Connection, directory: Path) -> None:
    """Refuse a catalog of another schema version.

    Raises
    ------
    SchemaOutdatedError, SchemaTooNewError
        If the version is older or newer than `HEAD`.
    NotADatabase
        If there is no version at all.
    """
    found = schema_version(connection, directory)
    if found < HEAD:
        raise SchemaOutdatedError(directory, found, HEAD)
    if found > HEAD:
        raise SchemaTooNewError(directory, f"schema {found}", f"schema {HEAD}")
