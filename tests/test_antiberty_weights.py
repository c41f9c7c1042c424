"""Every way the weights of AntiBERTy can be absent, damaged or of another model."""

from __future__ import annotations

import importlib.util
import json
import sysconfig
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from plmsearch.embedding._bert import BertShape, encoder_shapes
from plmsearch.embedding.antiberty import AntibertyEmbedder
from plmsearch.embedding.registry import model_card
from plmsearch.errors import ModelUnavailableError, WeightsError
from plmsearch.sequences import STANDARD_RESIDUES

CARD = model_card("antiberty")

# A model of the same kind that is written in a millisecond, for everything but the numbers.
TINY = replace(CARD, n_layers=2, dim=64, max_residues=10)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLMSEARCH_CACHE", str(tmp_path / "cache"))


def tiny_tensors(seed: int = 1) -> dict[str, torch.Tensor]:
    """Return random weights of the tiny model, with a head that embeddings do not depend on."""
    generator = torch.Generator().manual_seed(seed)
    shapes = encoder_shapes(BertShape(2, 64, 1, 256, 25, 12))
    named = {f"bert.{name}": torch.randn(size, generator=generator) for name, size in shapes.items()}
    return named | {"cls.species.weight": torch.randn(6, 64, generator=generator)}


def write_tiny(
    folder: Path,
    tensors: Mapping[str, torch.Tensor] | None = None,
    *,
    name: str = "model.safetensors",
    config: Mapping[str, object] | None = None,
) -> Path:
    """Write the tiny model into a folder; None in `config` leaves a key out."""
    stated: dict[str, object] = {
        "model_type": "bert",
        "num_hidden_layers": 2,
        "hidden_size": 64,
        "num_attention_heads": 1,
        "intermediate_size": 256,
        "max_position_embeddings": 12,
        "vocab_size": 25,
    } | dict(config or {})
    stated = {key: value for key, value in stated.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(stated))
    tensors = dict(tiny_tensors() if tensors is None else tensors)
    if name.endswith(".bin"):
        torch.save(tensors, folder / name)
    else:
        save_file(tensors, folder / name)
    return folder


# --- Absent ---------------------------------------------------------------------------------------


def test_without_the_wheel_every_file_looked_for_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    with pytest.raises(ModelUnavailableError, match=r'\(104 MB\).*pip install "antiberty>=0.1.3,<0.2"') as e:
        AntibertyEmbedder.load(CARD)
    folder = tmp_path / "antiberty" / "trained_models" / "AntiBERTy_md_smooth"
    names = ("config.json", "model.safetensors", "pytorch_model.bin")
    assert e.value.searched == tuple(str(folder / name) for name in names)


def test_a_folder_without_weights_is_never_replaced_by_the_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setenv("ANTIBERTY_WEIGHTS_DIR", str(tmp_path))
    with pytest.raises(ModelUnavailableError) as caught:
        AntibertyEmbedder.load(CARD)
    assert caught.value.searched == tuple(
        str(tmp_path / name) for name in ("model.safetensors", "pytorch_model.bin")
    )


def test_a_weights_file_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailableError) as caught:
        AntibertyEmbedder.load(CARD, weights=tmp_path / "mine.safetensors")
    assert caught.value.searched == (str(tmp_path / "config.json"), str(tmp_path / "mine.safetensors"))


def test_the_caller_wins_over_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTIBERTY_WEIGHTS_DIR", str(tmp_path / "nowhere"))
    assert AntibertyEmbedder.load(TINY, weights=write_tiny(tmp_path)).card == TINY


# --- Damaged or of another model ------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"hidden_act": "gelu_new"},
        {"layer_norm_eps": 1e-5},
        {"position_embedding_type": "relative_key"},
        {"is_decoder": True},
        {"model_type": "roberta"},
        {"num_attention_heads": 2},
        {"num_attention_heads": None},
        {"hidden_size": 128},
        {"num_hidden_layers": 1},
        {"vocab_size": 30},
    ],
)
def test_an_unexpected_configuration_is_refused(change: dict[str, object], tmp_path: Path) -> None:
    (key,) = change
    with pytest.raises(WeightsError, match=rf"config\.json: {key} is ") as caught:
        AntibertyEmbedder.load(TINY, weights=write_tiny(tmp_path, config=change))
    assert caught.value.path == str(tmp_path / "config.json")


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"\xff\xfe", b"null"])
def test_a_damaged_configuration_is_refused(text: bytes, tmp_path: Path) -> None:
    (write_tiny(tmp_path) / "config.json").write_bytes(text)
    with pytest.raises(WeightsError, match=r"config\.json"):
        AntibertyEmbedder.load(TINY, weights=tmp_path)


def test_a_vocabulary_in_another_order_is_refused(tmp_path: Path) -> None:
    write_tiny(tmp_path)
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *STANDARD_RESIDUES]
    (tmp_path / "vocab.txt").write_text("\n".join(tokens))
    AntibertyEmbedder.load(TINY, weights=tmp_path)
    (tmp_path / "vocab.txt").write_text("\n".join([*tokens[:5], *tokens[:4:-1]]))
    with pytest.raises(WeightsError, match=r"vocab\.txt: is not the vocabulary"):
        AntibertyEmbedder.load(TINY, weights=tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("keep", [0, 7, 0.5, 0.999])
def test_a_truncated_tensor_file_is_refused(name: str, keep: float, tmp_path: Path) -> None:
    path = write_tiny(tmp_path, name=name) / name
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep if keep >= 1 else keep * len(whole))])
    with pytest.raises(WeightsError, match="cannot be read") as caught:
        AntibertyEmbedder.load(TINY, weights=tmp_path)
    assert caught.value.path == str(path)
    assert "\n" not in str(caught.value)


def test_a_flipped_bit_in_the_archive_is_found(tmp_path: Path) -> None:
    path = write_tiny(tmp_path, name="pytorch_model.bin") / "pytorch_model.bin"
    data = bytearray(path.read_bytes())
    word = tiny_tensors()["bert.encoder.layer.0.output.dense.weight"].numpy().tobytes()
    data[data.index(word) + 1000] ^= 1
    path.write_bytes(data)
    with pytest.raises(WeightsError, match=r"checksum|CRC"):
        AntibertyEmbedder.load(TINY, weights=tmp_path)


class Payload:
    """Pickles into a call."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.target,))


def test_code_in_a_tensor_file_is_not_run(tmp_path: Path) -> None:
    write_tiny(tmp_path, name="pytorch_model.bin")
    torch.save({"bert": Payload(tmp_path / "ran")}, tmp_path / "pytorch_model.bin")
    with pytest.raises(WeightsError, match="cannot be read"):
        AntibertyEmbedder.load(TINY, weights=tmp_path)
    assert not (tmp_path / "ran").exists()


def test_a_tensor_file_of_something_else_is_refused(tmp_path: Path) -> None:
    write_tiny(tmp_path, name="pytorch_model.bin")
    torch.save([torch.ones(3)], tmp_path / "pytorch_model.bin")
    with pytest.raises(WeightsError, match="holds no tensors by name"):
        AntibertyEmbedder.load(TINY, weights=tmp_path)


def test_missing_and_misshapen_tensors_are_named(tmp_path: Path) -> None:
    name = "encoder.layer.1.output.dense.weight"
    tensors = tiny_tensors()
    tensor = tensors.pop(f"bert.{name}")
    with pytest.raises(WeightsError, match=f"lacks 1 tensors, first {name}"):
        AntibertyEmbedder.load(TINY, weights=write_tiny(tmp_path, tensors))
    for wrong in (tensor.T.contiguous(), tensor.to(torch.int8)):
        with pytest.raises(WeightsError, match=rf"{name} is torch.*not floats of shape \(64, 256\)"):
            AntibertyEmbedder.load(TINY, weights=write_tiny(tmp_path, tensors | {f"bert.{name}": wrong}))


def test_the_digest_covers_what_embeddings_depend_on(tmp_path: Path) -> None:
    def digest(folder: str, tensors: Mapping[str, torch.Tensor], name: str = "model.safetensors") -> str:
        (tmp_path / folder).mkdir()
        weights = write_tiny(tmp_path / folder, tensors, name=name)
        return AntibertyEmbedder.load(TINY, weights=weights).weights_digest

    tensors = tiny_tensors()
    first = digest("first", tensors)
    assert digest("bin", tensors, "pytorch_model.bin") == first
    assert digest("bare names", {k.removeprefix("bert."): v for k, v in tensors.items()}) == first
    assert digest("other head", tensors | {"cls.species.weight": torch.zeros(6, 64)}) == first
    for name in ("bert.embeddings.LayerNorm.bias", "bert.encoder.layer.1.output.dense.bias"):
        changed = tensors[name].clone()
        changed[-1] += 1
        assert digest(name, tensors | {name: changed}) != first


def test_a_tiny_card_is_all_that_the_size_depends_on(tmp_path: Path) -> None:
    tiny = AntibertyEmbedder.load(TINY, weights=write_tiny(tmp_path))
    out = tiny.residue_embeddings(["EVQL", "EVQLVESGGG"], [2, 1])
    assert out.layers[1].shape == (2, 10, 64)
    assert out.special[2].shape == (2, 64)
