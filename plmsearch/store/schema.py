"""The catalog's schema version, by Alembic.

A new catalog is made by running every migration, so that there is one way to a schema, not two.
Opening a database only reads the version: Alembic is imported when a schema is made or changed.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, text
from sqlalchemy.exc import DatabaseError, OperationalError

from plmsearch.errors import NotADatabase, SchemaOutdatedError, SchemaTooNewError

__all__ = ["HEAD", "check_schema", "create_schema", "migrations_directory", "schema_version"]

#: Newest revision in ``migrations/versions``; a test compares.
HEAD = "0004"


def migrations_directory() -> Path:
    """Return the migrations: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "migrations"
    return installed if installed.is_dir() else package.parent / "migrations"


def create_schema(connection: Connection) -> None:
    """Run every migration that the catalog lacks, in the transaction of `connection`."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    # Alembic interpolates % in option values.
    config.set_main_option("script_location", str(migrations_directory()).replace("%", "%%"))
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
