"""AIRR Rearrangement tables as a stream of records.

The id is ``sequence_id``. Residues come, row by row, from the first of `RESIDUE_COLUMNS` that is
not empty, gaps as given; a row that has none of them gives a record with an empty sequence. All
other columns are metadata, the nucleotides in ``sequence`` among them; booleans stay the text they
are in the file (``T``, ``F``).

Column names follow AIRR Rearrangement schema 1.6 (https://docs.airr-community.org).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from plmsearch.errors import TableFormatError
from plmsearch.formats.tables import Table, check_kinds, open_table, table_records
from plmsearch.sequences import SequenceRecord

__all__ = ["REQUIRED_COLUMNS", "RESIDUE_COLUMNS", "airr_records", "is_airr", "read_airr"]

#: Columns that hold the residues of a whole rearrangement, best first: the query as it was read (with
#: leader and constant region, where translated), its aligned part, its V(D)J part (amulety's name).
RESIDUE_COLUMNS = ("sequence_aa", "sequence_alignment_aa", "sequence_vdj_aa")

#: Required in the header by schema 1.6; their values may be empty.
REQUIRED_COLUMNS = (
    "sequence_id",
    "sequence",
    "rev_comp",
    "productive",
    "v_call",
    "d_call",
    "j_call",
    "sequence_alignment",
    "germline_alignment",
    "junction",
    "junction_aa",
    "v_cigar",
    "d_cigar",
    "j_cigar",
)

_CORE = frozenset(("sequence_id", "v_call"))
_DISTINCTIVE = frozenset(
    (*RESIDUE_COLUMNS, "rev_comp", "sequence_alignment", "germline_alignment", "junction", "junction_aa")
)


def is_airr(columns: Collection[str]) -> bool:
    """Tell whether a header is that of an AIRR Rearrangement table.

    Parameters
    ----------
    columns : collection of str
        Header names; AIRR names are lower case.

    Returns
    -------
    bool
        True with ``sequence_id``, ``v_call`` and one more name that only AIRR uses.

    Notes
    -----
    Few real files have all of `REQUIRED_COLUMNS`: Immcantation leaves out ``sequence`` and
    ``junction_aa``, 10x ``v_cigar``, amulety all but five. The two core names are what every tool
    writes; the third keeps out a plain table that merely has these two. In a table that is
    recognised ``sequence`` holds nucleotides: where it holds residues, name it with ``--seq-col``.

    Examples
    --------
    >>> is_airr(["sequence_id", "v_call", "j_call", "junction"])
    True
    >>> is_airr(["sequence_id", "sequence", "v_call"])
    False
    """
    present = set(columns)
    return present >= _CORE and bool(present & _DISTINCTIVE)


def read_airr(path: str | Path, source: str, *, id_col: str | None = None) -> Iterator[SequenceRecord]:
    """Read the records of an AIRR Rearrangement table.

    Parameters
    ----------
    path : str or Path
        TSV; CSV and Parquet with the same columns are read too.
    source : str
        Name for messages and for ``SequenceRecord.source``.
    id_col : str, optional
        Column of the id instead of ``sequence_id``, for example ``cell_id``.

    Returns
    -------
    iterator of SequenceRecord
        In file order, ``row`` counted from 1 without the header.

    Raises
    ------
    InputNotFoundError, FileFormatError, TableFormatError
        As `plmsearch.formats.tables.read_table`.
    """
    return airr_records(open_table(path, source), id_col=id_col)


def airr_records(table: Table, *, id_col: str | None = None) -> Iterator[SequenceRecord]:
    """Turn the rows of an open AIRR table into records.

    Raises
    ------
    TableFormatError
        If the id column is missing; while iterating as `read_airr`.
    """
    id_column = id_col or "sequence_id"
    if id_column not in table.columns:
        raise TableFormatError(table.source, f"there is no column {id_column!r}")
    residues = tuple(name for name in RESIDUE_COLUMNS if name in table.columns)
    check_kinds(table, id_column, residues)
    return table_records(table, id_column, residues)
