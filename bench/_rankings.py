"""Rankings of chains by their embeddings, as they are or after a transform."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from _labels import Chains

from plmsearch.embedding.base import Embedder
from plmsearch.embedding.batching import token_batches
from plmsearch.embedding.centres import reference_centres
from plmsearch.embedding.embed import make_specs
from plmsearch.embedding.options import ModelOptions
from plmsearch.embedding.spec import EmbeddingSpec
from plmsearch.numbering import REGIONS, ImmunumNumberer
from plmsearch.transform import Transform
from plmsearch.transform_fit import fit_centre, fit_whiten

MODEL = "antiberty"
LAYER, LAST = 6, 8
LAYERS = (4, LAYER, LAST)


@dataclass(frozen=True)
class Method:
    """One way to rank: a function that returns scores of shape (n, n), and whether hits are re-ranked."""

    name: str
    scores: Callable[[], np.ndarray | None]
    reranked: bool = False


@dataclass(frozen=True)
class Vectors:
    """Raw means of the chains by region and layer, each of dtype float32, shape (n, d)."""

    by_space: dict[tuple[str, int], np.ndarray]
    locus: str
    embedder: Embedder

    def unit(self, region: str, layer: int, kind: str) -> np.ndarray | None:
        """Return unit vectors after a transform; None where no centre is shipped for the space."""
        raw = self.by_space[region, layer]
        loci = [self.locus] * len(raw)
        if kind == "reference":
            centres = reference_centres(self._spec(region, layer))
            return None if centres is None else Transform("reference", centres).apply(raw, loci)
        fitted = {
            "none": Transform,
            "centre": lambda: fit_centre(raw, loci),
            "whiten": lambda: fit_whiten(raw, loci),
        }
        return fitted[kind]().apply(raw, loci)

    def cosines(
        self, regions: Sequence[str], layer: int, kind: str, weights: Sequence[float] | None = None
    ) -> np.ndarray | None:
        """Return the weighted mean over regions of the cosines: what scaled unit vectors give, joined."""
        units = [self.unit(region, layer, kind) for region in regions]
        if any(u is None for u in units):
            return None
        shares = np.array(weights or [1] * len(units), np.float32)
        shares = np.sqrt(shares / shares.sum())
        joined = np.hstack([u * share for u, share in zip(units, shares, strict=True) if u is not None])
        return joined @ joined.T

    def _spec(self, region: str, layer: int) -> EmbeddingSpec:
        (spec,) = make_specs(self.embedder, [layer])
        return (
            spec
            if region == "whole"
            else replace(spec, region=region, numbering=ImmunumNumberer().describe())
        )


def load_vectors(chains: Chains, locus: str, path: Path | None) -> Vectors:
    """Read the vectors from a file, or compute them, and write them if a path is given.

    The file is an ``.npz`` with an array per region, shape (layers, m, d); ``NAME.seqs.txt`` beside it has
    the m chains, one a line.
    """
    embedder = ModelOptions().load(MODEL)
    if path and path.exists():
        listed = path.with_suffix(".seqs.txt").read_text().split()
        at = {sequence: i for i, sequence in enumerate(listed)}
        missing = sum(s not in at for s in chains.given)
        if missing:
            raise SystemExit(f"{path} lacks {missing} of {len(chains)} chains; it was made of another table")
        rows = [at[s] for s in chains.given]
        with np.load(path) as file:
            arrays = {region: file[region] for region in ("whole", "cdr3")}
        spaces = {(r, layer): a[layer][rows] for r, a in arrays.items() for layer in LAYERS}
        return Vectors(spaces, locus, embedder)
    spaces = dict(_embed(chains, embedder))
    if path:
        layers = range(embedder.card.n_layers + 1)
        blank = np.full((len(chains), embedder.card.dim), np.nan, np.float32)
        stacked = {r: np.stack([spaces.get((r, i), blank) for i in layers]) for r in ("whole", "cdr3")}
        np.savez(path, **stacked)
        path.with_suffix(".seqs.txt").write_text("\n".join(chains.given) + "\n")
    return Vectors(spaces, locus, embedder)


def _embed(chains: Chains, embedder: Embedder) -> Iterator[tuple[tuple[str, int], np.ndarray]]:
    """Yield the means over the domain and over its CDR3, both in the context of the domain."""
    layers = LAYERS
    out = {
        (r, layer): np.empty((len(chains), embedder.card.dim), np.float32)
        for r in ("whole", "cdr3")
        for layer in layers
    }
    for batch in token_batches([len(d) for d in chains.domain], 4096):
        found = embedder.residue_embeddings([chains.domain[i] for i in batch], layers)
        for row, i in enumerate(batch):
            before = sum(len(chains.regions[i][name]) for name in REGIONS[: REGIONS.index("cdr3")])
            places = {
                "whole": slice(0, len(chains.domain[i])),
                "cdr3": slice(before, before + len(chains.cdr3[i])),
            }
            for (region, layer), vectors in out.items():
                vectors[i] = found.layers[layer][row, places[region]].mean(axis=0)
    yield from out.items()
