"""The one door for input: open a file or standard input, whatever format it is in.

The format is found by content, not by name: Parquet by its magic bytes, FASTA by ``>`` as the
first character after unpacking, a table by a header that a delimiter splits, AIRR by the names in
that header. Standard input, and anything else that cannot be read twice, is first written to a
temporary file, because an input is read more than once: hashed, validated whole, then embedded.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from plmsearch.errors import FileFormatError, InputNotFoundError, StorageError
from plmsearch.formats.airr import airr_records, is_airr
from plmsearch.formats.compression import open_raw, peek
from plmsearch.formats.fasta import read_fasta
from plmsearch.formats.paired import NO_PAIRING, Pairing, paired_fasta, paired_rows
from plmsearch.formats.tables import Table, choose_columns, open_table, table_records
from plmsearch.sequences import SequenceRecord

__all__ = ["STDIN", "InputFile", "open_input", "rereadable"]

#: The path that means standard input.
STDIN = "-"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class InputFile:
    """An input whose format is known; iterate it for records, as often as needed.

    A context manager: closing removes the temporary copy of standard input.

    Parameters
    ----------
    name : str
        The name for messages: the path as given, or ``stdin``.
    path : Path
        The file that is read.
    format : str
        ``fasta``, ``csv``, ``tsv``, ``airr`` or ``parquet``.
    columns : tuple of str
        Header names of a table, in order; empty for FASTA.
    """

    name: str
    path: Path
    format: str
    columns: tuple[str, ...]
    _records: Callable[[], Iterator[SequenceRecord]] = field(repr=False)
    _is_temporary: bool = field(repr=False)

    def __iter__(self) -> Iterator[SequenceRecord]:
        """Read the records from the beginning, ``source`` and ``row`` filled.

        Raises
        ------
        FileFormatError, TableFormatError
            Where the file turns out truncated, damaged, ragged or not UTF-8.
        """
        return self._records()

    @property
    def size_bytes(self) -> int:
        """Size of the file as it is, packed where it is packed."""
        return self.path.stat().st_size

    def sha256(self) -> str:
        """Hash the bytes of the file as they are.

        Returns
        -------
        str
            64 lower-case hexadecimal digits.
        """
        with self.path.open("rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()

    def close(self) -> None:
        """Remove the temporary copy, if there is one."""
        if self._is_temporary:
            self.path.unlink(missing_ok=True)

    def __enter__(self) -> InputFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_input(
    path: str | Path,
    *,
    id_col: str | None = None,
    seq_col: str | None = None,
    pairing: Pairing = NO_PAIRING,
    spool_dir: str | Path | None = None,
) -> InputFile:
    """Open an input and find its format.

    Parameters
    ----------
    path : str or Path
        A file, or ``-`` for standard input.
    id_col, seq_col : str, optional
        Columns of a table. With `seq_col` an AIRR table is read as a plain one; with `id_col`
        alone only its id is taken from there.
    pairing : Pairing
        How it keeps heavy and light chains together; two columns are read from AIRR tables too.
    spool_dir : str or Path, optional
        Where input that cannot be read twice is kept until closed; the system's temporary
        directory by default.

    Returns
    -------
    InputFile
        Header and columns are already checked; rows are read by iterating.

    Raises
    ------
    InputNotFoundError
        If the file is missing, a directory or not readable.
    FileFormatError
        If it is empty, binary, FASTQ, or neither FASTA nor a table; if columns are named for FASTA,
        or headers are to name pairs and it is none.
    TableFormatError
        If a column is missing or cannot be chosen.
    StorageError
        If standard input cannot be written to `spool_dir`.
    """
    name = "stdin" if str(path) == STDIN else str(path)
    is_temporary = _read_once(path)
    file = _spooled(path, name, spool_dir) if is_temporary else Path(path)
    try:
        kind, columns, records = _recognised(file, name, id_col, seq_col, pairing)
    except BaseException:
        if is_temporary:
            file.unlink(missing_ok=True)
        raise
    return InputFile(name, file, kind, columns, records, is_temporary)


# --- Formats -------------------------------------------------------------------------------------

_Recognised = tuple[str, tuple[str, ...], Callable[[], Iterator[SequenceRecord]]]


def _recognised(
    path: Path, name: str, id_col: str | None, seq_col: str | None, pairing: Pairing
) -> _Recognised:
    head = peek(path, name)
    text = head.removeprefix(_BYTE_ORDER_MARK).lstrip()
    if not text:
        raise FileFormatError(name, "holds only blank lines" if head else "is empty")
    if text.startswith(b">"):
        if id_col is not None or seq_col is not None:
            raise FileFormatError(name, "is FASTA; --id-col and --seq-col are for tables")
        if pairing.columns is not None:
            raise FileFormatError(name, "is FASTA; --heavy-col and --light-col are for tables")
        read_fasta(path, name)
        by = pairing.by
        if by is not None:
            return "fasta", (), lambda: paired_fasta(read_fasta(path, name), name, by)
        return "fasta", (), lambda: read_fasta(path, name)
    if _is_fastq(text):
        raise FileFormatError(name, "is FASTQ: it holds nucleotides", hint="give amino acids in FASTA")
    table = open_table(path, name)
    if pairing.by is not None:
        hint = "a table says it in its columns cell_id and sample_id, or by --heavy-col and --light-col"
        raise FileFormatError(name, "is a table; --pair-by is for FASTA", hint=hint)
    chains = pairing.columns
    if chains is not None:
        if seq_col is not None:
            raise FileFormatError(
                name, "is read by --heavy-col and --light-col, or by --seq-col, not by both"
            )
        paired_rows(table, id_col, chains)
        return table.format, table.columns, lambda: paired_rows(table, id_col, chains)
    kind, records = _table_reader(table, id_col, seq_col)
    return kind, table.columns, records


def _is_fastq(text: bytes) -> bool:
    lines = text.split(b"\n", 3)
    return text.startswith(b"@") and len(lines) > 2 and lines[2].startswith(b"+")


def _table_reader(
    table: Table, id_col: str | None, seq_col: str | None
) -> tuple[str, Callable[[], Iterator[SequenceRecord]]]:
    if is_airr(table.columns):
        if seq_col is None:
            airr_records(table, id_col=id_col)
            return "airr", lambda: airr_records(table, id_col=id_col)
        id_col = id_col or "sequence_id"
    id_column, seq_column = choose_columns(table, id_col, seq_col)
    return table.format, lambda: table_records(table, id_column, (seq_column,))


# --- Input that cannot be read twice ---------------------------------------------------------------


@contextmanager
def rereadable(path: str | Path) -> Iterator[tuple[Path, str]]:
    """Make sure that an input can be read more than once while the block runs.

    Parameters
    ----------
    path : str or Path
        A file, or ``-`` for standard input.

    Yields
    ------
    file : Path
        The file itself, or a temporary copy of what cannot be read twice.
    name : str
        The name for messages.

    Raises
    ------
    InputNotFoundError
        If standard input is closed.
    StorageError
        If the copy cannot be written.
    """
    name = "stdin" if str(path) == STDIN else str(path)
    if not _read_once(path):
        yield Path(path), name
        return
    file = _spooled(path, name, None)
    try:
        yield file, name
    finally:
        file.unlink(missing_ok=True)


def _read_once(path: str | Path) -> bool:
    return str(path) == STDIN or _is_stream(path)


def _is_stream(path: str | Path) -> bool:
    """Tell a pipe or a device from a file, as ``<(command)`` gives one."""
    path = Path(path)
    try:
        return path.exists() and not path.is_file() and not path.is_dir()
    except (OSError, ValueError):
        return False


def _spooled(path: str | Path, name: str, spool_dir: str | Path | None) -> Path:
    """Copy a stream to a temporary file."""
    try:
        descriptor, spool = tempfile.mkstemp(prefix="plmsearch-input-", dir=spool_dir)
    except OSError as exc:
        raise StorageError(spool_dir or tempfile.gettempdir(), str(exc.strerror).lower()) from exc
    try:
        with os.fdopen(descriptor, "wb") as copy, _opened_stream(path) as stream:
            shutil.copyfileobj(stream, copy)
    except OSError as exc:
        Path(spool).unlink()
        raise StorageError(
            spool, f"cannot copy {name}: {str(exc.strerror).lower()}", hint="make room, or set TMPDIR"
        ) from exc
    except BaseException:
        Path(spool).unlink()
        raise
    return Path(spool)


@contextmanager
def _opened_stream(path: str | Path) -> Iterator[BinaryIO]:
    if str(path) != STDIN:
        with open_raw(path) as stream:
            yield stream
        return
    if sys.stdin is None or sys.stdin.closed:
        raise InputNotFoundError("stdin", "standard input is closed")
    yield sys.stdin.buffer
