"""Turn chains or variable domains into vectors of several spaces at once, out of the same forward passes.

A space of chains reads the whole sequence (`plmsearch.embedding.embed`); a space of domains reads one
variable domain, and pools the residues of a region in the context of all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import numpy as np

from plmsearch.domains import region_places
from plmsearch.embedding.base import Embedder
from plmsearch.embedding.batching import DEFAULT_BATCH_TOKENS, token_batches
from plmsearch.embedding.embed import embed_sequences, plan_of
from plmsearch.embedding.pooling import max_pool, mean_pool
from plmsearch.embedding.spec import EmbeddingSpec
from plmsearch.errors import ParameterError, SequenceTooLongError
from plmsearch.types import Bool1D, Float1D, Float2D, Int1D
from plmsearch.vectors import check_vectors

__all__ = ["EmbeddedUnits", "Unit", "embed_units", "forward_key"]


class Unit(NamedTuple):
    """What a model reads in one go.

    Parameters
    ----------
    residues : str
    ends : tuple of int
        Of a variable domain, where its regions end (`plmsearch.domains.CutDomain`); empty for a chain.
    """

    residues: str
    ends: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class EmbeddedUnits:
    """Vectors of a list of units and what happened to each.

    Parameters
    ----------
    vectors : mapping of EmbeddingSpec to ndarray, dtype=float32, shape=(n, d)
        Row order equals input order; not normalised. A row whose unit lacks the region is zero.
    present : mapping of EmbeddingSpec to ndarray, dtype=bool, shape=(n,)
        Whether the unit has residues in the region of the space.
    n_windows, n_used, n_unknown : ndarray, dtype=int64, shape=(n,)
        As `plmsearch.embedding.embed.Embedded`.
    n_forward_passes : int
    """

    vectors: Mapping[EmbeddingSpec, Float2D]
    present: Mapping[EmbeddingSpec, Bool1D]
    n_windows: Int1D
    n_used: Int1D
    n_unknown: Int1D
    n_forward_passes: int


def forward_key(spec: EmbeddingSpec) -> tuple[object, ...]:
    """Return what spaces must share to come out of the same forward passes.

    Layers come out together, and so do regions of a domain.
    """
    return (spec.model_id, spec.weights_digest, spec.pooling, spec.long, spec.numbering)


def embed_units(
    embedder: Embedder,
    units: Sequence[Unit],
    specs: Sequence[EmbeddingSpec],
    batch_tokens: int = DEFAULT_BATCH_TOKENS,
    *,
    on_progress: Callable[[int], None] | None = None,
) -> EmbeddedUnits:
    """Embed chains or domains in spaces of one `forward_key`, and return them in the order given.

    Parameters
    ----------
    embedder : Embedder
    units : sequence of Unit
        Domains, with their `Unit.ends`, if the spaces are of domains.
    specs : sequence of EmbeddingSpec
    batch_tokens : int
        Budget of one forward pass.
    on_progress : callable, optional
        Called with the number of units finished since the last call.

    Raises
    ------
    ParameterError
        If the specs do not have one `forward_key`.
    SequenceTooLongError
        If a domain is longer than the model reads.
    InvalidVectorError
        If the model returned NaN, infinity or zero.
    """
    if len({forward_key(spec) for spec in specs}) != 1:
        raise ParameterError("specs", [s.name for s in specs], "alike but for layer and region")
    if specs[0].reads_domains:
        return _embed_domains(embedder, units, specs, batch_tokens, on_progress)
    plan = plan_of(specs, batch_tokens)
    made = embed_sequences(embedder, [u.residues for u in units], plan, on_progress=on_progress)
    everywhere = np.ones(len(units), dtype=np.bool_)
    return EmbeddedUnits(
        {spec: made.vectors[spec.layer] for spec in specs},
        dict.fromkeys(specs, everywhere),
        made.n_windows,
        made.n_used,
        made.n_unknown,
        made.n_forward_passes,
    )


def _embed_domains(
    embedder: Embedder,
    units: Sequence[Unit],
    specs: Sequence[EmbeddingSpec],
    batch_tokens: int,
    on_progress: Callable[[int], None] | None,
) -> EmbeddedUnits:
    for number, unit in enumerate(units, start=1):
        if len(unit.residues) > embedder.card.max_residues:
            raise SequenceTooLongError(f"#{number}", len(unit.residues), embedder.card.max_residues)
    regions = {spec.region for spec in specs}
    places = [{region: region_places(unit.ends, region) for region in regions} for unit in units]
    vectors = {spec: np.zeros((len(units), spec.dim), dtype=np.float32) for spec in specs}
    present = {
        spec: cast(Bool1D, np.array([bool(p[spec.region]) for p in places], dtype=np.bool_)) for spec in specs
    }
    layers = tuple(dict.fromkeys(spec.layer for spec in specs))
    n_batches = 0
    for batch in token_batches([len(u.residues) for u in units], batch_tokens):
        output = embedder.residue_embeddings([units[i].residues for i in batch], layers)
        for row, i in enumerate(batch):
            for spec in specs:
                if present[spec][i]:
                    residues = output.layers[spec.layer][row]
                    vectors[spec][i] = _pooled(residues, places[i][spec.region], spec)
        n_batches += 1
        if on_progress is not None:
            on_progress(len(batch))
    for spec in specs:
        check_vectors(vectors[spec][present[spec]])
    alphabet = frozenset(embedder.card.alphabet)
    return EmbeddedUnits(
        vectors,
        present,
        np.ones(len(units), dtype=np.int64),
        np.array([len(u.residues) for u in units], dtype=np.int64),
        np.array([sum(c not in alphabet for c in u.residues) for u in units], dtype=np.int64),
        n_batches,
    )


def _pooled(residues: Float2D, places: Sequence[tuple[int, int]], spec: EmbeddingSpec) -> Float1D:
    """Pool the residues of a region; those of one domain only, never what stands behind it as padding."""
    chosen = residues[places[0][0] : places[0][1]]
    if len(places) > 1:
        chosen = np.concatenate([residues[start:end] for start, end in places])
    return max_pool(chosen) if spec.pooling == "max" else mean_pool(chosen)
