"""The identity of an embedding space, and how layers are named."""

import json
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plmsearch.embedding.spec import EmbeddingSpec, parse_layers
from plmsearch.errors import ParameterError

SPEC = EmbeddingSpec("antiberty", "ab" * 32, 6, 512, 510, 127)
WORDS = st.text(max_size=10)
SPECS = st.builds(
    EmbeddingSpec,
    model_id=WORDS,
    weights_digest=WORDS,
    layer=st.integers(0, 48),
    dim=st.integers(1, 5120),
    max_residues=st.integers(1, 1022),
    overlap=st.integers(0, 500),
    long=st.sampled_from(["window", "truncate"]),
    pooling=st.sampled_from(["mean", "max", "cls"]),
    region=st.sampled_from(["whole", "cdr3"]),
    numbering=WORDS,
)
OTHER_VALUES = {
    "model_id": "kmer",
    "weights_digest": "cd" * 32,
    "layer": 5,
    "dim": 320,
    "max_residues": 1022,
    "overlap": 0,
    "long": "truncate",
    "pooling": "max",
    "region": "cdr3",
    "numbering": "imgt immunum 2.0.0",
}


# --- Identity ------------------------------------------------------------------------------------


@given(SPECS)
def test_a_spec_comes_back_from_its_json(spec):
    assert EmbeddingSpec.from_json(spec.to_json()) == spec
    assert EmbeddingSpec.from_json(spec.to_json()).space_hash == spec.space_hash


def test_the_hash_of_a_space_is_the_same_for_ever():
    """It is stored: a database made today is opened by later versions."""
    assert SPEC.space_hash == "e893eddaf46c8b96cdc208fc4c39a7e476cd35eaf0084a96f8a21d53fe563f8e"


@pytest.mark.parametrize("name", [f.name for f in fields(EmbeddingSpec)])
def test_every_field_tells_spaces_apart(name):
    assert replace(SPEC, **{name: OTHER_VALUES[name]}).space_hash != SPEC.space_hash


def test_a_field_that_a_later_version_adds_is_passed_over():
    data = json.loads(SPEC.to_json()) | {"temperature": 1}
    assert EmbeddingSpec.from_json(json.dumps(data)) == SPEC


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({}, "antiberty/6/whole/mean"),
        ({"pooling": "cls", "layer": 0}, "antiberty/0/whole/cls"),
        ({"long": "truncate", "overlap": 0}, "antiberty/6/whole/mean/truncate"),
        ({"region": "cdr3"}, "antiberty/6/cdr3/mean"),
    ],
)
def test_names(change, name):
    assert replace(SPEC, **change).name == name


@pytest.mark.parametrize("name", OTHER_VALUES)
def test_the_description_shows_every_difference(name):
    assert replace(SPEC, **{name: OTHER_VALUES[name]}).describe() != SPEC.describe()


# --- Layers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "layers"),
    [
        (None, (6,)),
        ("all", tuple(range(9))),
        ("0", (0,)),
        ("-1", (8,)),
        ("-9", (0,)),
        ("8,4,-1,4", (8, 4)),
        (" 4 , 6", (4, 6)),
    ],
)
def test_layers_are_resolved_in_the_order_given_without_repeats(text, layers):
    assert parse_layers(text, n_layers=8, default=6) == layers


@pytest.mark.parametrize("text", ["9", "-10", "", "4,", "six", "4;6", "4.0", "All", "-1,99"])
def test_a_layer_that_does_not_exist_is_refused_with_the_range(text):
    with pytest.raises(ParameterError, match=r"0\.\.8") as caught:
        parse_layers(text, n_layers=8, default=6)
    assert caught.value.value == text


@given(st.integers(1, 48), st.integers(-60, 60))
def test_negative_layers_count_from_the_last(n_layers, layer):
    try:
        (resolved,) = parse_layers(str(layer), n_layers, default=0)
    except ParameterError:
        assert not -n_layers - 1 <= layer <= n_layers
    else:
        assert resolved == range(n_layers + 1)[layer]
