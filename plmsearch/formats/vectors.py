"""Files of one vector per record: NumPy arrays, Parquet with a vector column, HDF5.

Recognised by their first bytes. Every kind is read page by page, so that memory is bounded by the
page and not by the file. Nothing is unpickled: an array of objects is refused.

A ``.npy`` file has no names: they come from a table, row by row. For the other kinds a table is an
option, which adds sequences, descriptions and metadata; its ids must be those of the file, in order.
"""

from __future__ import annotations

import hashlib
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np

from plmsearch.errors import FileFormatError, InputNotFoundError, ParameterError
from plmsearch.formats.compression import open_binary, open_raw
from plmsearch.formats.hdf5 import HDF5_MAGIC, open_hdf5
from plmsearch.formats.ids import read_ids
from plmsearch.formats.parquet import PARQUET_MAGIC
from plmsearch.formats.tables import (
    ID_COLUMNS,
    SEQUENCE_COLUMNS,
    check_kinds,
    choose_column,
    open_table,
    table_records,
)
from plmsearch.formats.vector_page import VectorPage, as_float32, checked_ids, own_name, refuse_shape
from plmsearch.formats.vector_parquet import open_vector_parquet
from plmsearch.sequences import SequenceRecord

__all__ = ["VectorFile", "VectorPage", "open_vectors"]

_NPY_MAGIC = b"\x93NUMPY"
_ZIP_MAGIC = b"PK"
_LONGEST_LINE = 1 << 20
_DAMAGED = (
    ValueError, EOFError, OSError, KeyError, struct.error, zlib.error, tokenize.TokenError,
    zipfile.BadZipFile, SyntaxError, NotImplementedError,
)  # fmt: skip


class VectorReader(Protocol):
    """One kind of file."""

    @property
    def format(self) -> str:
        """Such as ``npz``."""

    @property
    def n_rows(self) -> int:
        """Vectors in the file."""

    @property
    def dim(self) -> int:
        """Components of a vector."""

    @property
    def dtype(self) -> str:
        """As stored, such as ``float16``."""

    @property
    def spec_json(self) -> str:
        """The embedding space that the file declares, as JSON; empty if it declares none."""

    def pages(self, n_rows: int) -> Iterator[VectorPage]:
        """Yield the rows in order, `n_rows` at a time."""


@dataclass(frozen=True, slots=True)
class VectorFile:
    """A file of vectors whose header has been read; can be read more than once.

    Parameters
    ----------
    path : Path
    reader : VectorReader
    records : callable or None
        Returns the rows of the table that goes with the file, from the first.
    listed : callable or None
        Returns the ids of the rows, where that table is a list.
    """

    path: Path
    reader: VectorReader
    records: Callable[[], Iterator[SequenceRecord]] | None = None
    listed: Callable[[], Sequence[str]] | None = None

    @property
    def name(self) -> str:
        """Name for messages."""
        return str(self.path)

    @property
    def format(self) -> str:
        """``npy``, ``npz``, ``parquet`` or ``hdf5``."""
        return self.reader.format

    @property
    def size_bytes(self) -> int:
        """Size of the file."""
        return self.path.stat().st_size

    def sha256(self) -> str:
        """Hash the bytes of the file, in hexadecimal."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def pages(self, n_rows: int) -> Iterator[VectorPage]:
        """Yield pages of `n_rows` rows, the last may be shorter.

        Raises
        ------
        FileFormatError, TableFormatError
            If the file is damaged, or its table does not fit it.
        """
        if self.records is not None:
            yield from self._joined(n_rows, self.records())
        elif self.listed is not None:
            yield from self._named(n_rows, self.listed())
        else:
            yield from self.reader.pages(n_rows)

    def _joined(self, n_rows: int, rows: Iterator[SequenceRecord]) -> Iterator[VectorPage]:
        n_seen = 0
        for page in self.reader.pages(n_rows):
            records = list(islice(rows, len(page.vectors)))
            ids = [r.record_id for r in records]
            self._compare(page, ids, n_seen)
            n_seen += len(ids)
            yield VectorPage(ids, page.vectors, records)
        self._refuse_more(next(rows, None) is not None)

    def _named(self, n_rows: int, listed: Sequence[str]) -> Iterator[VectorPage]:
        n_seen = 0
        for page in self.reader.pages(n_rows):
            ids = listed[n_seen : n_seen + len(page.vectors)]
            self._compare(page, ids, n_seen)
            n_seen += len(ids)
            yield VectorPage(ids, page.vectors)
        self._refuse_more(len(listed) > n_seen)

    def _compare(self, page: VectorPage, ids: Sequence[str], n_before: int) -> None:
        """Refuse a table that has fewer rows than the file, or names them otherwise."""
        if len(ids) < len(page.vectors):
            raise FileFormatError(self.name, f"has {self.reader.n_rows} vectors, its table has fewer rows")
        for row, (mine, its) in enumerate(zip(page.ids, ids, strict=False), start=n_before + 1):
            if mine != its:
                reason = f"names {mine!r} where row {row} of its table has {its!r}"
                raise FileFormatError(self.name, reason, hint="bring the table into the file's order")

    def _refuse_more(self, has_more: bool) -> None:
        if has_more:
            raise FileFormatError(self.name, f"has {self.reader.n_rows} vectors, its table has more rows")


def open_vectors(
    path: str | Path,
    *,
    records: str | Path | None = None,
    id_col: str | None = None,
    seq_col: str | None = None,
    vector_col: str | None = None,
) -> VectorFile:
    """Open a file of vectors and read its header.

    Parameters
    ----------
    path : str or Path
    records : str or Path, optional
        A table that goes with the file, row by row; a ``.npy`` file needs one.
    id_col, seq_col, vector_col : str, optional
        Columns of that table, or of a Parquet file.

    Returns
    -------
    VectorFile

    Raises
    ------
    InputNotFoundError
        If the file cannot be opened.
    FileFormatError
        If it is no such file, is damaged, or holds no vectors of one length.
    TableFormatError
        If a column is missing or cannot be chosen.
    """
    file = Path(path)
    with open_raw(file) as handle:
        start = handle.read(8)
    reader: VectorReader
    if start.startswith(_NPY_MAGIC):
        if records is None:
            raise ParameterError(
                "records", None, "a table with the ids of the rows: a .npy file has no names"
            )
        reader = _open_npy(file)
    elif start.startswith(_ZIP_MAGIC):
        reader = _open_npz(file)
    elif start.startswith(PARQUET_MAGIC):
        reader = open_vector_parquet(file, id_col=id_col, seq_col=seq_col, vector_col=vector_col)
    elif start.startswith(HDF5_MAGIC):
        reader = open_hdf5(file)
    else:
        raise FileFormatError(str(path), "is no .npy, .npz, Parquet or HDF5 file")
    if records is None:
        return VectorFile(file, reader)
    if _is_list(records):
        return VectorFile(file, reader, listed=lambda: _listed_ids(records))
    return VectorFile(file, reader, _table_rows(records, id_col, seq_col))


def _is_list(path: str | Path) -> bool:
    with closing(open_binary(path, str(path))) as handle:
        first = handle.readline(_LONGEST_LINE)
    return not first.startswith(PARQUET_MAGIC) and not any(d in first for d in (b"\t", b",", b";"))


def _listed_ids(path: str | Path) -> list[str]:
    """Read a table of one column, which needs no header."""
    ids = read_ids(str(path))
    return ids[1:] if ids[0].lower() in ID_COLUMNS else ids


def _table_rows(
    path: str | Path, id_col: str | None, seq_col: str | None
) -> Callable[[], Iterator[SequenceRecord]]:
    """Open a table of ids, in which a column of sequences is an option."""
    table = open_table(path, str(path))
    record_id = choose_column(table, id_col, "--id-col", ID_COLUMNS, taken=seq_col)
    has_sequence = seq_col is not None or any(n.strip().lower() in SEQUENCE_COLUMNS for n in table.columns)
    sequence = (
        choose_column(table, seq_col, "--seq-col", SEQUENCE_COLUMNS, taken=record_id)
        if has_sequence
        else None
    )
    columns = () if sequence is None else (sequence,)
    check_kinds(table, record_id, columns)
    return lambda: map(_with_own_names, table_records(table, record_id, columns))


def _with_own_names(record: SequenceRecord) -> SequenceRecord:
    return replace(record, metadata={own_name(n): value for n, value in record.metadata.items()})


# --- NumPy ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Array:
    """The header of an array in C order."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


@dataclass(frozen=True, slots=True)
class _NumpyFile:
    """A ``.npy`` file, or the vectors of a ``.npz`` archive."""

    path: Path
    format: str
    array: _Array
    member: str = ""
    ids: Sequence[str] = ()
    spec_json: str = ""

    @property
    def n_rows(self) -> int:
        return self.array.shape[0]

    @property
    def dim(self) -> int:
        return self.array.shape[1]

    @property
    def dtype(self) -> str:
        return self.array.dtype.name

    def pages(self, n_rows: int) -> Iterator[VectorPage]:
        with _translated(self.path), self._opened() as stream:
            _read_header(stream)
            for start in range(0, self.n_rows, n_rows):
                stop = min(start + n_rows, self.n_rows)
                raw = _read_rows(stream, self.array, stop - start)
                yield VectorPage(list(self.ids[start:stop]), as_float32(raw))
            # The end of an archive's member is where its checksum is compared.
            if stream.read(1):
                raise FileFormatError(str(self.path), "holds more bytes than its header says")

    @contextmanager
    def _opened(self) -> Iterator[IO[bytes]]:
        if not self.member:
            with self.path.open("rb") as stream:
                yield stream
            return
        with zipfile.ZipFile(self.path) as archive, archive.open(self.member) as member:
            yield member


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except (FileFormatError, InputNotFoundError):
        raise
    except _DAMAGED as exc:
        reason = str(exc).partition("\n")[0]
        raise FileFormatError(str(path), f"is truncated or no NumPy file: {reason}") from exc


def _read_header(stream: IO[bytes]) -> _Array:
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(stream)
    if dtype.hasobject:
        raise ValueError("it is an array of Python objects, which is never unpickled")
    if fortran and len(shape) > 1:
        raise ValueError("it is in Fortran order; save numpy.ascontiguousarray of it")
    return _Array(shape, dtype)


def _read_rows(stream: IO[bytes], array: _Array, n_rows: int) -> np.ndarray[Any, np.dtype[Any]]:
    n_bytes = n_rows * array.shape[1] * array.dtype.itemsize
    data = np.empty(n_bytes, dtype=np.uint8)
    view, filled = data.data, 0
    while filled < n_bytes:
        n_read = stream.readinto(view[filled:])  # type: ignore[attr-defined]
        if not n_read:
            raise EOFError("it ends before its last row")
        filled += n_read
    return data.view(array.dtype).reshape(n_rows, array.shape[1])


def _open_npy(path: Path) -> _NumpyFile:
    with _translated(path), path.open("rb") as stream:
        array = _read_header(stream)
    refuse_shape(str(path), array.shape, array.dtype)
    return _NumpyFile(path, "npy", array)


def _open_npz(path: Path) -> _NumpyFile:
    """Open what `plmsearch export` or `plmsearch embed INPUT` wrote, or the same arrays of another."""
    with _translated(path), zipfile.ZipFile(path) as archive:
        names = {n.removesuffix(".npy") for n in archive.namelist()}
        vectors = sorted(n for n in names if n == "embeddings" or n.startswith("layer_"))
        if "ids" not in names or len(vectors) != 1:
            raise FileFormatError(
                str(path),
                f"holds the arrays {', '.join(sorted(names)) or '(none)'}",
                hint="an archive needs 'ids' and exactly one array 'embeddings' or 'layer_L'",
            )
        with archive.open(f"{vectors[0]}.npy") as stream:
            array = _read_header(stream)
        ids = _small(archive, "ids")
        spec = "spec" + vectors[0].removeprefix("embeddings").removeprefix("layer")
        spec_json = str(_small(archive, spec)[()]) if spec in names else ""
    refuse_shape(str(path), array.shape, array.dtype)
    if ids.dtype.kind != "U" or ids.shape != array.shape[:1]:
        reason = f"has ids of shape {ids.shape} and type {ids.dtype} for vectors of shape {array.shape}"
        raise FileFormatError(str(path), reason, hint="ids must be one string per vector")
    names_of_rows = checked_ids(str(path), ids.tolist())
    return _NumpyFile(path, "npz", array, f"{vectors[0]}.npy", names_of_rows, spec_json)


def _small(archive: zipfile.ZipFile, name: str) -> np.ndarray[Any, np.dtype[Any]]:
    with archive.open(f"{name}.npy") as stream:
        return np.lib.format.read_array(stream, allow_pickle=False)
