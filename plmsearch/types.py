"""Array aliases that show rank and dtype, and the small names used everywhere.

Concepts
--------
A *vector id* is the int64 key of one stored sequence; it names the same row in every space. A
*sequence hash* is the SHA-256 of the normalised residue string.
"""

from __future__ import annotations

from typing import Any, NewType, TypeAlias

import numpy as np

__all__ = [
    "Bool1D",
    "Bool2D",
    "Float1D",
    "Float2D",
    "Float3D",
    "Int1D",
    "Int2D",
    "SequenceHash",
    "VectorId",
]

Float1D: TypeAlias = np.ndarray[tuple[Any], np.dtype[np.float32]]
Float2D: TypeAlias = np.ndarray[tuple[Any, Any], np.dtype[np.float32]]
Float3D: TypeAlias = np.ndarray[tuple[Any, Any, Any], np.dtype[np.float32]]
Int1D: TypeAlias = np.ndarray[tuple[Any], np.dtype[np.int64]]
Int2D: TypeAlias = np.ndarray[tuple[Any, Any], np.dtype[np.int64]]
Bool1D: TypeAlias = np.ndarray[tuple[Any], np.dtype[np.bool_]]
Bool2D: TypeAlias = np.ndarray[tuple[Any, Any], np.dtype[np.bool_]]

VectorId = NewType("VectorId", int)
SequenceHash = NewType("SequenceHash", str)
