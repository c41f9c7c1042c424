"""ESM models: vectors against fair-esm and transformers, safe reading, refusals."""

import json
import pickle
import shutil
import warnings
from argparse import Namespace

import esm
import esm_checkpoints as tiny
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from plmsearch.embedding.cards import CARDS
from plmsearch.embedding.registry import load_embedder
from plmsearch.errors import ModelUnavailableError, ParameterError, WeightsError
from plmsearch.sequences import RESIDUES

SEQUENCES = ["MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQ", "A", "EVQLVXBZUOGG", RESIDUES.replace("J", "")]
LAYERS = (0, 1, 2, 3)
WRITERS = {
    "esm2": tiny.write_esm2,
    "esm1b": tiny.write_esm1b,
    "esm1v": lambda path: tiny.write_esm1b(path, norm_before=False),
    "esm1": tiny.write_esm1,
}


@pytest.fixture(autouse=True)
def _own_caches(monkeypatch, tmp_path):
    monkeypatch.setenv("PLMSEARCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Models this small only wait for other threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", params=WRITERS)
def model(request):
    return request.param


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    directory = tmp_path_factory.mktemp("esm")
    return {name: write(directory / f"{name}.pt") for name, write in WRITERS.items()}


@pytest.fixture(scope="module")
def embedders(files, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLMSEARCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        return {name: load_embedder(name, weights=path) for name, path in files.items()}


@pytest.fixture(scope="module")
def transformers():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import transformers

        transformers.logging.set_verbosity_error()
        return transformers


def rows(embeddings, layer):
    """Residue embeddings of each sequence, without padding."""
    return [embeddings.layers[layer][i, :n] for i, n in enumerate(embeddings.n_residues)]


def relative_error(got, expected):
    return np.abs(got - expected).max() / np.abs(expected).max()


# --- The same numbers as others ------------------------------------------------------------------


def fair_esm(path, name, sequences):
    """All layers of fair-esm's own model and tokens, special tokens included."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Regression weights not found")
        model, alphabet = esm.pretrained.load_model_and_alphabet_core(name, tiny.read(path), None)
    _, _, tokens = alphabet.get_batch_converter()([("", s) for s in sequences])
    with torch.no_grad():
        return model.eval()(tokens, repr_layers=LAYERS)["representations"]


def test_every_layer_is_that_of_fair_esm(model, files, embedders):
    expected = fair_esm(files[model], model, SEQUENCES)
    got = embedders[model].residue_embeddings(SEQUENCES, LAYERS)
    for layer in LAYERS:
        reference = expected[layer].numpy()
        for i, vectors in enumerate(rows(got, layer)):
            assert relative_error(vectors, reference[i, 1 : 1 + len(vectors)]) < 1e-5
        assert relative_error(got.special[layer], reference[:, 0]) < 1e-5


def hf_config(transformers, name, vocabulary=33):
    rotary = name == "esm2"
    return transformers.EsmConfig(
        vocab_size=vocabulary,
        mask_token_id=32,
        pad_token_id=1,
        hidden_size=24,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=96 if rotary else 48,
        max_position_embeddings=1026,
        layer_norm_eps=1e-5,
        position_embedding_type="rotary" if rotary else "absolute",
        emb_layer_norm_before=name == "esm1b",
        token_dropout=True,
        attention_probs_dropout_prob=0.0,
        hidden_dropout_prob=0.0,
    )


@pytest.fixture(scope="module")
def hf_directories(transformers, files, tmp_path_factory):
    """The same weights, saved by transformers itself; ESM-2 a second time in shards."""
    root = tmp_path_factory.mktemp("hf")
    for name in ("esm2", "esm1b", "esm1v"):
        hf = transformers.EsmModel(hf_config(transformers, name), add_pooling_layer=False)
        missing, unexpected = hf.load_state_dict(tiny.hf_tensors(files[name]), strict=False)
        assert not unexpected
        assert all(n.startswith("contact_head") for n in missing)
        hf.save_pretrained(root / name)
        if name == "esm2":
            hf.save_pretrained(root / "sharded", max_shard_size="20KB")
            assert len(list((root / "sharded").glob("model-*.safetensors"))) > 1
    return root


@pytest.mark.parametrize("name", ["esm2", "esm1b", "esm1v"])
def test_every_layer_is_that_of_transformers(name, transformers, hf_directories, embedders):
    hf = transformers.EsmModel.from_pretrained(hf_directories / name, add_pooling_layer=False).eval()
    alphabet = esm.Alphabet.from_architecture("ESM-1b")
    _, _, tokens = alphabet.get_batch_converter()([("", s) for s in SEQUENCES])
    with torch.no_grad():
        mask = (tokens != alphabet.padding_idx).long()
        expected = hf(tokens, attention_mask=mask, output_hidden_states=True).hidden_states
    got = embedders[name].residue_embeddings(SEQUENCES, LAYERS)
    for layer in LAYERS:
        for i, vectors in enumerate(rows(got, layer)):
            assert relative_error(vectors, expected[layer][i, 1 : 1 + len(vectors)].numpy()) < 1e-5


@pytest.mark.parametrize("name", ["esm2", "esm1b", "esm1v", "sharded"])
def test_a_hugging_face_directory_equals_the_file_in_vectors_and_digest(name, hf_directories, embedders):
    model = "esm2" if name == "sharded" else name
    twin = load_embedder(model, weights=hf_directories / name)
    assert twin.weights_digest == embedders[model].weights_digest
    assert twin.card == embedders[model].card
    got = twin.residue_embeddings(SEQUENCES, LAYERS)
    expected = embedders[model].residue_embeddings(SEQUENCES, LAYERS)
    for layer in LAYERS:
        for a, b in zip(rows(got, layer), rows(expected, layer), strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.weights
def test_the_published_vectors_of_esm2_8m_are_reproduced():
    """Expected values: transformers' tests/models/esm/test_modeling_esm.py, the same weights."""
    try:
        embedder = load_embedder("esm2_t6_8M_UR50D", precision="float32", device="cpu")
    except ModelUnavailableError as exc:
        pytest.skip(str(exc))
    # These residues have the token ids published there: 0 6 4 13 5 4 16 12 11 7 2.
    got = embedder.residue_embeddings(["GLDALQITV"], [6])
    last = np.concatenate([got.special[6], got.layers[6][0]])[:3, :3]
    expected = [[0.1444, 0.5413, 0.3248], [0.3034, 0.0053, 0.3108], [0.3228, -0.2499, 0.3415]]
    np.testing.assert_allclose(last, expected, atol=1e-4)


# --- What must not matter ------------------------------------------------------------------------


@settings(max_examples=10)
@given(st.lists(st.text(RESIDUES, min_size=1, max_size=40), min_size=1, max_size=6), st.integers(0, 5))
def test_a_sequence_does_not_depend_on_its_neighbours(embedders, sequences, i):
    i %= len(sequences)
    for embedder in embedders.values():
        together = embedder.residue_embeddings(sequences, [3])
        alone = embedder.residue_embeddings([sequences[i]], [3])
        assert relative_error(rows(together, 3)[i], rows(alone, 3)[0]) < 1e-5
        assert relative_error(together.special[3][i], alone.special[3][0]) < 1e-5


def test_a_layer_does_not_depend_on_which_others_are_asked_for(model, embedders):
    together = embedders[model].residue_embeddings(SEQUENCES, [3, 0, 2])
    assert list(together.layers) == [3, 0, 2] == list(together.special)
    for layer in (0, 2, 3):
        alone = embedders[model].residue_embeddings(SEQUENCES, [layer])
        np.testing.assert_array_equal(alone.special[layer], together.special[layer])
        for a, b in zip(rows(alone, layer), rows(together, layer), strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_letter_without_a_token_is_read_as_unknown_and_others_are_not(model, embedders):
    first = {
        letter: embedders[model].residue_embeddings([letter], [0]).layers[0][0, 0] for letter in RESIDUES
    }
    alphabet = embedders[model]._encoder.alphabet
    table = embedders[model]._encoder.model.embed_tokens.weight
    scale = 0.88 if embedders[model]._encoder.token_dropout else 1.0
    if model == "esm2":  # no positions are added: layer 0 is the row of the table itself
        np.testing.assert_allclose(first["J"], scale * table[alphabet.unk_idx], rtol=1e-6)
    distinct = {vector.tobytes() for vector in first.values()}
    assert len(distinct) == len(RESIDUES)


def test_bfloat16_agrees_with_float32(model, files, embedders):
    half = load_embedder(model, weights=files[model], precision="bfloat16")
    assert half.precision == "bfloat16"
    assert half.weights_digest == embedders[model].weights_digest
    sequence = ["ACDEFGHIKLMNPQRSTVWY" * 20]
    for layer in LAYERS:
        a = half.residue_embeddings(sequence, [layer]).layers[layer][0]
        b = embedders[model].residue_embeddings(sequence, [layer]).layers[layer][0]
        assert a.dtype == np.float32
        cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
        assert cosine.min() > 0.999
        assert cosine.mean() > 0.9999


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


# --- Which model a file is of --------------------------------------------------------------------


def test_a_generic_card_is_completed_from_the_file(tmp_path):
    path = tiny.write_esm1b(tmp_path / "short.pt", n_layers=2, dim=16, positions=64)
    card = load_embedder("esm1v", weights=path).card
    assert (card.model_id, card.n_layers, card.dim, card.default_layer) == ("esm1v", 2, 16, 2)
    assert card.max_residues == 62


def test_as_many_residues_as_positions_were_learned_can_be_read_and_no_more(tmp_path):
    embedder = load_embedder("esm1b", weights=tiny.write_esm1b(tmp_path / "short.pt", positions=64))
    assert embedder.residue_embeddings(["A" * 62], [3]).layers[3].shape == (1, 62, 24)
    with pytest.raises(ParameterError, match=r"1\.\.62"):
        embedder.residue_embeddings(["A" * 63], [3])


@pytest.mark.parametrize(
    ("name", "file", "said"),
    [
        ("esm2_t6_8M_UR50D", "esm2", "3 layers and 24 dimensions, but esm2_t6_8M_UR50D is an ESM-2 of 6"),
        ("esm1b", "esm2", "holds an ESM-2 .* but esm1b is an ESM-1b"),
        ("esm2", "esm1v", "holds an ESM-1b .* but esm2 is an ESM-2"),
        ("esm1b_t33_650M_UR50S", "esm1", "holds an ESM-1 of"),
    ],
)
def test_weights_of_another_model_are_refused_naming_both(files, name, file, said):
    with pytest.raises(WeightsError, match=said) as caught:
        load_embedder(name, weights=files[file])
    assert str(files[file]) in str(caught.value)


def test_a_named_model_accepts_weights_of_its_layers_and_dimensions(tmp_path):
    path = tiny.write_esm2(tmp_path / "fine_tuned.pt", n_layers=6, dim=320, heads=20)
    assert load_embedder("esm2_t6_8M_UR50D", weights=path).card == CARDS["esm2_t6_8M_UR50D"]


def test_absent_weights_are_an_error_and_nothing_is_downloaded(monkeypatch):
    def connect(*args, **kwargs):
        raise AssertionError("went to the network")

    monkeypatch.setattr("socket.socket.connect", connect)
    with pytest.raises(ModelUnavailableError, match=r"esm1b_t33_650M_UR50S \(7,829 MB\)"):
        load_embedder("esm1b_t33_650M_UR50S")


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
def hf(hf_directories, tmp_path):
    return shutil.copytree(hf_directories / "esm2", tmp_path / "hf")


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


# --- Arguments -----------------------------------------------------------------------------------


@pytest.mark.parametrize("layers", [[], [4], [-1], [0, 99]])
def test_layers_that_do_not_exist_are_refused(embedders, layers):
    with pytest.raises(ParameterError, match=r"0\.\.3"):
        embedders["esm2"].residue_embeddings(["ACD"], layers)


@pytest.mark.parametrize("sequences", [[], [""], ["ACD", ""], ["A" * 1023]])
def test_sequences_without_residues_or_with_too_many_are_refused(embedders, sequences):
    with pytest.raises(ParameterError, match="residues"):
        embedders["esm2"].residue_embeddings(sequences, [3])
