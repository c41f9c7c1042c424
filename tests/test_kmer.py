"""The k-mer model: its vectors are 3-mer frequencies, today and in every later version."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plmsearch.embedding.embed import embed_sequences, make_specs, plan_of
from plmsearch.embedding.registry import load_embedder, model_card
from plmsearch.sequences import RESIDUES

CARD = model_card("kmer")
SEQUENCES = st.text(st.sampled_from(RESIDUES), min_size=1, max_size=40)


def bucket(kmer):
    """Knuth's multiplicative hash of a 3-mer over 27 symbols, 0 being the end."""
    first, second, third = (ord(c) - 64 for c in kmer.ljust(3, "@"))
    return (((first * 27 + second) * 27 + third) * 2654435761) % 2**32 >> 23


def embed(sequences, layer=1, **options):
    embedder = load_embedder("kmer", **options)
    plan = plan_of(make_specs(embedder, [layer]))
    return embed_sequences(embedder, sequences, plan).vectors[layer]


@given(st.lists(SEQUENCES, min_size=1, max_size=6))
def test_layer_1_is_the_frequency_of_each_3_mer(sequences):
    expected = np.zeros((len(sequences), CARD.dim))
    for row, s in enumerate(sequences):
        for i in range(len(s)):
            expected[row, bucket(s[i : i + 3])] += 1 / len(s)
    np.testing.assert_allclose(embed(sequences), expected, rtol=1e-6)


@given(st.lists(SEQUENCES, min_size=1, max_size=6))
def test_layer_0_is_the_frequency_of_each_residue(sequences):
    expected = np.zeros((len(sequences), CARD.dim))
    for row, s in enumerate(sequences):
        for letter in s:
            expected[row, ord(letter) - 64] += 1 / len(s)
    np.testing.assert_allclose(embed(sequences, layer=0), expected, rtol=1e-6)


def test_the_vector_of_a_sequence_is_the_same_for_ever():
    """Stored vectors are searched by later versions: change the digest when this changes."""
    embedder = load_embedder("kmer")
    (vector,) = embed(["EVQLVES"])
    assert np.flatnonzero(vector).tolist() == [63, 69, 105, 180, 199, 391, 402]
    assert embedder.weights_digest.startswith("6f6c73e8b949")


def test_permuted_residues_are_told_apart():
    same_letters = embed(["EVQLVESGG", "GGSEVLQVE"])
    assert np.abs(same_letters[0] - same_letters[1]).max() > 0


def test_no_option_changes_the_vectors():
    expected = embed(["EVQLVES"])
    assert (embed(["EVQLVES"], device="cuda:0", precision="bfloat16", threads=1) == expected).all()


@pytest.mark.parametrize("layer", [0, 1])
def test_padding_is_zero(layer):
    out = load_embedder("kmer").residue_embeddings(["EVQL", "E"], [layer])
    assert not out.layers[layer][1, 1:].any()
    assert (out.layers[layer].sum(axis=2)[0] == 1).all()


def test_it_needs_no_torch():
    code = (
        "import sys; from plmsearch.embedding.registry import load_embedder; "
        "load_embedder('kmer').residue_embeddings(['EVQL'], [0, 1]); "
        "sys.exit('torch' in sys.modules or 'faiss' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
