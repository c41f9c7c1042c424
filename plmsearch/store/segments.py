"""The vector file: float32 rows and the ids they belong to, immutable and checksummed.

Layout, little-endian, format version 1::

    0    header, 64 bytes: magic "PLMSVEC1", version u32, dim u32, n_vectors u64, ids offset u64,
         footer offset u64, block size u32, n_blocks u32, zeros, CRC-32 of the 60 bytes before u32
    64   n_vectors x dim float32, row after row
    ids  n_vectors int64, at the next multiple of 64
    foot n_blocks x SHA-256, one per block of the body (everything between header and footer),
         then SHA-256 over header and block digests: the digest of the file

To read the vectors with nothing but numpy::

    np.memmap(path, "<f4", "r", offset=64, shape=(n_vectors, dim))

The file digest covers every byte by way of the block digests, so a flipped bit anywhere is found
when the body is checked, and one in header or footer already when the file is opened.
"""

from __future__ import annotations

import hashlib
import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from plmsearch.errors import SegmentDamaged
from plmsearch.types import Float2D, Int1D
from plmsearch.vectors import unit_parts

__all__ = ["FileStamp", "Segment", "check_file", "open_segment", "read_stamp", "stamp_of", "write_segment"]

_MAGIC = b"PLMSVEC1"
_VERSION = 1
_HEADER = struct.Struct("<8sIIQQQII12x")
_HEADER_BYTES = 64
_ALIGN = 64
_BLOCK_BYTES = 1 << 20
_DIGEST_BYTES = 32


@dataclass(frozen=True, slots=True)
class FileStamp:
    """What the catalog knows of a file: enough to tell that nobody touched it.

    Parameters
    ----------
    size_bytes : int
    digest : str
        Digest of the file, hexadecimal.
    mtime_ns, inode : int
        As `os.stat` gave them when the digest was last checked against the body.
    """

    size_bytes: int
    digest: str
    mtime_ns: int
    inode: int


@dataclass(frozen=True, slots=True)
class Segment:
    """An open vector file.

    Parameters
    ----------
    vectors : ndarray, dtype=float32, shape=(n, d)
        Mapped, read-only.
    ids : ndarray, dtype=int64, shape=(n,)
        Sequence id of each row.
    digest : str
        Digest of the file, hexadecimal.
    """

    vectors: Float2D
    ids: Int1D
    digest: str


@dataclass(frozen=True, slots=True)
class _Header:
    dim: int
    n_vectors: int
    ids_offset: int
    footer_offset: int
    n_blocks: int

    def pack(self) -> bytes:
        body = _HEADER.pack(
            _MAGIC,
            _VERSION,
            self.dim,
            self.n_vectors,
            self.ids_offset,
            self.footer_offset,
            _BLOCK_BYTES,
            self.n_blocks,
        )
        return body + struct.pack("<I", zlib.crc32(body))

    @classmethod
    def for_shape(cls, n_vectors: int, dim: int) -> _Header:
        ids_offset = _aligned(_HEADER_BYTES + n_vectors * dim * 4)
        footer_offset = ids_offset + n_vectors * 8
        n_blocks = -(-(footer_offset - _HEADER_BYTES) // _BLOCK_BYTES)
        return cls(dim, n_vectors, ids_offset, footer_offset, n_blocks)

    @property
    def file_bytes(self) -> int:
        return self.footer_offset + (self.n_blocks + 1) * _DIGEST_BYTES


def _aligned(offset: int) -> int:
    return -(-offset // _ALIGN) * _ALIGN


def write_segment(path: Path, vectors: Float2D, ids: Int1D, *, unit: bool = False) -> FileStamp:
    """Write a vector file and sync it to the disk.

    Parameters
    ----------
    path : Path
        A new file; the caller renames it into place and syncs the directory.
    vectors : ndarray, dtype=float32, shape=(n, d)
    ids : ndarray, dtype=int64, shape=(n,)
    unit : bool
        Write the vectors at unit length.

    Returns
    -------
    FileStamp
        Holds after the file is renamed within its file system.
    """
    header = _Header.for_shape(len(vectors), vectors.shape[1])
    packed = header.pack()
    digests = bytearray()
    with path.open("xb") as file:
        file.write(packed)
        for block in _blocks(_body(header, vectors, ids, unit)):
            digests += hashlib.sha256(block).digest()
            file.write(block)
        digest = hashlib.sha256(packed + digests).digest()
        file.write(digests + digest)
        file.flush()
        os.fsync(file.fileno())
        status = os.fstat(file.fileno())
    return FileStamp(status.st_size, digest.hex(), status.st_mtime_ns, status.st_ino)


def _body(header: _Header, vectors: Float2D, ids: Int1D, unit: bool) -> Iterator[memoryview]:
    """Yield everything between header and footer."""
    for part in unit_parts(vectors) if unit else (vectors,):
        yield np.ascontiguousarray(part, dtype="<f4").reshape(-1).view(np.uint8).data
    n_bytes = _HEADER_BYTES + header.n_vectors * header.dim * 4
    yield memoryview(bytes(header.ids_offset - n_bytes))
    yield np.ascontiguousarray(ids, dtype="<i8").view(np.uint8).data


def _blocks(parts: Iterable[memoryview]) -> Iterator[memoryview]:
    """Cut parts, taken as one string of bytes, into blocks."""
    rest = bytearray()
    for part in parts:
        start = _BLOCK_BYTES - len(rest) if rest else 0
        rest += part[:start]
        if len(rest) == _BLOCK_BYTES:
            yield memoryview(rest)
            rest = bytearray()
        if rest:
            continue
        whole = start + (len(part) - start) // _BLOCK_BYTES * _BLOCK_BYTES
        for first in range(start, whole, _BLOCK_BYTES):
            yield part[first : first + _BLOCK_BYTES]
        rest += part[whole:]
    if rest:
        yield memoryview(rest)


def read_stamp(path: Path, digest: str) -> FileStamp:
    """Return the stamp of a file whose digest is known."""
    status = path.stat()
    return FileStamp(status.st_size, digest, status.st_mtime_ns, status.st_ino)


def stamp_of(path: Path) -> FileStamp:
    """Read a file of any format and return its stamp; its digest is the SHA-256 of the whole."""
    with path.open("rb") as file:
        return read_stamp(path, hashlib.file_digest(file, "sha256").hexdigest())


def check_file(path: Path, stamp: FileStamp, *, full: bool = False) -> None:
    """Check that a file of any format is what its stamp, taken by `stamp_of`, says.

    Parameters
    ----------
    path : Path
    stamp : FileStamp
    full : bool
        Read it also if it was not touched since.

    Raises
    ------
    SegmentDamaged
        If it is not what was written.
    FileNotFoundError
        If there is no such file.
    """
    found = read_stamp(path, stamp.digest)
    if found.size_bytes != stamp.size_bytes:
        raise SegmentDamaged(path, f"{found.size_bytes} bytes, {stamp.size_bytes} were written")
    if (full or found != stamp) and stamp_of(path).digest != stamp.digest:
        raise SegmentDamaged(path, "its checksum is wrong")


def open_segment(path: Path, stamp: FileStamp, *, full: bool = False) -> Segment:
    """Map a vector file after checking that it is the one the catalog means.

    Size, header and footer are always checked. The body is read and checked if `full`, or if the
    file was touched since its stamp was taken.

    Parameters
    ----------
    path : Path
    stamp : FileStamp
        From the catalog.
    full : bool
        Check the body in any case.

    Returns
    -------
    Segment

    Raises
    ------
    SegmentDamaged
        If the file is not what was written.
    FileNotFoundError
        If there is no such file.
    """
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        if status.st_size != stamp.size_bytes:
            raise SegmentDamaged(path, f"{status.st_size} bytes, {stamp.size_bytes} were written")
        if status.st_size < _HEADER_BYTES + _DIGEST_BYTES:
            raise SegmentDamaged(path, "too short for a header")
        raw: np.ndarray[tuple[int], np.dtype[np.uint8]] = np.memmap(file, np.uint8, "r")
        header = _read_header(path, bytes(raw[:_HEADER_BYTES]))
        if header.file_bytes != status.st_size:
            raise SegmentDamaged(path, "the header does not fit the size of the file")
        footer = bytes(raw[header.footer_offset :])
        digest = hashlib.sha256(header.pack() + footer[:-_DIGEST_BYTES]).digest()
        if footer[-_DIGEST_BYTES:] != digest or digest.hex() != stamp.digest:
            raise SegmentDamaged(path, "the checksum of header and footer is wrong")
        if full or not _is_untouched(status, stamp):
            _check_body(path, file, header, footer)
    vectors = raw[_HEADER_BYTES : _HEADER_BYTES + header.n_vectors * header.dim * 4].view("<f4")
    return Segment(
        vectors=vectors.reshape(header.n_vectors, header.dim),
        ids=raw[header.ids_offset : header.footer_offset].view("<i8"),
        digest=digest.hex(),
    )


def _is_untouched(status: os.stat_result, stamp: FileStamp) -> bool:
    return (status.st_mtime_ns, status.st_ino) == (stamp.mtime_ns, stamp.inode)


def _read_header(path: Path, packed: bytes) -> _Header:
    """Parse and check the first 64 bytes."""
    if struct.unpack("<I", packed[60:])[0] != zlib.crc32(packed[:60]):
        raise SegmentDamaged(path, "the header's checksum is wrong")
    magic, version, dim, n_vectors, ids_offset, footer_offset, block, n_blocks = _HEADER.unpack(packed[:60])
    header = _Header(dim, n_vectors, ids_offset, footer_offset, n_blocks)
    if (magic, version, block) != (_MAGIC, _VERSION, _BLOCK_BYTES) or header != _Header.for_shape(
        n_vectors, dim
    ):
        raise SegmentDamaged(path, "this is no vector file of a version that can be read here")
    return header


def _check_body(path: Path, file: BinaryIO, header: _Header, footer: bytes) -> None:
    """Compare every block with its digest."""
    # Read, not mapped: a system reads ahead of one who reads in order.
    buffer = memoryview(bytearray(_BLOCK_BYTES))
    file.seek(_HEADER_BYTES)
    for block in range(header.n_blocks):
        start = _HEADER_BYTES + block * _BLOCK_BYTES
        stop = min(start + _BLOCK_BYTES, header.footer_offset)
        n_read = file.readinto(buffer[: stop - start])  # type: ignore[attr-defined]
        found = hashlib.sha256(buffer[:n_read]).digest()
        if found != footer[block * _DIGEST_BYTES : (block + 1) * _DIGEST_BYTES]:
            raise SegmentDamaged(path, f"bytes {start} to {stop} are not what was written")
