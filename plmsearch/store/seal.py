"""The seal: checksums of the catalog's file, taken when a writer is done with it.

SQLite has no checksums of its pages, so a flipped bit of an id or of a description would be read as it
lies. ``catalog.seal`` holds a SHA-256 for each MiB of ``catalog.sqlite``. A writer checks the seal and
removes it before it changes anything, and makes a new one when it is done; so a database has none
while it is written to, and after its writer was killed, until the next write.

As with vector files, the file is read and compared whenever its size, time or inode is not that of the
seal, and by ``verify --full`` in any case.

Limitations
-----------
No seal is made while a reader keeps the write-ahead log in use: the catalog is then in two files.
Nothing here says which rows are damaged: a restore from a backup is the remedy.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from plmsearch.errors import CatalogDamaged, StorageError
from plmsearch.store.connection import fold_log
from plmsearch.store.directory import Layout, storage_errors, sync_directory

__all__ = ["break_seal", "check_seal", "is_sealed", "seal", "sealing"]

_log = logging.getLogger(__name__)

_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class _Seal:
    """What the catalog's file was: stat fields, and SHA-256 of each block, hexadecimal."""

    size_bytes: int
    mtime_ns: int
    inode: int
    blocks: list[str]

    @classmethod
    def of(cls, path: Path) -> _Seal:
        blocks = []
        with path.open("rb") as file:
            while block := file.read(_BLOCK_BYTES):
                blocks.append(hashlib.sha256(block).hexdigest())
        status = path.stat()
        return cls(status.st_size, status.st_mtime_ns, status.st_ino, blocks)

    def to_text(self) -> str:
        body = json.dumps(asdict(self))
        return f"{hashlib.sha256(body.encode()).hexdigest()}\n{body}\n"

    @classmethod
    def read(cls, path: Path) -> _Seal | None:
        """Return a seal; None if there is none, or a power cut left part of one."""
        try:
            content = path.read_text(encoding="ascii")
            found = cls(**json.loads(content.partition("\n")[2]))
            if found.to_text() == content:
                return found
        except FileNotFoundError:
            pass
        except (ValueError, TypeError):
            _log.info("%s cannot be read; the next writer makes it anew", path)
        return None

    def is_untouched(self, path: Path) -> bool:
        status = path.stat()
        return (status.st_size, status.st_mtime_ns, status.st_ino) == (
            self.size_bytes,
            self.mtime_ns,
            self.inode,
        )

    def difference(self, path: Path) -> str:
        """Say where a file is not what was sealed; empty if it is nowhere."""
        found = _Seal.of(path)
        if found.size_bytes != self.size_bytes:
            return f"it has {found.size_bytes} bytes, {self.size_bytes} were written"
        wrong = [n for n, pair in enumerate(zip(found.blocks, self.blocks, strict=True)) if len({*pair}) > 1]
        if not wrong:
            return ""
        start, stop = wrong[0] * _BLOCK_BYTES, min((wrong[0] + 1) * _BLOCK_BYTES, self.size_bytes)
        more = f", and {len(wrong) - 1} more such places" if len(wrong) > 1 else ""
        return f"bytes {start} to {stop} are not what was written{more}"


def is_sealed(layout: Layout) -> bool:
    """Tell whether there is a seal that can be read."""
    with storage_errors(layout.seal):
        return _Seal.read(layout.seal) is not None


def check_seal(layout: Layout, *, full: bool = False) -> None:
    """Compare the catalog's file with its seal; without a seal there is nothing to compare.

    Parameters
    ----------
    layout : Layout
    full : bool
        Read the file also if it was not touched since.

    Raises
    ------
    CatalogDamaged
        If the file is not what was sealed.
    StorageError
        If the operating system refuses to read it.
    """
    with storage_errors(layout.catalog):
        while (found := _Seal.read(layout.seal)) is not None:
            if not full and found.is_untouched(layout.catalog):
                return
            difference = found.difference(layout.catalog)
            # A writer takes the seal away before it changes the catalog: a reader that finds the same
            # seal before and after has read what was sealed.
            if not difference:
                return
            if _Seal.read(layout.seal) == found:
                raise CatalogDamaged(layout.catalog, difference)


def seal(layout: Layout) -> bool:
    """Make the seal of a catalog that nobody writes to; tell whether it could be made.

    A seal that is lost leaves a database as good as it was, so nothing is synced, and what the
    operating system refuses is no error.
    """
    temporary = layout.tmp / layout.seal.name
    try:
        if not fold_log(layout.catalog):
            return False
        temporary.write_text(_Seal.of(layout.catalog).to_text(), encoding="ascii")
        temporary.rename(layout.seal)
    except (OSError, StorageError) as error:
        _log.info("%s could not be sealed: %s", layout.catalog, error)
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        return False
    return True


@contextmanager
def sealing(layout: Layout) -> Iterator[None]:
    """Check and take away the seal, and make it anew when the catalog has been closed.

    The caller holds the writer's lock.

    Raises
    ------
    CatalogDamaged, StorageError
        As `check_seal`.
    """
    check_seal(layout)
    break_seal(layout)
    try:
        yield
    finally:
        seal(layout)


def break_seal(layout: Layout) -> None:
    """Take the seal away, durably: with it, a changed catalog would pass for a damaged one."""
    with storage_errors(layout.seal):
        if layout.seal.exists():
            layout.seal.unlink()
            sync_directory(layout.root)
