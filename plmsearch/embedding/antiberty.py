"""AntiBERTy: a BERT of antibody variable domains, and the only model whose weights come with a wheel.

Concepts
--------
Weights are a directory with ``config.json`` and ``model.safetensors`` (antiberty 1.x) or
``pytorch_model.bin`` (antiberty 0.1.x). It is searched for, in order:

1. where the caller says,
2. in ``$ANTIBERTY_WEIGHTS_DIR``,
3. in the installed antiberty 0.1.x.

The first that is given is the only one looked at: other weights are never taken instead. The package
itself is not imported, since that imports transformers and takes seconds.

Limitations
-----------
AntiBERTy knows variable domains and the 20 standard residues only. Other letters are read as its
unknown token, and a chain with a leader or constant domain gets another vector than its variable domain.

References
----------
Ruffolo, Gray and Sulam (2021), "Deciphering antibody affinity maturation with language models and weakly
supervised learning", https://arxiv.org/abs/2112.07782.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sysconfig
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from plmsearch.embedding._bert import BertEncoder, BertShape, encoder_shapes
from plmsearch.embedding._torch import memory_errors, precision_name, resolve_device, resolve_precision
from plmsearch.embedding.base import Embedder, ModelCard, ResidueEmbeddings
from plmsearch.embedding.weights import cached_digest, tensors_digest
from plmsearch.errors import (
    EmptySequenceError,
    ModelUnavailableError,
    ParameterError,
    SequenceTooLongError,
    WeightsError,
)
from plmsearch.sequences import STANDARD_RESIDUES
from plmsearch.types import Int1D

__all__ = ["AntibertyEmbedder"]

_PAD, _UNKNOWN, _CLS, _SEP = range(4)
_VOCABULARY = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *STANDARD_RESIDUES)
#: Token id of each ASCII code.
_TOKEN_OF = np.full(128, _UNKNOWN, dtype=np.int64)
for _token in STANDARD_RESIDUES:
    _TOKEN_OF[ord(_token)] = _VOCABULARY.index(_token)

_HEAD_DIM = 64
_FEED_FORWARD_FACTOR = 4
_EPS = 1e-12
_TENSOR_FILES = ("model.safetensors", "pytorch_model.bin")
_HINT = (
    'get them with: pip install "antiberty>=0.1.3,<0.2"; or name a directory with config.json and '
    "model.safetensors by --weights or ANTIBERTY_WEIGHTS_DIR"
)
_DAMAGED_HINT = (
    'restore the file; the weights of the wheel: pip install --force-reinstall "antiberty>=0.1.3,<0.2"'
)


class AntibertyEmbedder(Embedder):
    """AntiBERTy behind the interface of a model.

    Parameters
    ----------
    card : ModelCard
    encoder : BertEncoder
    weights_digest : str

    Examples
    --------
    >>> from plmsearch.embedding.registry import load_embedder
    >>> out = load_embedder("antiberty").residue_embeddings(["EVQLVESGGG", "QVQL"], layers=[4, 6])
    >>> out.layers[6].shape
    (2, 10, 512)
    """

    def __init__(self, card: ModelCard, encoder: BertEncoder, weights_digest: str) -> None:
        self.card = card
        self.weights_digest = weights_digest
        self.device = str(encoder.device)
        self.precision = precision_name(encoder.dtype)
        self._encoder = encoder

    @classmethod
    def load(
        cls, card: ModelCard, *, weights: Path | None = None, device: str = "auto", precision: str = "auto"
    ) -> AntibertyEmbedder:
        """Read the weights.

        Parameters
        ----------
        card : ModelCard
            Of ``antiberty``.
        weights : Path, optional
            Directory of the weights, or the tensor file in it. Default: ``$ANTIBERTY_WEIGHTS_DIR``, else the
            installed antiberty 0.1.x.
        device, precision : str
            As for `resolve_device` and `resolve_precision`.

        Raises
        ------
        ModelUnavailableError
            If a file is absent; names each that was looked for.
        WeightsError
            If a file is damaged or describes another model.
        ParameterError
            If this machine has no such device, or there is no such precision.
        """
        place = resolve_device(device)
        dtype = resolve_precision(precision, place)
        files = _find(card, weights)
        shape = _read_shape(files.config, card)
        _check_vocabulary(files.vocabulary)
        tensors = _read_tensors(files.tensors, shape)
        digest = cached_digest([files.tensors], card.model_id, lambda: _digest(files.tensors, tensors))
        return cls(card, BertEncoder(tensors, shape, place, dtype), digest)

    def residue_embeddings(self, sequences: Sequence[str], layers: Sequence[int]) -> ResidueEmbeddings:
        """Run the blocks up to the highest of `layers`.

        Raises
        ------
        ParameterError
            If a layer does not exist.
        EmptySequenceError, SequenceTooLongError
            If a sequence is not of 1..`card.max_residues` residues; named by its place in the batch.
        EmbeddingError
            If the batch does not fit into memory.
        """
        self._check(sequences, layers)
        n_residues: Int1D = np.array([len(s) for s in sequences], dtype=np.int64)
        longest = int(n_residues.max())
        tokens = torch.from_numpy(_tokenise(sequences, longest))
        mask = None if (n_residues == longest).all() else (tokens != _PAD).to(self._encoder.device)
        with torch.inference_mode(), memory_errors(self._encoder.device, len(sequences), longest):
            states = self._encoder(tokens.to(self._encoder.device), mask, layers)
            arrays = {layer: states[layer].cpu().numpy() for layer in layers}
        return ResidueEmbeddings(
            layers={layer: array[:, 1:-1] for layer, array in arrays.items()},
            n_residues=n_residues,
            special={layer: array[:, 0].copy() for layer, array in arrays.items()},
        )

    def _check(self, sequences: Sequence[str], layers: Sequence[int]) -> None:
        if not layers or not all(0 <= layer <= self.card.n_layers for layer in layers):
            raise ParameterError("layers", tuple(layers), f"one or more of 0..{self.card.n_layers}")
        if not sequences:
            raise ParameterError("sequences", sequences, "at least one sequence")
        for place, sequence in enumerate(sequences, start=1):
            if not sequence:
                raise EmptySequenceError(f"#{place}")
            if len(sequence) > self.card.max_residues:
                raise SequenceTooLongError(f"#{place}", len(sequence), self.card.max_residues)


def _tokenise(sequences: Sequence[str], longest: int) -> np.ndarray[tuple[Any, Any], np.dtype[np.int64]]:
    """Write [CLS] residues [SEP] into rows padded to the longest."""
    tokens = np.full((len(sequences), longest + 2), _PAD, dtype=np.int64)
    tokens[:, 0] = _CLS
    for row, sequence in zip(tokens, sequences, strict=True):
        codes = np.frombuffer(sequence.encode("ascii", "replace"), dtype=np.uint8)
        row[1 : codes.size + 1] = _TOKEN_OF[codes]
        row[codes.size + 1] = _SEP
    return tokens


# --- Files ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Files:
    """Where the weights lie; `vocabulary` need not exist."""

    config: Path
    tensors: Path
    vocabulary: Path


def _find(card: ModelCard, weights: Path | None) -> _Files:
    """Find the files of the first place that is given."""
    in_environment = os.environ.get("ANTIBERTY_WEIGHTS_DIR")
    if weights is None and in_environment:
        weights = Path(in_environment)
    if weights is None:
        folder = _packaged_folder()
        return _files_in(card, folder, _TENSOR_FILES, folder.parent / "vocab.txt")
    if weights.suffix in {Path(name).suffix for name in _TENSOR_FILES}:
        return _files_in(card, weights.parent, (weights.name,), weights.parent / "vocab.txt")
    return _files_in(card, weights, _TENSOR_FILES, weights / "vocab.txt")


def _packaged_folder() -> Path:
    """Return where antiberty 0.1.x keeps its weights, whether or not it is installed."""
    spec = importlib.util.find_spec("antiberty")
    packages = list(spec.submodule_search_locations or []) if spec else []
    package = Path(packages[0]) if packages else Path(sysconfig.get_path("purelib"), "antiberty")
    return package / "trained_models" / "AntiBERTy_md_smooth"


def _files_in(card: ModelCard, folder: Path, names: Sequence[str], vocabulary: Path) -> _Files:
    config = folder / "config.json"
    tensors = [folder / name for name in names]
    present = [path for path in tensors if path.is_file()]
    absent = ([] if config.is_file() else [config]) + ([] if present else tensors)
    if absent:
        raise ModelUnavailableError(
            card.model_id, [str(path) for path in absent], hint=_HINT, size_bytes=card.size_bytes
        )
    return _Files(config, present[0], vocabulary)


def _read_shape(path: Path, card: ModelCard) -> BertShape:
    """Read the configuration and refuse one that this encoder would compute wrongly."""
    try:
        config = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as exc:
        raise WeightsError(path, f"cannot be read: {_reason(exc)}", hint=_DAMAGED_HINT) from exc
    if not isinstance(config, dict):
        raise WeightsError(path, "holds no JSON object", hint=_DAMAGED_HINT)
    shape = BertShape(
        n_layers=card.n_layers,
        dim=card.dim,
        n_heads=card.dim // _HEAD_DIM,
        feed_forward=card.dim * _FEED_FORWARD_FACTOR,
        n_tokens=len(_VOCABULARY),
        n_positions=card.max_residues + 2,
        eps=_EPS,
    )
    for key, expected, default in _expectations(shape):
        found = config.get(key, default)
        if found != expected:
            raise WeightsError(path, f"{key} is {found!r}, {card.model_id} has {expected!r}", hint=_HINT)
    return shape


def _expectations(shape: BertShape) -> list[tuple[str, object, object]]:
    """Return key, value and default of the configuration; defaults are those of `BertConfig`.

    A size has no default here: a configuration that does not state it is not one of AntiBERTy.
    """
    return [
        ("model_type", "bert", "bert"),
        ("num_hidden_layers", shape.n_layers, None),
        ("hidden_size", shape.dim, None),
        ("num_attention_heads", shape.n_heads, None),
        ("intermediate_size", shape.feed_forward, None),
        ("max_position_embeddings", shape.n_positions, None),
        ("vocab_size", shape.n_tokens, None),
        ("hidden_act", "gelu", "gelu"),
        ("layer_norm_eps", shape.eps, 1e-12),
        ("position_embedding_type", "absolute", "absolute"),
        ("is_decoder", False, False),
    ]


def _check_vocabulary(path: Path) -> None:
    """Refuse token ids in another order; antiberty 1.x ships no file, its vocabulary is in the code."""
    if not path.is_file():
        return
    try:
        tokens = tuple(path.read_text("utf-8").split())
    except (OSError, ValueError) as exc:
        raise WeightsError(path, f"cannot be read: {_reason(exc)}", hint=_DAMAGED_HINT) from exc
    if tokens != _VOCABULARY:
        raise WeightsError(path, f"is not the vocabulary of AntiBERTy ({' '.join(_VOCABULARY)})", hint=_HINT)


def _read_tensors(path: Path, shape: BertShape) -> dict[str, Tensor]:
    """Return the encoder's tensors by canonical name, without the heads."""
    stored = {name.removeprefix("bert."): tensor for name, tensor in _open(path).items()}
    expected = encoder_shapes(shape)
    missing = [name for name in expected if name not in stored]
    if missing:
        raise WeightsError(path, f"lacks {len(missing)} tensors, first {missing[0]}", hint=_DAMAGED_HINT)
    for name, size in expected.items():
        found = stored[name]
        if tuple(found.shape) != size or not found.is_floating_point():
            described = f"{found.dtype} of shape {tuple(found.shape)}"
            raise WeightsError(path, f"{name} is {described}, not floats of shape {size}", hint=_HINT)
    return {name: stored[name] for name in expected}


def _open(path: Path) -> Mapping[str, Tensor]:
    """Map a tensor file into memory."""
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as exc:  # neither reader documents what it raises on damaged files
        raise WeightsError(path, f"cannot be read: {_reason(exc)}", hint=_DAMAGED_HINT) from exc
    if not isinstance(loaded, dict) or not all(isinstance(tensor, Tensor) for tensor in loaded.values()):
        raise WeightsError(path, "holds no tensors by name", hint=_DAMAGED_HINT)
    return loaded


def _digest(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """Hash tensors after checking the archive, whose checksums a mapped reader does not look at."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            try:
                damaged = archive.testzip()
            except zipfile.BadZipFile as exc:
                raise WeightsError(path, f"cannot be read: {exc}", hint=_DAMAGED_HINT) from exc
        if damaged:
            raise WeightsError(path, f"{damaged} does not match its checksum", hint=_DAMAGED_HINT)
    return tensors_digest(tensors)


def _reason(exc: Exception) -> str:
    """Return the first line of a message; torch writes many."""
    return f"{type(exc).__name__}: {str(exc).partition(chr(10))[0]}"
