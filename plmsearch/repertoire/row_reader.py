"""Rearrangement tables read into the columns of numbers that statistics need."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path, PurePath
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from plmsearch.errors import ParameterError, TableFormatError
from plmsearch.formats.airr import CONTIG_FLAGS, airr_bool, in_filtered_set
from plmsearch.formats.rearrangements import (
    RearrangementTable,
    check_filtered,
    check_productive,
    open_rearrangements,
)
from plmsearch.formats.tables import is_missing
from plmsearch.genes import call_genes, call_locus, locus_name
from plmsearch.repertoire.clone_table import donor_column
from plmsearch.repertoire.clonotype import translate
from plmsearch.repertoire.mutation import MUTATION_COLUMNS, mutated_shares, v_part
from plmsearch.repertoire.rows import Codes, CountName, RepertoireRows

__all__ = ["ALL", "NONE", "ReadOptions", "ReadReport", "read_rows"]

#: Columns of the sample, best first.
SAMPLE_COLUMNS = ("sample_id", "repertoire_id")
#: Name of the sample of a table without such a column, and of donors and samples with an empty cell.
ALL, NONE = "all", "(none)"

_COLUMNS = (
    *SAMPLE_COLUMNS, "locus", "v_call", "j_call", "c_call", "isotype", "Isotype", "productive", "junction",
    "junction_aa", "cdr3_aa", "clone_id", "clone_status", "convergent_cluster", "cell_id",
    "duplicate_count", "umi_count", "v_identity", "v_call_inferred", "j_call_inferred", *CONTIG_FLAGS,
    *MUTATION_COLUMNS,
)  # fmt: skip
_COLUMN_OF: dict[CountName, str] = {
    "duplicate_count": "duplicate_count", "umi_count": "umi_count", "cells": "cell_id"
}  # fmt: skip
_CHUNK = 20_000
_NO_COUNT = -2
#: No row stands for more; sums over millions of rows stay whole numbers of 64 bits.
_MAX_COUNT = 1 << 40
_SUFFIXES = (".gz", ".zst", ".tsv", ".txt", ".tab", ".csv")
#: AIRR has v_identity as a fraction; IMGT and others write percent.
_MAX_FRACTION, _MAX_PERCENT = 1.0, 100.0

Columns = Mapping[str, Sequence[str]]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """What is read.

    Parameters
    ----------
    by : str or None
        Column of the donor; None: the first of ``subject_id``, ``donor`` that a table has, else each
        table is one donor.
    count : str
        Unit; its column must be there and hold whole numbers.
    productive : bool
        Leave out rows that the table calls not productive.
    filtered : bool
        Leave out contigs that 10x's filtered set has not.
    """

    by: str | None = None
    count: CountName = "rows"
    productive: bool = False
    filtered: bool = False


@dataclass(slots=True)
class ReadReport:
    """What was seen while reading.

    Parameters
    ----------
    sources : list of str
    n_rows : int
        Of all tables.
    donor_columns : dict of str to str
        Column of the donor by table; "" where the table is one donor.
    with_clones, with_clusters : list of str
        Tables that have ids of clones, of convergent clusters.
    n_not_productive : int
        Rows left out for that.
    n_not_filtered : int
        Other rows that 10x calls no cell, or of low confidence; left out if that is asked for.
    clone_status : Counter of str
        Why rows have no clone, where the table says so.
    identity : dict of str to str
        How ``v_identity`` is written, by table: ``fraction`` or ``percent``.
    n_inferred : Counter of str
        Rows whose ``v_call``, ``j_call`` is empty and taken from ``v_call_inferred``, ``j_call_inferred``.
    n_identity, n_aligned : int
        Rows whose mutations come from ``v_identity``, from the alignment.
    """

    sources: list[str] = field(default_factory=list)
    n_rows: int = 0
    donor_columns: dict[str, str] = field(default_factory=dict)
    with_clones: list[str] = field(default_factory=list)
    with_clusters: list[str] = field(default_factory=list)
    n_not_productive: int = 0
    n_not_filtered: int = 0
    clone_status: Counter[str] = field(default_factory=Counter)
    identity: dict[str, str] = field(default_factory=dict)
    n_inferred: Counter[str] = field(default_factory=Counter)
    n_identity: int = 0
    n_aligned: int = 0


def read_rows(paths: Sequence[str | Path], options: ReadOptions) -> tuple[RepertoireRows, ReadReport]:
    """Read tables, one after the other.

    Parameters
    ----------
    paths : sequence of str or Path
        AIRR Rearrangement TSV, packed or not; ``-`` for standard input.
    options : ReadOptions

    Returns
    -------
    rows : RepertoireRows
        ``weight`` is not filled in.
    report : ReadReport

    Raises
    ------
    InputNotFoundError, FileFormatError, TableFormatError
        If a table cannot be read, lacks a column that is asked for, holds a count that is none, or no
        table has a row.
    ParameterError
        If no table, or one table twice, is given.
    """
    if not paths:
        raise ParameterError("paths", 0, "at least one table")
    twice = [path for path, n in Counter(map(_identity_of, paths)).items() if n > 1]
    if twice:
        raise ParameterError("input", twice[0], "a table once: its rows would count twice")
    reader = _Reader(options, _names(paths))
    for number, path in enumerate(paths):
        with open_rearrangements(path) as table:
            reader.add(table, number)
    return reader.rows(), reader.report


def _identity_of(path: str | Path) -> str:
    return str(path) if str(path) == "-" else str(Path(path).resolve())


def _names(paths: Sequence[str | Path]) -> list[str]:
    """Name tables by their file, or by the whole path where two files have one name."""
    short = []
    for path in paths:
        name = "stdin" if str(path) == "-" else PurePath(path).name
        while name.lower().endswith(_SUFFIXES):
            name = name[: name.rindex(".")]
        short.append(name)
    return short if len(set(short)) == len(short) else [str(path) for path in paths]


class _Reader:
    """Gathers chunks of rows."""

    def __init__(self, options: ReadOptions, names: Sequence[str]) -> None:
        self.report = ReadReport()
        self._options, self._names = options, names
        self._codes = {
            name: Codes()
            for name in (
                "sample",
                "locus",
                "v_call",
                "j_call",
                "c_call",
                "clone",
                "clonotype",
                "cluster",
                "cell",
            )
        }
        self._parts: dict[str, list[NDArray[np.generic]]] = {}
        self._first_gene = _Cached(lambda call: (call_genes(call) or ("",))[0])
        self._locus = _Cached(call_locus)
        self._counts = _Cached(_count)

    def add(self, table: RearrangementTable, number: int) -> None:
        """Read one table."""
        report, by = self.report, donor_column(table, self._options.by)
        self._check_unit(table)
        if self._options.productive:
            check_productive(table)
        if self._options.filtered:
            check_filtered(table)
        report.sources.append(table.source)
        report.donor_columns[table.source] = by
        report.with_clones += [table.source] * ("clone_id" in table.columns)
        report.with_clusters += [table.source] * ("convergent_cluster" in table.columns)
        identities: list[NDArray[np.float64]] = []
        aligned: list[NDArray[np.float64]] = []
        present = tuple(name for name in _COLUMNS if name in table.columns)
        cells = table.cells((*present, by))
        place = 0
        while chunk := list(islice(cells, _CHUNK)):
            columns = dict(zip((*present, "donor"), map(list, zip(*chunk, strict=True)), strict=True))
            absent = [""] * len(chunk)
            columns = {name: columns.get(name, absent) for name in (*_COLUMNS, "donor")}
            self._add_chunk(columns, table, number, place)
            identities.append(_identities(columns["v_identity"], table.source, place))
            aligned.append(_aligned(columns, identities[-1]))
            place += len(chunk)
        report.n_rows += place
        self._add_mutated(identities, aligned, table.source)

    def _check_unit(self, table: RearrangementTable) -> None:
        column = _COLUMN_OF.get(self._options.count, "")
        if column and column not in table.columns:
            raise TableFormatError(
                table.source,
                f"there is no column {column!r}, which --count {self._options.count} needs",
                hint="count what the table has: --count rows always can",
            )

    def _add_chunk(self, columns: Columns, table: RearrangementTable, number: int, place: int) -> None:
        source, by = table.source, self.report.donor_columns[table.source]
        donors = (
            [d or NONE for d in columns["donor"]] if by else [self._names[number]] * len(columns["donor"])
        )
        has_sample = any(name in table.columns for name in SAMPLE_COLUMNS)
        named = zip(*(columns[name] for name in SAMPLE_COLUMNS), strict=True)
        samples = [(a or b or NONE) if has_sample else ALL for a, b in named]
        v, j = self._calls(columns, "v_call"), self._calls(columns, "j_call")
        junctions = [_junction(*cells) for cells in _rows_of(columns, "junction_aa", "cdr3_aa", "junction")]
        for status, clone in zip(columns["clone_status"], columns["clone_id"], strict=True):
            if status and not clone:
                self.report.clone_status[status] += 1
        self._keep("sample", zip(donors, samples, strict=True))
        self._keep("locus", self._loci({**columns, "v_call": v, "j_call": j}))
        self._keep("v_call", v)
        self._keep("j_call", j)
        called = _rows_of(columns, "c_call", "isotype", "Isotype")  # the last as OAS calls it
        self._keep("c_call", (next(filter(None, names), "") for names in called))
        self._keep(
            "clone", ((number, d, c) if c else None for d, c in zip(donors, columns["clone_id"], strict=True))
        )
        self._keep("cluster", ((number, c) if c else None for c in columns["convergent_cluster"]))
        self._keep("clonotype", map(self._clonotype, v, j, junctions))
        self._keep(
            "cell",
            ((d, s, c) if c else None for d, s, c in zip(donors, samples, columns["cell_id"], strict=True)),
        )
        for name, column in (("duplicates", "duplicate_count"), ("umis", "umi_count")):
            self._part(name, self._counts_of(columns[column], column, source, place))
        self._part("cdr3", np.array([max(len(one) - 2, -1) for one in junctions], dtype=np.int32))
        self._part("productive", np.array([airr_bool(text) is not False for text in columns["productive"]]))
        flags = _rows_of(columns, *CONTIG_FLAGS)
        self._part("filtered", np.array([in_filtered_set(cells) for cells in flags]))

    def _calls(self, columns: Columns, name: str) -> Sequence[str]:
        """Return calls as given, or, where there is none, as inferred."""
        if not any(columns[f"{name}_inferred"]):
            return columns[name]
        pairs = list(_rows_of(columns, name, f"{name}_inferred"))
        self.report.n_inferred[name] += sum(bool(inferred and not given) for given, inferred in pairs)
        return [given or inferred for given, inferred in pairs]

    def _keep(self, name: str, values: Iterator[object] | Sequence[object]) -> None:
        self._part(name, self._codes[name].of(values))

    def _part(self, name: str, values: NDArray[np.generic]) -> None:
        self._parts.setdefault(name, []).append(values)

    def _counts_of(self, cells: Sequence[str], column: str, source: str, place: int) -> NDArray[np.int64]:
        """Read counts; -1 for none, and for what is no count if nothing depends on it."""
        known = self._counts
        counts = np.array([known[text] for text in cells], dtype=np.int64)
        bad = np.flatnonzero(counts == _NO_COUNT)
        if len(bad) and self._options.count == column:
            row = int(bad[0])
            raise TableFormatError(
                source,
                f"row {place + row + 1}: {column} is {cells[row]!r}, which is no whole number from 0 to 2^40",
                hint="correct it, or count something else: --count rows",
            )
        return np.maximum(counts, -1)

    def _loci(self, columns: Columns) -> Iterator[str]:
        locus = self._locus
        for named, v, j, c in _rows_of(columns, "locus", "v_call", "j_call", "c_call"):
            yield locus_name(named) or locus[v] or locus[j] or locus[c]

    def _clonotype(self, v: str, j: str, junction: str) -> str | None:
        genes = self._first_gene[v], self._first_gene[j]
        return "\t".join((*genes, junction)) if junction and all(genes) else None

    def _add_mutated(
        self, identities: list[NDArray[np.float64]], aligned: list[NDArray[np.float64]], source: str
    ) -> None:
        """Find out how a table writes identities, which only its largest one tells."""
        if not identities:
            return
        given, counted = np.concatenate(identities), np.concatenate(aligned)
        known = ~np.isnan(given)
        if known.any():
            percent = bool(np.nanmax(given) > _MAX_FRACTION)
            self.report.identity[source] = "percent" if percent else "fraction"
            given = given / (_MAX_PERCENT if percent else _MAX_FRACTION)
        self.report.n_identity += int(known.sum())
        self.report.n_aligned += int((~known & ~np.isnan(counted)).sum())
        self._part("mutated", np.where(known, 1.0 - given, counted).astype(np.float32))

    def rows(self) -> RepertoireRows:
        """Return what was gathered."""
        if not self.report.n_rows:
            raise TableFormatError(", ".join(self.report.sources), "no table has a row")
        joined = {name: np.concatenate(self._parts.pop(name)) for name in list(self._parts)}
        joined["productive"] = joined["productive"].astype(bool)
        kept = joined["productive"] | (not self._options.productive)
        self.report.n_not_productive = int((~kept).sum())
        filtered = joined.pop("filtered").astype(bool)
        self.report.n_not_filtered = int((kept & ~filtered).sum())
        kept &= filtered | (not self._options.filtered)
        columns = {name: values[kept] for name, values in joined.items()}
        codes = {f"{name}s": codes for name, codes in self._codes.items() if name not in ("locus", "cell")}
        weight = np.ones(int(kept.sum()), dtype=np.int64)
        return RepertoireRows(**columns, weight=weight, loci=self._codes["locus"], **codes)  # type: ignore[arg-type]


class _Cached(dict[str, T]):
    """What follows from a text, found once for each."""

    def __init__(self, find: Callable[[str], T]) -> None:
        super().__init__()
        self._find = find

    def __missing__(self, text: str) -> T:
        return self.setdefault(text, self._find(text))


# --- Cells -----------------------------------------------------------------------------------------


def _rows_of(columns: Columns, *names: str) -> Iterator[tuple[str, ...]]:
    return zip(*(columns[name] for name in names), strict=True)


def _junction(residues: str, cdr3: str, nucleotides: str) -> str:
    """Return the junction in residues, as `plmsearch.repertoire.clonotype` finds it; "" if there is none."""
    if residues:
        return residues.strip().upper()
    if nucleotides and len(nucleotides) % 3 == 0:
        return translate(nucleotides.strip().upper())
    return f"C{cdr3.strip().upper()}W" if cdr3 else ""


def _count(text: str) -> int:
    """Read a count; -1 if there is none, -2 if it is no count."""
    if is_missing(text):
        return -1
    try:
        value = float(text)
    except ValueError:
        return _NO_COUNT
    return int(value) if 0 <= value <= _MAX_COUNT and value.is_integer() else _NO_COUNT


def _identities(cells: Sequence[str], source: str, place: int) -> NDArray[np.float64]:
    """Read identities as they are written; NaN where there is none."""
    values = np.full(len(cells), np.nan)
    for i, text in enumerate(cells):
        if not text or is_missing(text):
            continue
        try:
            values[i] = float(text)
        except ValueError:
            values[i] = -1.0
        if not 0 <= values[i] <= _MAX_PERCENT:
            raise TableFormatError(
                source,
                f"row {place + i + 1}: v_identity is {text!r}, neither a fraction nor percent",
                hint="correct it or leave it empty: mutations are then counted in the alignment",
            )
    return values


def _aligned(columns: Columns, identities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Count mutations in the alignments of rows without an identity."""
    shares = np.full(len(identities), np.nan)
    missing = [i for i in np.flatnonzero(np.isnan(identities)).tolist() if columns["sequence_alignment"][i]]
    if missing:
        rows = ({name: columns[name][i] for name in MUTATION_COLUMNS} for i in missing)
        shares[missing] = mutated_shares(
            [v_part(row, columns["junction"][i]) for i, row in zip(missing, rows, strict=True)]
        )
    return shares
