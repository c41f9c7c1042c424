"""Open a database directory for reading, or for writing under its lock."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from plmsearch.errors import NotADatabase
from plmsearch.store.connection import open_catalog
from plmsearch.store.directory import Layout, is_database, read_format, storage_errors
from plmsearch.store.lock import DEFAULT_LOCK_TIMEOUT_S, writer_lock
from plmsearch.store.repository import Repository
from plmsearch.store.schema import check_schema, create_schema
from plmsearch.store.seal import check_seal, sealing

__all__ = ["open_reader", "open_writer"]


def open_reader(path: Path) -> Repository:
    """Open a database for reading.

    Raises
    ------
    DatabaseNotFound, NotADatabase, SchemaOutdatedError, SchemaTooNewError, CatalogDamaged, StorageError
        If there is no database that can be read here.
    """
    layout = Layout(path)
    read_format(layout)
    _require_catalog(layout)
    check_seal(layout)
    repository = Repository(open_catalog(layout.catalog, writable=False))
    try:
        with repository.begin() as connection:
            check_schema(connection, path)
    except BaseException:
        repository.close()
        raise
    return repository


@contextmanager
def open_writer(
    path: Path,
    *,
    lock_timeout_s: float = DEFAULT_LOCK_TIMEOUT_S,
    on_wait: Callable[[], None] | None = None,
) -> Iterator[Repository]:
    """Open a database for writing, and create it if there is none.

    Parameters
    ----------
    path : Path
    lock_timeout_s : float
        Seconds to wait for another writer.
    on_wait : callable, optional
        Called once if there is another writer.

    Yields
    ------
    Repository
        The lock is held until the context ends.

    Raises
    ------
    DatabaseLocked, DatabaseNotWritable, NotADatabase, SchemaOutdatedError, SchemaTooNewError
        If the directory cannot be written.
    CatalogDamaged
        If the catalog's file is not what was written.
    StorageError
        If the operating system refuses a step.
    """
    layout = Layout(path)
    if is_database(path):
        read_format(layout)
    layout.refuse_unusable()
    with storage_errors(path):
        layout.make()
    with writer_lock(path, timeout_s=lock_timeout_s, on_wait=on_wait):
        is_new = not is_database(path)
        if not is_new:
            _require_catalog(layout)
        with sealing(layout):
            repository = Repository(open_catalog(layout.catalog, writable=True))
            try:
                _prepare(repository, layout, is_new=is_new)
                yield repository
            finally:
                repository.close()


def _prepare(repository: Repository, layout: Layout, *, is_new: bool) -> None:
    """Make or check the schema, and remove what an interrupted writer left."""
    with repository.begin() as connection:
        if is_new:
            create_schema(connection)
        check_schema(connection, layout.root)
    with storage_errors(layout.root):
        layout.sweep()
        _remove_orphans(layout, repository.segment_files(), repository.derived_files())
        if is_new:
            layout.mark()


def _require_catalog(layout: Layout) -> None:
    """Refuse a database that lost its catalog: SQLite would make an empty one in its place."""
    if not layout.catalog.is_file():
        raise NotADatabase(layout.root, "catalog.sqlite is missing")


def _remove_orphans(layout: Layout, known: set[str], derived: set[str]) -> None:
    """Remove files that a crash left between their rename and the commit, or after the next."""
    for file in layout.segments.iterdir():
        if file.name not in known:
            file.unlink()
    for file in layout.derived.iterdir():
        if file.name not in derived:
            file.unlink()
