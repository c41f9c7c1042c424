"""When two vectors of one sequence count as one."""

from __future__ import annotations

import numpy as np

from plmsearch.embedding.spec import EmbeddingSpec
from plmsearch.types import Float1D

__all__ = ["SAME_MODEL", "SAME_VECTOR", "agree", "is_near"]

#: Two vectors of a sequence made by one model in other precisions (bfloat16 and float32) differ by a few
#: percent of their length; float16 on the way to a file costs 5e-4.
SAME_MODEL = 0.1
SAME_VECTOR = 1e-3


def agree(spec: EmbeddingSpec, residues: str, vector: Float1D, stored: Float1D) -> bool:
    """Tell whether two vectors of one sequence may stand for each other.

    Parameters
    ----------
    spec : EmbeddingSpec
    residues : str
        Empty if the sequence is not known: its vector is then all there is of it.
    vector, stored : ndarray, dtype=float32, shape=(d,)
    """
    exactly = spec.is_external or not residues
    return is_near(vector, stored, SAME_VECTOR if exactly else SAME_MODEL)


def is_near(vector: Float1D, stored: Float1D, tolerance: float) -> bool:
    """Compare the length of the difference with the length of the stored vector."""
    exact = stored.astype(np.float64)
    return bool(np.linalg.norm(vector - exact) <= tolerance * np.linalg.norm(exact))
