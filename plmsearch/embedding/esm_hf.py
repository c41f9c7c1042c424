"""ESM checkpoints in the layout of Hugging Face, read as if fair-esm had written them.

Concepts
--------
A directory holds ``config.json`` and the tensors as safetensors, in one file or in shards named by
``model.safetensors.index.json``. transformers renamed every tensor of fair-esm; `read_directory`
renames them back, so that the same numbers get the same digest and the same vectors.

Limitations
-----------
ESM-2, ESM-1b and ESM-1v; ESM-1 was never published in this layout. ``pytorch_model.bin`` is not read.
"""

from __future__ import annotations

import json
import re
from argparse import Namespace
from pathlib import Path
from typing import Any

import esm
import safetensors.torch
import torch
from safetensors import SafetensorError

from plmsearch.errors import WeightsError

__all__ = ["read_directory"]

_WHOLE = "model.safetensors"
_INDEX = "model.safetensors.index.json"

# transformers/models/esm/modeling_esm.py -> esm/model/esm2.py, esm/model/esm1.py.
_LAYER = re.compile(r"encoder\.layer\.(\d+)\.(.+)\.(weight|bias|inv_freq)")
_IN_LAYER = {
    "attention.self.query": "self_attn.q_proj",
    "attention.self.key": "self_attn.k_proj",
    "attention.self.value": "self_attn.v_proj",
    "attention.self.rotary_embeddings": "self_attn.rot_emb",
    "attention.output.dense": "self_attn.out_proj",
    "attention.LayerNorm": "self_attn_layer_norm",
    "intermediate.dense": "fc1",
    "output.dense": "fc2",
    "LayerNorm": "final_layer_norm",
}
_OUTSIDE = {
    "embeddings.word_embeddings.weight": "embed_tokens.weight",
    "embeddings.position_embeddings.weight": "embed_positions.weight",
    "embeddings.layer_norm.weight": "emb_layer_norm_before.weight",
    "embeddings.layer_norm.bias": "emb_layer_norm_before.bias",
    "encoder.emb_layer_norm_after.weight": "emb_layer_norm_after.weight",
    "encoder.emb_layer_norm_after.bias": "emb_layer_norm_after.bias",
}
#: What fair-esm's classes have built in; transformers could run other values, they cannot.
_FIXED = {
    "model_type": "esm",
    "layer_norm_eps": 1e-5,
    "pad_token_id": 1,
    "vocab_size": 33,
}


def read_directory(directory: Path) -> tuple[dict[str, Any], tuple[Path, ...]]:
    """Read a Hugging Face directory into the form of a fair-esm checkpoint.

    Parameters
    ----------
    directory : Path
        Holds ``config.json`` and safetensors.

    Returns
    -------
    data : dict
        ``{"cfg": ..., "model": ...}`` for ESM-2 and ``{"args": ..., "model": ...}`` for ESM-1b, as
        in fair-esm's own files.
    files : tuple of Path
        Everything that was read.

    Raises
    ------
    WeightsError
        If a file is missing or damaged, or the model is none that fair-esm's classes can run.
    """
    config = _read_json(directory / "config.json")
    _check_config(directory, config)
    shards = _shards(directory)
    tensors: dict[str, torch.Tensor] = {}
    for shard in shards:
        tensors.update(_read_shard(shard))
    model = {_fair_esm_name(name): tensor for name, tensor in tensors.items()}
    if config["position_embedding_type"] == "rotary":
        _complete_frequencies(model, config)
        data: dict[str, Any] = {"cfg": {"model": _esm2_arguments(config)}, "model": model}
    else:
        data = {"args": _esm1b_arguments(config), "model": model}
    return data, (directory / "config.json", *shards)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as exc:
        raise WeightsError(path, f"cannot be read as JSON: {exc}") from exc
    if not isinstance(data, dict):
        raise WeightsError(path, "is not a JSON object")
    return data


def _check_config(directory: Path, config: dict[str, Any]) -> None:
    """Refuse what fair-esm's classes would compute differently."""
    path = directory / "config.json"
    for key, needed in _FIXED.items():
        if config.get(key) != needed:
            reason = f"{key} is {config.get(key)!r}, an ESM model of fair-esm has {needed!r}"
            raise WeightsError(path, reason)
    position = config.get("position_embedding_type")
    if position not in ("rotary", "absolute"):
        raise WeightsError(path, f"position_embedding_type is {position!r}, not 'rotary' or 'absolute'")
    if position == "rotary" and config.get("emb_layer_norm_before"):
        raise WeightsError(path, "emb_layer_norm_before is set, ESM-2 has no such layer")
    sizes = ("num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size")
    for key in (*sizes, "max_position_embeddings"):
        if type(config.get(key)) is not int or config[key] < 1:
            raise WeightsError(path, f"{key} is {config.get(key)!r}, not a positive number")
    _check_vocabulary(directory / "vocab.txt")


def _check_vocabulary(path: Path) -> None:
    if not path.is_file():
        return
    expected = esm.data.Alphabet.from_architecture("ESM-1b").all_toks
    if path.read_text("utf-8", errors="replace").split() != expected:
        raise WeightsError(path, "lists other tokens, or another order, than fair-esm")


def _shards(directory: Path) -> tuple[Path, ...]:
    if (directory / _WHOLE).is_file():
        return (directory / _WHOLE,)
    index = directory / _INDEX
    if not index.is_file():
        raise WeightsError(
            directory,
            f"holds neither {_WHOLE} nor {_INDEX}",
            hint="save the model as safetensors, or download those files too",
        )
    weight_map = _read_json(index).get("weight_map")
    names = set(weight_map.values()) if isinstance(weight_map, dict) else set()
    if not names or any(not isinstance(n, str) or Path(n).name != n for n in names):
        raise WeightsError(index, "its weight_map does not name files of the same directory")
    return tuple(directory / name for name in sorted(names))


def _read_shard(path: Path) -> dict[str, torch.Tensor]:
    try:
        return safetensors.torch.load_file(path)
    except FileNotFoundError as exc:
        raise WeightsError(path, "this part of the weights is missing", hint="download it too") from exc
    except (SafetensorError, OSError, ValueError) as exc:
        raise WeightsError(
            path, f"is damaged or no safetensors file: {exc}", hint="download it again"
        ) from exc


def _fair_esm_name(name: str) -> str:
    """Rename a tensor; one that no fair-esm model has keeps its name."""
    bare = name.removeprefix("esm.")
    if bare in _OUTSIDE:
        return _OUTSIDE[bare]
    found = _LAYER.fullmatch(bare)
    if found and found[2] in _IN_LAYER:
        return f"layers.{found[1]}.{_IN_LAYER[found[2]]}.{found[3]}"
    return bare


def _complete_frequencies(model: dict[str, torch.Tensor], config: dict[str, Any]) -> None:
    """Add the rotary frequencies where the file leaves them out, as transformers then does."""
    head_dim = config["hidden_size"] // config["num_attention_heads"]
    frequencies = 1.0 / (10000 ** (torch.arange(0, head_dim, 2, dtype=torch.int64).float() / head_dim))
    for layer in range(config["num_hidden_layers"]):
        model.setdefault(f"layers.{layer}.self_attn.rot_emb.inv_freq", frequencies)


def _esm2_arguments(config: dict[str, Any]) -> Namespace:
    return Namespace(
        encoder_layers=config["num_hidden_layers"],
        encoder_embed_dim=config["hidden_size"],
        encoder_attention_heads=config["num_attention_heads"],
        token_dropout=bool(config.get("token_dropout")),
    )


def _esm1b_arguments(config: dict[str, Any]) -> Namespace:
    return Namespace(
        arch="roberta_large",
        layers=config["num_hidden_layers"],
        embed_dim=config["hidden_size"],
        ffn_embed_dim=config["intermediate_size"],
        attention_heads=config["num_attention_heads"],
        # transformers counts the two positions before the first token, fair-esm adds them itself.
        max_positions=config["max_position_embeddings"] - 2,
        token_dropout=bool(config.get("token_dropout")),
    )
