"""``plmsearch clones``: a rearrangement table in, the same table with clonal families out."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from plmsearch.embedding.options import ModelOptions
from plmsearch.errors import ParameterError, TableFormatError
from plmsearch.formats.airr import REQUIRED_COLUMNS
from plmsearch.formats.output import STDOUT, is_same_file, keep_inputs, open_output
from plmsearch.formats.rearrangements import (
    RearrangementTable,
    check_filtered,
    check_productive,
    open_rearrangements,
)
from plmsearch.formats.residues import RESIDUE_COLUMNS, SOURCE_COLUMNS, residues_of_row
from plmsearch.ingest.report import Progress
from plmsearch.numbering import ImmunumNumberer
from plmsearch.repertoire.agreement import Agreement, agreement
from plmsearch.repertoire.clone_description import CloneReport, describe
from plmsearch.repertoire.clones import CloneOptions, Clones, assign_clones
from plmsearch.repertoire.clonotype import COLUMNS, Rearrangements, read_rearrangements
from plmsearch.repertoire.family_vectors import MODEL, RowVectors, given_vectors, made_vectors
from plmsearch.repertoire.inferred_calls import COLUMNS as INFERRED_COLUMNS
from plmsearch.repertoire.inferred_calls import Germlines, InferredCalls
from plmsearch.repertoire.missing_calls import FilledCalls, fill_calls

__all__ = ["CONVERGENT_COLUMN", "DONOR_COLUMNS", "TableOptions", "clone_table", "donor_column"]

#: Columns that name the donor, best first. A sample is none: a family may be in several samples.
DONOR_COLUMNS = ("subject_id", "donor")
_CLONE_COLUMN, _STATUS_COLUMN = "clone_id", "clone_status"
#: Column of clusters that reach over donors.
CONVERGENT_COLUMN = "convergent_cluster"
_PACKED = (".gz", ".zst")


@dataclass(frozen=True, slots=True)
class TableOptions:
    """What is read and written.

    Parameters
    ----------
    by : str or None
        Column of the donor; None: as `donor_column` finds it.
    clone_col : str
        Column to write.
    overwrite : bool
        Write it although it holds values.
    translate : bool
        The sequences of FASTA are nucleotides.
    contigs : str or Path or None
        FASTA of the contigs of a 10x table.
    vectors : str or Path or None
        File with vectors by ``sequence_id``, for method embedding; None: they are made.
    model : ModelOptions
        How they are made.
    germlines : Germlines
        Where calls are inferred.
    """

    by: str | None = None
    clone_col: str = _CLONE_COLUMN
    overwrite: bool = False
    translate: bool = False
    contigs: str | Path | None = None
    vectors: str | Path | None = None
    model: ModelOptions = field(default_factory=ModelOptions)
    germlines: Germlines = field(default_factory=Germlines)


def clone_table(
    source: str | Path,
    output: str | Path,
    options: CloneOptions,
    table_options: TableOptions,
    progress: Progress | None = None,
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
    progress : Progress, optional
        Told how many chains are embedded.

    Returns
    -------
    CloneReport

    Raises
    ------
    TableFormatError, FileFormatError, InputNotFoundError
        If the table cannot be read, or would lose a column.
    ParameterError
        If the output's name is that of a packed file, or of an input that is no AIRR table.
    StorageError
        If the output cannot be written.
    """
    if str(output).endswith(_PACKED):
        raise ParameterError("output", str(output), "a name without .gz or .zst: plain text is written")
    given = table_options
    # The output is opened first: that it cannot be written is told before the work, not after it.
    with (
        open_rearrangements(source, translate=given.translate, contigs=given.contigs) as table,
        open_output(output) as out,
    ):
        _check_output(source, output, table, given)
        by = donor_column(table, table_options.by)
        if options.productive:
            check_productive(table)
        if options.filtered:
            check_filtered(table)
        status_col = _check_columns(table, table_options)
        kept = (
            table_options.clone_col, _CLONE_COLUMN, status_col, CONVERGENT_COLUMN, *INFERRED_COLUMNS
        )  # fmt: skip
        rows, donors, old = _read(table, by, kept)
        _check_overwritten(table, table_options, old, (table_options.clone_col, status_col))
        calls = _fill_calls(table, rows, options.method, table_options, old)
        vectors = None
        if options.method == "embedding":
            vectors = _vectors(table, rows, table_options, progress or Progress())
        clones = assign_clones(rows, options, vectors)
        written = _written(table_options.clone_col, status_col, clones, calls.inferred)
        _check_overwritten(table, table_options, old, _changed(written, old))
        previous = old[_CLONE_COLUMN if any(old[_CLONE_COLUMN]) else table_options.clone_col]
        report = CloneReport(
            source=table.source, n_rows=len(rows), by=by, n_without_donor=donors.count("") if by else 0,
            clones=clones, rows=rows, calls=calls, old=_agreement(clones.clone_id, previous),
        )  # fmt: skip
        table.write(out, written)
    if str(output) != STDOUT and Path(output).is_file():
        with open_output(f"{output}.json") as out:
            json.dump(describe(report, options), out, indent=2)
            out.write("\n")
    return report


def _check_output(
    source: str | Path, output: str | Path, table: RearrangementTable, options: TableOptions
) -> None:
    """Refuse to replace what is read, but for a table that is written again with all its cells."""
    read = [options.contigs, options.vectors, options.germlines.path]
    if not is_same_file(source, table.table.path):
        read.append(source)
    keep_inputs(output, read)


def _written(
    clone_col: str, status_col: str, clones: Clones, inferred: InferredCalls | None
) -> dict[str, Sequence[str]]:
    """Return the columns to write."""
    written: dict[str, Sequence[str]] = {clone_col: clones.clone_id, status_col: clones.status}
    if clones.convergent is not None:
        written[CONVERGENT_COLUMN] = clones.convergent
    if inferred is not None:
        written |= dict(zip(INFERRED_COLUMNS, map(list, zip(*inferred.calls, strict=True)), strict=True))
    return written


def _chains(table: RearrangementTable, wanted: Collection[int]) -> list[str]:
    """Return the residues of some rows, "" for the others."""
    numberer, wanted = ImmunumNumberer(), frozenset(wanted)
    chains = []
    for i, cells in enumerate(table.cells(SOURCE_COLUMNS)):
        chain = ""
        if i in wanted:
            chain = residues_of_row(dict(zip(SOURCE_COLUMNS, cells, strict=True)), numberer)[0]
        chains.append(chain.replace("-", "").replace(".", "").strip().upper())
    return chains


def _fill_calls(
    table: RearrangementTable,
    rows: Rearrangements,
    method: str,
    options: TableOptions,
    old: Mapping[str, Sequence[str]],
) -> FilledCalls:
    """Find calls for heavy chains without; those that the table has as inferred stand, if they may."""
    known = None
    if options.germlines == Germlines() and not options.overwrite:
        known = list(zip(*(old[name] for name in INFERRED_COLUMNS), strict=True))
    return fill_calls(rows, method, options.germlines, known, lambda wanted: _chains(table, wanted))


def _vectors(
    table: RearrangementTable, rows: Rearrangements, options: TableOptions, progress: Progress
) -> RowVectors:
    """Read or make the vectors of the heavy chains."""
    if options.vectors is not None:
        is_heavy = [locus in ("IGH", "") for locus in rows.locus]
        ids = [cell for (cell,) in table.cells(("sequence_id",))]
        return given_vectors(options.vectors, ids, is_heavy)
    chains = _chains(table, [i for i, locus in enumerate(rows.locus) if locus in ("IGH", "")])
    if not any(chains):
        raise TableFormatError(
            table.source,
            "no heavy chain has residues to embed",
            hint=f"method embedding needs one of {', '.join(RESIDUE_COLUMNS)}, nucleotides, or --vectors",
        )
    embedder = options.model.load(MODEL)
    progress.start(len(set(filter(None, chains))))
    return made_vectors(chains, embedder, on_progress=progress.advance)


# --- Columns ---------------------------------------------------------------------------------------


def donor_column(table: RearrangementTable, by: str | None) -> str:
    """Return the column of the donor.

    Parameters
    ----------
    table : RearrangementTable
    by : str or None
        As the user names it; None: the first of `DONOR_COLUMNS` that names a donor in any row, else the
        first that is there.

    Returns
    -------
    str
        "" if there is none: the table is one donor.

    Raises
    ------
    TableFormatError
        If it is named and not there.
    """
    if by is None:
        present = [name for name in DONOR_COLUMNS if name in table.columns]
        named = (name for name in present if any(cell for (cell,) in table.cells((name,))))
        return next(named, present[0]) if len(present) > 1 else "".join(present)
    if by not in table.columns:
        raise TableFormatError(
            table.source, f"there is no column {by!r}", hint="name the column of the donor with --by"
        )
    return by


def _check_columns(table: RearrangementTable, options: TableOptions) -> str:
    """Return the name of the column of reasons."""
    name = options.clone_col
    taken = (
        *COLUMNS,
        *REQUIRED_COLUMNS,
        *DONOR_COLUMNS,
        CONVERGENT_COLUMN,
        *INFERRED_COLUMNS,
        _STATUS_COLUMN,
    )
    if name in (*taken, options.by):
        raise ParameterError("clone-col", name, "a column of its own, none of AIRR's others")
    if not name.strip() or not name.isprintable():
        raise ParameterError("clone-col", name, "a name without tabs and line ends")
    return _STATUS_COLUMN if name == _CLONE_COLUMN else f"{name}_status"


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
    table: RearrangementTable, options: TableOptions, old: dict[str, list[str]], columns: Sequence[str]
) -> None:
    """Refuse to replace values, unless told to; an empty column holds none."""
    for name in columns:
        if any(old[name]) and not options.overwrite:
            raise TableFormatError(
                table.source,
                f"column {name!r} is there already and holds values",
                hint="pass --overwrite to replace it, or --clone-col NAME to write another column",
            )


def _changed(written: Mapping[str, Sequence[str]], old: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the columns to write that would lose a value."""
    return [
        name
        for name, cells in written.items()
        if any(before and before != cell for before, cell in zip(old[name], cells, strict=True))
    ]


def _agreement(ids: Sequence[str], old: Sequence[str]) -> Agreement | None:
    both = [(new, before) for new, before in zip(ids, old, strict=True) if new and before]
    if not both:
        return None
    return agreement([new for new, _ in both], [before for _, before in both])
