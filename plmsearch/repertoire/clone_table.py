"""``plmsearch clones``: a rearrangement table in, the same table with clonal families out."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from plmsearch._version import __version__
from plmsearch.errors import ParameterError, TableFormatError
from plmsearch.formats.airr import REQUIRED_COLUMNS
from plmsearch.formats.output import STDOUT, open_output
from plmsearch.formats.rearrangements import RearrangementTable, open_rearrangements
from plmsearch.repertoire.agreement import Agreement, agreement
from plmsearch.repertoire.clones import CloneOptions, Clones, assign_clones
from plmsearch.repertoire.clonotype import COLUMNS, Rearrangements, read_rearrangements
from plmsearch.repertoire.families import NEAR_COPY
from plmsearch.repertoire.null import FALSE_LINKS

__all__ = ["DONOR_COLUMNS", "CloneReport", "TableOptions", "clone_table", "describe"]

#: Columns that name the donor, best first. A sample is none: a family may be in several samples.
DONOR_COLUMNS = ("subject_id", "donor")
_CLONE_COLUMN = "clone_id"
_PACKED = (".gz", ".zst")


@dataclass(frozen=True, slots=True)
class TableOptions:
    """What is read and written.

    Parameters
    ----------
    by : str or None
        Column of the donor; None: the first of `DONOR_COLUMNS` that is there, else one donor.
    clone_col : str
        Column to write.
    overwrite : bool
        Write it although it holds values.
    translate : bool
        The sequences of FASTA are nucleotides.
    contigs : str or Path or None
        FASTA of the contigs of a 10x table.
    """

    by: str | None = None
    clone_col: str = _CLONE_COLUMN
    overwrite: bool = False
    translate: bool = False
    contigs: str | Path | None = None


@dataclass(frozen=True, slots=True)
class CloneReport:
    """What was done.

    Parameters
    ----------
    source : str
    n_rows : int
    by : str
        Column of the donor; "" if the table is taken for one donor.
    n_without_donor : int
        Rows in which that column is empty; they are taken for one donor.
    clones : Clones
    rows : Rearrangements
    old : Agreement or None
        With the ids that ``clone_id`` held before, over the rows that have both.
    """

    source: str
    n_rows: int
    by: str
    n_without_donor: int
    clones: Clones
    rows: Rearrangements
    old: Agreement | None


def clone_table(
    source: str | Path, output: str | Path, options: CloneOptions, table_options: TableOptions
) -> CloneReport:
    """Find the clonal families of a rearrangement table and write it with them.

    Parameters
    ----------
    source : str or Path
        AIRR Rearrangement TSV, FASTA, 10x or OAS, or ``-`` for standard input.
    output : str or Path
        TSV to write, or ``-``. Beside a file, ``<output>.json`` says how the families were found.
    options : CloneOptions
    table_options : TableOptions

    Returns
    -------
    CloneReport

    Raises
    ------
    TableFormatError, FileFormatError, InputNotFoundError
        If the table cannot be read, or would lose a column.
    ParameterError
        If the output's name is that of a packed file.
    StorageError
        If the output cannot be written.
    """
    if str(output).endswith(_PACKED):
        raise ParameterError("output", str(output), "a name without .gz or .zst: plain text is written")
    given = table_options
    with open_rearrangements(source, translate=given.translate, contigs=given.contigs) as table:
        by = _donor_column(table, table_options.by)
        status_col = _check_columns(table, table_options)
        rows, donors, old = _read(table, by, (table_options.clone_col, _CLONE_COLUMN, status_col))
        _check_overwritten(table, table_options, old, status_col)
        clones = assign_clones(rows, options)
        previous = old[_CLONE_COLUMN if any(old[_CLONE_COLUMN]) else table_options.clone_col]
        report = CloneReport(
            source=table.source, n_rows=len(rows), by=by, n_without_donor=donors.count("") if by else 0,
            clones=clones, rows=rows, old=_agreement(clones.clone_id, previous),
        )  # fmt: skip
        with open_output(output) as out:
            table.write(out, {table_options.clone_col: clones.clone_id, status_col: clones.status})
    if str(output) != STDOUT and Path(output).is_file():
        with open_output(f"{output}.json") as out:
            json.dump(describe(report, options), out, indent=2)
            out.write("\n")
    return report


# --- Columns ---------------------------------------------------------------------------------------


def _donor_column(table: RearrangementTable, by: str | None) -> str:
    if by is None:
        return next((name for name in DONOR_COLUMNS if name in table.columns), "")
    if by not in table.columns:
        raise TableFormatError(
            table.source, f"there is no column {by!r}", hint="name the column of the donor with --by"
        )
    return by


def _check_columns(table: RearrangementTable, options: TableOptions) -> str:
    """Return the name of the column of reasons."""
    if options.clone_col in (*COLUMNS, *REQUIRED_COLUMNS):
        raise ParameterError("clone-col", options.clone_col, "a column of its own, none of AIRR's others")
    return "clone_status" if options.clone_col == _CLONE_COLUMN else f"{options.clone_col}_status"


def _read(
    table: RearrangementTable, by: str, kept: Sequence[str]
) -> tuple[Rearrangements, list[str], dict[str, list[str]]]:
    """Read the table once; return what is grouped, the donors, and the cells of columns to keep."""
    donors: list[str] = []
    cells_of: dict[str, list[str]] = {name: [] for name in kept}
    n = len(COLUMNS)

    def rows() -> Iterator[tuple[tuple[str, ...], str]]:
        for cells in table.cells((*COLUMNS, by, *cells_of)):
            donors.append(cells[n])
            for name, cell in zip(cells_of, cells[n + 1 :], strict=True):
                cells_of[name].append(cell)
            yield cells[:n], cells[n]

    return read_rearrangements(rows()), donors, cells_of


def _check_overwritten(
    table: RearrangementTable, options: TableOptions, old: dict[str, list[str]], status_col: str
) -> None:
    """Refuse to replace values, unless told to; an empty column holds none."""
    for name in (options.clone_col, status_col):
        if any(old[name]) and not options.overwrite:
            raise TableFormatError(
                table.source,
                f"column {name!r} is there already and holds values",
                hint="pass --overwrite to replace it, or --clone-col NAME to write another column",
            )


def _agreement(ids: Sequence[str], old: Sequence[str]) -> Agreement | None:
    both = [(new, before) for new, before in zip(ids, old, strict=True) if new and before]
    if not both:
        return None
    return agreement([new for new, _ in both], [before for _, before in both])


# --- Description -----------------------------------------------------------------------------------


def describe(report: CloneReport, options: CloneOptions) -> dict[str, Any]:
    """Say how families were found, in values that JSON can hold."""
    clones = report.clones
    return {
        "definition": _definition(report, options),
        "method": clones.method,
        "unit": clones.unit,
        "linkage": "single",
        "distance": "Hamming / junction length; unknown letters never differ",
        "v_call": options.v_call,
        "split_light": options.split_light,
        "productive_only": options.productive,
        "threshold": _threshold(report, options),
        "donor_column": report.by or None,
        "n_donors": clones.n_donors,
        "n_rows": report.n_rows,
        "n_heavy": clones.n_heavy,
        "n_families": len(clones.sizes),
        "n_without_family": clones.status_counts(),
        "largest_family": max(clones.sizes, default=0),
        "n_junctions_by_numbering": report.rows.n_numbered,
        "n_assumed_heavy": clones.n_assumed_heavy,
        "agreement_with_old_ids": asdict(report.old) if report.old else None,
        "versions": {
            "plmsearch": __version__,
            "python": platform.python_version(),
            "numpy": metadata.version("numpy"),
            "immunum": metadata.version("immunum"),
        },
    }


def _definition(report: CloneReport, options: CloneOptions) -> str:
    genes = {"set": "a common V gene and J gene (any listed)", "first": "the same first V gene and J gene"}
    same = f"{genes[options.v_call]} and " if report.clones.method == "junction" else ""
    return (
        f"rows of one donor with {same}one junction length, joined by single linkage of "
        f"{report.clones.unit} of the junction, conserved residues included"
    )


def _threshold(report: CloneReport, options: CloneOptions) -> dict[str, Any]:
    if options.threshold is not None:
        return {"rule": "given", "share": options.threshold}
    families = report.clones.families
    shares = [limit.most / limit.length for limit in families.limits]
    by_length: dict[int, list[int]] = {}
    for limit in families.limits:
        by_length.setdefault(limit.length, []).append(limit.most)
    return {
        "rule": "per block: the largest distance at which a sequence is expected to have at most "
        f"{FALSE_LINKS} links to unrelated sequences",
        "expected_false_links": FALSE_LINKS,
        "near_copy": NEAR_COPY,
        "n_null_pairs": families.null.n_pairs if families.null else 0,
        "n_blocks": len(shares),
        "share_quantiles": {
            str(q): round(float(np.quantile(shares, q)), 4) for q in (0, 0.05, 0.5, 0.95, 1) if shares
        },
        "most_mismatches_by_length": {
            str(n): {"least": min(most), "most": max(most)} for n, most in sorted(by_length.items())
        },
    }
