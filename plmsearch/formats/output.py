"""Output files that are whole or not there, and standard output."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import secrets
import stat
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO, cast

from plmsearch.errors import ParameterError, StorageError

__all__ = ["STDOUT", "is_same_file", "keep_inputs", "open_output", "open_output_path"]

#: The path that means standard output.
STDOUT = "-"
_UMASKED_MODE = 0o666
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def is_same_file(path: str | Path, other: str | Path) -> bool:
    """Tell whether two names are of one file; standard input and output are none."""
    try:
        return Path(path).is_file() and Path(other).is_file() and Path(path).samefile(other)
    except OSError:  # what cannot be looked at is told when it is read or written
        return False


def keep_inputs(output: str | Path, inputs: Iterable[str | Path | None]) -> None:
    """Refuse to write over what is read.

    Parameters
    ----------
    output : str or Path
    inputs : iterable of str, Path or None
        None stands for an input that was not given.

    Raises
    ------
    ParameterError
        If the output is a file that is there and one of the inputs.
    """
    if any(path is not None and is_same_file(path, output) for path in inputs):
        raise ParameterError("output", str(output), "another file than an input: it would be lost")


@contextmanager
def open_output(path: str | Path) -> Iterator[TextIO]:
    r"""Open a file for writing so that no half of it is ever left.

    The text goes to a temporary file beside the target, which takes the target's place when the
    block ends without an error and is removed otherwise. A symbolic link stays one; a device or
    pipe (``/dev/null``) is written to directly; standard output is flushed and left open.

    Parameters
    ----------
    path : str or Path
        Target, or ``-`` for standard output.

    Yields
    ------
    TextIO
        UTF-8, line ends as written; its ``buffer`` takes bytes.

    Raises
    ------
    StorageError
        If the operating system refuses: no space, no permission, a directory. A broken pipe on
        standard output stays a `BrokenPipeError`.

    Examples
    --------
    >>> target = getfixture("tmp_path") / "hits.tsv"
    >>> with open_output(target) as out:
    ...     _ = out.write("query\ttarget")
    >>> target.read_text()
    'query\ttarget'
    """
    if str(path) == STDOUT:
        with _standard_output() as out:
            yield out
        return
    target = _resolved(path)
    opened = _direct(target) if _is_stream(target) else _replacing(target)
    with opened as out:
        yield out


@contextmanager
def open_output_path(path: str | Path) -> Iterator[Path]:
    """Let a library that wants a path write a file, so that no half of it is ever left.

    Parameters
    ----------
    path : str or Path
        Target, a file.

    Yields
    ------
    Path
        In a directory of its own beside the target, on whose file system the target will be. What
        lies there when the block ends without an error takes the target's place.

    Raises
    ------
    StorageError
        If the operating system refuses.
    """
    target = _resolved(path)
    if _is_stream(target):
        raise StorageError(path, "is no file")
    try:
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".plmsearch-") as folder:
            temporary = Path(folder) / "out"
            yield temporary
            _sync_and_replace(temporary, target)
    except OSError as exc:
        raise _refused(target, exc) from exc


def _sync_and_replace(temporary: Path, target: Path) -> None:
    mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else None
    with temporary.open("rb") as file:
        if mode is not None:
            os.fchmod(file.fileno(), mode)
        os.fsync(file.fileno())
    temporary.replace(target)


@contextmanager
def _standard_output() -> Iterator[TextIO]:
    _use_utf8(sys.stdout)
    try:
        yield sys.stdout
        sys.stdout.flush()
    except OSError as exc:
        if exc.errno not in _FULL:
            raise
        raise _refused("standard output", exc) from exc


def _use_utf8(stream: TextIO) -> None:
    if isinstance(stream, io.TextIOWrapper) and (stream.encoding or "").lower().replace("-", "") != "utf8":
        stream.reconfigure(encoding="utf-8")


def _resolved(path: str | Path) -> Path:
    try:
        target = Path(path).resolve()
        if target.is_dir():
            raise StorageError(path, "is a directory")
    except (OSError, ValueError, RuntimeError) as exc:
        raise StorageError(path, str(getattr(exc, "strerror", None) or exc).lower()) from exc
    return target


def _is_stream(target: Path) -> bool:
    return target.exists() and not target.is_file()


@contextmanager
def _direct(target: Path) -> Iterator[TextIO]:
    with _text(_File(target, "wb", target)) as out:
        yield out


@contextmanager
def _replacing(target: Path) -> Iterator[TextIO]:
    """Write beside `target`, then take its place."""
    temporary = target.with_name(f".{target.name[:200]}.{secrets.token_hex(4)}.tmp")
    out = _text(_File(temporary, "xb", target))
    try:
        yield out
        out.flush()
        _finish(out, temporary, target)
    except BaseException:
        # the buffer may still hold what could not be written: closing tries once more
        with contextlib.suppress(OSError, StorageError):
            out.close()
        temporary.unlink(missing_ok=True)
        raise


def _finish(out: TextIO, temporary: Path, target: Path) -> None:
    try:
        if target.exists():
            os.fchmod(out.fileno(), stat.S_IMODE(target.stat().st_mode))
        os.fsync(out.fileno())
        out.close()
        temporary.replace(target)
    except OSError as exc:
        raise _refused(target, exc) from exc


def _text(raw: io.RawIOBase) -> TextIO:
    return io.TextIOWrapper(io.BufferedWriter(cast("Any", raw)), encoding="utf-8", newline="")


def _refused(target: str | Path, exc: OSError) -> StorageError:
    return StorageError(target, f"cannot be written: {(exc.strerror or str(exc)).lower()}")


class _File(io.FileIO):
    """A file whose failing writes raise `StorageError` with the name the user gave."""

    def __init__(self, path: Path, mode: str, target: Path) -> None:
        self._target = target
        try:
            super().__init__(path, mode, opener=_open)
        except OSError as exc:
            raise _refused(target, exc) from exc

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError as exc:
            raise _refused(self._target, exc) from exc


def _open(path: str, flags: int) -> int:
    return os.open(path, flags, _UMASKED_MODE)
