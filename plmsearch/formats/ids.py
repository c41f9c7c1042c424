"""Lists of record ids: one id a line."""

from __future__ import annotations

import sys
from pathlib import Path

from plmsearch.errors import FileFormatError, InputNotFoundError

__all__ = ["read_ids"]


def read_ids(path: str) -> list[str]:
    """Read ids from a file, or from standard input if the path is ``-``.

    Parameters
    ----------
    path : str

    Returns
    -------
    list of str
        White space around an id is not part of it; blank lines are passed over.

    Raises
    ------
    InputNotFoundError
        If the file cannot be read.
    FileFormatError
        If it is not UTF-8 or names no id.
    """
    name = "stdin" if path == "-" else path
    try:
        data = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
        text = data.decode("utf-8-sig")
    except OSError as exc:
        raise InputNotFoundError(path, (exc.strerror or str(exc)).lower()) from exc
    except UnicodeDecodeError as exc:
        raise FileFormatError(name, f"is not UTF-8 text at byte {exc.start}") from exc
    ids = [line.strip() for line in text.splitlines() if line.strip()]
    if not ids:
        raise FileFormatError(name, "names no id", hint="give one id a line")
    return ids
