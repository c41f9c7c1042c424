"""A consistent copy of one generation, with a manifest, and back again.

A backup is a directory that is itself a database (without derived files), plus ``SHA256SUMS`` in the
format of ``sha256sum``, so that it can be checked with nothing but coreutils. It is made while a
writer runs: the catalog is copied by SQLite's backup interface, which gives one committed state, and
the segments it names are immutable.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from plmsearch.errors import FileFormatError, InputNotFoundError, NotADatabase
from plmsearch.reader import Reader
from plmsearch.store.connection import copy_catalog
from plmsearch.store.directory import Layout, is_database, storage_errors
from plmsearch.store.seal import check_seal, seal
from plmsearch.store.segments import open_segment
from plmsearch.store.session import open_reader, open_writer
from plmsearch.store.space_left import bytes_of_files, require_space
from plmsearch.store.upkeep import refresh_files
from plmsearch.store.whole import make_whole, sync_tree

__all__ = ["MANIFEST", "backup", "restore"]

MANIFEST = "SHA256SUMS"
_HEX_DIGITS = 64


def backup(reader: Reader, target: Path) -> int:
    """Copy a database as one commit left it.

    Parameters
    ----------
    reader : Reader
    target : Path
        A directory that does not exist yet.

    Returns
    -------
    int
        Generation that was copied.

    Raises
    ------
    StorageError
        If the target exists, the operating system refuses a step, or there is not enough space
        (`NotEnoughSpace`); nothing is left under its name.
    CatalogDamaged
        If the catalog is not what was written.
    SegmentDamaged
        If a vector file is not what was written: repair the database first.
    """
    segments = [s for space in reader.spaces() for s in reader.repository.segments(space.space_id)]
    with storage_errors(reader.path):
        n_bytes = bytes_of_files(segments) + Layout(reader.path).catalog.stat().st_size
    require_space(target, n_bytes, "the backup")
    return make_whole(target, lambda work: _copy_database(reader.path, work))


def restore(source: Path, target: Path) -> int:
    """Make a database from a backup, after checking every file against the manifest.

    Parameters
    ----------
    source : Path
        What `backup` wrote.
    target : Path
        A directory that does not exist yet.

    Returns
    -------
    int
        Generation of the database.

    Raises
    ------
    InputNotFoundError, FileFormatError
        If the source is no backup, or a file is missing or not what was written.
    StorageError
        If the target exists, the operating system refuses a step, or there is not enough space
        (`NotEnoughSpace`).
    """
    require_space(target, _restored_bytes(source), "the restored database")
    check_manifest(source)
    return make_whole(target, lambda work: _copy_back(source, work))


def _restored_bytes(source: Path) -> int:
    """Return the size of a backup's files; of vector files twice, for their copies of unit length."""
    with storage_errors(source):
        segments = sum(p.stat().st_size for p in Layout(source).segments.glob("*.vec"))
        catalog = Layout(source).catalog
        return 2 * segments + (catalog.stat().st_size if catalog.exists() else 0)


def check_manifest(source: Path) -> None:
    """Compare every file of a backup with its manifest.

    Raises
    ------
    InputNotFoundError, FileFormatError
    """
    manifest = source / MANIFEST
    if not manifest.is_file():
        raise InputNotFoundError(source, f"it is no backup: it has no {MANIFEST}")
    with storage_errors(source):
        for digest, name in _manifest_lines(manifest):
            file = source / name
            if not file.is_file():
                raise FileFormatError(str(file), "is missing from the backup")
            if _sha256(file) != digest:
                raise FileFormatError(str(file), f"is not what was backed up: {MANIFEST} has another SHA-256")


def _manifest_lines(manifest: Path) -> Iterator[tuple[str, str]]:
    for line in manifest.read_text(encoding="utf-8").splitlines():
        digest, _, name = line.partition("  ")
        if len(digest) != _HEX_DIGITS or not name or Path(name).is_absolute() or ".." in Path(name).parts:
            raise FileFormatError(str(manifest), f"has a line that is no checksum: {line!r}")
        yield digest, name


def _copy_database(path: Path, work: Path) -> int:
    """Copy catalog, marker and the segments of one generation, and write the manifest."""
    source, target = Layout(path), Layout(work)
    # A backup of a damaged catalog would be found out on the day it is needed.
    check_seal(source, full=True)
    target.make()
    copy_catalog(source.catalog, target.catalog)
    shutil.copyfile(source.marker, target.marker)
    repository = open_reader(work)
    try:
        segments = [s for space in repository.spaces() for s in repository.segments(space.space_id)]
        generation = repository.generation()
    finally:
        repository.close()
    for segment in segments:
        shutil.copyfile(source.segments / segment.file, target.segments / segment.file)
        open_segment(target.segments / segment.file, segment.stamp, full=True)
    sealed = [target.seal.name] if seal(target) else []
    names = ["plmsearch.json", "catalog.sqlite", *sealed, *(f"segments/{s.file}" for s in segments)]
    manifest = work / MANIFEST
    manifest.write_text("".join(f"{_sha256(work / name)}  {name}\n" for name in names), encoding="utf-8")
    sync_tree(work)
    return generation


def _copy_back(source: Path, work: Path) -> int:
    if not is_database(source):
        raise NotADatabase(source, "the backup holds no database")
    Layout(work).make()
    for _, name in _manifest_lines(source / MANIFEST):
        shutil.copyfile(source / name, work / name)
    with open_writer(work) as repository:
        refresh_files(repository, Layout(work))
        for index in repository.indexes():  # a backup is without derived files, and an index takes minutes
            repository.drop_index(index.ranking_id)
        generation = repository.generation()
    sync_tree(work)
    return generation


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
