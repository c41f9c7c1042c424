"""Parquet files with a column of vectors: lists, or arrays of a fixed size, of floats.

The other columns are those of any table: an id, a sequence where there is one, a description, and
metadata. A metadata column that is called as one of `RECORD_COLUMNS` is written as ``meta.NAME``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from plmsearch.errors import FileFormatError, StorageError, TableFormatError
from plmsearch.formats.output import open_output_path
from plmsearch.formats.parquet import open_parquet
from plmsearch.formats.tables import ID_COLUMNS, SEQUENCE_COLUMNS, is_missing
from plmsearch.formats.vector_page import VectorPage, as_float32, checked_ids, own_name, refuse_shape
from plmsearch.sequences import SequenceRecord

if TYPE_CHECKING:
    import polars as pl

    from plmsearch.types import Float2D

__all__ = ["ParquetVectors", "open_vector_parquet", "write_vector_parquet"]

#: Key of the file's own metadata that holds the embedding space as JSON.
_SPEC = "plmsearch.spec"
_PART_BYTES = 64 << 20


_CAUTION = 0.9


@dataclass(frozen=True, slots=True)
class ParquetVectors:
    """A Parquet file whose schema has been read."""

    path: Path
    n_rows: int
    dim: int
    dtype: str
    id_column: str
    seq_column: str | None
    vector_column: str
    metadata: Sequence[str]
    description: bool
    spec_json: str

    format = "parquet"

    def pages(self, n_rows: int) -> Iterator[VectorPage]:
        """Yield the rows in order, `n_rows` at a time.

        Raises
        ------
        FileFormatError
            If the file is damaged, or a vector has another length.
        """
        import polars as pl

        n_seen = 0
        with _translated(self.path):
            frame = pl.scan_parquet(self.path, glob=False)
            for batch in frame.collect_batches(chunk_size=n_rows, maintain_order=True, lazy=True):
                yield self._page(batch, n_seen)
                n_seen += len(batch)
        if n_seen != self.n_rows:
            raise FileFormatError(
                str(self.path), f"is damaged: {n_seen} of its {self.n_rows} rows can be read"
            )

    def least_sequences(self) -> int:
        """Return a number that is hardly ever more than that of the distinct sequences.

        Without a column of sequences each row has one of its own. The estimate is within a few percent.
        """
        import polars as pl

        if self.seq_column is None:
            return self.n_rows
        with _translated(self.path):
            column = pl.scan_parquet(self.path, glob=False).select(pl.col(self.seq_column).approx_n_unique())
            return int(_CAUTION * column.collect().item())

    def _page(self, batch: pl.DataFrame, start: int) -> VectorPage:
        ids = checked_ids(str(self.path), batch[self.id_column].to_list())
        names = [self.id_column, *self.metadata]
        names += [self.seq_column] if self.seq_column else []
        names += ["description"] if self.description else []
        records = [
            self._record(row, n) for n, row in enumerate(batch.select(names).iter_rows(named=True), start + 1)
        ]
        return VectorPage(ids, as_float32(_matrix(batch[self.vector_column], self.dim, self.path)), records)

    def _record(self, row: Mapping[str, Any], number: int) -> SequenceRecord:
        residues = row[self.seq_column] if self.seq_column else None
        return SequenceRecord(
            record_id=row[self.id_column],
            sequence="" if residues is None or is_missing(residues) else residues,
            description=(row["description"] or "") if self.description else "",
            metadata={own_name(n): row[n] for n in self.metadata if row[n] is not None},
            source=str(self.path),
            row=number,
        )


def _matrix(column: pl.Series, dim: int, path: Path) -> np.ndarray[Any, np.dtype[Any]]:
    """Return lists or arrays as rows of a matrix."""
    import polars as pl

    values = column if isinstance(column.dtype, pl.Array) else column.cast(pl.List(_inner(column.dtype)))
    lengths = None if isinstance(column.dtype, pl.Array) else values.list.len()
    if column.null_count() or (lengths is not None and not (lengths == dim).all()):
        raise FileFormatError(str(path), f"has a row without a vector of {dim} components")
    flat = values.explode(empty_as_null=True, keep_nulls=True) if lengths is not None else values.explode()
    if flat.null_count():
        raise FileFormatError(str(path), "has a vector with a missing component")
    return flat.to_numpy().reshape(len(column), dim)


def _inner(dtype: Any) -> Any:
    return dtype.inner


def open_vector_parquet(
    path: Path, *, id_col: str | None = None, seq_col: str | None = None, vector_col: str | None = None
) -> ParquetVectors:
    """Read the schema of a Parquet file and find its columns.

    Raises
    ------
    FileFormatError
        If the file is damaged.
    TableFormatError
        If a column is missing or cannot be chosen.
    """
    import polars as pl

    table = open_parquet(path, str(path))
    with _translated(path):
        scan = pl.scan_parquet(path, glob=False)
        schema = scan.collect_schema()
        lists = [n for n, kind in schema.items() if isinstance(kind, (pl.List, pl.Array))]
        vector = _chosen(path, "--vector-col", vector_col, lists, lists)
        names = [n for n in schema if n not in lists]
        record_id = _chosen(path, "--id-col", id_col, names, _known(names, "record_id", ID_COLUMNS))
        known = _known(names, "sequence", SEQUENCE_COLUMNS)
        sequence = _chosen(path, "--seq-col", seq_col, names, known) if seq_col or known else None
        if table.kinds[record_id] != "text":
            raise TableFormatError(str(path), f"id column {record_id!r} is not text", hint="cast it to text")
        first = scan.select(vector).head(1).collect()[vector]
        dim = len(first[0]) if len(first) and first[0] is not None else 0
        inner = _inner(schema[vector])
        spec_json = pl.read_parquet_metadata(path).get(_SPEC, "")
    numpy_type = {pl.Float32: "float32", pl.Float64: "float64"}.get(inner.base_type(), "object")
    refuse_shape(str(path), (table.n_rows, dim), np.dtype(numpy_type))
    taken = {record_id, sequence, "description"}
    unread = [n for n in lists if n != vector]
    if unread:
        raise TableFormatError(str(path), f"has columns of lists that are no metadata: {', '.join(unread)}")
    return ParquetVectors(
        path=path,
        n_rows=table.n_rows,
        dim=dim,
        dtype=numpy_type,
        id_column=record_id,
        seq_column=sequence,
        vector_column=vector,
        metadata=[n for n in names if n not in taken],
        description="description" in names and "description" not in {record_id, sequence},
        spec_json=spec_json,
    )


def _known(names: Sequence[str], ours: str, others: Sequence[str]) -> list[str]:
    return [ours] if ours in names else [n for n in names if n.strip().lower() in others]


def _chosen(path: Path, flag: str, wanted: str | None, names: Sequence[str], known: Sequence[str]) -> str:
    if wanted is None and len(known) == 1:
        return known[0]
    if wanted in names:
        assert wanted is not None
        return wanted
    problem = f"there is no column {wanted!r}" if wanted else f"{len(known)} columns may be meant"
    raise TableFormatError(
        str(path), problem, hint=f"pass {flag} one of: {', '.join(names) or '(none fits)'}"
    )


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    import polars as pl

    try:
        yield
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as exc:
        reason = str(exc).partition("\n")[0]
        raise FileFormatError(str(path), f"is truncated or damaged Parquet: {reason}") from exc


def write_vector_parquet(
    pages: Iterable[tuple[Mapping[str, Sequence[object]], Float2D]],
    types: Mapping[str, type],
    dim: int,
    spec_json: str,
    path: str | Path,
) -> int:
    """Write records with their vectors; return how many.

    Parameters
    ----------
    pages : iterable of (mapping of str to sequence, ndarray of dtype float32 and shape (n, d))
        Columns by name, in the order of `types`, and the vectors of the same rows.
    types : mapping of str to {str, int, float, bool}
        Column types.
    dim : int
        d, of the column ``embedding``, an array of fixed size.
    spec_json : str
        The embedding space, kept in the file's own metadata.
    path : str or Path

    Raises
    ------
    StorageError
        If the file cannot be written; no half file is left.
    """
    import polars as pl

    kinds: dict[type, Any] = {str: pl.String, int: pl.Int64, float: pl.Float64, bool: pl.Boolean}
    schema = {name: kinds[kind] for name, kind in types.items()}
    n, about = 0, {_SPEC: spec_json}
    parts: list[Path] = []
    with open_output_path(path) as temporary:
        for columns, vectors in _large(pages, _PART_BYTES // (dim * 4) + 1):
            frame = pl.DataFrame(columns, schema=schema)
            embedding = pl.Series("embedding", vectors, dtype=pl.Array(pl.Float32, dim))
            parts.append(temporary.with_name(f"part-{len(parts)}"))
            with _refusals(path):
                frame.with_columns(embedding).write_parquet(parts[-1], metadata=about)
            n += len(vectors)
        with _refusals(path):
            if not parts:
                empty = pl.DataFrame(schema=schema | {"embedding": pl.Array(pl.Float32, dim)})
                empty.write_parquet(temporary, metadata=about)
            elif len(parts) == 1:
                parts[0].replace(temporary)
            else:
                pl.scan_parquet(parts, glob=False).sink_parquet(temporary, metadata=about)
    return n


def _large(
    pages: Iterable[tuple[Mapping[str, Sequence[object]], Float2D]], n_rows: int
) -> Iterator[tuple[dict[str, list[object]], Float2D]]:
    """Join pages until they have `n_rows` rows."""
    columns: dict[str, list[object]] = {}
    vectors: list[Float2D] = []
    for page, part in pages:
        for name, values in page.items():
            columns.setdefault(name, []).extend(values)
        vectors.append(part)
        if sum(map(len, vectors)) >= n_rows:
            yield columns, np.concatenate(vectors)
            columns, vectors = {}, []
    if vectors:
        yield columns, np.concatenate(vectors)


@contextmanager
def _refusals(path: str | Path) -> Iterator[None]:
    import polars as pl

    try:
        yield
    except (pl.exceptions.PolarsError, OSError) as exc:
        raise StorageError(path, f"cannot be written: {exc}") from exc
