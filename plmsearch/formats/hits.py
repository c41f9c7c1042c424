r"""Writers of hits: one row for each hit, in the order given, columns fixed.

Rows are mappings and are consumed one at a time. A column that a row lacks, and None, is an empty
cell in tsv, csv and table, and null in jsonl and parquet.

Formats
-------
tsv
    Header, then one line for each hit. In a cell a tab is written ``\t``, a line feed ``\n``, a
    carriage return ``\r`` and a backslash ``\\``, as in PostgreSQL's COPY text format; nothing is
    quoted.
csv
    The same cells, quoted where RFC 4180 asks for it; lines end with a line feed.
jsonl
    One JSON object a line, floats in full; NaN and infinity, which JSON lacks, as the strings
    ``"NaN"``, ``"Infinity"``, ``"-Infinity"``.
parquet
    Typed by `COLUMN_TYPES` and by the caller; with no hits too.
fasta
    The residues of each target (row key ``tseq``), each target once, in the order in which it
    first appears. An id that holds white space is written as it is, and so reads back shorter.
table
    For a terminal: aligned and folded, never cut. Widths are set anew for each block of rows.
m8, pairwise
    After re-ranking by alignment, with columns of their own: see `plmsearch.formats.alignments`.

`HIT_FORMATS` is the registry; every list of choices is made from it.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from plmsearch.errors import ParameterError, StorageError
from plmsearch.formats.alignments import M8_COLUMNS, PAIRWISE_COLUMNS, write_m8, write_pairwise
from plmsearch.formats.cells import TSV_ESCAPES, Row, cell_text, cell_texts, scalar, visible
from plmsearch.formats.output import open_output
from plmsearch.numbering import REGIONS

if TYPE_CHECKING:
    import polars as pl

__all__ = [
    "ALIGNED_HIT_COLUMNS",
    "CDR3_HIT_COLUMNS",
    "COLUMN_TYPES",
    "DEFAULT_HIT_COLUMNS",
    "DOMAIN_HIT_COLUMNS",
    "HIT_FORMATS",
    "PAIR_HIT_COLUMNS",
    "HitFormat",
    "hit_format",
    "with_domain",
    "write_hits",
]

#: What is written unless columns are chosen.
DEFAULT_HIT_COLUMNS = ("query", "target", "rank", "score", "emb_pvalue", "emb_evalue", "description")

#: The same after re-ranking by alignment.
ALIGNED_HIT_COLUMNS = (
    *DEFAULT_HIT_COLUMNS,
    *("fident", "qcov", "tcov", "qstart", "qend", "tstart", "tend", "evalue", "bits", "emb_only"),
)


#: The same of a search by CDR3 and genes alone.
CDR3_HIT_COLUMNS = ("query", "target", "domain", "rank", "cdr3_aa", "cdr3_identity", "score", "description")


#: What an immunologist looks at first, in front of the description of a hit that is a variable domain.
DOMAIN_HIT_COLUMNS = ("cdr3_aa", "cdr3_identity", "same_v")

#: The same of pairs of a heavy and a light chain.
PAIR_HIT_COLUMNS = (
    *("query", "target", "target_light", "cell_id", "rank", "score", "score_heavy", "score_light"),
    *("n_heavy", "n_light", "several_heavy", "emb_pvalue", "emb_evalue", "description"),
)


def with_domain(columns: Sequence[str]) -> tuple[str, ...]:
    """Return columns with those of variable domains: which one, its CDR3, and whether the V gene is the same.

    Examples
    --------
    >>> with_domain(("query", "target", "score", "description"))
    ('query', 'target', 'domain', 'score', 'cdr3_aa', 'cdr3_identity', 'same_v', 'description')
    """
    target, text = columns.index("target") + 1, columns.index("description")
    return (*columns[:target], "domain", *columns[target:text], *DOMAIN_HIT_COLUMNS, *columns[text:])


#: Types of the known columns; the names after `description` are those of MMseqs2 ``--format-output``.
COLUMN_TYPES: Mapping[str, type] = {
    **dict.fromkeys(("query", "target", "description", "qseq", "tseq", "cigar"), str),
    **dict.fromkeys(("qaln", "midline", "taln"), str),
    **dict.fromkeys(("rank", "alnlen", "mismatch", "gapopen", "qstart", "qend", "tstart", "tend"), int),
    **dict.fromkeys(("qlen", "tlen", "raw", "domain", "n_heavy", "n_light"), int),
    **dict.fromkeys(("query_light", "target_light"), str),
    **dict.fromkeys(("score_heavy", "score_light"), float),
    **dict.fromkeys(("emb_only", "several_heavy"), bool),
    **dict.fromkeys(("score", "emb_pvalue", "emb_evalue", "fident", "qcov", "tcov", "evalue", "bits"), float),
    **dict.fromkeys((f"{region}_identity" for region in (*REGIONS, "v_region")), float),
    **dict.fromkeys((f"cosine_{region}" for region in (*REGIONS, "whole", "cdrs", "fwr")), float),
    **dict.fromkeys(("same_v", "same_j"), bool),
}

_HEADER_ESCAPES = str.maketrans({"\n": "\\n", "\r": "\\r"})
_CSV_SPECIAL = re.compile(r'[,"\r\n]')
_FASTA_WIDTH = 60  # residues a line, as UniProt
_TABLE_BLOCK = 500
_TABLE_MIN_COLUMN = 8  # characters; narrower, rich would cut columns
_PARQUET_BLOCK = 50_000

Types = Mapping[str, type]
Writer = Callable[[Iterable[Row], Sequence[str], TextIO, Types], None]


@dataclass(frozen=True, slots=True)
class HitFormat:
    """A way to write hits.

    Parameters
    ----------
    name : str
        As ``--format`` takes it.
    write : callable
        Takes rows, columns, an open text file and the column types.
    summary : str
        One line for help texts.
    columns : tuple of str
        The columns it writes, all of an alignment; empty: those that are chosen.
    """

    name: str
    write: Writer
    summary: str
    columns: tuple[str, ...] = ()


HIT_FORMATS: dict[str, HitFormat] = {}


def hit_format(name: str) -> HitFormat:
    """Look up a format.

    Raises
    ------
    ParameterError
        If there is none of that name.
    """
    try:
        return HIT_FORMATS[name]
    except KeyError:
        raise ParameterError("format", name, f"one of: {', '.join(HIT_FORMATS)}") from None


def write_hits(
    rows: Iterable[Row],
    columns: Sequence[str],
    format: str,
    out: TextIO | str | Path,
    *,
    types: Types | None = None,
) -> None:
    r"""Write hits as they come.

    Parameters
    ----------
    rows : iterable of mapping
        One for each hit. Values are str, int, float, bool or None; NumPy scalars are taken too.
    columns : sequence of str
        What to write, in this order; fasta looks at ``target``, ``description`` and ``tseq`` only, m8 and
        pairwise at the columns of their `HitFormat`.
    format : str
        A name in `HIT_FORMATS`.
    out : text file, str or Path
        An open file is left open. A path is written by `open_output`.
    types : mapping of str to type, optional
        Types of columns that `COLUMN_TYPES` does not know, for parquet: str (the default), int,
        float or bool.

    Raises
    ------
    ParameterError
        If the format is unknown, no column or one twice is chosen, a value does not fit the type
        of its column, or `out` takes no bytes and the format needs that.
    StorageError
        If the operating system refuses the write.

    Examples
    --------
    >>> import io
    >>> out = io.StringIO()
    >>> write_hits([{"query": "q", "target": "a", "score": 0.5}], ["query", "target", "score"], "csv", out)
    >>> out.getvalue()
    'query,target,score\nq,a,0.500000\n'
    """
    if not columns or len(set(columns)) != len(columns):
        raise ParameterError("columns", ",".join(columns), "at least one column, and none twice")
    write = hit_format(format).write
    known = {**COLUMN_TYPES, **(types or {})}
    if isinstance(out, (str, Path)):
        with open_output(out) as file:
            write(rows, columns, file, known)
    else:
        write(rows, columns, out, known)


def _register(name: str, summary: str) -> Callable[[Writer], Writer]:
    def add(write: Writer) -> Writer:
        HIT_FORMATS[name] = HitFormat(name, write, summary)
        return write

    return add


# --- Text ----------------------------------------------------------------------------------------


@_register("table", "aligned, for a terminal")
def _write_table(rows: Iterable[Row], columns: Sequence[str], out: TextIO, types: Types) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(file=out, highlight=False)
    console.width = max(console.width, _TABLE_MIN_COLUMN * len(columns))
    for i, block in enumerate(_blocks(rows, _TABLE_BLOCK)):
        table = Table(box=None, pad_edge=False, show_header=i == 0)
        for column in columns:
            right = types.get(column, str) in (int, float)
            table.add_column(Text(visible(column)), justify="right" if right else "left", overflow="fold")
        for row in block:
            table.add_row(*(Text(visible(cell)) for cell in cell_texts(row, columns)))
        console.print(table)


@_register("tsv", "tab-separated, with a header")
def _write_tsv(rows: Iterable[Row], columns: Sequence[str], out: TextIO, types: Types) -> None:
    out.write("\t".join(column.translate(TSV_ESCAPES) for column in columns) + "\n")
    for row in rows:
        out.write("\t".join(cell.translate(TSV_ESCAPES) for cell in cell_texts(row, columns)) + "\n")


@_register("csv", "comma-separated, with a header")
def _write_csv(rows: Iterable[Row], columns: Sequence[str], out: TextIO, types: Types) -> None:
    for cells in chain([columns], (cell_texts(row, columns) for row in rows)):
        line = ",".join(map(_quoted, cells))
        out.write((line or '""') + "\n")  # one column and no value: not a blank line


def _quoted(cell: str) -> str:
    """Quote where RFC 4180 asks for it; `csv.writer` leaves a bare carriage return bare."""
    return '"' + cell.replace('"', '""') + '"' if _CSV_SPECIAL.search(cell) else cell


@_register("jsonl", "one JSON object a line")
def _write_jsonl(rows: Iterable[Row], columns: Sequence[str], out: TextIO, types: Types) -> None:
    for row in rows:
        values = {column: _json_value(row.get(column)) for column in columns}
        out.write(json.dumps(values, ensure_ascii=False, allow_nan=False) + "\n")


def _json_value(value: object) -> object:
    value = scalar(value)
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


@_register("fasta", "the sequence of each target, once")
def _write_fasta(rows: Iterable[Row], columns: Sequence[str], out: TextIO, types: Types) -> None:
    seen = set()
    for row in rows:
        target = cell_text("target", row.get("target"))
        if target in seen:
            continue
        seen.add(target)
        residues = row.get("tseq")
        if not isinstance(residues, str) or not residues:
            raise ParameterError("tseq", residues, "the residues of the target, in every row")
        header = f"{target} {cell_text('description', row.get('description'))}".rstrip()
        out.write(f">{header.translate(_HEADER_ESCAPES)}\n")
        for start in range(0, len(residues), _FASTA_WIDTH):
            out.write(residues[start : start + _FASTA_WIDTH] + "\n")


def _write_aligned(write: Callable[[Iterable[Row], TextIO], None]) -> Writer:
    return lambda rows, columns, out, types: write(rows, out)


HIT_FORMATS["m8"] = HitFormat(
    "m8", _write_aligned(write_m8), "BLAST's 12 columns, no header; after re-ranking", M8_COLUMNS
)
HIT_FORMATS["pairwise"] = HitFormat(
    "pairwise", _write_aligned(write_pairwise), "every alignment in full; after re-ranking", PAIRWISE_COLUMNS
)


# --- Parquet -------------------------------------------------------------------------------------


@_register("parquet", "typed columns, for polars, pandas and DuckDB")
def _write_parquet(rows: Iterable[Row], columns: Sequence[str], out: TextIO, types: Types) -> None:
    import polars as pl

    binary = getattr(out, "buffer", None)
    if binary is None:
        raise ParameterError("out", out, "a path or a file that takes bytes, for parquet")
    polars_types: dict[type, Any] = {str: pl.String, int: pl.Int64, float: pl.Float64, bool: pl.Boolean}
    schema = {column: polars_types[types.get(column, str)] for column in columns}
    with tempfile.TemporaryDirectory(prefix="plmsearch-hits-") as folder:
        whole = _joined_parts(_frames(rows, columns, types, schema), Path(folder))
        out.flush()
        with whole.open("rb") as file:
            shutil.copyfileobj(file, binary)


def _frames(
    rows: Iterable[Row], columns: Sequence[str], types: Types, schema: Mapping[str, Any]
) -> Iterator[pl.DataFrame]:
    """Make frames of bounded size; one without rows if there are none."""
    import polars as pl

    for block in _blocks(rows, _PARQUET_BLOCK):
        yield pl.DataFrame(
            {c: [_typed(c, row.get(c), types.get(c, str)) for row in block] for c in columns}, schema=schema
        )


def _joined_parts(frames: Iterable[pl.DataFrame], folder: Path) -> Path:
    """Write each frame to a file of its own, then join these without loading them whole."""
    import polars as pl

    parts = []
    for i, frame in enumerate(frames):
        parts.append(folder / f"{i}.parquet")
        with _refusals(folder):
            frame.write_parquet(parts[-1])
    if len(parts) == 1:
        return parts[0]
    whole = folder / "whole.parquet"
    with _refusals(folder):
        pl.scan_parquet(parts, glob=False).sink_parquet(whole)
    return whole


@contextmanager
def _refusals(folder: Path) -> Iterator[None]:
    import polars as pl

    try:
        yield
    except (pl.exceptions.PolarsError, OSError) as exc:
        raise StorageError(folder, f"cannot be written: {exc}", hint="make room, or set TMPDIR") from exc


def _typed(column: str, value: object, kind: type) -> object:
    value = scalar(value)
    too_large = isinstance(value, int) and abs(value) >= 1 << 63
    if value is None or (type(value) is kind and not too_large):
        return value
    if kind is str:
        return cell_text("", value)
    if kind is float and type(value) is int:
        return float(value)
    raise ParameterError(f"value of column {column!r}", value, f"of type {kind.__name__}")


def _blocks(rows: Iterable[Row], size: int) -> Iterator[list[Row]]:
    """Yield lists of at most `size` rows; one empty list if there are none."""
    iterator = iter(rows)
    block = list(islice(iterator, size))
    yield block
    while block := list(islice(iterator, size)):
        yield block
