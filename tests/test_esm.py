"""ESM models: vectors against fair-esm and transformers, cards, refusals."""

import warnings

import esm
import esm_checkpoints as tiny
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

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
        foreign = embedders[model].residue_embeddings(["*"], [0]).layers[0][0, 0]
        np.testing.assert_array_equal(foreign, first["J"])
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


def test_bfloat16_does_not_lose_the_place_in_a_long_sequence(tmp_path):
    path = tiny.write_esm2(tmp_path / "wide.pt", dim=64, heads=2)
    letters = np.random.default_rng(0).choice(list("ACDEFGHIKLMNPQRSTVWY"), 1022)
    a, b = (
        load_embedder("esm2", weights=path, precision=precision)
        .residue_embeddings(["".join(letters)], [3])
        .layers[3][0]
        for precision in ("float32", "bfloat16")
    )
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert cosine.min() > 0.9995  # 0.9991 with rotary angles in bfloat16


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


# --- Arguments -----------------------------------------------------------------------------------


@pytest.mark.parametrize("layers", [[], [4], [-1], [0, 99]])
def test_layers_that_do_not_exist_are_refused(embedders, layers):
    with pytest.raises(ParameterError, match=r"0\.\.3"):
        embedders["esm2"].residue_embeddings(["ACD"], layers)


@pytest.mark.parametrize("sequences", [[], [""], ["ACD", ""], ["A" * 1023]])
def test_sequences_without_residues_or_with_too_many_are_refused(embedders, sequences):
    with pytest.raises(ParameterError, match="residues"):
        embedders["esm2"].residue_embeddings(sequences, [3])
