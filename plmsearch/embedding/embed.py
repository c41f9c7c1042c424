"""Turn sequences into vectors: windows, batches, forward passes, pooling, original order.

This is done once, here, for every model. The result does not depend on how sequences were batched
beyond the rounding of the model itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from plmsearch.embedding.base import Embedder, ResidueEmbeddings
from plmsearch.embedding.batching import (
    DEFAULT_BATCH_TOKENS,
    coverage_weights,
    default_overlap,
    token_batches,
    windows,
)
from plmsearch.embedding.pooling import Partial, combine_mean, max_pool, weighted_sum
from plmsearch.embedding.spec import EmbeddingSpec, Pooling
from plmsearch.errors import ParameterError, SequenceTooLongError
from plmsearch.types import Float1D, Float2D, Int1D
from plmsearch.vectors import check_vectors

__all__ = ["EmbedPlan", "Embedded", "embed_sequences", "make_specs", "plan_of"]


@dataclass(frozen=True, slots=True)
class EmbedPlan:
    """How sequences become vectors.

    Parameters
    ----------
    layers : tuple of int
        Resolved layers; all come out of one forward pass.
    pooling : {"mean", "max", "cls"}
    max_residues : int
        Length of a window, or where truncation cuts.
    overlap : int
        Residues neighbouring windows share at least.
    long : {"window", "truncate", "error"}
    batch_tokens : int
        Budget of one forward pass.
    """

    layers: tuple[int, ...]
    pooling: Pooling
    max_residues: int
    overlap: int
    long: Literal["window", "truncate", "error"] = "window"
    batch_tokens: int = DEFAULT_BATCH_TOKENS


@dataclass(frozen=True, slots=True)
class Embedded:
    """Vectors of a list of sequences and what happened to each.

    Parameters
    ----------
    vectors : mapping of int to ndarray, dtype=float32, shape=(n, d)
        Per layer; row order equals input order; not normalised; finite and not all zero.
    n_windows : ndarray, dtype=int64, shape=(n,)
        Windows read; 1 for a sequence that fits.
    n_used : ndarray, dtype=int64, shape=(n,)
        Residues that entered the vector; fewer than the sequence has only if truncated.
    n_unknown : ndarray, dtype=int64, shape=(n,)
        Residues read as the model's unknown token.
    n_forward_passes : int
    """

    vectors: Mapping[int, Float2D]
    n_windows: Int1D
    n_used: Int1D
    n_unknown: Int1D
    n_forward_passes: int


@dataclass(frozen=True, slots=True)
class _Window:
    """One stretch of one sequence, as the model reads it."""

    sequence: int
    number: int
    residues: str
    weights: Float1D | None


def make_specs(
    embedder: Embedder,
    layers: Sequence[int],
    *,
    pooling: Pooling = "mean",
    long: Literal["window", "truncate"] = "window",
    regions: Sequence[str] = ("whole",),
    numbering: str = "",
) -> tuple[EmbeddingSpec, ...]:
    """Name the spaces that an embedder's layers make, layer by layer.

    `regions` are those of a variable domain if `numbering` says how it is cut out.

    Raises
    ------
    ParameterError
        If `pooling` is ``cls`` and the model has no begin-of-sequence token, or domains are read.
    """
    card = embedder.card
    if pooling == "cls" and not card.has_cls:
        raise ParameterError("pool", "cls", f"mean or max: {card.model_id} has no begin-of-sequence token")
    if pooling == "cls" and numbering:
        raise ParameterError("pool", "cls", "mean or max: the first token stands for no region of a domain")
    return tuple(
        EmbeddingSpec(
            model_id=card.model_id,
            weights_digest=embedder.weights_digest,
            layer=layer,
            dim=card.dim,
            max_residues=card.max_residues,
            overlap=default_overlap(card.max_residues) if long == "window" else 0,
            long=long,
            pooling=pooling,
            region=region,
            numbering=numbering,
        )
        for layer in layers
        for region in regions
    )


def plan_of(specs: Sequence[EmbeddingSpec], batch_tokens: int = DEFAULT_BATCH_TOKENS) -> EmbedPlan:
    """Return the plan that fills spaces which differ in nothing but the layer.

    Raises
    ------
    ParameterError
        If the specs differ in more than the layer.
    """
    first = specs[0]
    if batch_tokens < 1:
        raise ParameterError("batch_tokens", batch_tokens, "at least 1")
    key = (first.model_id, first.weights_digest, first.pooling, first.long, first.max_residues, first.overlap)
    for s in specs:
        if (s.model_id, s.weights_digest, s.pooling, s.long, s.max_residues, s.overlap) != key:
            raise ParameterError("specs", s.name, f"like {first.name} but for the layer")
    return EmbedPlan(
        layers=tuple(s.layer for s in specs),
        pooling=first.pooling,
        max_residues=first.max_residues,
        overlap=first.overlap,
        long=first.long,
        batch_tokens=batch_tokens,
    )


def embed_sequences(
    embedder: Embedder,
    sequences: Sequence[str],
    plan: EmbedPlan,
    *,
    on_progress: Callable[[int], None] | None = None,
) -> Embedded:
    """Embed sequences and return them in the order given.

    Parameters
    ----------
    embedder : Embedder
    sequences : sequence of str
        Normalised and validated residues, each of at least one residue.
    plan : EmbedPlan
    on_progress : callable, optional
        Called with the number of sequences finished since the last call.

    Returns
    -------
    Embedded

    Raises
    ------
    SequenceTooLongError
        If `plan.long` is ``error`` and a sequence does not fit.
    InvalidVectorError
        If the model returned NaN, infinity or zero.
    """
    alphabet = frozenset(embedder.card.alphabet)
    cut = [_cut(i, sequence, plan) for i, sequence in enumerate(sequences)]
    items = [window for windows_of_one in cut for window in windows_of_one]
    parts: list[list[dict[int, Partial | Float1D]]] = [[{} for _ in w] for w in cut]
    missing = [len(w) for w in cut]
    batches = list(token_batches([len(w.residues) for w in items], plan.batch_tokens))
    for batch in batches:
        output = embedder.residue_embeddings([items[i].residues for i in batch], plan.layers)
        for row, i in enumerate(batch):
            item = items[i]
            parts[item.sequence][item.number] = _pool_window(output, row, item, plan)
            missing[item.sequence] -= 1
        if on_progress is not None:
            on_progress(sum(missing[s] == 0 for s in {items[i].sequence for i in batch}))
    vectors = {layer: _combine(parts, layer, plan.pooling, embedder.card.dim) for layer in plan.layers}
    for array in vectors.values():
        check_vectors(array)
    used = [s[: plan.max_residues] if plan.long == "truncate" else s for s in sequences]
    return Embedded(
        vectors=vectors,
        n_windows=np.array([len(w) for w in cut], dtype=np.int64),
        n_used=np.array([len(s) for s in used], dtype=np.int64),
        n_unknown=np.array([sum(c not in alphabet for c in s) for s in used], dtype=np.int64),
        n_forward_passes=len(batches),
    )


def _cut(position: int, residues: str, plan: EmbedPlan) -> list[_Window]:
    """Cut one sequence by the plan's policy."""
    if len(residues) <= plan.max_residues:
        return [_Window(position, 0, residues, None)]
    if plan.long == "error":
        raise SequenceTooLongError(f"#{position + 1}", len(residues), plan.max_residues)
    if plan.long == "truncate":
        return [_Window(position, 0, residues[: plan.max_residues], None)]
    cuts = windows(len(residues), plan.max_residues, plan.overlap)
    weights = coverage_weights(cuts)
    return [
        _Window(position, number, residues[start:stop], weights[number])
        for number, (start, stop) in enumerate(cuts)
    ]


def _pool_window(
    output: ResidueEmbeddings, row: int, item: _Window, plan: EmbedPlan
) -> dict[int, Partial | Float1D]:
    """Pool one row of a batch, layer by layer."""
    n = len(item.residues)
    pooled: dict[int, Partial | Float1D] = {}
    for layer in plan.layers:
        if plan.pooling == "cls":
            # A copy, or the whole batch stays in memory behind a view of one row.
            pooled[layer] = Partial(output.special[layer][row] * np.float32(n), float(n))
        elif plan.pooling == "max":
            pooled[layer] = max_pool(output.layers[layer][row, :n])
        else:
            pooled[layer] = weighted_sum(output.layers[layer][row, :n], item.weights)
    return pooled


def _combine(
    parts: Sequence[Sequence[Mapping[int, Partial | Float1D]]], layer: int, pooling: Pooling, dim: int
) -> Float2D:
    """Join the windows of every sequence into rows of one array."""
    out = np.empty((len(parts), dim), dtype=np.float32)
    for row, windows_of_one in enumerate(parts):
        values = [w[layer] for w in windows_of_one]
        if pooling == "max":
            out[row] = np.max(np.stack([v for v in values if isinstance(v, np.ndarray)]), axis=0)
        else:
            out[row] = combine_mean([v for v in values if isinstance(v, Partial)])
    return out
