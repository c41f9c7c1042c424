"""Bring a database of an older schema to this one, keeping a copy of what it was.

The copy lies beside the database. Its segments are hard links where the file system has them, for
segments never change, so it takes little room; removing it does not touch the database.
"""

from __future__ import annotations

import filecmp
import logging
import shutil
from dataclasses import dataclass
from pathlib import Path

from plmsearch.errors import StorageError
from plmsearch.store.connection import copy_catalog, open_catalog
from plmsearch.store.directory import Layout, read_format, storage_errors
from plmsearch.store.lock import DEFAULT_LOCK_TIMEOUT_S, writer_lock
from plmsearch.store.repository import Repository
from plmsearch.store.schema import HEAD, check_schema, create_schema, schema_version
from plmsearch.store.seal import sealing
from plmsearch.store.upkeep import refresh_files, remove_unknown
from plmsearch.store.whole import link_or_copy, make_whole, sync_tree

__all__ = ["UpgradeReport", "upgrade"]

_log = logging.getLogger(__name__)


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
        layout.make()
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
            _refresh(repository, layout)
        finally:
            repository.close()
    return UpgradeReport(before, HEAD, copy)


def _refresh(repository: Repository, layout: Layout) -> None:
    """Exchange derived files that this version keeps no more for those it keeps; they are a cache."""
    try:
        remove_unknown(repository, layout)
        refresh_files(repository, layout)
        remove_unknown(repository, layout)
    except StorageError as error:
        _log.warning("the database is upgraded; its derived files are left to the next writer: %s", error)


def _copy(layout: Layout, version: str) -> Path:
    """Copy a database of any schema: its catalog, its marker and every segment."""
    target = Layout(layout.root.with_name(f"{layout.root.name}.schema-{version}"))
    if not target.root.exists():
        make_whole(target.root, lambda work: _copy_into(layout, Layout(work)))
    elif not _is_copy(layout, target):
        raise StorageError(
            target.root, "the copy of an earlier upgrade is there", hint="move it away, then upgrade again"
        )
    return target.root


def _copy_into(layout: Layout, target: Layout) -> None:
    target.make()
    copy_catalog(layout.catalog, target.catalog)
    for source in sorted(layout.segments.iterdir()):
        link_or_copy(source, target.segments / source.name)
    shutil.copyfile(layout.marker, target.marker)
    sync_tree(target.root)


def _is_copy(layout: Layout, target: Layout) -> bool:
    """Tell whether an upgrade that was interrupted after copying left this copy."""
    if not (target.catalog.is_file() and target.marker.is_file() and target.segments.is_dir()):
        return False
    again = layout.tmp / layout.catalog.name
    with storage_errors(layout.root):
        again.unlink(missing_ok=True)
        copy_catalog(layout.catalog, again)
        try:
            same = filecmp.cmp(again, target.catalog, shallow=False)
        finally:
            again.unlink()
        files, copied = _names(layout.segments), _names(target.segments)
        return same and files == copied and filecmp.cmp(layout.marker, target.marker, shallow=False)


def _names(folder: Path) -> list[tuple[str, int]]:
    return sorted((p.name, p.stat().st_size) for p in folder.iterdir())
