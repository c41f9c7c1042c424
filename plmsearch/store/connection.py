"""How the catalog is opened: which SQLite, which pragmas, which transactions.

Many machines' system SQLite has a bug that can lose a WAL reset (fixed in 3.51.3). The `pysqlite3`
wheel bundles a newer library and is used where it is installed. Without it a database is written
with a rollback journal (``TRUNCATE``, ``synchronous=EXTRA``), which the bug does not touch.
"""

from __future__ import annotations

import importlib
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import quote

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.engine import Connection
from sqlalchemy.pool import NullPool, QueuePool
from sqlalchemy.util import LRUCache

from plmsearch.errors import StorageError
from plmsearch.store.derived import FUNCTIONS

__all__ = ["copy_catalog", "fold_log", "open_catalog", "sqlite_module", "sqlite_version", "wal_is_safe"]

_WAL_RESET_FIXED = (3, 51, 3)
_BUSY_TIMEOUT_S = 30.0
#: A reader holds a transaction for the time of one question.
_FOLD_TIMEOUT_S = 1.0
#: The hashes of a large commit fall anywhere in their index: with SQLite's 2 MiB each page of it is
#: written again and again before the commit.
_WRITER_CACHE_KIB = 64 << 10
#: The records of the hits of 1,000 queries lie on ten thousand pages: with SQLite's 2 MiB each search
#: read them anew from the operating system, in 1.4 times the time.
_READER_CACHE_KIB = 64 << 10
#: As many statements as SQLAlchemy keeps by itself.
_STATEMENTS_KEPT = 500


class _SharedDialect(SQLiteDialect_pysqlite):
    """SQLAlchemy's SQLite; those of all engines are equal, so that one makes SQL of a question for all.

    By itself each engine compiles every question anew: a third of the time of opening a small database
    and searching it once.
    """

    supports_statement_cache = True

    def __eq__(self, other: object) -> bool:
        return type(other) is _SharedDialect and other.dbapi is self.dbapi

    def __hash__(self) -> int:
        return hash(_SharedDialect)


registry.register("sqlite.plmsearch", __name__, "_SharedDialect")
_COMPILED: LRUCache[Any, Any] = LRUCache(_STATEMENTS_KEPT)


def sqlite_module() -> ModuleType:
    """Return the DB-API module of the newest SQLite at hand."""
    try:
        return importlib.import_module("pysqlite3.dbapi2")
    except ImportError:
        return sqlite3


def sqlite_version() -> str:
    """Return the version of the SQLite library in use."""
    return str(sqlite_module().sqlite_version)


def wal_is_safe() -> bool:
    """Tell whether the library in use is free of the WAL-reset bug."""
    return tuple(int(p) for p in sqlite_version().split(".")) >= _WAL_RESET_FIXED


def open_catalog(path: Path, *, writable: bool) -> Engine:
    """Open ``catalog.sqlite``.

    Parameters
    ----------
    path : Path
        The file; created if `writable` and absent.
    writable : bool
        Whether to open for writing. A reader in a directory that may not be written opens the file
        as immutable, unless a log or journal shows that somebody else is writing, or was killed.

    Returns
    -------
    Engine
        Begins transactions with ``BEGIN IMMEDIATE`` if writable, else ``BEGIN``.
    """
    module = sqlite_module()
    place = path.absolute()

    def connect() -> Any:
        return module.connect(
            _uri(place, _open_mode(place, writable)),
            uri=True,
            timeout=_BUSY_TIMEOUT_S,
            isolation_level=None,
            check_same_thread=False,
        )

    # SQLite never looks again at a file it was told is immutable: open it anew for each transaction.
    pool = QueuePool if _open_mode(place, writable) in {"rw", "rwc"} else NullPool
    engine = create_engine(
        "sqlite+plmsearch://",
        module=module,
        creator=connect,
        poolclass=pool,
        execution_options={"compiled_cache": _COMPILED},
    )
    event.listen(engine, "connect", _pragmas_for(writable))
    event.listen(engine, "connect", _add_functions)
    begin = "BEGIN IMMEDIATE" if writable else "BEGIN"

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


def copy_catalog(source: Path, target: Path) -> None:
    """Copy one committed state of a catalog, also while another process writes to it.

    Parameters
    ----------
    source : Path
    target : Path
        A new file; neither it nor its journal is synced.

    Raises
    ------
    StorageError
        If the source cannot be read or the target cannot be written.
    """
    module = sqlite_module()
    uri = _uri(source, _open_mode(source, writable=False))
    try:
        with (
            closing(module.connect(uri, uri=True, timeout=_BUSY_TIMEOUT_S)) as reading,
            closing(module.connect(os.fspath(target))) as writing,
        ):
            writing.execute("PRAGMA synchronous=OFF")
            reading.backup(writing)
    except module.Error as exc:
        raise StorageError(source, str(exc)) from exc


def fold_log(path: Path) -> bool:
    """Write what is in the write-ahead log into the catalog's file, and empty the log.

    Parameters
    ----------
    path : Path
        A catalog that only the caller may write to.

    Returns
    -------
    bool
        False if a reader still needs the log.

    Raises
    ------
    StorageError
        If SQLite refuses.
    """
    module = sqlite_module()
    try:
        with closing(
            module.connect(_uri(path, "rw"), uri=True, timeout=_FOLD_TIMEOUT_S, isolation_level=None)
        ) as connection:
            ((is_busy, _n_frames, _n_written),) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except module.Error as exc:
        raise StorageError(path, str(exc)) from exc
    return not is_busy


def _uri(path: Path, mode: str) -> str:
    return f"file:{quote(os.fsencode(path.absolute()))}?mode={mode}"


def _open_mode(path: Path, writable: bool) -> str:
    if writable:
        return "rwc"
    if os.access(path.parent, os.W_OK) and os.access(path, os.W_OK):
        # Not "ro": a reader of a WAL database has to be able to make the -shm file.
        return "rw"
    # Without its log, or with what a killed writer's journal takes back, the file alone is not the
    # database.
    if _holds_something(path, "-wal") or _holds_something(path, "-journal"):
        return "ro"
    return "ro&immutable=1"


def _holds_something(path: Path, suffix: str) -> bool:
    beside = path.with_name(path.name + suffix)
    try:
        return beside.stat().st_size > 0
    except FileNotFoundError:
        return False
    except OSError as exc:
        raise StorageError(beside, exc.strerror or str(exc)) from exc


def _pragmas_for(writable: bool) -> Any:
    def set_pragmas(connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.execute("PRAGMA trusted_schema=OFF")
        if writable:
            journal, synchronous = ("WAL", "FULL") if wal_is_safe() else ("TRUNCATE", "EXTRA")
            cursor.execute(f"PRAGMA journal_mode={journal}").fetchall()
            cursor.execute(f"PRAGMA synchronous={synchronous}")
            cursor.execute(f"PRAGMA cache_size=-{_WRITER_CACHE_KIB}")
        else:
            cursor.execute("PRAGMA query_only=ON")
            cursor.execute(f"PRAGMA cache_size=-{_READER_CACHE_KIB}")
        cursor.close()

    return set_pragmas


def _add_functions(connection: Any, _record: object) -> None:
    for name, (n_arguments, function) in FUNCTIONS.items():
        connection.create_function(name, n_arguments, function, deterministic=True)
