"""Delimited text (CSV, TSV) as a stream of rows.

Cells are text exactly as in the file; an empty cell is None. Quoting follows RFC 4180 in TSV too,
as pandas, polars and the AIRR library read it, and is strict: text after a closing quote, or a
quote that is never closed, is an error.

Limitations
-----------
A file that was cut inside the last cell of its last row cannot be told from a whole one. Reading
raises the limit of `csv.field_size_limit` for the whole process, never lowers it.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path, PurePath

from plmsearch.errors import FileFormatError, TableFormatError
from plmsearch.formats.compression import COMPRESSION_SUFFIXES, open_binary, peek

__all__ = ["DelimitedTable", "open_delimited"]

#: Largest cell, in characters. Far beyond any protein (titin has 35,000 residues), small enough that an
#: unclosed quote ends in an error before it fills the memory.
MAX_CELL = 1 << 24
_DELIMITERS = ("\t", ",", ";")
_BY_SUFFIX = {".tsv": "\t", ".csv": ","}
_BYTE_ORDER_MARK = "\ufeff"


@dataclass(frozen=True, slots=True)
class DelimitedTable:
    """A text table whose header has been read.

    Parameters
    ----------
    path : Path
        The file.
    source : str
        Name for messages.
    delimiter : str
        One character.
    columns : tuple of str
        Header names, in order; a column without a name is ``column_<n>``, counted from 1.
    n_before : int
        Lines before the header, which are not read.
    """

    path: Path
    source: str
    delimiter: str
    columns: tuple[str, ...]
    n_before: int = 0

    #: What `rows` counts.
    unit = "line"
    #: Whether a column holds text, whole numbers or something else; here always text.
    kinds = None

    @property
    def format(self) -> str:
        """``tsv`` or ``csv``."""
        return "tsv" if self.delimiter == "\t" else "csv"

    def rows(self) -> Iterator[tuple[int, list[str | None]]]:
        """Yield the line number on which each row begins, and its cells.

        Raises
        ------
        TableFormatError
            If a row has another number of cells than the header, or its quotes do not match.
        FileFormatError
            If the file is truncated, damaged, binary or not UTF-8.
        """
        for line, cells in self._rows(lambda lines: lines):
            yield line, [cell or None for cell in cells]

    def raw_rows(self) -> Iterator[tuple[str, list[str]]]:
        """Yield the text of each row as it is in the file, line end included, and its cells.

        A byte order mark, and blank lines, are left out; a quoted cell that spans lines is one row.

        Raises
        ------
        TableFormatError, FileFormatError
            As `rows`.
        """
        texts = _Texts()
        for _, cells in self._rows(texts.noted, after_header=texts.taken):
            yield texts.taken(), cells

    def raw_header(self) -> str:
        """Return the text of the header as it is in the file, without its line end."""
        texts = _Texts()
        with closing(open_binary(self.path, self.source)) as handle:
            lines = texts.noted(_decoded(handle, self.source, self.n_before))
            next(_parsed(lines, self.delimiter, self.source, self.n_before), None)
        return texts.taken().rstrip("\r\n")

    def _rows(
        self,
        through: Callable[[Iterator[str]], Iterator[str]],
        after_header: Callable[[], object] = lambda: None,
    ) -> Iterator[tuple[int, list[str]]]:
        with closing(open_binary(self.path, self.source)) as handle:
            lines = through(_decoded(handle, self.source, self.n_before))
            rows = _parsed(lines, self.delimiter, self.source, self.n_before)
            next(rows, None)
            after_header()
            n_columns = len(self.columns)
            for line, n_lines, cells in rows:
                if len(cells) != n_columns or n_lines > 1:
                    self._check(line, cells)
                yield line, cells

    def _check(self, line: int, cells: list[str]) -> None:
        if len(cells) != len(self.columns):
            raise TableFormatError(
                self.source,
                f"line {line} has {len(cells)} cells, the header has {len(self.columns)}",
                hint="correct the line; a cell that holds the delimiter or a quote must be quoted",
            )
        if self.delimiter == "\t" and any("\n" in cell and "\t" in cell for cell in cells):
            raise TableFormatError(
                self.source,
                f"the row at line {line} has a quoted cell that holds tabs and line ends",
                hint="a quote at the start of a cell is probably never closed; double it or remove it",
            )


class _Texts:
    """The text of the lines that a parser has read since it was last asked."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def noted(self, lines: Iterator[str]) -> Iterator[str]:
        """Hand lines on and keep them."""
        for line in lines:
            self._lines.append(line)
            yield line

    def taken(self) -> str:
        """Return what was read, without the blank lines it begins with."""
        text = "".join(self._lines).lstrip("\r\n")
        self._lines.clear()
        return text


def open_delimited(path: str | Path, source: str, n_before: int = 0) -> DelimitedTable:
    """Read the header of a text table and find its delimiter.

    The delimiter is the first of these that splits the header: the one the name stands for
    (``.csv`` comma, ``.tsv`` tab, also before ``.gz`` and ``.zst``), tab, comma, semicolon.

    Parameters
    ----------
    path : str or Path
        The file.
    source : str
        Its name, for messages and for the delimiter.
    n_before : int
        Lines before the header, which are not read.

    Raises
    ------
    InputNotFoundError
        If the file cannot be opened.
    FileFormatError
        If it is empty, binary, not UTF-8, truncated, or no delimiter splits its first line.
    TableFormatError
        If two columns have the same name.
    """
    _check_start(peek(path, source), source)
    for delimiter in _candidates(source):
        names = _header(path, source, delimiter, n_before)
        if len(names) > 1:
            columns = tuple(name or f"column_{i}" for i, name in enumerate(names, 1))
            _check_unique(columns, source)
            return DelimitedTable(Path(path), source, delimiter, columns, n_before)
    raise FileFormatError(
        source,
        "is neither FASTA nor a table",
        hint="FASTA begins with '>'; a table has a header of two or more columns parted by tab or comma",
    )


def _check_start(head: bytes, source: str) -> None:
    if not head.removeprefix(_BYTE_ORDER_MARK.encode()).strip():
        raise FileFormatError(source, "is empty")
    if b"\0" in head:
        raise FileFormatError(source, "is a binary file")
    if b"\r" in head and b"\n" not in head:
        raise FileFormatError(
            source, "ends its lines with a carriage return alone", hint="convert it to Unix line ends"
        )


def _candidates(source: str) -> Iterable[str]:
    name = PurePath(source.lower())
    if name.suffix in COMPRESSION_SUFFIXES:
        name = name.with_suffix("")
    return dict.fromkeys((_BY_SUFFIX.get(name.suffix, "\t"), *_DELIMITERS))


def _header(path: str | Path, source: str, delimiter: str, n_before: int) -> list[str]:
    """Return the cells of the first row, or none if the delimiter does not fit it."""
    with closing(open_binary(path, source)) as handle:
        try:
            lines = _decoded(handle, source, n_before)
            return next(_parsed(lines, delimiter, source, n_before), (0, 0, []))[2]
        except TableFormatError:
            return []


def _check_unique(columns: tuple[str, ...], source: str) -> None:
    twice = [name for name, n in Counter(columns).items() if n > 1]
    if twice:
        raise TableFormatError(
            source, f"two columns have the same name: {', '.join(map(repr, twice))}", hint="rename one"
        )


def _decoded(handle: Iterable[bytes], source: str, n_before: int) -> Iterator[str]:
    for number, raw in enumerate(handle, 1):
        if number <= n_before:
            continue
        try:
            line = raw.decode("utf-8")
        except UnicodeDecodeError as exc:
            raise FileFormatError(source, f"line {number} is not UTF-8 text", hint="convert it") from exc
        if "\0" in line:
            raise FileFormatError(source, f"is a binary file: line {number} holds a NUL byte")
        yield line.removeprefix(_BYTE_ORDER_MARK) if number == 1 else line


def _parsed(
    lines: Iterator[str], delimiter: str, source: str, n_before: int
) -> Iterator[tuple[int, int, list[str]]]:
    """Yield first line, number of lines and cells of every row that is not blank."""
    csv.field_size_limit(max(csv.field_size_limit(), MAX_CELL))
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    first = n_before + 1
    try:
        for cells in reader:
            after = n_before + reader.line_num + 1
            if cells:
                yield first, after - first, cells
            first = after
    except csv.Error as exc:
        raise TableFormatError(
            source, f"the row at line {first} cannot be read: {exc}", hint="check its quotes"
        ) from exc
