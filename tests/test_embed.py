"""Windows, pooling and order, with a model whose vectors show which residue and window they are of."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plmsearch.embedding.base import Embedder, ModelCard, ResidueEmbeddings
from plmsearch.embedding.batching import default_overlap, windows
from plmsearch.embedding.embed import EmbedPlan, embed_sequences, make_specs, plan_of
from plmsearch.errors import InvalidVectorError, ParameterError, SequenceTooLongError
from plmsearch.sequences import STANDARD_RESIDUES

MAX = 12
LAYERS = (0, 2)
CARD = ModelCard("probe", "probe", 3, 4, MAX, STANDARD_RESIDUES, 2, True, "MIT", "none")
PLAN = EmbedPlan(LAYERS, "mean", MAX, overlap=3)
SEQUENCES = st.lists(
    st.text(st.sampled_from(STANDARD_RESIDUES + "XJ"), min_size=1, max_size=60), min_size=1, max_size=8
)


def residue_vectors(window, layer):
    """A residue's vector depends on its letter, its place in the window and the whole window."""
    letters = np.array([ord(c) for c in window], dtype=np.float64)
    place = np.arange(len(window))
    context = np.full(len(window), letters.sum() / len(window) - 80)
    return np.stack([letters * (layer + 1), place + 1, context, letters % 7 - 3], axis=1)


def special_vector(window, layer):
    return np.array([len(window), ord(window[0]), ord(window[-1]), layer + 1], dtype=np.float64)


class Probe(Embedder):
    """Writes NaN wherever values are undefined, so that nothing may read there."""

    card = CARD
    weights_digest = "d" * 64

    def __init__(self, spoil=None):
        self.batches = []
        self.spoil = spoil

    def residue_embeddings(self, sequences, layers):
        assert all(1 <= len(s) <= MAX for s in sequences)
        self.batches.append(list(sequences))
        arrays, special = {}, {}
        for layer in layers:
            array = np.full((len(sequences), max(map(len, sequences)), CARD.dim), np.nan, dtype=np.float32)
            for row, s in enumerate(sequences):
                array[row, : len(s)] = residue_vectors(s, layer) if self.spoil is None else self.spoil
            arrays[layer] = array
            special[layer] = np.array([special_vector(s, layer) for s in sequences], dtype=np.float32)
        return ResidueEmbeddings(arrays, np.array([len(s) for s in sequences]), special)


def oracle(sequence, layer, pooling, overlap=3):
    """Float64, residue by residue: each is averaged over the windows that hold it."""
    cuts = windows(len(sequence), MAX, overlap)
    if pooling == "cls":
        return np.mean([special_vector(sequence[a:b], layer) for a, b in cuts], axis=0)
    held = [[] for _ in sequence]
    for start, stop in cuts:
        for i, vector in enumerate(residue_vectors(sequence[start:stop], layer)):
            held[start + i].append(vector)
    if pooling == "max":
        return np.max([v for vectors in held for v in vectors], axis=0)
    return np.mean([np.mean(vectors, axis=0) for vectors in held], axis=0)


# --- Vectors -------------------------------------------------------------------------------------


@pytest.mark.parametrize("pooling", ["mean", "max", "cls"])
@settings(max_examples=40)
@given(sequences=SEQUENCES, batch_tokens=st.integers(1, 200))
def test_every_vector_is_that_of_the_oracle_in_the_order_given(pooling, sequences, batch_tokens):
    plan = replace(PLAN, pooling=pooling, batch_tokens=batch_tokens)
    embedded = embed_sequences(Probe(), sequences, plan)
    for layer in LAYERS:
        assert embedded.vectors[layer].dtype == np.float32
        expected = [oracle(s, layer, pooling) for s in sequences]
        np.testing.assert_allclose(embedded.vectors[layer], expected, rtol=1e-5, atol=1e-5)


def test_all_layers_come_out_of_one_forward_pass_per_batch():
    probe = Probe()
    embedded = embed_sequences(probe, ["EVQL", "DIQM", "E" * 30], replace(PLAN, batch_tokens=28))
    assert embedded.n_forward_passes == len(probe.batches)
    assert sum(map(len, probe.batches)) == 2 + len(windows(30, MAX, 3))
    assert set(embedded.vectors) == set(LAYERS)


def test_truncating_reads_exactly_the_first_residues():
    long = "ACDEFGHIKLMNPQRSTVWY"
    truncate = replace(PLAN, long="truncate")
    probe = Probe()
    embedded = embed_sequences(probe, [long, "EVQL"], truncate)
    assert sorted(probe.batches[0]) == ["ACDEFGHIKLMN", "EVQL"]
    cut = embed_sequences(Probe(), [long[:MAX], "EVQL"], PLAN)
    for layer in LAYERS:
        assert (embedded.vectors[layer] == cut.vectors[layer]).all()
    assert embedded.n_used.tolist() == [MAX, 4]
    assert embedded.n_windows.tolist() == [1, 1]


def test_error_names_the_sequence_that_does_not_fit_before_any_forward_pass():
    probe = Probe()
    with pytest.raises(SequenceTooLongError) as caught:
        embed_sequences(probe, ["E" * MAX, "E" * (MAX + 1)], replace(PLAN, long="error"))
    assert (caught.value.record_id, caught.value.n_residues, caught.value.max_residues) == ("#2", 13, 12)
    assert probe.batches == []


@pytest.mark.parametrize("spoil", [np.nan, np.inf, 0.0])
def test_what_has_no_direction_is_refused(spoil):
    with pytest.raises(InvalidVectorError):
        embed_sequences(Probe(spoil), ["EVQL"], PLAN)


def test_no_sequences_are_no_vectors():
    embedded = embed_sequences(Probe(), [], PLAN)
    assert embedded.vectors[2].shape == (0, CARD.dim)
    assert embedded.n_forward_passes == 0


# --- What happened to each -----------------------------------------------------------------------


@settings(max_examples=40)
@given(sequences=SEQUENCES)
def test_windows_residues_and_unknown_letters_are_counted_per_sequence(sequences):
    embedded = embed_sequences(Probe(), sequences, PLAN)
    assert embedded.n_windows.tolist() == [len(windows(len(s), MAX, 3)) for s in sequences]
    assert embedded.n_used.tolist() == [len(s) for s in sequences]
    assert embedded.n_unknown.tolist() == [s.count("X") + s.count("J") for s in sequences]


def test_unknown_letters_that_were_cut_off_are_not_counted():
    embedded = embed_sequences(Probe(), ["X" + "E" * MAX + "X"], replace(PLAN, long="truncate"))
    assert embedded.n_unknown.tolist() == [1]


@settings(max_examples=40)
@given(sequences=SEQUENCES, batch_tokens=st.integers(1, 200))
def test_progress_adds_up_to_the_number_of_sequences(sequences, batch_tokens):
    told = []
    plan = replace(PLAN, batch_tokens=batch_tokens)
    embedded = embed_sequences(Probe(), sequences, plan, on_progress=told.append)
    assert sum(told) == len(sequences)
    assert len(told) == embedded.n_forward_passes


# --- Plans and specs -----------------------------------------------------------------------------


def test_a_plan_is_what_its_specs_say():
    specs = make_specs(Probe(), [2, 0], pooling="max")
    plan = plan_of(specs, batch_tokens=77)
    assert plan == EmbedPlan((2, 0), "max", MAX, default_overlap(MAX), "window", 77)
    assert plan_of(make_specs(Probe(), [1], long="truncate")).overlap == 0


@pytest.mark.parametrize(
    "change",
    [
        {"pooling": "max"},
        {"model_id": "other"},
        {"weights_digest": "e" * 64},
        {"long": "truncate"},
        {"max_residues": 5},
        {"overlap": 1},
    ],
)
def test_a_plan_refuses_specs_that_differ_in_more_than_the_layer(change):
    first, second = make_specs(Probe(), [1, 2])
    with pytest.raises(ParameterError, match="but for the layer"):
        plan_of([first, replace(second, **change)])


@pytest.mark.parametrize("batch_tokens", [0, -1])
def test_a_budget_below_one_token_is_refused(batch_tokens):
    with pytest.raises(ParameterError, match="batch_tokens"):
        plan_of(make_specs(Probe(), [1]), batch_tokens)


def test_specs_take_everything_that_makes_vectors_comparable_from_the_model():
    (spec,) = make_specs(Probe(), [2])
    assert (spec.model_id, spec.weights_digest, spec.layer) == ("probe", "d" * 64, 2)
    assert (spec.dim, spec.max_residues, spec.overlap) == (CARD.dim, MAX, default_overlap(MAX))
    assert (spec.long, spec.pooling, spec.region, spec.numbering) == ("window", "mean", "whole", "")


def test_cls_needs_a_model_with_a_special_token():
    probe = Probe()
    probe.card = replace(CARD, has_cls=False)
    with pytest.raises(ParameterError, match="no begin-of-sequence token"):
        make_specs(probe, [1], pooling="cls")
