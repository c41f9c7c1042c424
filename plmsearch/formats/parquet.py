"""Parquet files as a stream of rows.

Text, whole numbers, floats and booleans keep their type; the rest becomes text: decimals as
written, dates and times in ISO 8601, binary in hexadecimal, nested values as JSON. Null and NaN
are None. Memory is bounded by one row group, not by the file.

Limitations
-----------
Needs polars 1.34, the first with ``collect_batches``. That call ends early in silence when one of
its threads fails on a damaged file, so the rows are counted against the file's own number.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from plmsearch.errors import FileFormatError
from plmsearch.formats.compression import open_raw

if TYPE_CHECKING:
    import polars as pl

__all__ = ["PARQUET_MAGIC", "ParquetTable", "open_parquet"]

PARQUET_MAGIC = b"PAR1"
_BATCH_ROWS = 4096


@dataclass(frozen=True, slots=True)
class ParquetTable:
    """A Parquet file whose schema has been read.

    Parameters
    ----------
    path : Path
        The file.
    source : str
        Name for messages.
    columns : tuple of str
        Column names, in order.
    kinds : mapping of str to str
        ``text``, ``integer`` or ``other``, by column: what may be an id and what may be residues.
    n_rows : int
        By the file's own metadata.
    """

    path: Path
    source: str
    columns: tuple[str, ...]
    kinds: dict[str, str]
    n_rows: int

    #: What `rows` counts.
    unit = "row"
    format = "parquet"

    def rows(self) -> Iterator[tuple[int, list[object]]]:
        """Yield the number of each row, from 1, and its values.

        Raises
        ------
        FileFormatError
            If the file is damaged or holds fewer rows than it says.
        """
        import polars as pl

        row = 0
        with _translated(self.source):
            frame = pl.scan_parquet(self.path, glob=False)
            plain = frame.select(
                _plain(pl.col(name), dtype) for name, dtype in frame.collect_schema().items()
            )
            for batch in plain.collect_batches(chunk_size=_BATCH_ROWS, maintain_order=True, lazy=True):
                for values in batch.iter_rows():
                    row += 1
                    yield row, [_value(value) for value in values]
        if row != self.n_rows:
            raise FileFormatError(self.source, f"is damaged: {row} of its {self.n_rows} rows can be read")


def open_parquet(path: str | Path, source: str) -> ParquetTable:
    """Read the schema of a Parquet file.

    Raises
    ------
    InputNotFoundError
        If the file cannot be opened.
    FileFormatError
        If it is truncated or damaged.
    """
    import polars as pl

    open_raw(path).close()
    with _translated(source):
        frame = pl.scan_parquet(path, glob=False)
        schema = frame.collect_schema()
        n_rows = frame.select(pl.len()).collect().item()
    return ParquetTable(
        Path(path), source, tuple(schema), {name: _kind(dtype) for name, dtype in schema.items()}, n_rows
    )


@contextmanager
def _translated(source: str) -> Iterator[None]:
    import polars as pl

    try:
        yield
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as exc:
        reason = str(exc).partition("\n")[0]
        raise FileFormatError(source, f"is truncated or damaged Parquet: {reason}") from exc


def _kind(dtype: pl.DataType) -> str:
    import polars as pl

    if dtype.is_integer():
        return "integer"
    text = (pl.String, pl.Categorical, pl.Enum, pl.Null)
    return "text" if isinstance(dtype, text) else "other"


def _plain(column: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """Turn what JSON and SQL have no type for into text, where polars can do it exactly."""
    import polars as pl

    if dtype.is_temporal():
        return column.dt.to_string("iso:strict")
    if isinstance(dtype, (pl.Categorical, pl.Enum)) or dtype.is_decimal():
        return column.cast(pl.String)
    if isinstance(dtype, pl.Binary):
        return column.bin.encode("hex")
    return column


def _value(value: object) -> object:
    if isinstance(value, (list, dict)):
        return json.dumps(value, ensure_ascii=False, default=_nested)
    if isinstance(value, float) and math.isnan(value):
        return None
    return value


def _nested(value: object) -> str:
    if isinstance(value, bytes):
        return value.hex()
    isoformat = getattr(value, "isoformat", None)
    return str(isoformat()) if isoformat else str(value)
