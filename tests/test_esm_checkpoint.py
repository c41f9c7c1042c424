"""ESM checkpoints as files: what the digest covers, and what is refused."""

import json
import pickle
from argparse import Namespace

import esm
import esm_checkpoints as tiny
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from plmsearch.embedding.registry import load_embedder
from plmsearch.errors import WeightsError


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("PLMSEARCH_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    directory = tmp_path_factory.mktemp("esm")
    return {
        "esm2": tiny.write_esm2(directory / "esm2.pt"),
        "esm1b": tiny.write_esm1b(directory / "esm1b.pt"),
        "esm1": tiny.write_esm1(directory / "esm1.pt"),
    }


@pytest.fixture(scope="module")
def embedders(files, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLMSEARCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        return {name: load_embedder(name, weights=path) for name, path in files.items()}


# --- Digest --------------------------------------------------------------------------------------


def altered(path, target, name, change):
    data = tiny.read(path)
    data["model"][name] = change(data["model"][name])
    torch.save(data, target)
    return target


def test_the_digest_covers_what_vectors_depend_on_and_nothing_else(files, embedders, tmp_path):
    head = altered(files["esm2"], tmp_path / "head.pt", "encoder.lm_head.bias", lambda t: t + 1)
    assert load_embedder("esm2", weights=head).weights_digest == embedders["esm2"].weights_digest
    norm = altered(
        files["esm2"],
        tmp_path / "norm.pt",
        "encoder.sentence_encoder.layers.1.fc1.bias",
        lambda t: t + 1e-3,
    )
    assert load_embedder("esm2", weights=norm).weights_digest != embedders["esm2"].weights_digest


@pytest.mark.parametrize(("argument", "value"), [("encoder_attention_heads", 2), ("token_dropout", False)])
def test_arguments_that_change_vectors_without_changing_tensors_change_the_digest(
    files, embedders, tmp_path, argument, value
):
    data = tiny.read(files["esm1b"])
    setattr(data["args"], argument, value)
    torch.save(data, tmp_path / "other.pt")
    other = load_embedder("esm1b", weights=tmp_path / "other.pt")
    assert other.weights_digest != embedders["esm1b"].weights_digest


def test_the_digest_is_remembered_between_loads(files, monkeypatch):
    first = load_embedder("esm2", weights=files["esm2"]).weights_digest
    monkeypatch.setattr("plmsearch.embedding.esm_checkpoint.tensors_digest", lambda tensors: 1 / 0)
    assert load_embedder("esm2", weights=files["esm2"]).weights_digest == first


def test_a_file_stored_in_float16_has_the_digest_of_the_same_numbers_in_float32(tmp_path):
    half = tiny.write_esm2(tmp_path / "half.pt", half=True)
    data = tiny.read(half)
    data["model"] = {name: tensor.float() for name, tensor in data["model"].items()}
    torch.save(data, tmp_path / "full.pt")
    a, b = (load_embedder("esm2", weights=tmp_path / f"{n}.pt") for n in ("half", "full"))
    assert a.weights_digest == b.weights_digest


def test_the_file_of_torch_before_1_6_reads_the_same(tmp_path, files, embedders):
    torch.save(tiny.read(files["esm1"]), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert (
        load_embedder("esm1", weights=tmp_path / "old.pt").weights_digest == embedders["esm1"].weights_digest
    )


# --- Unsafe and damaged files --------------------------------------------------------------------


class Malicious:
    def __reduce__(self):
        return (exec, ("raise SystemExit('executed')",))


@pytest.mark.parametrize("write", [torch.save, lambda data, path: path.write_bytes(pickle.dumps(data))])
def test_a_file_that_would_run_code_is_refused_and_runs_none(tmp_path, files, write):
    data = {**tiny.read(files["esm2"]), "extra": Malicious()}
    write(data, tmp_path / "evil.pt")
    with pytest.raises(WeightsError, match=r"nothing was run|damaged") as caught:
        load_embedder("esm2", weights=tmp_path / "evil.pt")
    assert "evil.pt" in str(caught.value)


def test_a_class_other_than_tensors_and_namespaces_is_named(tmp_path, files):
    data = {**tiny.read(files["esm2"]), "extra": Malicious()}
    torch.save(data, tmp_path / "evil.pt")
    with pytest.raises(WeightsError, match=r"refers to \S*exec, which"):
        load_embedder("esm2", weights=tmp_path / "evil.pt")


def test_only_namespaces_were_allowed_and_only_while_reading(files):
    load_embedder("esm2", weights=files["esm2"])
    assert Namespace not in torch.serialization.get_safe_globals()


@settings(max_examples=30)
@given(st.data())
def test_a_damaged_file_is_refused_or_read_but_never_a_traceback(files, tmp_path_factory, data):
    whole = files["esm2"].read_bytes()
    path = tmp_path_factory.getbasetemp() / "damaged.pt"
    if data.draw(st.booleans()):
        path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    else:
        at = data.draw(st.integers(0, len(whole) - 1))
        path.write_bytes(whole[:at] + bytes([whole[at] ^ data.draw(st.integers(1, 255))]) + whole[at + 1 :])
    try:
        load_embedder("esm2", weights=path)
    except WeightsError as exc:
        assert "damaged.pt" in str(exc)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ([1, 2], "no fair-esm checkpoint"),
        ({"model": {"a": 3}}, "no fair-esm checkpoint"),
        ({"model": {"a": torch.zeros(1)}}, "no transformer"),
        ({"model": {}}, "no transformer"),
    ],
    ids=["a list", "no tensors", "no blocks", "empty"],
)
def test_a_torch_file_of_something_else_is_refused(tmp_path, data, said):
    torch.save(data, tmp_path / "other.pt")
    with pytest.raises(WeightsError, match=said):
        load_embedder("esm2", weights=tmp_path / "other.pt")


def rewritten(path, target, change):
    data = tiny.read(path)
    change(data)
    torch.save(data, target)
    return target


FC1 = "encoder.sentence_encoder.layers.2.fc1.weight"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d["model"].pop(FC1), r"lacks 1 tensors of the model: layers\.2\.fc1\.weight"),
        (lambda d: d["model"].update({FC1: torch.zeros(2, 2)}), "do not fit together"),
        (
            lambda d: d["model"].update({"encoder.sentence_encoder.layers.0.adapter.weight": torch.zeros(2)}),
            r"unknown 1 tensors .*layers\.0\.adapter",
        ),
        (
            lambda d: setattr(d["cfg"]["model"], "encoder_layers", 10**9),
            "say layers = 1000000000, its tensors 3",
        ),
        (lambda d: delattr(d["cfg"]["model"], "token_dropout"), "not those of a fair-esm model"),
        (lambda d: delattr(d["cfg"]["model"], "encoder_layers"), "lack 'layers'"),
        (lambda d: setattr(d["cfg"]["model"], "encoder_attention_heads", 7), "not those of a fair-esm model"),
        (lambda d: d.pop("cfg"), "neither 'cfg' nor 'args'"),
        (lambda d: d.update(cfg=None, args=Namespace(arch="msa_transformer")), "'msa_transformer'"),
    ],
    ids=[
        "tensor missing",
        "wrong shape",
        "adapter",
        "layers",
        "no token_dropout",
        "no layers",
        "heads",
        "no arguments",
        "MSA",
    ],
)
def test_a_checkpoint_that_does_not_fit_its_model_is_refused(files, tmp_path, change, said):
    path = rewritten(files["esm2"], tmp_path / "bad.pt", change)
    with pytest.raises(WeightsError, match=said):
        load_embedder("esm2", weights=path)


# --- Hugging Face directories --------------------------------------------------------------------


@pytest.fixture
def hf(files, tmp_path):
    return tiny.write_hf(tmp_path / "hf", files["esm2"])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"layer_norm_eps": 1e-12}, "layer_norm_eps"),
        ({"vocab_size": 64}, "vocab_size"),
        ({"model_type": "bert"}, "model_type"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type"),
        ({"emb_layer_norm_before": True}, "emb_layer_norm_before"),
        ({"num_hidden_layers": "3"}, "num_hidden_layers"),
        ({"num_hidden_layers": 2}, "say layers = 2, its tensors 3"),
    ],
    ids=str,
)
def test_a_configuration_that_fair_esm_cannot_run_is_refused(hf, changes, said):
    config = json.loads((hf / "config.json").read_text())
    (hf / "config.json").write_text(json.dumps({**config, **changes}))
    with pytest.raises(WeightsError, match=said):
        load_embedder("esm2", weights=hf)


def test_another_vocabulary_is_refused(hf):
    tokens = esm.Alphabet.from_architecture("ESM-1b").all_toks
    (hf / "vocab.txt").write_text("\n".join(tokens))
    load_embedder("esm2", weights=hf)
    (hf / "vocab.txt").write_text("\n".join([*tokens[:4], tokens[5], tokens[4], *tokens[6:]]))
    with pytest.raises(WeightsError, match=r"vocab\.txt"):
        load_embedder("esm2", weights=hf)


def test_absent_frequencies_are_computed_as_transformers_does(hf, embedders):
    path = hf / "model.safetensors"
    save_file({n: t for n, t in load_file(path).items() if "inv_freq" not in n}, path)
    assert load_embedder("esm2", weights=hf).weights_digest == embedders["esm2"].weights_digest


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda d: (d / "model.safetensors").unlink(), "holds neither"),
        (lambda d: (d / "model.safetensors").write_bytes(b"\x08" + bytes(40)), "damaged or no safetensors"),
        (lambda d: (d / "config.json").write_text("{"), "cannot be read as JSON"),
        (lambda d: (d / "config.json").write_text("[]"), "not a JSON object"),
    ],
    ids=["no tensors", "damaged", "broken config", "config is a list"],
)
def test_an_incomplete_directory_is_refused(hf, spoil, said):
    spoil(hf)
    with pytest.raises(WeightsError, match=said):
        load_embedder("esm2", weights=hf)


@pytest.mark.parametrize(
    ("weight_map", "said"),
    [
        ({"a": "../model.safetensors"}, "same directory"),
        ({"a": 3}, "same directory"),
        (None, "same directory"),
        ({"a": "model-2.safetensors"}, r"model-2\.safetensors: this part of the weights is missing"),
    ],
    ids=["outside", "no name", "no map", "shard missing"],
)
def test_a_broken_index_of_shards_is_refused(hf, weight_map, said):
    (hf / "model.safetensors").unlink()
    (hf / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(WeightsError, match=said):
        load_embedder("esm2", weights=hf)
