"""AIRR Rearrangement tables rewritten: every cell as it was, and some columns more.

What is written is the text of each row as it was read, quotes included, with cells appended; only a
column that is written anew is replaced. A table is read twice, once for its columns and once to copy
it, so that memory does not grow with its width.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from plmsearch.errors import TableFormatError
from plmsearch.formats.airr import CONTIG_FLAGS, REQUIRED_COLUMNS, airr_bool
from plmsearch.formats.delimited import DelimitedTable, open_delimited
from plmsearch.formats.read import rereadable
from plmsearch.formats.residues import SOURCE_COLUMNS
from plmsearch.formats.rewrite import as_rearrangements
from plmsearch.formats.tables import LONGEST_MISSING, is_missing

__all__ = [
    "JUNCTION_COLUMNS",
    "RearrangementTable",
    "check_filtered",
    "check_productive",
    "open_rearrangements",
]

#: Columns from which a junction is had, best first: nucleotides, residues, residues without the
#: conserved two, residues or nucleotides of the whole chain.
JUNCTION_COLUMNS = tuple(dict.fromkeys(("junction", "junction_aa", "cdr3_aa", *SOURCE_COLUMNS)))

_CELL = re.compile(r'"(?:[^"]|"")*"|[^\t]*')
_LINE_END = re.compile(r"[\r\n]+\Z")


@dataclass(frozen=True, slots=True)
class RearrangementTable:
    """An AIRR table that can be read any number of times.

    Parameters
    ----------
    table : DelimitedTable
    """

    table: DelimitedTable

    @property
    def source(self) -> str:
        """Name for messages."""
        return self.table.source

    @property
    def columns(self) -> tuple[str, ...]:
        """Column names, in order."""
        return self.table.columns

    def cells(self, names: Sequence[str]) -> Iterator[tuple[str, ...]]:
        """Yield the cells of some columns, row by row; "" for a column that is not there.

        A cell that reads ``NA``, ``NaN``, ``None``, ``null`` or ``n/a`` in any case, as R and pandas write
        one that is empty, is "" too: a donor, a cell or a clone of that name would be none. An id stays.

        Raises
        ------
        TableFormatError, FileFormatError
            Where a row is ragged, or the file is damaged.
        """
        places = [self.columns.index(name) if name in self.columns else -1 for name in names]
        ids = [k for k, name in enumerate(names) if name == "sequence_id"]
        said = _Said()
        for _, cells in self.table.raw_rows():
            found = [cells[place] if place >= 0 else "" for place in places]
            told = [said[text] if len(text) <= LONGEST_MISSING else text for text in found]
            for k in ids:
                told[k] = found[k]
            yield tuple(told)

    def write(self, out: TextIO, written: Mapping[str, Sequence[str]]) -> None:
        """Write the table with some columns anew.

        Parameters
        ----------
        out : TextIO
        written : mapping of str to sequence of str
            Cells by column, one for each row, in order. A column that is there is replaced, the others
            are appended, after the columns that AIRR requires and the table lacks.

        Raises
        ------
        TableFormatError, FileFormatError
            As `cells`.
        """
        required = [n for n in REQUIRED_COLUMNS if n not in self.columns and n not in written]
        added = [name for name in written if name not in self.columns]
        replaced = {self.columns.index(name): written[name] for name in written if name in self.columns}
        out.write("\t".join([self.table.raw_header(), *map(_quoted, (*required, *added))]) + "\n")
        for number, (text, _) in enumerate(self.table.raw_rows()):
            end = _LINE_END.search(text)
            row = text[: end.start()] if end else text
            if replaced:
                row = _with_cells(row, {place: cells[number] for place, cells in replaced.items()})
            more = [*("" for _ in required), *(written[name][number] for name in added)]
            out.write("\t".join([row, *more]) + "\n")


class _Said(dict[str, str]):
    """What short cells say, each judged once: "" for one that stands for nothing."""

    def __missing__(self, text: str) -> str:
        return self.setdefault(text, "" if is_missing(text) else text)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"' if re.search(r'[\t\r\n"]', name) else name


def _with_cells(row: str, cells: Mapping[int, str]) -> str:
    """Replace some cells of a row and leave the text of the others."""
    if '"' not in row:
        texts = row.split("\t")
    else:
        texts, at = [], 0
        while at <= len(row):
            match = _CELL.match(row, at)
            assert match is not None  # the expression matches the empty string
            texts.append(match.group())
            at = match.end() + 1
    for place, cell in cells.items():
        texts[place] = cell
    return "\t".join(texts)


def check_productive(table: RearrangementTable) -> None:
    """Make sure that a table says which rows are productive, before rows are chosen by it.

    Raises
    ------
    TableFormatError
        If it has no such column, or a value there is no boolean; an empty cell says nothing and is fine.
    """
    if "productive" not in table.columns:
        raise TableFormatError(
            table.source, "there is no column 'productive', which --productive needs", hint="leave it out"
        )
    for row, (text,) in enumerate(table.cells(("productive",)), 1):
        if text and airr_bool(text) is None:
            raise TableFormatError(
                table.source, f"row {row}: productive is {text!r}, which is no boolean", hint="write T or F"
            )


def check_filtered(table: RearrangementTable) -> None:
    """Make sure that a table says which contigs 10x's filtered set has, before rows are chosen by it.

    Raises
    ------
    TableFormatError
        If it has neither column.
    """
    if not set(CONTIG_FLAGS).intersection(table.columns):
        raise TableFormatError(
            table.source,
            f"there is no column {' or '.join(map(repr, CONTIG_FLAGS))}, which --filtered needs",
            hint="leave it out: only tables of 10x have them",
        )


@contextmanager
def open_rearrangements(
    path: str | Path, *, translate: bool = False, contigs: str | Path | None = None
) -> Iterator[RearrangementTable]:
    """Open rearrangements.

    Parameters
    ----------
    path : str or Path
        AIRR Rearrangement TSV, FASTA, 10x contig annotations or a data unit of OAS, packed with gzip or
        Zstandard or not, or ``-`` for standard input. All but the first are rewritten as AIRR TSV first
        (`plmsearch.formats.rewrite`).
    translate : bool
        The sequences of FASTA are nucleotides.
    contigs : str or Path, optional
        FASTA of the contigs of a 10x table.

    Yields
    ------
    RearrangementTable

    Raises
    ------
    InputNotFoundError, FileFormatError
        If the file cannot be read or is no table.
    TableFormatError
        If a table is not parted by tabs, has no ``sequence_id``, or no column that holds junctions.
    RecordError
        If the sequences of FASTA are not what `translate` says.
    """
    with rereadable(path) as (file, name), as_rearrangements(file, name, translate, contigs) as tsv:
        table = open_delimited(tsv, name)
        _check(table)
        yield RearrangementTable(table)


def _check(table: DelimitedTable) -> None:
    if table.delimiter != "\t":
        raise TableFormatError(
            table.source,
            "is parted by commas or semicolons",
            hint="an AIRR Rearrangement table is parted by tabs",
        )
    if "sequence_id" not in table.columns:
        raise TableFormatError(
            table.source, "there is no column 'sequence_id'", hint="give an AIRR Rearrangement table"
        )
    if not set(JUNCTION_COLUMNS).intersection(table.columns):
        raise TableFormatError(
            table.source,
            "no column holds junctions",
            hint=f"one of these is needed: {', '.join(JUNCTION_COLUMNS)}",
        )
