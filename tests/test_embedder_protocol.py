"""What holds for every model: a vector depends on its sequence alone, not on order, batch or neighbours."""

from dataclasses import replace
from functools import cache

import esm_checkpoints as tiny
import numpy as np
import pytest

from plmsearch.embedding.batching import windows
from plmsearch.embedding.embed import embed_sequences, make_specs, plan_of
from plmsearch.embedding.options import ModelOptions, load_for_space
from plmsearch.embedding.registry import load_embedder
from plmsearch.errors import EmbeddingSpecMismatch, InputError, ParameterError
from plmsearch.sequences import RESIDUES, STANDARD_RESIDUES

CHECKPOINTS = {"esm2": tiny.write_esm2, "esm1b": tiny.write_esm1b}
VH = (
    "EVQLVESGGGLVQPGGSLRLSCAASGFNIKDTYIHWVRQAPGKGLEWVARIYPTNGYTRYADSVKGRFTISADTSKNTAYLQM"
    "NSLRAEDTAVYYCSRWGGDGFYAMDYWGQGTLVTVSS"
)
# Lengths far apart, a repeat, one residue, and letters that not every model knows.
SEQUENCES = (VH[:60], "W", VH, VH[:60], STANDARD_RESIDUES, "EVQLVXBZUOJGG", VH[30:], "EV", VH[:59] + "A")
SHORT = (VH[:30], "W", STANDARD_RESIDUES)
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module", autouse=True)
def _quiet_surroundings():
    """No settings of the user, for fixtures of the module too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("ANTIBERTY_WEIGHTS_DIR", raising=False)
        yield


@pytest.fixture(scope="module")
def load(folder):
    @cache
    def load_once(name):
        weights = None
        if name in CHECKPOINTS:
            weights = folder / f"{name}.pt"
            CHECKPOINTS[name](weights)
        return load_embedder(name, weights=weights, device="cpu", precision="float32")

    return load_once


@pytest.fixture(scope="module", params=["kmer", "antiberty", *CHECKPOINTS])
def embedder(request, load, _quiet_surroundings):
    return load(request.param)


@pytest.fixture(scope="module")
def run(embedder):
    """Embed in the model's last layer, or in that of the plan."""
    layer = embedder.card.n_layers

    @cache
    def embed(sequences, pooling="mean", batch_tokens=4096, max_residues=None, long="window"):
        plan = plan_of(make_specs(embedder, [layer], pooling=pooling), batch_tokens)
        if max_residues is not None:
            plan = replace(plan, max_residues=max_residues, overlap=max_residues // 4, long=long)
        return embed_sequences(embedder, sequences, plan)

    return lambda *args, **options: embed(*args, **options).vectors[layer]


def assert_same(got, expected):
    """Row by row within 1e-5 of the largest component."""
    assert got.shape == expected.shape
    error = np.abs(got - expected).max(axis=1) / np.abs(expected).max(axis=1)
    assert error.max() <= TOLERANCE, f"row {error.argmax()} differs by {error.max():.1e}"


# --- Vectors -------------------------------------------------------------------------------------


def test_vectors_are_finite_float32_of_the_dimension_on_the_card(embedder, run):
    vectors = run(SEQUENCES)
    assert vectors.shape == (len(SEQUENCES), embedder.card.dim)
    assert vectors.dtype == np.float32
    assert np.isfinite(vectors).all()


@pytest.mark.parametrize("batch_tokens", [1, 512, 100_000])
def test_the_size_of_batches_does_not_matter(run, batch_tokens):
    assert_same(run(SEQUENCES, batch_tokens=batch_tokens), run(SEQUENCES))


@pytest.mark.parametrize("seed", [0, 1])
def test_permuted_input_gives_permuted_output(run, seed):
    order = np.random.default_rng(seed).permutation(len(SEQUENCES))
    got = run(tuple(SEQUENCES[i] for i in order), batch_tokens=300)
    assert_same(got, run(SEQUENCES)[order])


def test_a_sequence_given_twice_has_the_same_vector_twice(run):
    vectors = run(SEQUENCES)
    assert_same(vectors[[0]], vectors[[3]])
    assert np.abs(vectors[0] - vectors[8]).max() > 0, "one substitution must show"


def test_neighbours_in_the_batch_do_not_matter(run):
    alone = run((VH[:30],))
    assert_same(run((VH[:30], "W", VH))[[0]], alone)
    assert_same(run((VH[:30], "WX" * 15))[[0]], alone)


@pytest.mark.parametrize("pooling", ["max", "cls"])
def test_other_poolings_do_not_depend_on_the_batch_either(embedder, run, pooling):
    if pooling == "cls" and not embedder.card.has_cls:
        with pytest.raises(ParameterError, match="no begin-of-sequence token"):
            run(SHORT, pooling=pooling)
        return
    together = run(SHORT, pooling=pooling, batch_tokens=100_000)
    assert_same(run(SHORT, pooling=pooling, batch_tokens=1), together)
    assert np.abs(together - run(SHORT)).max() > 0.01


def test_several_layers_of_one_pass_are_those_of_separate_passes(embedder):
    layers = range(embedder.card.n_layers + 1)
    together = embed_sequences(embedder, SHORT, plan_of(make_specs(embedder, layers)))
    for layer in (0, embedder.card.n_layers):
        alone = embed_sequences(embedder, SHORT, plan_of(make_specs(embedder, [layer])))
        assert_same(together.vectors[layer], alone.vectors[layer])


# --- Letters and lengths -------------------------------------------------------------------------


def test_letters_without_a_token_are_counted(embedder):
    plan = plan_of(make_specs(embedder, [0]))
    counted = embed_sequences(embedder, [RESIDUES, "XXJX", "EVQL"], plan).n_unknown
    unknown = [sum(c not in embedder.card.alphabet for c in s) for s in (RESIDUES, "XXJX", "EVQL")]
    assert counted.tolist() == unknown
    assert unknown[2] == 0


def test_every_residue_letter_can_be_read(run):
    assert np.isfinite(run(tuple(RESIDUES))).all()


def test_a_long_sequence_is_the_weighted_mean_of_its_windows(embedder, run):
    layer, size = embedder.card.n_layers, 40
    cuts = windows(len(VH), size, size // 4)
    covered, total = np.zeros(len(VH)), np.zeros((len(VH), embedder.card.dim))
    for start, stop in cuts:
        out = embedder.residue_embeddings([VH[start:stop]], [layer])
        total[start:stop] += out.layers[layer][0, :size]
        covered[start:stop] += 1
    expected = (total / covered[:, None]).mean(axis=0, keepdims=True)
    for batch_tokens in (1, 4096):
        got = run(("W", VH, "EVQL"), max_residues=size, batch_tokens=batch_tokens)
        assert_same(got[[1]], expected.astype(np.float32))


def test_a_cut_sequence_has_the_vector_of_its_beginning(run):
    assert_same(run((VH,), max_residues=40, long="truncate"), run((VH[:40],)))


def test_a_sequence_just_above_the_model_is_read_in_two_windows(embedder):
    n, plan = embedder.card.max_residues, plan_of(make_specs(embedder, [1]))
    if n > 10_000:
        assert embed_sequences(embedder, ["EVQL" * 2500], plan).n_windows.tolist() == [1]
        return
    embedded = embed_sequences(embedder, [(VH * 10)[:n], (VH * 10)[: n + 1]], plan)
    assert embedded.n_windows.tolist() == [1, 2]
    assert np.isfinite(embedded.vectors[1]).all()
    with pytest.raises(InputError, match=str(n)):
        embedder.residue_embeddings(["E" * (n + 1)], [1])


# --- The model of a space ------------------------------------------------------------------------


def test_other_weights_than_those_of_the_space_are_refused_naming_both(load, folder):
    (spec,) = make_specs(load("esm2"), [2])
    other = folder / "other.pt"
    tiny.write_esm2(other, seed=1)
    with pytest.raises(EmbeddingSpecMismatch) as caught:
        load_for_space(spec, ModelOptions(weights=other))
    assert caught.value.stored == spec.describe()
    assert caught.value.asked != caught.value.stored
    assert "--weights" in caught.value.hint
    assert "new database" in caught.value.hint


def test_the_weights_of_the_space_are_taken(load, folder):
    (spec,) = make_specs(load("esm2"), [2], pooling="max")
    embedder = load_for_space(spec, ModelOptions(weights=folder / "esm2.pt", precision="float32"))
    assert make_specs(embedder, [2], pooling="max") == (spec,)
