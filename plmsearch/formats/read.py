"""The one door for input: open a file or standard input, whatever format it is in.

The format is found by content, not by name: Parquet by its magic bytes, FASTA by ``>`` as the
first character after unpacking, a data unit of OAS by a JSON object as its first line, a table by a
header that a delimiter splits, AIRR and 10x by the names in that header. Standard input, and anything
else that cannot be read twice, is first written to a temporary file, because an input is read more than
once: hashed, validated whole, then embedded.
"""

from __future__ import annotations

import hashlib
import logging
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
from plmsearch.formats.delimited import DelimitedTable
from plmsearch.formats.fasta import read_fasta
from plmsearch.formats.oas import open_oas, unit_facts
from plmsearch.formats.paired import NO_PAIRING, Pairing, paired_fasta, paired_rows
from plmsearch.formats.residues import translated_record
from plmsearch.formats.tables import Table, choose_columns, open_table, table_records
from plmsearch.formats.tenx import contigs_beside, is_tenx, require_residues, tenx_table
from plmsearch.formats.views import TableView
from plmsearch.numbering import ImmunumNumberer, Numberer
from plmsearch.sequences import SequenceRecord

__all__ = ["STDIN", "InputFile", "open_input", "open_view", "refuse_contigs", "rereadable"]

_log = logging.getLogger(__name__)

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
        ``fasta``, ``csv``, ``tsv``, ``airr``, ``10x``, ``oas`` or ``parquet``.
    columns : tuple of str
        Header names of a table, in order, of 10x and OAS as AIRR calls them; empty for FASTA.
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
    translate: bool = False,
    contigs: str | Path | None = None,
    pairing: Pairing | None = None,
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
    translate : bool
        The sequences of FASTA, or of a plain table, are nucleotides
        (`plmsearch.formats.residues.translated_record`). The rows of AIRR, 10x and OAS tables are
        translated as they need it, whatever this says.
    contigs : str or Path, optional
        FASTA of the contigs of a 10x table; without it, the file that stands beside the table.
    pairing : Pairing, optional
        How it keeps heavy and light chains together; without it each row is one chain, or what it says.
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
        contigs for what is no 10x table, or headers that name pairs for a table.
    TableFormatError
        If a column is missing or cannot be chosen.
    StorageError
        If standard input cannot be written to `spool_dir`.
    """
    name = "stdin" if str(path) == STDIN else str(path)
    is_temporary = _read_once(path)
    file = _spooled(path, name, spool_dir) if is_temporary else Path(path)
    try:
        wishes = _Wishes(id_col, seq_col, translate, contigs, pairing or NO_PAIRING)
        kind, columns, records = _recognised(file, name, wishes)
    except BaseException:
        if is_temporary:
            file.unlink(missing_ok=True)
        raise
    return InputFile(name, file, kind, columns, records, is_temporary)


# --- Formats -------------------------------------------------------------------------------------

_Recognised = tuple[str, tuple[str, ...], Callable[[], Iterator[SequenceRecord]]]


@dataclass(frozen=True, slots=True)
class _Wishes:
    """What the user says of an input."""

    id_col: str | None
    seq_col: str | None
    translate: bool
    contigs: str | Path | None
    pairing: Pairing
    #: One for all passes over an input: it is remembered what it found.
    numberer: Numberer = field(default_factory=ImmunumNumberer)


def _recognised(path: Path, name: str, wishes: _Wishes) -> _Recognised:
    head = peek(path, name)
    text = head.removeprefix(_BYTE_ORDER_MARK).lstrip()
    if not text:
        raise FileFormatError(name, "holds only blank lines" if head else "is empty")
    if text.startswith(b">"):
        if wishes.id_col is not None or wishes.seq_col is not None:
            raise FileFormatError(name, "is FASTA; --id-col and --seq-col are for tables")
        if wishes.pairing.columns is not None:
            raise FileFormatError(name, "is FASTA; --heavy-col and --light-col are for tables")
        refuse_contigs(wishes.contigs, name)
        read_fasta(path, name)
        return "fasta", (), _translated(lambda: _fasta(path, name, wishes.pairing), wishes)
    if _is_fastq(text):
        raise FileFormatError(name, "is FASTQ: it holds nucleotides", hint="give amino acids in FASTA")
    table = open_view(path, name, head, wishes.contigs)
    _refuse_pairing(wishes, name)
    columns = wishes.pairing.columns
    if columns is not None:
        paired_rows(table, wishes.id_col, columns)
        return table.format, table.columns, lambda: paired_rows(table, wishes.id_col, columns)
    if isinstance(table, TableView):
        return table.format, table.columns, _view_reader(table, wishes)
    kind, records = _table_reader(table, wishes)
    return kind, table.columns, records


def _fasta(path: Path, name: str, pairing: Pairing) -> Iterator[SequenceRecord]:
    records = read_fasta(path, name)
    return records if pairing.by is None else paired_fasta(records, name, pairing.by)


def _refuse_pairing(wishes: _Wishes, name: str) -> None:
    """Refuse what a table cannot be told of its pairs."""
    if wishes.pairing.by is not None:
        hint = "a table says it in its columns cell_id and sample_id, or by --heavy-col and --light-col"
        raise FileFormatError(name, "is a table; --pair-by is for FASTA", hint=hint)
    if wishes.pairing.columns is None:
        return
    if wishes.seq_col is not None:
        raise FileFormatError(name, "is read by --heavy-col and --light-col, or by --seq-col, not by both")
    if wishes.translate:
        raise FileFormatError(name, "has residues in --heavy-col and --light-col: leave out --translate")


def _is_fastq(text: bytes) -> bool:
    lines = text.split(b"\n", 3)
    return text.startswith(b"@") and len(lines) > 2 and lines[2].startswith(b"+")


def open_view(path: Path, name: str, head: bytes, contigs: str | Path | None) -> Table | TableView:
    """Open a table, and see one of 10x contigs, or a data unit of OAS, as an AIRR table.

    Parameters
    ----------
    path : Path
    name : str
        For messages.
    head : bytes
        The beginning of the file, unpacked.
    contigs : str or Path or None
        FASTA of the contigs; None: the file that stands beside the table, if there is one.

    Returns
    -------
    TableView or Table
        A view of 10x and OAS.

    Raises
    ------
    InputNotFoundError, FileFormatError, TableFormatError
        As `open_table`; if contigs are named for another table.
    """
    facts = unit_facts(head)
    table = open_table(path, name) if facts is None else open_oas(path, name, facts)
    if isinstance(table, DelimitedTable) and is_tenx(table.columns):
        found = contigs or contigs_beside(path)
        if found is not None:
            _log.info("%s: contigs are read from %s", name, found)
        return tenx_table(table, found)
    refuse_contigs(contigs, name)
    return table


def refuse_contigs(contigs: str | Path | None, name: str) -> None:
    """Refuse contigs that are named for an input that is no 10x table.

    Raises
    ------
    FileFormatError
        If there are any.
    """
    if contigs is not None:
        raise FileFormatError(name, "is no table of 10x contigs; --contigs is for these")


def _view_reader(view: TableView, wishes: _Wishes) -> Callable[[], Iterator[SequenceRecord]]:
    id_column = view.column(wishes.id_col) or "sequence_id"
    if wishes.seq_col is not None:
        columns = choose_columns(view, id_column, view.column(wishes.seq_col))
        return _translated(lambda: table_records(view, columns[0], columns[1:]), wishes)
    if view.format == "10x":
        require_residues(view)
    airr_records(view, id_col=id_column)
    return lambda: airr_records(view, id_col=id_column, numberer=wishes.numberer)


def _table_reader(table: Table, wishes: _Wishes) -> tuple[str, Callable[[], Iterator[SequenceRecord]]]:
    id_col, seq_col = wishes.id_col, wishes.seq_col
    if is_airr(table.columns):
        if seq_col is None:
            airr_records(table, id_col=id_col)
            return "airr", lambda: airr_records(table, id_col=id_col, numberer=wishes.numberer)
        id_col = id_col or "sequence_id"
    id_column, seq_column = choose_columns(table, id_col, seq_col)
    return table.format, _translated(lambda: table_records(table, id_column, (seq_column,)), wishes)


def _translated(
    records: Callable[[], Iterator[SequenceRecord]], wishes: _Wishes
) -> Callable[[], Iterator[SequenceRecord]]:
    """Translate what is read, if that is wished."""
    if not wishes.translate:
        return records

    return lambda: (translated_record(record, wishes.numberer) for record in records())


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
