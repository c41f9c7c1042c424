"""Tiny random ESM checkpoints, written in the formats of fair-esm and of Hugging Face."""

import json
import re
from argparse import Namespace
from pathlib import Path

import esm
import torch
from safetensors.torch import save_file

_HF_OUTSIDE = (
    ("embed_tokens.", "embeddings.word_embeddings."),
    ("embed_positions.", "embeddings.position_embeddings."),
    ("emb_layer_norm_before.", "embeddings.layer_norm."),
    ("emb_layer_norm_after.", "encoder.emb_layer_norm_after."),
)
_HF_IN_LAYER = (
    ("self_attn.q_proj.", "attention.self.query."),
    ("self_attn.k_proj.", "attention.self.key."),
    ("self_attn.v_proj.", "attention.self.value."),
    ("self_attn.rot_emb.", "attention.self.rotary_embeddings."),
    ("self_attn.out_proj.", "attention.output.dense."),
    ("self_attn_layer_norm.", "attention.LayerNorm."),
    ("fc1.", "intermediate.dense."),
    ("fc2.", "output.dense."),
    ("final_layer_norm.", "LayerNorm."),
)


def write_esm2(path: Path, *, n_layers=3, dim=24, heads=4, seed=0, half=False) -> Path:
    """As fair-esm's esm2_*.pt: {"cfg": {"model": Namespace}, "model": {"encoder....": tensor}}."""
    model = _randomised(esm.ESM2(n_layers, dim, heads), seed)
    cfg = Namespace(
        encoder_layers=n_layers, encoder_embed_dim=dim, encoder_attention_heads=heads, token_dropout=True
    )
    tensors = {_with_prefix("encoder.sentence_encoder.", "encoder.", n): t for n, t in model.items()}
    if half:
        tensors = {n: t.half() for n, t in tensors.items()}
    torch.save({"cfg": {"model": cfg}, "model": tensors}, path)
    return path


def write_esm1b(path: Path, *, n_layers=3, dim=24, heads=4, seed=0, norm_before=True, positions=1024) -> Path:
    """As fair-esm's esm1b_*.pt and esm1v_*.pt: {"args": Namespace(arch="roberta_large"), "model": ...}."""
    sizes = {"layers": n_layers, "embed_dim": dim, "ffn_embed_dim": 2 * dim, "attention_heads": heads}
    built = Namespace(
        arch="roberta_large",
        max_positions=positions,
        token_dropout=True,
        emb_layer_norm_before=norm_before,
        **sizes,
    )
    model = _randomised(esm.ProteinBertModel(built, esm.Alphabet.from_architecture("ESM-1b")), seed)
    args = Namespace(arch="roberta_large", max_positions=positions, token_dropout=True, dropout=0.0)
    vars(args).update({f"encoder_{name}": size for name, size in sizes.items()})
    tensors = {_with_prefix("encoder.sentence_encoder.", "encoder.", n): t for n, t in model.items()}
    torch.save({"args": args, "model": tensors}, path)
    return path


def write_esm1(path: Path, *, n_layers=3, dim=24, heads=4, seed=0) -> Path:
    """As fair-esm's esm1_*.pt: {"args": Namespace(arch="protein_bert_base"), "model": ...}."""
    sizes = {"layers": n_layers, "embed_dim": dim, "ffn_embed_dim": 2 * dim, "attention_heads": heads}
    built = Namespace(arch="protein_bert_base", final_bias=True, **sizes)
    model = _randomised(esm.ProteinBertModel(built, esm.Alphabet.from_architecture("ESM-1")), seed)
    args = Namespace(arch="protein_bert_base", final_bias=True, max_positions=1024)
    vars(args).update({f"decoder_{name}": size for name, size in sizes.items()})
    torch.save({"args": args, "model": {f"decoder.{n}": t for n, t in model.items()}}, path)
    return path


def read(path: Path) -> dict:
    with torch.serialization.safe_globals([Namespace]):
        return torch.load(path, map_location="cpu", weights_only=True)


def hf_tensors(checkpoint: Path) -> dict[str, torch.Tensor]:
    """The encoder of a fair-esm file under the names of ``transformers.EsmModel``."""
    renamed = {}
    for name, tensor in read(checkpoint)["model"].items():
        bare = name.removeprefix("encoder.").removeprefix("sentence_encoder.")
        if not bare.startswith("lm_head."):
            renamed[_hf_name(bare)] = tensor.float().clone()
    return renamed


def write_hf(directory: Path, esm2: Path) -> Path:
    """An ESM-2 file as transformers would save it."""
    cfg, tensors = read(esm2)["cfg"]["model"], hf_tensors(esm2)
    config = {
        "model_type": "esm",
        "position_embedding_type": "rotary",
        "num_hidden_layers": cfg.encoder_layers,
        "hidden_size": cfg.encoder_embed_dim,
        "num_attention_heads": cfg.encoder_attention_heads,
        "intermediate_size": 4 * cfg.encoder_embed_dim,
        "max_position_embeddings": 1026,
        "layer_norm_eps": 1e-5,
        "pad_token_id": 1,
        "vocab_size": 33,
        "token_dropout": cfg.token_dropout,
    }
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps(config))
    save_file({f"esm.{name}": tensor for name, tensor in tensors.items()}, directory / "model.safetensors")
    return directory


def _hf_name(name: str) -> str:
    layer = re.match(r"layers\.(\d+)\.", name)
    if layer:
        rest = name[layer.end() :]
        old, new = next(pair for pair in _HF_IN_LAYER if rest.startswith(pair[0]))
        return f"encoder.layer.{layer[1]}.{new}{rest[len(old) :]}"
    old, new = next(pair for pair in _HF_OUTSIDE if name.startswith(pair[0]))
    return new + name[len(old) :]


def _randomised(model: torch.nn.Module, seed: int) -> dict[str, torch.Tensor]:
    """Tensors of a model drawn anew, layer norms too, so that none is at a value that hides a mistake."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3 + 0.1)
    return {n: t for n, t in model.state_dict().items() if not n.startswith("contact_head.")}


def _with_prefix(encoder: str, head: str, name: str) -> str:
    return (head if name.startswith("lm_head.") else encoder) + name
