"""Tables (CSV, TSV, Parquet) as a stream of records.

One column is the id, one the sequence, ``description`` if there is one the description; every
other column is metadata. In a text table metadata are text exactly as in the file and an empty
cell is a null (its key is absent); Parquet keeps its types, see `plmsearch.formats.parquet`.

A sequence cell that reads ``NA``, ``NaN``, ``None``, ``null`` or ``n/a`` in any case is a missing
value, as R, pandas and curated sheets write one, and gives a record with an empty sequence: each of
these would otherwise pass as a peptide.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from plmsearch.errors import TableFormatError
from plmsearch.formats.compression import open_raw
from plmsearch.formats.delimited import open_delimited
from plmsearch.formats.parquet import PARQUET_MAGIC, open_parquet
from plmsearch.sequences import SequenceRecord

__all__ = [
    "ID_COLUMNS",
    "LONGEST_MISSING",
    "SEQUENCE_COLUMNS",
    "Table",
    "check_kinds",
    "choose_column",
    "choose_columns",
    "is_missing",
    "open_table",
    "read_table",
    "record_id_of",
    "table_records",
]

#: Names recognised without a flag, in lower case. Names of single chains (``vh``, ``heavy``) are not
#: among them: a paired table has two, and taking one would leave half of the file out.
ID_COLUMNS = ("id", "name", "record_id", "sequence_id", "accession", "entry")
SEQUENCE_COLUMNS = ("sequence", "seq", "aa_sequence", "sequence_aa", "protein_sequence")

_MISSING = frozenset(("", "na", "nan", "none", "null", "n/a"))
#: Letters of the longest text that stands for nothing.
LONGEST_MISSING = max(map(len, _MISSING))
_MAX_LISTED = 40


class Table(Protocol):
    """A table whose header is known; `DelimitedTable` and `ParquetTable` are the two kinds."""

    @property
    def source(self) -> str:
        """Name for messages."""

    @property
    def format(self) -> str:
        """``csv``, ``tsv`` or ``parquet``."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Column names, in order."""

    @property
    def kinds(self) -> Mapping[str, str] | None:
        """``text``, ``integer`` or ``other`` by column; None where all is text."""

    @property
    def unit(self) -> str:
        """What `rows` counts: ``line`` or ``row``."""

    def rows(self) -> Iterator[tuple[int, Sequence[object]]]:
        """Yield place and values of each row."""


def open_table(path: str | Path, source: str) -> Table:
    """Read the header of a table, told apart by its first bytes.

    Raises
    ------
    InputNotFoundError
        If the file cannot be opened.
    FileFormatError
        If it is empty, binary, truncated or no table.
    TableFormatError
        If two columns have the same name.
    """
    with open_raw(path) as handle:
        is_parquet = handle.read(len(PARQUET_MAGIC)) == PARQUET_MAGIC
    return open_parquet(path, source) if is_parquet else open_delimited(path, source)


def read_table(
    path: str | Path, source: str, *, id_col: str | None = None, seq_col: str | None = None
) -> Iterator[SequenceRecord]:
    """Read the records of a CSV, TSV or Parquet file.

    Parameters
    ----------
    path : str or Path
        The file; text may be packed with gzip or Zstandard.
    source : str
        Its name, for messages, for ``SequenceRecord.source`` and for the delimiter.
    id_col, seq_col : str, optional
        Column names, spelled as in the header. Without them a column of `ID_COLUMNS`,
        `SEQUENCE_COLUMNS` is taken, in any case, if there is exactly one.

    Returns
    -------
    iterator of SequenceRecord
        In file order, ``row`` counted from 1 without the header.

    Raises
    ------
    InputNotFoundError, FileFormatError
        As `open_table`, at once or while iterating. A header without rows is an error.
    TableFormatError
        At once if a column is missing or cannot be chosen; while iterating if a row is ragged or
        has no id.
    """
    table = open_table(path, source)
    id_column, seq_column = choose_columns(table, id_col, seq_col)
    return table_records(table, id_column, (seq_column,))


def choose_columns(table: Table, id_col: str | None, seq_col: str | None) -> tuple[str, str]:
    """Find the columns of id and sequence.

    Raises
    ------
    TableFormatError
        If a named column is missing or of a wrong type, or an unnamed one is not clear.
    """
    seq_column = choose_column(table, seq_col, "--seq-col", SEQUENCE_COLUMNS, taken=id_col)
    id_column = choose_column(table, id_col, "--id-col", ID_COLUMNS, taken=seq_column)
    if id_column == seq_column:
        raise TableFormatError(table.source, f"column {id_column!r} is named as both id and sequence")
    check_kinds(table, id_column, (seq_column,))
    return id_column, seq_column


def check_kinds(table: Table, id_column: str, seq_columns: Sequence[str]) -> None:
    """Refuse a float as id and anything but text as residues (Parquet only).

    Raises
    ------
    TableFormatError
        If a column has such a type.
    """
    kinds = table.kinds or {}
    if kinds.get(id_column, "text") == "other":
        raise TableFormatError(
            table.source, f"id column {id_column!r} is neither text nor whole numbers", hint="cast it to text"
        )
    for name in seq_columns:
        if kinds.get(name, "text") != "text":
            raise TableFormatError(table.source, f"sequence column {name!r} is not text")


def choose_column(
    table: Table, wanted: str | None, flag: str, known: Collection[str], *, taken: str | None
) -> str:
    """Find one column, by name or by being the only one of the known names.

    Parameters
    ----------
    table : Table
    wanted : str or None
        As the user names it.
    flag : str
        With which the user could.
    known : collection of str
        Names recognised without it, in lower case.
    taken : str or None
        A column that serves for something else.

    Raises
    ------
    TableFormatError
    """
    columns = table.columns
    if wanted is not None:
        if wanted not in columns:
            raise TableFormatError(
                table.source,
                f"there is no column {wanted!r}{_nearest(wanted, columns)}",
                hint=f"pass {flag} one of: {_listed(columns)}",
            )
        return wanted
    found = [name for name in columns if name.strip().lower() in known and name != taken]
    if len(found) == 1:
        return found[0]
    what = "id" if flag == "--id-col" else "sequence"
    state = f"{len(found)} columns may hold the {what} ({_listed(found)})" if found else f"no {what} column"
    raise TableFormatError(table.source, state, hint=f"pass {flag} one of: {_listed(columns)}")


def _nearest(wanted: str, columns: Sequence[str]) -> str:
    by_lower = {name.strip().lower(): name for name in columns}
    near = difflib.get_close_matches(wanted.strip().lower(), by_lower, n=1)
    return f", did you mean {by_lower[near[0]]!r}?" if near else ""


def _listed(columns: Sequence[str]) -> str:
    more = f" and {len(columns) - _MAX_LISTED} more" if len(columns) > _MAX_LISTED else ""
    return ", ".join(map(repr, columns[:_MAX_LISTED])) + more


class _Layout:
    """Places of the columns a record is made of."""

    def __init__(self, columns: tuple[str, ...], id_column: str, seq_columns: Sequence[str]) -> None:
        self.record_id = columns.index(id_column)
        self.sequences = tuple(columns.index(name) for name in seq_columns)
        described = "description" in columns and "description" not in (id_column, *seq_columns)
        self.description = columns.index("description") if described else None
        self.metadata = {chosen: self._others(columns, chosen) for chosen in (None, *self.sequences)}

    def _others(self, columns: tuple[str, ...], chosen: int | None) -> list[tuple[int, str]]:
        """Return what is metadata in a row whose residues come from column `chosen`."""
        used = {self.record_id, self.description, *(self.sequences if chosen is None else (chosen,))}
        return [(i, name) for i, name in enumerate(columns) if i not in used]

    def record(self, values: Sequence[object], source: str, row: int) -> SequenceRecord:
        chosen = next((i for i in self.sequences if not is_missing(values[i])), None)
        description = None if self.description is None else values[self.description]
        return SequenceRecord(
            record_id=str(values[self.record_id]),
            sequence="" if chosen is None else str(values[chosen]),
            description="" if description is None else str(description),
            metadata={name: value for i, name in self.metadata[chosen] if (value := values[i]) is not None},
            source=source,
            row=row,
        )


def table_records(table: Table, id_column: str, seq_columns: Sequence[str]) -> Iterator[SequenceRecord]:
    """Turn the rows of a table into records.

    Parameters
    ----------
    table : Table
        An open table.
    id_column : str
        Its id column.
    seq_columns : sequence of str
        Residues come from the first of these that is not missing in the row; the others are
        metadata. If all are missing the sequence is empty.

    Raises
    ------
    FileFormatError, TableFormatError
        As `read_table`, while iterating.
    """
    layout = _Layout(table.columns, id_column, seq_columns)
    row = 0
    for row, (place, values) in enumerate(table.rows(), 1):
        record_id_of(table, id_column, values[layout.record_id], place)
        yield layout.record(values, table.source, row)
    if row == 0:
        raise TableFormatError(table.source, "has a header but no rows")


def record_id_of(table: Table, id_column: str, value: object, place: int) -> str:
    """Return the id of a row.

    Parameters
    ----------
    table : Table
    id_column : str
    value : object
        What stands in that column.
    place : int
        Of the row, for the message.

    Raises
    ------
    TableFormatError
        If the cell is blank.
    """
    if _is_blank(value):
        raise TableFormatError(
            table.source, f"{table.unit} {place} has no id: {id_column!r} is empty", hint="name the record"
        )
    return str(value)


def _is_blank(value: object) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def is_missing(value: object) -> bool:
    """Tell whether a sequence cell stands for no sequence."""
    if not isinstance(value, str):
        return value is None
    text = value.strip()
    return len(text) <= LONGEST_MISSING and text.lower() in _MISSING
