r"""Heavy and light chains that an input keeps together: two columns of a table, or the headers of FASTA.

A row with two columns of residues becomes one record, its chains parted by ``;``. FASTA has no columns, and
nothing says that ``x_H`` and ``x_L`` belong together but habit: they are a pair only where `Pairing.by` says
how headers are to be read. Each chain stays a record then, and ``cell_id`` joins them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from plmsearch.errors import FileFormatError, ParameterError, TableFormatError
from plmsearch.formats.tables import (
    ID_COLUMNS,
    Table,
    check_kinds,
    choose_column,
    is_missing,
    table_records,
)
from plmsearch.sequences import CHAIN_SEPARATOR, SequenceRecord

__all__ = [
    "NO_PAIRING",
    "PAIR_BY",
    "WITHOUT_HEAVY",
    "WITHOUT_LIGHT",
    "Pairing",
    "paired_fasta",
    "paired_rows",
]

#: How the headers of FASTA say which chains are a pair: by their ids, or by words such as ``cell_id=X``.
PAIR_BY = ("id", "header")
#: What a row lacks; `SequenceRecord.notes`.
WITHOUT_HEAVY, WITHOUT_LIGHT = "without_heavy", "without_light"

_SUFFIX = re.compile(r"(?P<stem>.+)[_.|-](?:heavy|light|vh|vl|hc|lc|h|l)", re.IGNORECASE | re.DOTALL)
_WORD = re.compile(r"(?P<name>cell|cell_id|sample_id|repertoire_id|umi_count|duplicate_count)=(?P<value>\S+)")
_COLUMN = {"cell": "cell_id"}


@dataclass(frozen=True, slots=True)
class Pairing:
    """How an input keeps the chains of a pair together.

    Parameters
    ----------
    heavy_col, light_col : str or None
        Columns of a table with the residues of the chains.
    by : {"id", "header"} or None
        Of FASTA. ``id``: ids of one stem that end in ``_heavy`` and ``_light``, ``_VH`` and ``_VL``, ``_HC``
        and ``_LC``, or ``_H`` and ``_L``, in any case, also after ``-``, ``.`` or ``|``. ``header``: words
        ``cell_id=X`` or ``cell=X``, with ``sample_id=X`` or ``repertoire_id=X``, ``umi_count=N`` and
        ``duplicate_count=N`` where there are any.

    Raises
    ------
    ParameterError
        If one of the columns is named without the other, or there is no such way.
    """

    heavy_col: str | None = None
    light_col: str | None = None
    by: str | None = None

    def __post_init__(self) -> None:
        if (self.heavy_col is None) != (self.light_col is None):
            name = "heavy_col" if self.light_col is None else "light_col"
            expected = "given together with the column of the other chain"
            raise ParameterError(name, self.heavy_col or self.light_col, expected)
        if self.heavy_col is not None and self.heavy_col == self.light_col:
            raise ParameterError("light_col", self.light_col, "another column than heavy_col")
        if self.by is not None and self.by not in PAIR_BY:
            raise ParameterError("pair_by", self.by, f"one of: {', '.join(PAIR_BY)}")

    @property
    def columns(self) -> tuple[str, str] | None:
        """The columns of heavy and light chain, if they are named."""
        return None if self.heavy_col is None or self.light_col is None else (self.heavy_col, self.light_col)


#: Each record is one chain, or what it says itself.
NO_PAIRING = Pairing()


def paired_rows(table: Table, id_col: str | None, columns: tuple[str, str]) -> Iterator[SequenceRecord]:
    """Turn the rows of a table with two columns of residues into records of both chains.

    Parameters
    ----------
    table : Table
    id_col : str or None
        Column of the id; None: the only one of `plmsearch.formats.tables.ID_COLUMNS`.
    columns : (str, str)
        Of heavy and light chain. A missing value (``na``, ``-``) leaves the other chain alone, which
        `SequenceRecord.notes` says.

    Raises
    ------
    TableFormatError
        At once if a column is missing or is no text; while iterating as
        `plmsearch.formats.tables.table_records`.
    """
    heavy, light = (
        choose_column(table, name, flag, (), taken=None)
        for name, flag in zip(columns, ("--heavy-col", "--light-col"), strict=True)
    )
    id_column = choose_column(table, id_col, "--id-col", ID_COLUMNS, taken=None)
    if id_column in {heavy, light}:
        raise TableFormatError(table.source, f"column {id_column!r} is named as both id and sequence")
    check_kinds(table, id_column, (heavy, light))
    return (_joined(record, heavy, light) for record in table_records(table, id_column, ()))


def _joined(record: SequenceRecord, heavy: str, light: str) -> SequenceRecord:
    """Make of two columns the residues of a record."""
    metadata = dict(record.metadata)
    cells = {name: metadata.pop(name, None) for name in (heavy, light)}
    chains = {name: str(cell) for name, cell in cells.items() if not (is_missing(cell) or _is_gap(cell))}
    lacking = {heavy: WITHOUT_HEAVY, light: WITHOUT_LIGHT}
    notes = tuple(lacking[name] for name in cells if name not in chains) if chains else ()
    residues = CHAIN_SEPARATOR.join(chains.values())
    kind_of = {heavy: "heavy", light: "light"}
    kinds = tuple(
        kind_of[name] for name, text in chains.items() for one in text.split(CHAIN_SEPARATOR) if one.strip()
    )
    return replace(record, sequence=residues, metadata=metadata, notes=notes, chain_kinds=kinds)


def _is_gap(cell: object) -> bool:
    """Tell whether a cell holds nothing but gaps: ``-`` stands for a chain that is not there."""
    return not str(cell).strip(" -.")


def paired_fasta(records: Iterator[SequenceRecord], source: str, by: str) -> Iterator[SequenceRecord]:
    """Give the records of FASTA the ``cell_id`` that their headers name.

    Parameters
    ----------
    records : iterator of SequenceRecord
    source : str
        Name for messages.
    by : {"id", "header"}
        As `Pairing`.

    Yields
    ------
    SequenceRecord
        A header that names no cell leaves its record as it is.

    Raises
    ------
    FileFormatError
        At the end, if no header has named a cell.

    Examples
    --------
    >>> given = [SequenceRecord("mAb7_VH", "EVQL"), SequenceRecord("mAb7_VL", "DIQM")]
    >>> [record.metadata for record in paired_fasta(iter(given), "x.fasta", "id")]
    [{'cell_id': 'mAb7'}, {'cell_id': 'mAb7'}]
    """
    n_with_cell = 0
    for record in records:
        found = _of_id(record.record_id) if by == "id" else _of_words(record.description)
        n_with_cell += "cell_id" in found
        yield replace(record, metadata={**record.metadata, **found}) if found else record
    if not n_with_cell:
        expected = (
            "an id ends in _heavy, _light, _VH or _VL" if by == "id" else "a header has cell_id=X or cell=X"
        )
        raise FileFormatError(source, f"names no pair: not once {expected}", hint="look at --pair-by")


def _of_id(record_id: str) -> dict[str, str]:
    found = _SUFFIX.fullmatch(record_id)
    return {"cell_id": found["stem"]} if found else {}


def _of_words(description: str) -> dict[str, str]:
    words = (_WORD.fullmatch(word) for word in description.split())
    return {_COLUMN.get(word["name"], word["name"]): word["value"] for word in words if word}
