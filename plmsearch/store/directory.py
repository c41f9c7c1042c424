"""The database directory: its layout, how it comes to be, and durable file steps.

::

    db/
      plmsearch.json   format version; written last, by rename: with it, the directory is a database
      catalog.sqlite   the commit point
      catalog.seal     checksums of catalog.sqlite, while nobody writes
      segments/        immutable raw vectors
      derived/         safe to delete at any time
      tmp/  LOCK
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from plmsearch._version import __version__
from plmsearch.errors import (
    DatabaseNotFound,
    DatabaseNotWritable,
    NotADatabase,
    SchemaTooNewError,
    StorageError,
)

__all__ = [
    "FORMAT_VERSION",
    "Layout",
    "is_database",
    "make_directory",
    "publish",
    "read_format",
    "storage_errors",
    "sync_directory",
    "sync_file",
]

FORMAT_VERSION = 1
_MARKER = "plmsearch.json"
_OWN_NAMES = frozenset(
    {
        _MARKER,
        "quarantine",
        "SHA256SUMS",
        "catalog.sqlite",
        "catalog.sqlite-wal",
        "catalog.sqlite-shm",
        "catalog.sqlite-journal",
        "catalog.seal",
    }
    | {"segments", "derived", "tmp", "LOCK"}
)


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths inside a database directory."""

    root: Path

    @property
    def marker(self) -> Path:
        """The file that says this is a database, and of which format version."""
        return self.root / _MARKER

    @property
    def catalog(self) -> Path:
        """The SQLite file."""
        return self.root / "catalog.sqlite"

    @property
    def seal(self) -> Path:
        """Checksums of the SQLite file, while nobody writes."""
        return self.root / "catalog.seal"

    @property
    def segments(self) -> Path:
        """Directory of the raw vectors."""
        return self.root / "segments"

    @property
    def derived(self) -> Path:
        """Directory of files that can be rebuilt."""
        return self.root / "derived"

    @property
    def tmp(self) -> Path:
        """Directory of files that are not yet, or no longer, part of the database."""
        return self.root / "tmp"

    @property
    def quarantine(self) -> Path:
        """Directory of damaged files that `repair` took away; made when it is needed."""
        return self.root / "quarantine"

    def refuse_unusable(self) -> None:
        """Find out, before anything is computed, that no database can be written here.

        Raises
        ------
        NotADatabase
            If the path is a file, or a directory that is no database but holds other files.
        DatabaseNotWritable
            If the user may not write to the directory, or create it.
        """
        existing = next(p for p in (self.root, *self.root.absolute().parents) if p.exists())
        if not existing.is_dir():
            raise NotADatabase(existing, "it is a file")
        if not os.access(existing, os.W_OK | os.X_OK):
            raise DatabaseNotWritable(existing, "permission denied")
        if existing == self.root and not is_database(self.root):
            foreign = self._foreign_files()
            if foreign:
                raise NotADatabase(self.root, f"the directory holds other files, such as {foreign[0]!r}")

    def _foreign_files(self) -> list[str]:
        """Return what no unfinished database holds: a writer would remove some of it."""
        names = {p.name for p in self.root.iterdir()} - _OWN_NAMES
        if not self.catalog.exists():
            # Before there is a catalog nothing is written into the folders.
            folders = [f for f in (self.segments, self.derived, self.tmp) if f.is_dir()]
            names.update(f"{folder.name}/{p.name}" for folder in folders for p in folder.iterdir())
        return sorted(names)

    def make(self) -> None:
        """Create the directory and its folders.

        Raises
        ------
        DatabaseNotWritable
            If the user may not.
        """
        try:
            make_directory(self.root, exist_ok=True)
            for folder in (self.segments, self.derived, self.tmp):
                folder.mkdir(exist_ok=True)
        except PermissionError as exc:
            raise DatabaseNotWritable(self.root, exc.strerror or str(exc)) from exc

    def mark(self) -> None:
        """Write the marker: from now on the directory is a database."""
        content = {
            "format_version": FORMAT_VERSION,
            "database_id": str(uuid.uuid4()),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "created_by": f"plmsearch {__version__}",
        }
        temporary = self.tmp / _MARKER
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(content, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        publish(temporary, self.marker)
        sync_directory(self.root.parent)

    def sweep(self) -> None:
        """Remove what an interrupted writer left in ``tmp/``. Only the holder of the lock may."""
        for leftover in self.tmp.iterdir():
            leftover.unlink()


def is_database(path: Path) -> bool:
    """Tell whether a path is a database directory."""
    return (path / _MARKER).is_file()


def read_format(layout: Layout) -> None:
    """Check that the directory is a database of a format that can be read here.

    Raises
    ------
    DatabaseNotFound
        If there is nothing at the path.
    NotADatabase
        If there is something else.
    SchemaTooNewError
        If the format version is newer.
    StorageError
        If the marker cannot be read.
    """
    if not layout.root.exists():
        raise DatabaseNotFound(layout.root)
    if not layout.root.is_dir():
        raise NotADatabase(layout.root, "it is a file")
    try:
        content = json.loads(layout.marker.read_text(encoding="utf-8"))
        version = content["format_version"]
    except FileNotFoundError:
        raise NotADatabase(layout.root, f"it has no {_MARKER}") from None
    except OSError as exc:
        raise StorageError(layout.marker, exc.strerror or str(exc)) from exc
    except (ValueError, KeyError, TypeError) as exc:
        raise NotADatabase(layout.root, f"{_MARKER} cannot be read: {exc}") from exc
    if type(version) is not int or version < 1:
        raise NotADatabase(layout.root, f"{_MARKER} names format version {version!r}")
    if version > FORMAT_VERSION:
        raise SchemaTooNewError(layout.root, f"format {version}", f"format {FORMAT_VERSION}")


def publish(temporary: Path, final: Path) -> None:
    """Rename a synced file into place and sync the directory, so that the name survives a crash."""
    temporary.rename(final)
    sync_directory(final.parent)


def make_directory(path: Path, *, exist_ok: bool = False) -> None:
    """Create a directory; what had to be made above it is durable then, its own name is not yet."""
    above = [p for p in path.absolute().parents if not p.exists()]
    path.mkdir(parents=True, exist_ok=exist_ok)
    for made in above:
        sync_directory(made.parent)


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Make the content of a file durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Translate what the operating system refuses into `StorageError`."""
    try:
        yield
    except OSError as exc:
        hint = "free some space and run the same command again: it continues" if exc.errno == 28 else ""
        raise StorageError(exc.filename or path, exc.strerror or str(exc), hint=hint) from exc
