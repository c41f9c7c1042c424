"""ESM-1, ESM-1b, ESM-1v and ESM-2, through fair-esm's own modules and alphabet.

Concepts
--------
The forward pass below walks the modules of fair-esm's ``ESM2`` and ``ProteinBertModel`` as their own
``forward`` does, with three differences that change no number beyond rounding: it stops at the last
layer asked for, computes no logits, and uses fused attention. As there, layer 0 is the input of the
first block, and the last layer of ESM-1b, ESM-1v and ESM-2 is taken after the final layer norm.

Limitations
-----------
A letter without a token of its own (J) is read as ``<unk>``. Memory of attention grows with the square
of the length only where torch has no fused kernel for the device.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from plmsearch.embedding._torch import memory_errors, precision_name, resolve_device, resolve_precision
from plmsearch.embedding.base import Embedder, ModelCard, ResidueEmbeddings
from plmsearch.embedding.esm_checkpoint import EsmEncoder, read_checkpoint
from plmsearch.embedding.weights import find_weights
from plmsearch.errors import ParameterError
from plmsearch.sequences import RESIDUES
from plmsearch.types import Int1D

__all__ = ["EsmEmbedder"]

#: 15% of the tokens were masked in training, 80% of these by ``<mask>``: esm/model/esm2.py::ESM2.forward.
_MASKED_IN_TRAINING = 0.15 * 0.8


class EsmEmbedder(Embedder):
    """A loaded ESM model.

    Parameters
    ----------
    card : ModelCard
        Completed from the weights file.
    encoder : EsmEncoder
    weights_digest : str
    device : torch.device
    dtype : torch.dtype
        Of the blocks.
    """

    def __init__(
        self,
        card: ModelCard,
        encoder: EsmEncoder,
        *,
        weights_digest: str,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.card = card
        self.weights_digest = weights_digest
        self.device = str(device)
        self.precision = precision_name(dtype)
        self._encoder = encoder
        self._dtype = dtype
        self._tokens = _token_table(encoder.alphabet)

    @classmethod
    def load(
        cls,
        card: ModelCard,
        *,
        weights: Path | None = None,
        device: str = "auto",
        precision: str = "auto",
    ) -> EsmEmbedder:
        """Load a model from the weights on this machine.

        Parameters
        ----------
        card : ModelCard
            From `plmsearch.embedding.cards`.
        weights : Path, optional
            As for `find_weights`.
        device, precision : str
            As for `resolve_device` and `resolve_precision`.

        Raises
        ------
        ModelUnavailableError
            If there are no weights; names each place looked at.
        WeightsError
            If the file is damaged, unsafe or of another model.
        ParameterError
            If there is no such device or precision.
        """
        target = resolve_device(device)
        dtype = resolve_precision(precision, target)
        checkpoint = read_checkpoint(find_weights(card.model_id, weights))
        card = checkpoint.complete(card)
        encoder, digest = checkpoint.encoder(target, dtype)
        return cls(card, encoder, weights_digest=digest, device=target, dtype=dtype)

    def residue_embeddings(self, sequences: Sequence[str], layers: Sequence[int]) -> ResidueEmbeddings:
        """Run one forward pass, up to the highest layer asked for.

        Raises
        ------
        ParameterError
            If a layer does not exist, or a sequence is empty or too long for the model.
        """
        n_residues = self._check(sequences, layers)
        start = int(self._encoder.alphabet.prepend_bos)
        residues = slice(start, start + int(n_residues.max()))
        wanted = set(layers)
        kept: dict[int, Any] = {}
        special: dict[int, Any] = {}
        device = torch.device(self.device)
        with torch.inference_mode(), memory_errors(device, len(sequences), int(n_residues.max())):
            tokens = self._tokenise(sequences, n_residues)
            for layer, hidden in enumerate(self._hidden_states(tokens, max(wanted))):
                if layer in wanted:
                    values = hidden.float().cpu().numpy()
                    kept[layer] = np.ascontiguousarray(values[:, residues])
                    if start:
                        special[layer] = values[:, 0].copy()
        return ResidueEmbeddings(
            layers={layer: kept[layer] for layer in layers},
            n_residues=n_residues,
            special={layer: special[layer] for layer in layers if start},
        )

    def _check(self, sequences: Sequence[str], layers: Sequence[int]) -> Int1D:
        n_residues = np.array([len(s) for s in sequences], dtype=np.int64)
        if not layers or not all(0 <= layer <= self.card.n_layers for layer in layers):
            raise ParameterError("layers", tuple(layers), f"one or more of 0..{self.card.n_layers}")
        if not n_residues.size or n_residues.min() < 1 or n_residues.max() > self.card.max_residues:
            expected = f"one or more sequences of 1..{self.card.max_residues} residues"
            raise ParameterError("numbers of residues", n_residues.tolist(), expected)
        return n_residues

    def _tokenise(self, sequences: Sequence[str], n_residues: Int1D) -> torch.Tensor:
        """Token ids, int64, (n, tokens): special tokens around, padding at the end."""
        alphabet = self._encoder.alphabet
        start, end = int(alphabet.prepend_bos), int(alphabet.append_eos)
        tokens = np.full((len(sequences), start + int(n_residues.max()) + end), alphabet.padding_idx)
        tokens[:, :start] = alphabet.cls_idx
        for row, sequence in enumerate(sequences):
            codes = np.frombuffer(sequence.encode("latin-1", "replace"), dtype=np.uint8)
            tokens[row, start : start + len(codes)] = self._tokens[codes]
            tokens[row, start + len(codes) : start + len(codes) + end] = alphabet.eos_idx
        return torch.from_numpy(tokens).to(self.device)

    def _hidden_states(self, tokens: torch.Tensor, last: int) -> Iterator[torch.Tensor]:
        """Yield layers 0..`last`, each (n, tokens, d)."""
        model = self._encoder.model
        padding = tokens.eq(model.padding_idx)
        x = self._embed(tokens, padding)
        yield x
        x = x.to(self._dtype)
        mask = ~padding[:, None, None, :] if bool(padding.any()) else None
        for number, block in enumerate(model.layers[:last], start=1):
            x = x + _attend(block.self_attn, _normalise(block.self_attn_layer_norm, x), mask)
            wide = functional.gelu(block.fc1(_normalise(block.final_layer_norm, x)))
            x = x + block.fc2(wide)
            final = number == len(model.layers) and hasattr(model, "emb_layer_norm_after")
            yield _normalise(model.emb_layer_norm_after, x) if final else x

    def _embed(self, tokens: torch.Tensor, padding: torch.Tensor) -> torch.Tensor:
        """Compute layer 0, in float32 whatever the precision."""
        model = self._encoder.model
        x: torch.Tensor = model.embed_scale * model.embed_tokens(tokens)
        if self._encoder.token_dropout:
            # fair-esm divides by the share of tokens not masked, too: all of them, here.
            x = x * (1 - _MASKED_IN_TRAINING)
        if hasattr(model, "embed_positions"):
            x = x + model.embed_positions(tokens)
        before = getattr(model, "emb_layer_norm_before", None)
        if isinstance(before, torch.nn.Module):
            x = _normalise(before, x)
        return x * ~padding[:, :, None]


def _token_table(alphabet: Any) -> Int1D:
    """Token id by character code; what is no residue letter, or has no token, is ``<unk>``."""
    table = np.full(256, alphabet.unk_idx, dtype=np.int64)
    for letter in RESIDUES:
        table[ord(letter)] = alphabet.get_idx(letter)
    return table


def _normalise(norm: Any, x: torch.Tensor) -> torch.Tensor:
    """Apply a layer norm of either fair-esm class, summing in float32."""
    return functional.layer_norm(x, x.shape[-1:], norm.weight, norm.bias, norm.eps)


def _attend(attention: Any, x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Self-attention of esm/multihead_attention.py, on (n, tokens, d)."""
    n, _, dim = x.shape
    q, k, v = attention.q_proj(x), attention.k_proj(x), attention.v_proj(x)
    if attention.bias_k is not None:  # ESM-1: one more token that every residue can attend to
        k = torch.cat([k, attention.bias_k.expand(n, 1, dim)], dim=1)
        v = torch.cat([v, attention.bias_v.expand(n, 1, dim)], dim=1)
        mask = None if mask is None else functional.pad(mask, (0, 1), value=True)
    q, k, v = (t.view(n, -1, attention.num_heads, attention.head_dim).transpose(1, 2) for t in (q, k, v))
    if attention.rot_emb is not None:
        q, k = (t.to(v.dtype) for t in attention.rot_emb(q, k))
    heads = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    out: torch.Tensor = attention.out_proj(heads.transpose(1, 2).reshape(n, -1, dim))
    return out
