"""AIRR Rearrangement tables as a stream of records.

The id is ``sequence_id``. Residues come, row by row, from the first column that has any, by translation
where there are only nucleotides (`plmsearch.formats.residues`); where they came from is the metadata column
``residue_source``. A row that has none is a record that says why. All other columns are metadata, the
nucleotides in ``sequence`` among them; booleans stay the text they are in the file (``T``, ``F``).

Column names follow AIRR Rearrangement schema 1.6 (https://docs.airr-community.org).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

from plmsearch.errors import TableFormatError
from plmsearch.formats.residues import (
    NUCLEOTIDE_COLUMNS,
    RESIDUE_COLUMNS,
    SOURCE_COLUMNS,
    residues_of_row,
    why_no_residues,
    with_source,
)
from plmsearch.formats.tables import Table, check_kinds, open_table, record_id_of
from plmsearch.numbering import REGIONS, ImmunumNumberer, Numberer
from plmsearch.sequences import SequenceRecord, Unusable

__all__ = [
    "CONTIG_FLAGS",
    "INTEGER_FIELDS",
    "NOT_FILTERED",
    "REQUIRED_COLUMNS",
    "RESIDUE_COLUMNS",
    "airr_bool",
    "airr_records",
    "in_filtered_set",
    "is_airr",
    "read_airr",
]

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

#: Fields of schema 1.6 that hold whole numbers.
INTEGER_FIELDS = (
    *(f"{s}_{place}_{end}" for s in ("v", "d", "d2", "j", "c")
      for place in ("sequence", "germline", "alignment") for end in ("start", "end")),
    *(f"{region}_{end}" for region in REGIONS for end in ("start", "end")),
    *("junction_length", "junction_aa_length", "np1_length", "np2_length", "np3_length"),
    *("n1_length", "n2_length", "n3_length", "p3v_length", "p5d_length", "p3d_length", "p5d2_length"),
    *("p3d2_length", "p5j_length", "d_frame", "d2_frame", "consensus_count", "duplicate_count", "umi_count"),
)  # fmt: skip
#: What AIRR's own library reads as true and false (airr 2.0, ``schema.py``), in lower case.
_BOOLEANS = {"t": True, "true": True, "1": True, "f": False, "false": False, "0": False}

#: What Cell Ranger asks of a contig that is to be in ``filtered_contig_annotations.csv``.
CONTIG_FLAGS = ("is_cell", "high_confidence")
#: That one of them is false; `SequenceRecord.notes`.
NOT_FILTERED = "not_filtered"

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


def airr_bool(text: str) -> bool | None:
    """Read a boolean in any spelling of AIRR's library; None for an empty cell and anything else.

    Examples
    --------
    >>> airr_bool("T"), airr_bool("false"), airr_bool("0"), airr_bool(""), airr_bool("perhaps")
    (True, False, False, None, None)
    """
    return _BOOLEANS.get(text.strip().lower())


def in_filtered_set(flags: Iterable[str]) -> bool:
    """Tell from the cells of `CONTIG_FLAGS` whether 10x's filtered set has a contig; empty ones say so.

    Examples
    --------
    >>> in_filtered_set(("True", "")), in_filtered_set(("True", "False"))
    (True, False)
    """
    return all(airr_bool(text) is not False for text in flags)


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


def airr_records(
    table: Table, *, id_col: str | None = None, numberer: Numberer | None = None
) -> Iterator[SequenceRecord]:
    """Turn the rows of an open AIRR table into records.

    Parameters
    ----------
    table : Table
        AIRR, or another format seen as such.
    id_col : str, optional
        Column of the id instead of ``sequence_id``.
    numberer : Numberer, optional
        Accepts a frame of ``sequence``. Default: immunum.

    Raises
    ------
    TableFormatError
        If the id column is missing; while iterating as `read_airr`.
    """
    id_column = id_col or "sequence_id"
    if id_column not in table.columns:
        raise TableFormatError(table.source, f"there is no column {id_column!r}")
    check_kinds(table, id_column, [name for name in SOURCE_COLUMNS if name in table.columns])
    return _records(table, id_column, numberer or ImmunumNumberer())


def _why_unusable(residues: str, source: str, cells: Mapping[str, str]) -> Unusable | None:
    """Say why a row is left out: no residues, or a stop codon inside of those that were translated.

    A stop inside is what rearrangements that are not productive have, not a mistake of the file.
    """
    if not residues:
        return Unusable(why_no_residues(cells))
    stop = residues.find("*", 0, -1) + 1
    if stop and source in NUCLEOTIDE_COLUMNS:
        return Unusable(f"'*' at residue {stop} is no amino acid: {source} has a stop codon there")
    return None


def _records(table: Table, id_column: str, numberer: Numberer) -> Iterator[SequenceRecord]:
    columns = table.columns
    id_place = columns.index(id_column)
    sources = [(name, columns.index(name)) for name in SOURCE_COLUMNS if name in columns]
    flags = [columns.index(name) for name in CONTIG_FLAGS if name in columns]
    description = columns.index("description") if "description" in columns else None
    others = [(i, name) for i, name in enumerate(columns) if i not in (id_place, description)]
    row = 0
    for row, (place, values) in enumerate(table.rows(), 1):
        record_id = record_id_of(table, id_column, values[id_place], place)
        cells = {name: text for name, i in sources if isinstance(text := values[i], str)}
        residues, source = residues_of_row(cells, numberer)
        # Nucleotides that were translated, and regions that were joined, are not what is embedded: they stay.
        taken = source if source in RESIDUE_COLUMNS else None
        metadata = {name: v for i, name in others if name != taken and (v := values[i]) is not None}
        described = None if description is None else values[description]
        yield SequenceRecord(
            record_id=record_id,
            sequence=residues,
            description="" if described is None else str(described),
            metadata=with_source(metadata, source) if residues else metadata,
            source=table.source,
            row=row,
            notes=() if in_filtered_set(str(values[i]) for i in flags) else (NOT_FILTERED,),
            residue_source=source,
            unusable=_why_unusable(residues, source, cells),
        )
    if row == 0:
        raise TableFormatError(table.source, "has a header but no rows")
