"""Stub until merged."""

from __future__ import annotations

from collections.abc import Mapping

from plmsearch.embedding.spec import EmbeddingSpec
from plmsearch.types import Float1D


def reference_centres(spec: EmbeddingSpec) -> Mapping[str, Float1D] | None:
    """Nothing."""
    return None
