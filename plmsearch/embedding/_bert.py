"""The encoder of BERT on bare torch: no more than residue embeddings need.

Only what `transformers.BertModel` computes in inference: absolute positions, one token type, exact GELU,
layer normalisation after each residual. Importing transformers for it costs seconds.

Concepts
--------
Linear layers and attention compute in the dtype of the encoder. The residual stream, the embedding tables and
layer normalisation stay float32 whatever that is: they are a small share of the time, and rounding them at
every block would add up.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["BertEncoder", "BertShape", "encoder_shapes"]


@dataclass(frozen=True, slots=True)
class BertShape:
    """Sizes of an encoder.

    Parameters
    ----------
    n_layers, dim, n_heads, feed_forward : int
        Blocks; components of a token; attention heads; width of the feed-forward layer.
    n_tokens : int
        Tokens of the vocabulary.
    n_positions : int
        Most tokens of a sequence, special tokens included.
    eps : float
        Of the layer normalisations.
    """

    n_layers: int
    dim: int
    n_heads: int
    feed_forward: int
    n_tokens: int
    n_positions: int
    eps: float = 1e-12


def encoder_shapes(shape: BertShape) -> dict[str, tuple[int, ...]]:
    """Return name and shape of every tensor that the encoder reads.

    Returns
    -------
    dict of str to tuple of int
        Names as in `transformers.BertModel`, such as ``encoder.layer.0.attention.self.query.weight``.
    """
    d, f = shape.dim, shape.feed_forward
    linear = {
        "attention.self.query": (d, d),
        "attention.self.key": (d, d),
        "attention.self.value": (d, d),
        "attention.output.dense": (d, d),
        "intermediate.dense": (f, d),
        "output.dense": (d, f),
    }
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (shape.n_tokens, d),
        "embeddings.position_embeddings.weight": (shape.n_positions, d),
        "embeddings.token_type_embeddings.weight": (2, d),
        "embeddings.LayerNorm.weight": (d,),
        "embeddings.LayerNorm.bias": (d,),
    }
    for i in range(shape.n_layers):
        for name, (n_out, n_in) in linear.items():
            shapes[f"encoder.layer.{i}.{name}.weight"] = (n_out, n_in)
            shapes[f"encoder.layer.{i}.{name}.bias"] = (n_out,)
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes[f"encoder.layer.{i}.{name}.weight"] = (d,)
            shapes[f"encoder.layer.{i}.{name}.bias"] = (d,)
    return shapes


class BertEncoder:
    """Turns token ids into hidden states, layer by layer.

    Parameters
    ----------
    tensors : mapping of str to Tensor
        Every tensor of `encoder_shapes`, in its shape.
    shape : BertShape
    device : torch.device
    dtype : torch.dtype
        Of linear layers and attention.
    """

    def __init__(
        self, tensors: Mapping[str, Tensor], shape: BertShape, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.shape, self.device, self.dtype = shape, device, dtype
        self._word = tensors["embeddings.word_embeddings.weight"].to(device, torch.float32)
        # Every token is of type 0, so its embedding is one more constant per position.
        position = tensors["embeddings.position_embeddings.weight"].to(device, torch.float32)
        self._position = position + tensors["embeddings.token_type_embeddings.weight"][0].to(position)
        self._norm = self._load_norm(tensors, "embeddings.LayerNorm")
        self._blocks = [self._load_block(tensors, f"encoder.layer.{i}.") for i in range(shape.n_layers)]

    def __call__(self, tokens: Tensor, mask: Tensor | None, layers: Collection[int]) -> dict[int, Tensor]:
        """Run the blocks up to the highest of `layers`.

        Parameters
        ----------
        tokens : Tensor, dtype=int64, shape=(n, l)
        mask : Tensor or None, dtype=bool, shape=(n, l)
            True at tokens, False at padding; None if there is no padding.
        layers : collection of int
            0 is the normalised sum of the embeddings, 1..L the blocks.

        Returns
        -------
        dict of int to Tensor, dtype=float32, shape=(n, l, d)
        """
        attend = None if mask is None else mask[:, None, None, :]
        hidden = self._normalise(self._word[tokens] + self._position[: tokens.shape[1]], self._norm)
        states = {0: hidden} if 0 in layers else {}
        for i, block in enumerate(self._blocks[: max(layers)], start=1):
            hidden = self._run(block, hidden, attend)
            if i in layers:
                states[i] = hidden
        return states

    def _run(self, block: _Block, hidden: Tensor, attend: Tensor | None) -> Tensor:
        n, length, dim = hidden.shape
        heads = (n, length, 3, self.shape.n_heads, dim // self.shape.n_heads)
        qkv = functional.linear(hidden.to(self.dtype), *block.query_key_value).view(heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=attend)
        mixed = functional.linear(mixed.transpose(1, 2).reshape(n, length, dim), *block.attention_out)
        hidden = self._normalise(hidden + mixed, block.attention_norm)
        wide = functional.gelu(functional.linear(hidden.to(self.dtype), *block.widen))
        return self._normalise(hidden + functional.linear(wide, *block.narrow), block.norm)

    def _normalise(self, hidden: Tensor, norm: _Affine) -> Tensor:
        return functional.layer_norm(hidden, (self.shape.dim,), *norm, eps=self.shape.eps)

    def _load_block(self, tensors: Mapping[str, Tensor], prefix: str) -> _Block:
        def affine(*names: str) -> _Affine:
            weight, bias = (
                torch.cat([tensors[f"{prefix}{name}.{kind}"].to(self.device, self.dtype) for name in names])
                for kind in ("weight", "bias")
            )
            return weight, bias

        return _Block(
            query_key_value=affine("attention.self.query", "attention.self.key", "attention.self.value"),
            attention_out=affine("attention.output.dense"),
            attention_norm=self._load_norm(tensors, f"{prefix}attention.output.LayerNorm"),
            widen=affine("intermediate.dense"),
            narrow=affine("output.dense"),
            norm=self._load_norm(tensors, f"{prefix}output.LayerNorm"),
        )

    def _load_norm(self, tensors: Mapping[str, Tensor], name: str) -> _Affine:
        weight, bias = (tensors[f"{name}.{kind}"] for kind in ("weight", "bias"))
        return weight.to(self.device, torch.float32), bias.to(self.device, torch.float32)


#: Weight and bias.
_Affine = tuple[Tensor, Tensor]


@dataclass(frozen=True, slots=True)
class _Block:
    query_key_value: _Affine
    attention_out: _Affine
    attention_norm: _Affine
    widen: _Affine
    narrow: _Affine
    norm: _Affine
