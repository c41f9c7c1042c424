"""Vectors of heavy chains by which families are told: made by AntiBERTy here, or given in a file.

What is made is chosen from docs/decisions/0021-family-methods.md: of the heavy variable domain, cut from
its chain before the model reads it, the mean over all residues and the mean over CDR3, in layer 6; from
each the shipped reference centre of its locus is taken off; each is scaled to unit length, weighted and
joined to the other. The product of two such vectors is the weighted mean of two cosines.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from plmsearch.embedding.base import Embedder
from plmsearch.embedding.batching import DEFAULT_BATCH_TOKENS, default_overlap, token_batches
from plmsearch.embedding.centres import reference_centres
from plmsearch.embedding.spec import EmbeddingSpec
from plmsearch.errors import EmbeddingError, FileFormatError
from plmsearch.formats.vectors import open_vectors
from plmsearch.numbering import Domain, ImmunumNumberer, Numberer
from plmsearch.types import Float2D, Int1D
from plmsearch.vectors import unit_vectors

__all__ = [
    "LAYER",
    "MODEL",
    "REGION_WEIGHTS",
    "RowVectors",
    "given_vectors",
    "made_vectors",
    "region_vectors",
]

MODEL = "antiberty"
LAYER = 6
#: Share of each region in the product of two vectors.
REGION_WEIGHTS: Mapping[str, float] = {"whole": 0.4, "cdr3": 0.6}
_LOCUS = "IGH"
_PAGE = 50_000


@dataclass(frozen=True, slots=True)
class RowVectors:
    """Vectors of the rows of a table.

    Parameters
    ----------
    vectors : ndarray, dtype=float32, shape=(m, d)
        Of unit length.
    of_row : ndarray, dtype=int64, shape=(n,)
        Place of each row's vector; -1 where it has none.
    facts : mapping
        What they are, in values that JSON can hold.
    """

    vectors: Float2D
    of_row: Int1D
    facts: Mapping[str, Any]


def region_vectors(
    embedder: Embedder, domains: Sequence[Domain], on_progress: Callable[[int], None] | None = None
) -> dict[str, Float2D]:
    """Embed variable domains and average over each of `REGION_WEIGHTS`, in the context of the domain.

    Parameters
    ----------
    embedder : Embedder
    domains : sequence of Domain, length n
    on_progress : callable, optional
        Called with the number of domains finished since the last call.

    Returns
    -------
    dict of str to ndarray, dtype=float32, shape=(n, d)
        Raw means by region, in the order of the domains.
    """
    residues = ["".join(domain.regions.values()) for domain in domains]
    found = {name: np.zeros((len(domains), embedder.card.dim), np.float32) for name in REGION_WEIGHTS}
    for batch in token_batches([len(r) for r in residues], DEFAULT_BATCH_TOKENS):
        output = embedder.residue_embeddings([residues[i] for i in batch], [LAYER]).layers[LAYER]
        for row, i in enumerate(batch):
            start = residues[i].rindex(domains[i].regions["cdr3"] + domains[i].regions["fwr4"])
            places = {"whole": slice(0, len(residues[i]))}
            places["cdr3"] = slice(start, start + len(domains[i].regions["cdr3"]))
            for name, place in places.items():
                found[name][i] = output[row, place].mean(axis=0)
        if on_progress is not None:
            on_progress(len(batch))
    return found


def made_vectors(
    chains: Sequence[str],
    embedder: Embedder,
    numberer: Numberer | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> RowVectors:
    """Embed the heavy variable domain of each chain, equal ones once.

    Parameters
    ----------
    chains : sequence of str, length n
        Residues; "" for a row that is not asked for.
    embedder : Embedder
    numberer : Numberer, optional
        Default: immunum.
    on_progress : callable, optional

    Returns
    -------
    RowVectors
        No vector for a chain without, or with several, heavy variable domains, or with one longer than
        the model reads.

    Raises
    ------
    EmbeddingError
        If these weights have no reference centres.
    """
    numberer = numberer or ImmunumNumberer()
    place_of: dict[str, int] = {}
    distinct: list[Domain] = []
    places: dict[str, int] = {"": -1}
    for chain in chains:
        if chain not in places:
            heavy = [d for d in numberer.domains(chain, ("IG",)) if d.locus == _LOCUS]
            places[chain] = -1
            if len(heavy) == 1 and heavy[0].end - heavy[0].start <= embedder.card.max_residues:
                key = chain[heavy[0].start : heavy[0].end]
                if key not in place_of:
                    place_of[key] = len(distinct)
                    distinct.append(heavy[0])
                places[chain] = place_of[key]
    means = region_vectors(embedder, distinct, on_progress)
    parts = []
    for name, weight in REGION_WEIGHTS.items():
        centred = means[name] - _centre(embedder, name, numberer)
        parts.append(np.float32(np.sqrt(weight)) * unit_vectors(centred, embedder.card.dim))
    vectors = cast(Float2D, np.concatenate(parts, axis=1))
    of_row = np.array([places[chain] for chain in chains], np.int64)
    return RowVectors(vectors, of_row, _facts(embedder, numberer))


def _centre(embedder: Embedder, region: str, numberer: Numberer) -> Any:
    card = embedder.card
    spec = EmbeddingSpec(
        model_id=card.model_id, weights_digest=embedder.weights_digest, layer=LAYER, dim=card.dim,
        max_residues=card.max_residues, overlap=default_overlap(card.max_residues), long="window",
        pooling="mean", region=region, numbering=numberer.describe(),
    )  # fmt: skip
    centres = reference_centres(spec)
    if centres is None:
        raise EmbeddingError(
            f"there are no reference centres for these weights of {card.model_id}",
            hint="use the weights that the package antiberty brings, or give vectors with --vectors",
        )
    return centres[_LOCUS]


def _facts(embedder: Embedder, numberer: Numberer) -> dict[str, Any]:
    return {
        "model": embedder.card.model_id,
        "weights_digest": embedder.weights_digest,
        "layer": LAYER,
        "regions": dict(REGION_WEIGHTS),
        "pooling": "mean",
        "centres": f"shipped, {_LOCUS}",
        "numbering": numberer.describe(),
        "precision": embedder.precision,
        "device": embedder.device,
    }


def given_vectors(path: str | Path, ids: Sequence[str], wanted: Sequence[bool]) -> RowVectors:
    """Read the vectors of rows from a file.

    Parameters
    ----------
    path : str or Path
        As `plmsearch.formats.vectors.open_vectors` takes it; with ids.
    ids : sequence of str, length n
        ``sequence_id`` of each row.
    wanted : sequence of bool, length n
        Whether the row's vector is needed.

    Returns
    -------
    RowVectors
        No vector for an id that the file lacks.

    Raises
    ------
    FileFormatError
        If the file has an id twice, no ids, or none of those wanted.
    """
    file = open_vectors(path)
    rows: dict[str, int] = {}
    n_rows = 0
    needed = {one for one, want in zip(ids, wanted, strict=True) if want}
    vectors = np.empty((min(len(needed), file.reader.n_rows), file.reader.dim), np.float32)
    for page in file.pages(_PAGE):
        if not len(page.ids):
            raise FileFormatError(file.name, "has no ids", hint="give an .npz with ids and vectors")
        chosen = [i for i, one in enumerate(page.ids) if one in needed]
        for one in (page.ids[i] for i in chosen):
            if one in rows:
                raise FileFormatError(file.name, f"holds the id {one!r} twice")
            rows[one] = len(rows)
        vectors[n_rows : n_rows + len(chosen)] = unit_vectors(page.vectors[chosen], file.reader.dim)
        n_rows += len(chosen)
    if needed and not rows:
        raise FileFormatError(file.name, "holds no vector of a sequence_id of the input")
    of_row = np.array(
        [rows.get(i, -1) if want else -1 for i, want in zip(ids, wanted, strict=True)], np.int64
    )
    facts = {"vectors": file.name, "sha256": file.sha256(), "space": file.reader.spec_json}
    return RowVectors(cast(Float2D, vectors[:n_rows]), of_row, facts)
