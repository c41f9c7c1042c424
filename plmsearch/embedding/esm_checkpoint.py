"""Reading ESM checkpoints safely, and fitting them into fair-esm's own model classes.

Concepts
--------
A genuine file holds the arguments of the model as ``argparse.Namespace`` beside the tensors, so
``torch.load`` refuses it at its defaults since torch 2.6. `read_checkpoint` allows that one class and
nothing else: a file that names any other is refused, never executed. The contact regression that
fair-esm keeps in a second file is not needed for embeddings and not looked for.

Limitations
-----------
Only the encoder is built: no logits, no contacts.
"""

from __future__ import annotations

import argparse
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import esm.pretrained
import torch

from plmsearch.embedding.base import ModelCard
from plmsearch.embedding.cards import is_generic
from plmsearch.embedding.esm_hf import read_directory
from plmsearch.embedding.weights import cached_digest, tensors_digest
from plmsearch.errors import WeightsError

__all__ = ["EsmCheckpoint", "EsmEncoder", "read_checkpoint"]

_FAMILY_ARCHITECTURE = {"esm2": "ESM-2", "esm1b": "ESM-1b", "esm1v": "ESM-1b", "esm1": "ESM-1"}
_ARCHITECTURE_NAMES = {"roberta_large": "ESM-1b", "protein_bert_base": "ESM-1"}
_LAYER_NUMBER = re.compile(r"(?:^|\.)layers\.(\d+)\.")
_HEADS = ("lm_head.", "contact_head.", "embed_out")
_ENCODER = ("layers.", "embed_", "emb_layer_norm")
#: A buffer of fair-esm whose dtype and device are used and whose value is not.
_MARKER = "embed_positions._float_tensor"
_DIGEST_KIND = "esm 1"


@dataclass(frozen=True)
class EsmEncoder:
    """A fair-esm model without its heads, on its device.

    Parameters
    ----------
    model : torch.nn.Module
        ``esm.ESM2`` or ``esm.ProteinBertModel``, in evaluation mode, without gradients.
    alphabet : esm.data.Alphabet
    token_dropout : bool
        Whether embeddings are scaled for the tokens masked in training.
    """

    model: Any
    alphabet: Any
    token_dropout: bool


@dataclass(frozen=True)
class EsmCheckpoint:
    """What a weights file holds.

    Parameters
    ----------
    path : Path
        File, or Hugging Face directory.
    files : tuple of Path
        Everything that was read.
    architecture : str
        ``ESM-2``, ``ESM-1b`` (also of ESM-1v) or ``ESM-1``.
    n_layers, dim : int
        Counted from the tensors.
    data : dict
        In the form of fair-esm's files.
    """

    path: Path
    files: tuple[Path, ...]
    architecture: str
    n_layers: int
    dim: int
    data: dict[str, Any]

    def complete(self, card: ModelCard) -> ModelCard:
        """Fit a card to the file.

        Returns
        -------
        ModelCard
            `max_residues` is lowered where the file learned fewer positions; layers and dimensions
            of a generic card are filled in.

        Raises
        ------
        WeightsError
            If the file is of another model than the card.
        """
        needed = _FAMILY_ARCHITECTURE[card.family]
        same_size = is_generic(card) or (self.n_layers, self.dim) == (card.n_layers, card.dim)
        if self.architecture != needed or not same_size:
            size = "" if is_generic(card) else f" of {card.n_layers} layers and {card.dim} dimensions"
            raise WeightsError(
                self.path,
                f"holds an {self.architecture} of {self.n_layers} layers and {self.dim} dimensions, but "
                f"{card.model_id} is an {needed}{size}",
                hint=f"choose the model that the file is of, such as --model {self._generic_name} for any "
                f"{self.architecture}",
            )
        max_residues = min(card.max_residues, self._max_positions - 2)
        if is_generic(card):
            card = replace(card, n_layers=self.n_layers, dim=self.dim, default_layer=self.n_layers)
        return replace(card, max_residues=max_residues)

    @property
    def _generic_name(self) -> str:
        return self.architecture.lower().replace("-", "")

    @property
    def _max_positions(self) -> int:
        """Tokens that the model reads at most; where positions are computed, more than any card asks."""
        if self.architecture != "ESM-1b":
            return 1 << 30
        return int(_argument(self, "max_positions"))

    def encoder(self, device: torch.device, dtype: torch.dtype) -> tuple[EsmEncoder, str]:
        """Build the encoder.

        Parameters
        ----------
        device : torch.device
        dtype : torch.dtype
            Of the blocks. Token and position embeddings stay in float32: they are a small part of
            the work, and rotary angles of hundreds of residues are far off in bfloat16.

        Returns
        -------
        encoder : EsmEncoder
        digest : str
            Over the encoder's tensors by fair-esm's names, as float32, and the two arguments that
            change vectors without changing tensors.

        Raises
        ------
        WeightsError
            If tensors are missing, unknown or of the wrong shape.
        """
        model, alphabet, state = self._fair_esm_parts()
        tensors = self._encoder_tensors(model, state)
        arguments = {
            "args.attention_heads": torch.tensor(model.layers[0].attention_heads),
            "args.token_dropout": torch.tensor(self._token_dropout),
        }
        digest = cached_digest(
            self.files, _DIGEST_KIND, lambda: tensors_digest(_AsFloat32({**tensors, **arguments}))
        )
        placed = {
            name: tensor.to(device=device, dtype=_stored_dtype(name, dtype), copy=True)
            for name, tensor in tensors.items()
        }
        if _MARKER in model.state_dict():
            placed[_MARKER] = torch.zeros(1, device=device)
        try:
            model.load_state_dict(placed, assign=True)
        except RuntimeError as exc:
            raise WeightsError(self.path, f"its tensors do not fit together: {exc}") from exc
        return EsmEncoder(model.eval().requires_grad_(False), alphabet, self._token_dropout), digest

    @property
    def _token_dropout(self) -> bool:
        if self.architecture == "ESM-2":
            return bool(self.data["cfg"]["model"].token_dropout)
        return bool(getattr(self.data["args"], "token_dropout", False))

    def _fair_esm_parts(self) -> tuple[Any, Any, dict[str, torch.Tensor]]:
        """Let fair-esm rename the tensors and build its model, on no device and without its heads."""
        v2 = self.architecture == "ESM-2"
        core = (
            esm.pretrained._load_model_and_alphabet_core_v2
            if v2
            else esm.pretrained._load_model_and_alphabet_core_v1
        )
        try:
            with torch.device("meta"):
                model, alphabet, state = core(self.data)
        except (
            AttributeError,
            IndexError,
            KeyError,
            RuntimeError,
            TypeError,
            ValueError,
            AssertionError,
        ) as exc:
            raise WeightsError(
                self.path, f"its arguments are not those of a fair-esm model: {exc!r}"
            ) from exc
        for head in ("lm_head", "contact_head", "embed_out", "embed_out_bias"):
            if hasattr(model, head):
                delattr(model, head)
        return model, alphabet, state

    def _encoder_tensors(self, model: Any, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Select what the encoder needs; refuse a file with less, or with parts it would leave out."""
        needed = model.state_dict().keys() - {_MARKER}
        encoder = {n for n in state if n.startswith(_ENCODER) and not n.startswith(_HEADS)} - {_MARKER}
        for names, problem in ((needed - state.keys(), "lacks"), (encoder - needed, "holds unknown")):
            if names:
                some = ", ".join(sorted(names)[:4])
                raise WeightsError(self.path, f"{problem} {len(names)} tensors of the model: {some} ...")
        return {name: state[name] for name in sorted(needed)}


class _AsFloat32(Mapping[str, torch.Tensor]):
    """Tensors in float32, one at a time: what is stored in float16 has the same digest."""

    def __init__(self, tensors: Mapping[str, torch.Tensor]) -> None:
        self._tensors = tensors

    def __getitem__(self, name: str) -> torch.Tensor:
        return self._tensors[name].to(torch.float32)

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


def _stored_dtype(name: str, dtype: torch.dtype) -> torch.dtype:
    exact = name.startswith(("embed_", "emb_layer_norm_before")) or name.endswith("inv_freq")
    return torch.float32 if exact else dtype


# --- Reading -------------------------------------------------------------------------------------


def read_checkpoint(path: Path) -> EsmCheckpoint:
    """Read an ESM checkpoint without running anything in it.

    Parameters
    ----------
    path : Path
        A file in fair-esm's format, or a Hugging Face directory.

    Returns
    -------
    EsmCheckpoint

    Raises
    ------
    WeightsError
        If it cannot be read, holds anything but tensors and plain arguments, or is no ESM model
        for single sequences.
    """
    data, files = read_directory(path) if path.is_dir() else (_read_file(path), (path,))
    model = data["model"]
    layers = [int(m[1]) for m in map(_LAYER_NUMBER.search, model) if m]
    embeddings = [t for n, t in model.items() if n.endswith("embed_tokens.weight")]
    if not layers or len(embeddings) != 1 or embeddings[0].dim() != 2:
        raise WeightsError(path, "holds no transformer of fair-esm: no blocks, or no token embeddings")
    checkpoint = EsmCheckpoint(
        path=path,
        files=files,
        architecture=_architecture(path, data),
        n_layers=max(layers) + 1,
        dim=embeddings[0].shape[1],
        data=data,
    )
    for argument, counted in (("layers", checkpoint.n_layers), ("embed_dim", checkpoint.dim)):
        stated = _argument(checkpoint, argument)
        if stated != counted:
            raise WeightsError(path, f"its arguments say {argument} = {stated}, its tensors {counted}")
    return checkpoint


def _read_file(path: Path) -> dict[str, Any]:
    try:
        path.open("rb").close()
    except OSError as exc:
        raise WeightsError(path, f"cannot be read: {exc.strerror or exc}") from exc
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            # Mapped, an optimiser's state beside the weights (5 GB in ESM-1b) is not read at all.
            data = torch.load(str(path), map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except MemoryError:
        raise
    except Exception as exc:  # torch's unpickler lets through whatever a damaged file provokes
        _refuse_file(path, exc)
    tensors = data.get("model") if isinstance(data, dict) else None
    if not isinstance(tensors, dict) or not all(_is_weight(n, t) for n, t in tensors.items()):
        raise WeightsError(path, "is no fair-esm checkpoint: it has no tensors by name under 'model'")
    return dict(data)


def _refuse_file(path: Path, exc: Exception) -> NoReturn:
    unsafe = re.search(r"Unsupported (?:global|class|operand)[^\n]*?: (?:GLOBAL )?(\S+)", str(exc))
    if unsafe:
        raise WeightsError(
            path,
            f"refers to {unsafe[1]}, which is neither a tensor nor a plain argument; nothing was run",
            hint="get the file from a source you trust: plmsearch models fetch",
        ) from exc
    raise WeightsError(
        path, "is damaged, incomplete or no torch checkpoint", hint="fetch it again, or compare its SHA-256"
    ) from exc


def _is_weight(name: object, tensor: object) -> bool:
    return isinstance(name, str) and isinstance(tensor, torch.Tensor)


def _architecture(path: Path, data: dict[str, Any]) -> str:
    cfg = data.get("cfg")
    if isinstance(cfg, dict) and isinstance(cfg.get("model"), argparse.Namespace):
        return "ESM-2"
    arch = getattr(data.get("args"), "arch", None)
    if arch not in _ARCHITECTURE_NAMES:
        what = f"its architecture is {arch!r}" if arch else "it has neither 'cfg' nor 'args'"
        raise WeightsError(path, f"is no ESM model for single sequences: {what}")
    return _ARCHITECTURE_NAMES[arch]


def _argument(checkpoint: EsmCheckpoint, name: str) -> Any:
    """Read an argument under whichever of its names the file has it."""
    data = checkpoint.data
    arguments = vars(data["cfg"]["model"] if checkpoint.architecture == "ESM-2" else data["args"])
    for prefix in ("encoder_", "decoder_", ""):
        if prefix + name in arguments:
            return arguments[prefix + name]
    raise WeightsError(checkpoint.path, f"its arguments lack {name!r}")
