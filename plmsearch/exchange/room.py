"""How much room an import needs at least."""

from __future__ import annotations

from plmsearch.database import Database
from plmsearch.formats.vector_parquet import ParquetVectors
from plmsearch.formats.vectors import VectorFile
from plmsearch.store.space_left import bytes_of_vectors, require_space

__all__ = ["require_room"]

_LOOK_AT = 1000


def require_room(database: Database, file: VectorFile) -> None:
    """Refuse an import whose new vectors do not fit on the disk.

    What is stored already is not stored again, and records of one sequence share a vector.

    Raises
    ------
    NotEnoughSpace
    """
    n_stored, is_alone = 0, True
    if database.exists:
        n_stored = len(database) + sum(s.n_vectors for s in database.spaces())
        is_alone = len(database.spaces()) < 2  # one beside others may have nothing written out
    n_bytes = bytes_of_vectors(_least_vectors(file) - n_stored, file.reader.dim, written_out=is_alone)
    require_space(database.path, n_bytes, "the import")


def _least_vectors(file: VectorFile) -> int:
    if file.records is None:
        if isinstance(file.reader, ParquetVectors):
            return file.reader.least_sequences()
        return file.reader.n_rows
    first = next(file.pages(_LOOK_AT), None)
    has_sequences = first is not None and any(r.sequence for r in first.records or ())
    return 0 if has_sequences else file.reader.n_rows
