"""The weight-free model: counts of hashed 3-mers.

Deterministic on every machine, needs no download and no torch. It is here for tests, for examples,
and as the baseline that any language model has to beat.

Layer 0 marks the residue itself; layer 1 marks the 3-mer that starts at the residue (the last two
residues start a 2-mer and a 1-mer). The mean over residues is then the frequency of each 3-mer.

Limitations
-----------
27**3 possible 3-mers share 512 buckets, so unrelated 3-mers collide. Scores are those of plain
counts: not weighted by rarity.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from plmsearch.embedding.base import Embedder, ModelCard, ResidueEmbeddings
from plmsearch.types import Float3D, Int1D

__all__ = ["KmerEmbedder"]

_LETTERS = 27  # A..Z, and 0 for "past the end"
_BUCKET_BITS = 9
# Knuth's multiplicative hash (The Art of Computer Programming 3, section 6.4): 2**32 / golden ratio.
_GOLDEN = 2654435761
_VERSION = "plmsearch kmer 1: 3-mers, 512 buckets, multiplicative hash"


class KmerEmbedder(Embedder):
    """Hashed 3-mer counts behind the interface of a model.

    Examples
    --------
    >>> from plmsearch.embedding.registry import load_embedder
    >>> out = load_embedder("kmer").residue_embeddings(["EVQL", "EV"], layers=[1])
    >>> out.layers[1].shape
    (2, 4, 512)
    """

    def __init__(self, card: ModelCard) -> None:
        self.card = card
        self.weights_digest = hashlib.sha256(_VERSION.encode()).hexdigest()

    @classmethod
    def load(
        cls,
        card: ModelCard,
        *,
        weights: Path | None = None,
        device: str = "auto",
        precision: str = "auto",
    ) -> KmerEmbedder:
        """Return the model; there is nothing to load, so every option is without effect."""
        return cls(card)

    def residue_embeddings(self, sequences: Sequence[str], layers: Sequence[int]) -> ResidueEmbeddings:
        """Mark the bucket of each residue's 3-mer."""
        n_residues = np.array([len(s) for s in sequences], dtype=np.int64)
        letters = np.zeros((len(sequences), int(n_residues.max()) + 2), dtype=np.int64)
        for row, sequence in enumerate(sequences):
            letters[row, : len(sequence)] = np.frombuffer(sequence.encode("ascii"), dtype=np.uint8) - 64
        return ResidueEmbeddings(
            layers={layer: self._one_hot(letters, n_residues, layer) for layer in layers},
            n_residues=n_residues,
        )

    def _one_hot(self, letters: np.ndarray, n_residues: Int1D, layer: int) -> Float3D:
        """Write a 1 into the bucket of each residue."""
        first = letters[:, :-2]
        if layer == 0:
            buckets = first
        else:
            kmers = (first * _LETTERS + letters[:, 1:-1]) * _LETTERS + letters[:, 2:]
            buckets = ((kmers * _GOLDEN) & 0xFFFFFFFF) >> (32 - _BUCKET_BITS)
        out = np.zeros((*first.shape, self.card.dim), dtype=np.float32)
        np.put_along_axis(out, buckets[:, :, None], 1.0, axis=2)
        padding = np.arange(first.shape[1]) >= n_residues[:, None]
        out[padding] = 0
        return out
