"""What the readers of vector files share: a page of rows, and what every row must be."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from plmsearch.errors import FileFormatError
from plmsearch.sequences import SequenceRecord
from plmsearch.types import Float2D

__all__ = [
    "RECORD_COLUMNS",
    "VectorPage",
    "as_float32",
    "checked_ids",
    "column_name",
    "own_name",
    "refuse_shape",
]

#: Columns of an exported table that are no metadata.
RECORD_COLUMNS = ("record_id", "sequence", "description", "embedding")
_META = "meta."
_FLOATS = frozenset({"float16", "float32", "float64"})


@dataclass(frozen=True, slots=True)
class VectorPage:
    """Some rows of a file.

    Parameters
    ----------
    ids : sequence of str
        Empty if the file has no names.
    vectors : ndarray, dtype=float32, shape=(n, d)
    records : sequence of SequenceRecord or None
        What else is known of each row; None: nothing but its id.
    """

    ids: Sequence[str]
    vectors: Float2D
    records: Sequence[SequenceRecord] | None = None


def as_float32(raw: np.ndarray[Any, np.dtype[Any]]) -> Float2D:
    """Return an array as float32; what is too large becomes infinity, which no caller accepts."""
    with np.errstate(over="ignore"):
        return cast(Float2D, np.ascontiguousarray(raw, dtype=np.float32))


def refuse_shape(source: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Refuse what is not one vector of floats per row.

    Raises
    ------
    FileFormatError
    """
    if dtype.name not in _FLOATS:
        raise FileFormatError(source, f"holds {dtype.name}", hint=f"vectors are {', '.join(sorted(_FLOATS))}")
    if len(shape) != 2 or 0 in shape:
        raise FileFormatError(
            source, f"holds an array of shape {shape}", hint="vectors are one row per record: (n, dim)"
        )


def checked_ids(source: str, ids: Iterable[object]) -> list[str]:
    """Refuse ids that are no strings, or empty.

    Raises
    ------
    FileFormatError
    """
    checked: list[str] = []
    for row, one in enumerate(ids, start=1):
        if not isinstance(one, str) or not one.strip():
            raise FileFormatError(
                source, f"row {row} has the id {one!r}", hint="ids are strings of characters"
            )
        checked.append(one)
    return checked


def column_name(name: str, taken: Sequence[str] = ()) -> str:
    """Return the column in which metadata of a name is written; `taken` are more columns that are none.

    Examples
    --------
    >>> column_name("v_call"), column_name("sequence"), own_name("meta.sequence")
    ('v_call', 'meta.sequence', 'sequence')
    """
    return f"{_META}{name}" if name in RECORD_COLUMNS or name in taken else name


def own_name(column: str) -> str:
    """Return the metadata name that `column_name` wrote."""
    name = column.removeprefix(_META)
    return name if name in RECORD_COLUMNS else column
