"""Byte streams of input files: plain, gzip or Zstandard, told apart by their first bytes.

A stream that ends early is an error, never a shorter input. `gzip` and `zstandard` each report
damage in their own way, and ``zstandard.stream_reader`` returns the bytes so far without a word
when a frame is cut, so frames are followed here until their end.

Limitations
-----------
A file of several gzip members or Zstandard frames that was cut exactly between two of them cannot
be told from a whole one; blocked gzip (bgzip) can, by the empty block that must end it. Bzip2, xz
and zip are refused by name.
"""

from __future__ import annotations

import gzip
import io
import zlib
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from plmsearch.errors import FileFormatError, InputNotFoundError

__all__ = ["COMPRESSION_SUFFIXES", "compression_of", "open_binary", "open_raw", "peek"]

#: Suffixes that are taken off a name before its format is read from it.
COMPRESSION_SUFFIXES = (".gz", ".zst")

_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
_REFUSED = {
    b"BZh": "is compressed with bzip2",
    b"\xfd7zXZ\x00": "is compressed with xz",
    b"PK\x03\x04": "is a zip archive or an Excel workbook",
    b"\x89HDF\r\n\x1a\n": "is an HDF5 file",
    b"\xff\xfe": "is UTF-16 text",
    b"\xfe\xff": "is UTF-16 text",
}
_ADVICE = "plain text in UTF-8, gzip, Zstandard and Parquet are read"
_SKIPPABLE_FRAME = b"\x2a\x4d\x18"  # bytes 2-4 of the magic; the first is 0x50 to 0x5F (RFC 8878, 3.1.2)
#: The empty block that ends a BGZF file (SAM specification, 4.1.2).
_BGZF_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
_CHUNK_BYTES = (
    1 << 12
)  # a block of 4 bytes may unpack to 128 KiB: what one chunk unpacks to must fit in memory
_BUFFER_BYTES = 1 << 18


class _Reader(Protocol):
    def read(self, size: int, /) -> bytes: ...

    def close(self) -> None: ...


def open_raw(path: str | Path) -> BinaryIO:
    """Open a file for reading its bytes as they are.

    Raises
    ------
    InputNotFoundError
        If `path` is missing, a directory, or not readable by this user.
    """
    try:
        return Path(path).open("rb")
    except IsADirectoryError as exc:
        raise InputNotFoundError(path, "is a directory") from exc
    except FileNotFoundError as exc:
        raise InputNotFoundError(path) from exc
    except (OSError, ValueError) as exc:
        raise InputNotFoundError(path, _reason(exc)) from exc


def _reason(exc: Exception) -> str:
    strerror = getattr(exc, "strerror", None)
    return str(strerror).lower() if strerror else str(exc)


def compression_of(path: str | Path, source: str) -> str:
    """Name the compression of a file by its first bytes.

    Returns
    -------
    str
        ``gzip``, ``zstd`` or ``none``.

    Raises
    ------
    InputNotFoundError
        If the file cannot be opened.
    FileFormatError
        If it is packed in a way that is not read.
    """
    with open_raw(path) as handle:
        head = handle.read(8)
    for magic, what in _REFUSED.items():
        if head.startswith(magic):
            raise FileFormatError(source, what, hint=_ADVICE)
    if head[1:4] == _SKIPPABLE_FRAME and 0x50 <= head[0] <= 0x5F:
        raise FileFormatError(
            source, "is Zstandard that begins with a skippable frame", hint="repack it with the zstd command"
        )
    return next((name for magic, name in _MAGIC.items() if head.startswith(magic)), "none")


def open_binary(path: str | Path, source: str) -> BinaryIO:
    """Open a file and unpack it while reading.

    Parameters
    ----------
    path : str or Path
        The file; its name is not looked at.
    source : str
        Name for messages.

    Returns
    -------
    BinaryIO
        Buffered; to be closed by the caller. Reading raises `FileFormatError` where the packed
        stream is cut or damaged.

    Raises
    ------
    InputNotFoundError, FileFormatError
        As `compression_of`.
    """
    kind = compression_of(path, source)
    inner: _Reader
    if kind == "gzip":
        _check_bgzf_end(path, source)
        inner = gzip.GzipFile(path, "rb")
    elif kind == "zstd":
        inner = _ZstdFile(path)
    else:
        inner = Path(path).open("rb")  # noqa: SIM115 - closed with the reader that is returned
    return io.BufferedReader(_TranslatedReader(inner, source), _BUFFER_BYTES)


def _check_bgzf_end(path: str | Path, source: str) -> None:
    with Path(path).open("rb") as handle:
        head = handle.read(16)
        if len(head) < 16 or not head[3] & 4 or head[12:16] != b"BC\x02\x00":
            return
        handle.seek(-min(len(_BGZF_END), handle.seek(0, io.SEEK_END)), io.SEEK_END)
        if handle.read() != _BGZF_END:
            raise FileFormatError(
                source,
                "is bgzip without the block that ends it: the file is truncated",
                hint="fetch it again, or repack it with gzip",
            )


def peek(path: str | Path, source: str, n_bytes: int = 1 << 16) -> bytes:
    """Return the first unpacked bytes of a file.

    Raises
    ------
    InputNotFoundError, FileFormatError
        As `open_binary` and reading from it.
    """
    with open_binary(path, source) as handle:
        return handle.read(n_bytes)


class _DamagedFrameError(Exception):
    """A Zstandard frame cannot be unpacked."""


class _ZstdFile:
    """Unpacks frame after frame and raises EOFError where one is cut."""

    def __init__(self, path: str | Path) -> None:
        import zstandard

        self._error = zstandard.ZstdError
        self._new_frame = zstandard.ZstdDecompressor().decompressobj
        self._frame = self._new_frame()
        self._file = Path(path).open("rb")  # noqa: SIM115 - closed by close()
        self._packed = b""
        self._ready = b""
        self._inside_frame = False

    def read(self, size: int, /) -> bytes:
        while not self._ready:
            if not self._packed:
                self._packed = self._file.read(_CHUNK_BYTES)
            if not self._packed:
                if self._inside_frame:
                    raise EOFError
                return b""
            self._unpack()
        data, self._ready = self._ready[:size], self._ready[size:]
        return data

    def _unpack(self) -> None:
        try:
            self._ready = self._frame.decompress(self._packed)
        except self._error as exc:
            raise _DamagedFrameError(str(exc)) from exc
        self._packed = b""
        self._inside_frame = not self._frame.eof
        if self._frame.eof:
            self._packed = self._frame.unused_data
            self._frame = self._new_frame()

    def close(self) -> None:
        self._file.close()


class _TranslatedReader(io.RawIOBase):
    """Reads from an unpacker and raises our errors for its own."""

    def __init__(self, inner: _Reader, source: str) -> None:
        self._inner = inner
        self._source = source

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        data = self._read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _read(self, size: int) -> bytes:
        try:
            return self._inner.read(size)
        except EOFError as exc:
            raise FileFormatError(
                self._source,
                "the compressed data end too early: the file is truncated",
                hint="fetch it again",
            ) from exc
        except (gzip.BadGzipFile, zlib.error, _DamagedFrameError) as exc:
            raise FileFormatError(self._source, f"the compressed data are damaged: {exc}") from exc
        except OSError as exc:
            raise InputNotFoundError(self._source, _reason(exc)) from exc

    def close(self) -> None:
        self._inner.close()
        super().close()
