"""Record every run: with what it was made, from what, and how it ended."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from plmsearch._version import __version__
from plmsearch.errors import InputNotFoundError
from plmsearch.ingest.report import AddReport
from plmsearch.ingest.scan import Input
from plmsearch.store.connection import sqlite_version
from plmsearch.store.repository import Repository

__all__ = ["record_run", "versions"]

_PACKAGES = ("numpy", "torch", "antiberty", "fair-esm", "faiss-cpu", "immunum", "needletail", "SQLAlchemy")


def versions() -> dict[str, str]:
    """Return the versions of everything that can change a result, without importing it.

    Examples
    --------
    >>> sorted(versions())[:3]
    ['SQLAlchemy', 'SQLite', 'antiberty']
    """
    return {
        "plmsearch": __version__,
        "python": platform.python_version(),
        "SQLite": sqlite_version(),
        "platform": platform.platform(),
        **{package: _installed_version(package) for package in _PACKAGES},
    }


@cache
def _installed_version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


@contextmanager
def record_run(
    repository: Repository,
    command: str,
    parameters: Mapping[str, object],
    inputs: Sequence[Input],
    report: AddReport,
) -> Iterator[int]:
    """Write a run's row before it starts, and how it ended after.

    Yields
    ------
    int
        The run's id. A process that is killed leaves the status ``running``, which the next writer
        turns into ``interrupted``.
    """
    run_id = repository.begin_run(command, versions(), parameters)
    try:
        for number, one in enumerate(inputs):
            repository.add_run_input(run_id, number, _facts(one))
        yield run_id
    except BaseException as exc:
        status = "failed" if isinstance(exc, Exception) else "interrupted"
        repository.finish_run(run_id, status, {**report.summary(), "error": str(exc)})
        raise
    repository.finish_run(run_id, "finished", report.summary())


def _facts(one: Input) -> dict[str, object]:
    # A file name is bytes to the system; what is not UTF-8 in it stands as \\xff.
    name = os.fsencode(one.name).decode("utf-8", "backslashreplace")
    try:
        return {"name": name, "format": one.format, "size_bytes": one.size_bytes, "sha256": one.sha256()}
    except OSError as exc:
        raise InputNotFoundError(one.name, (exc.strerror or str(exc)).lower()) from exc
