"""The interface every model stands behind.

An `Embedder` knows its `ModelCard` and turns a batch of residue strings into residue embeddings,
layer by layer. Batching, windows and pooling are not its business: `plmsearch.embedding.embed`
does them once for all models.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from plmsearch.types import Float2D, Float3D, Int1D

__all__ = ["Embedder", "ModelCard", "ResidueEmbeddings"]


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What is known of a model without loading it.

    Parameters
    ----------
    model_id : str
        Registered name.
    family : str
        ``antiberty``, ``esm1``, ``esm1b``, ``esm1v``, ``esm2`` or ``kmer``.
    n_layers : int
        Blocks, L; layers are 0..L.
    dim : int
        Components of a residue embedding.
    max_residues : int
        Most residues of one forward pass, special tokens not counted.
    alphabet : str
        Letters that have a token of their own; every other residue letter is read as the model's
        unknown token.
    default_layer : int
        0..L.
    has_cls : bool
        Whether a begin-of-sequence token exists, for ``cls`` pooling.
    licence : str
        Of the weights.
    weights : str
        Where the weights come from, in a few words.
    size_bytes : int
        Size of the weights file; 0 where there is none.
    """

    model_id: str
    family: str
    n_layers: int
    dim: int
    max_residues: int
    alphabet: str
    default_layer: int
    has_cls: bool
    licence: str
    weights: str
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class ResidueEmbeddings:
    """Residue embeddings of one batch.

    Parameters
    ----------
    layers : mapping of int to ndarray, dtype=float32, shape=(n, l, d)
        Per layer, special tokens removed, padded at the end to the longest sequence of the batch.
        Values at padding are undefined.
    n_residues : ndarray, dtype=int64, shape=(n,)
        Residues of each sequence.
    special : mapping of int to ndarray, dtype=float32, shape=(n, d)
        Per layer, the begin-of-sequence token; empty where the model has none.
    """

    layers: Mapping[int, Float3D]
    n_residues: Int1D
    special: Mapping[int, Float2D] = field(default_factory=dict)


class Embedder(ABC):
    """A loaded model.

    Attributes
    ----------
    card : ModelCard
    weights_digest : str
        SHA-256 over the tensors the residue embeddings depend on, by canonical name, hexadecimal.
    device : str
        ``cpu`` or ``cuda:0``; recorded, no part of the space.
    precision : str
        ``float32`` or ``bfloat16``, resolved; recorded, no part of the space.
    """

    card: ModelCard
    weights_digest: str
    device: str = "cpu"
    precision: str = "float32"

    @abstractmethod
    def residue_embeddings(self, sequences: Sequence[str], layers: Sequence[int]) -> ResidueEmbeddings:
        """Run one forward pass.

        Parameters
        ----------
        sequences : sequence of str
            Normalised, each of 1..`card.max_residues` residues.
        layers : sequence of int
            Resolved layers, 0..L.

        Returns
        -------
        ResidueEmbeddings
            Row order equals input order. A row does not depend on its neighbours in the batch
            beyond rounding (1e-5 relative in float32).
        """
