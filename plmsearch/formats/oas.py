"""Data units of the Observed Antibody Space (OAS) as AIRR columns.

A unit is a CSV file, mostly packed, whose first line is a JSON object that describes it, mostly written as
one quoted CSV cell; the header comes second. Columns are AIRR's; ``Redundancy`` is ``duplicate_count``.
What the first line says becomes a column of each row, unless a column has that name. Two things OAS writes
otherwise than AIRR: the locus is ``H``, ``K`` or ``L``, and whole numbers end with ``.0``.

Rows have no id, so one is made: the name of the file and the number of the row. A paired unit has each
column twice, with ``_heavy`` and ``_light``; a row becomes two, first the heavy, with one ``cell_id``. Their
ids are those of the columns ``sequence_id_heavy`` and ``sequence_id_light`` if there are any, else the made
one, always with ``_heavy`` or ``_light`` added.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path, PurePath

from plmsearch.errors import FileFormatError
from plmsearch.formats.airr import INTEGER_FIELDS
from plmsearch.formats.compression import COMPRESSION_SUFFIXES
from plmsearch.formats.delimited import DelimitedTable, open_delimited
from plmsearch.formats.residues import NUCLEOTIDE_COLUMNS, RESIDUE_COLUMNS
from plmsearch.formats.views import TableView
from plmsearch.genes import locus_name

__all__ = ["open_oas", "unit_facts"]

_CHAINS = ("_heavy", "_light")
_SOURCES = frozenset((*RESIDUE_COLUMNS, *NUCLEOTIDE_COLUMNS))
_AIRR = {"Redundancy": "duplicate_count"}
_WHOLE = re.compile(r"(-?[0-9]+)\.0")

Row = tuple[int, Sequence[str | None]]


def unit_facts(head: bytes) -> dict[str, str | None] | None:
    r"""Read what the first line of a data unit says; None if it is no JSON object.

    Parameters
    ----------
    head : bytes
        The beginning of a file, unpacked.

    Returns
    -------
    dict of str to (str or None) or None
        Values as text; nested ones stay JSON.

    Examples
    --------
    >>> unit_facts(b'"{""Run"": ""SRR1"", ""Age"": 42}"\nsequence,locus\\n')
    {'Run': 'SRR1', 'Age': '42'}
    >>> unit_facts(b"sequence,locus\n") is None
    True
    """
    line = head.partition(b"\n")[0].decode("utf-8-sig", "replace").strip()
    if not line.startswith(('"{', "{")):
        return None
    try:
        parsed = json.loads(next(csv.reader([line], strict=True))[0] if line.startswith('"') else line)
    except (ValueError, csv.Error, RecursionError):
        return None
    if not isinstance(parsed, dict):
        return None
    return {str(name): _text(value) for name, value in parsed.items()}


def open_oas(path: str | Path, source: str, facts: Mapping[str, str | None]) -> TableView:
    """See a data unit as an AIRR table.

    Parameters
    ----------
    path : str or Path
    source : str
        Its name, for messages, ids and the delimiter.
    facts : mapping of str to (str or None)
        What its first line says.

    Raises
    ------
    FileFormatError
        If no sequences stand under the first line.
    TableFormatError
        As `open_delimited`.
    """
    table = open_delimited(path, source, n_before=1)
    if _SOURCES.intersection(table.columns):
        return _unpaired(table, facts, _unit(source, facts))
    if any(name + chain in table.columns for name in _SOURCES for chain in _CHAINS):
        return _paired(table, facts, _unit(source, facts))
    raise FileFormatError(
        source,
        "begins with a JSON object as a data unit of OAS does, but its second line is no header of sequences",
        hint=f"one of these is needed, or with _heavy and _light: {', '.join(sorted(_SOURCES))}",
    )


def _text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value or None
    return json.dumps(value, ensure_ascii=False)


def _unit(source: str, facts: Mapping[str, str | None]) -> str:
    """Name the unit: by its file, or by its run where it came through a pipe."""
    if source == "stdin":
        return facts.get("Run") or "oas"
    name = PurePath(source)
    while name.suffix.lower() in (*COMPRESSION_SUFFIXES, ".csv"):
        name = name.with_suffix("")
    return "_".join(name.name.split()) or "oas"


def _added(facts: Mapping[str, str | None], columns: Collection[str]) -> dict[str, str | None]:
    return {name: value for name, value in facts.items() if name not in columns}


def _renamed(columns: Sequence[str]) -> dict[str, str]:
    return {old: new for old, new in _AIRR.items() if old in columns and new not in columns}


def _spelt(rows: Iterator[Row], columns: Sequence[str]) -> Iterator[Row]:
    """Write loci and whole numbers as AIRR does; any other value stays as it is."""
    locus = columns.index("locus") if "locus" in columns else None
    whole = [i for i, name in enumerate(columns) if name in INTEGER_FIELDS]
    for line, values in rows:
        cells = list(values)
        if locus is not None and (text := cells[locus]):
            name = locus_name(text)
            cells[locus] = name if name.startswith("IG") else text
        for i in whole:
            if (text := cells[i]) and (match := _WHOLE.fullmatch(text)):
                cells[i] = match[1]
        yield line, cells


def _unpaired(table: DelimitedTable, facts: Mapping[str, str | None], unit: str) -> TableView:
    names = _renamed(table.columns)
    columns = [names.get(name, name) for name in table.columns]
    more = _added(facts, columns)
    has_id = "sequence_id" in columns
    place = columns.index("sequence_id") if has_id else 0

    def read() -> Iterator[Row]:
        constants = tuple(more.values())
        for number, (line, cells) in enumerate(table.rows(), 1):
            if not has_id:
                yield line, (f"{unit}_{number}", *cells, *constants)
            else:
                cells[place] = cells[place] or f"{unit}_{number}"
                yield line, (*cells, *constants)

    header = (*(() if has_id else ("sequence_id",)), *columns, *more)
    return TableView(table.source, "oas", header, lambda: _spelt(read(), header), names)


def _paired(table: DelimitedTable, facts: Mapping[str, str | None], unit: str) -> TableView:
    parts = [_chain_columns(table.columns, chain) for chain in _CHAINS]
    names = dict.fromkeys(name for part in parts for name in part)
    renamed = _renamed(tuple(names))
    columns = tuple(renamed.get(n, n) for n in names if n not in ("sequence_id", "cell_id"))
    more = _added(facts, columns)
    places = [[part.get(n) for n in names if n not in ("sequence_id", "cell_id")] for part in parts]

    def read() -> Iterator[Row]:
        constants = tuple(more.values())
        for number, (line, cells) in enumerate(table.rows(), 1):
            made = f"{unit}_{number}"
            for chain, part, at in zip(_CHAINS, parts, places, strict=True):
                if not any(cells[i] for name, i in part.items() if name + chain in table.columns):
                    continue  # a row of one chain only
                given, cell = (_cell(cells, part.get(name)) for name in ("sequence_id", "cell_id"))
                values = (_cell(cells, i) for i in at)
                yield line, (f"{given or made}{chain}", cell or made, *values, *constants)

    header = ("sequence_id", "cell_id", *columns, *more)
    return TableView(table.source, "oas", header, lambda: _spelt(read(), header), renamed)


def _chain_columns(columns: Sequence[str], chain: str) -> dict[str, int]:
    """Return the places of one chain's columns, by name without its ending, and of those of both."""
    other = _CHAINS[1 - _CHAINS.index(chain)]
    return {name.removesuffix(chain): i for i, name in enumerate(columns) if not name.endswith(other)}


def _cell(cells: Sequence[str | None], place: int | None) -> str | None:
    return None if place is None else cells[place]
