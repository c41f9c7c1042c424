"""Bring a database of an older schema to this one, keeping a copy of what it was.

The copy lies beside the database. Its segments are hard links where the file system has them, for
segments never change, so it takes little room; removing it does not touch the database.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from plmsearch.errors import StorageError
from plmsearch.store.connection import copy_catalog, open_catalog
from plmsearch.store.directory import Layout, read_format, storage_errors, sync_directory, sync_file
from plmsearch.store.lock import DEFAULT_LOCK_TIMEOUT_S, writer_lock
from plmsearch.store.repository import Repository
from plmsearch.store.schema import HEAD, check_schema, create_schema, schema_version
from plmsearch.store.seal import sealing

__all__ = ["UpgradeReport", "upgrade"]


@dataclass(frozen=True, slots=True)
class UpgradeReport:
    """What an upgrade did.

    Parameters
    ----------
    before, after : str
        Schema versions; equal if there was nothing to do.
    copy : Path or None
        Where the database lies as it was.
    """

    before: str
    after: str
    copy: Path | None


def upgrade(path: Path, *, lock_timeout_s: float = DEFAULT_LOCK_TIMEOUT_S) -> UpgradeReport:
    """Run the migrations that a database lacks, in one transaction, after copying it.

    Parameters
    ----------
    path : Path
    lock_timeout_s : float
        Seconds to wait for another writer.

    Returns
    -------
    UpgradeReport

    Raises
    ------
    DatabaseNotFound, NotADatabase, SchemaTooNewError
        If there is nothing that can be upgraded.
    DatabaseLocked, DatabaseNotWritable, CatalogDamaged, StorageError
        If it cannot be written. The database is as it was then.
    """
    layout = Layout(path)
    read_format(layout)
    with writer_lock(path, timeout_s=lock_timeout_s), sealing(layout):
        repository = Repository(open_catalog(layout.catalog, writable=True))
        try:
            with repository.begin() as connection:
                before = schema_version(connection, path)
            if before >= HEAD:
                with repository.begin() as connection:
                    check_schema(connection, path)
                return UpgradeReport(before, before, None)
            copy = _copy(layout, before)
            with repository.begin() as connection:
                create_schema(connection)
                check_schema(connection, path)
        finally:
            repository.close()
    return UpgradeReport(before, HEAD, copy)


def _copy(layout: Layout, version: str) -> Path:
    """Copy a database of any schema: its catalog, its marker and every segment."""
    target = Layout(layout.root.with_name(f"{layout.root.name}.schema-{version}"))
    if target.root.exists():
        raise StorageError(
            target.root, "the copy of an earlier upgrade is there", hint="move it away, then upgrade again"
        )
    with storage_errors(target.root):
        try:
            target.make()
            copy_catalog(layout.catalog, target.catalog)
            sync_file(target.catalog)
            for source in sorted(layout.segments.iterdir()):
                _link(source, target.segments / source.name)
            shutil.copyfile(layout.marker, target.marker)
            sync_file(target.marker)
            for folder in (target.segments, target.root, target.root.parent):
                sync_directory(folder)
        except BaseException:
            shutil.rmtree(target.root, ignore_errors=True)
            raise
    return target.root


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        # Not every file system has hard links.
        shutil.copyfile(source, target)
        sync_file(target)
