import csv
import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plmsearch.embedding.cards import CARDS
from plmsearch.embedding.choose import SAMPLE_SIZE, Reservoir, choose_model, sample_sequences
from plmsearch.errors import MixedInputError, ModelUnavailableError, ParameterError

DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data"

VH = (
    "EVQLVESGGGLVQPGGSLRLSCAASGFNIKDTYIHWVRQAPGKGLEWVARIYPTNGYTRYADSVKGRFTISADTSKNTAYLQMNSLRAEDTAVYYC"
    "SRWGGDGFYAMDYWGQGTLVTVSS"
)
TRB = (
    "DGGITQSPKYLFRKEGQNVTLSCEQNLNHDAMYWYRQDPGQGLRLIYYSQIVNDFQKGDIAEGYSVSREKKESFPLTVTSAQKNPTAFYLC"
    "ASSIRSSYEQYFGPGTRLTVT"
)
UBIQUITIN = "MQIFVKTLTGKTITLEVEPSDTIENVKAKIQDKEGIPPDQQRLIFAGKQLEDGRTLSDYNIQKESTLHLVLRLRGG"
ESM2 = [name for name, card in CARDS.items() if card.family == "esm2" and card.n_layers]


def everything(name):
    return True


def nothing(name):
    return False


def decide(n_antibody, n_other, **options):
    """Choose for so many antibodies and others, without numbering them."""
    options.setdefault("weights_at_hand", everything)
    return choose_model(
        ["A"] * n_antibody + ["P"] * n_other, is_antibody=lambda residues: residues == "A", **options
    )


# --- Which model ---------------------------------------------------------------------------------


def test_antibodies_get_antiberty_and_the_reason_counts_them():
    choice = choose_model([VH] * 3, weights_at_hand=nothing)
    assert choice.model_id == "antiberty"
    assert choice.reason == "antiberty: 3 of 3 sampled sequences hold an antibody variable domain"
    assert (choice.n_sampled, choice.n_antibody) == (3, 3)


def test_one_antibody_is_enough_to_choose():
    assert choose_model([VH], weights_at_hand=nothing).model_id == "antiberty"


def test_a_single_protein_gets_a_protein_model():
    choice = choose_model([UBIQUITIN], weights_at_hand=everything)
    assert choice.model_id in ESM2
    assert (choice.n_sampled, choice.n_antibody) == (1, 0)


@pytest.mark.parametrize("n_other", [0, 1, 10])
def test_up_to_5_percent_of_others_is_still_an_antibody_set(n_other):
    assert decide(200 - n_other, n_other).model_id == "antiberty"


@pytest.mark.parametrize("n_antibody", [0, 1, 10])
def test_up_to_5_percent_of_antibodies_is_still_a_protein_set(n_antibody):
    choice = decide(n_antibody, 200 - n_antibody)
    assert choice.model_id in ESM2
    assert f"{n_antibody} of 200 sampled sequences" in choice.reason


@pytest.mark.parametrize("n_antibody", [11, 100, 189])
def test_anything_between_is_a_mixture_and_names_the_counts(n_antibody):
    with pytest.raises(MixedInputError) as caught:
        decide(n_antibody, 200 - n_antibody)
    error = caught.value
    assert (error.n_antibody, error.n_other, error.n_sampled) == (n_antibody, 200 - n_antibody, 200)
    assert "--model" in error.hint


@given(st.integers(0, 60), st.integers(0, 60))
def test_the_rule_is_symmetric(n_antibody, n_other):
    def outcome(a, b):
        try:
            return decide(a, b).model_id == "antiberty"
        except MixedInputError:
            return None

    if n_antibody + n_other:
        swapped = outcome(n_other, n_antibody)
        assert outcome(n_antibody, n_other) == (None if swapped is None else not swapped)


def test_an_empty_sample_is_refused():
    with pytest.raises(ParameterError, match="at least one sequence"):
        choose_model([], weights_at_hand=everything)


# --- Protein models ------------------------------------------------------------------------------


@pytest.mark.parametrize("n_at_hand", range(1, len(ESM2) + 1))
def test_the_largest_esm2_at_hand_is_taken(n_at_hand):
    at_hand = random.Random(n_at_hand).sample(ESM2, n_at_hand)
    largest = max(at_hand, key=lambda name: CARDS[name].size_bytes)
    choice = decide(0, 5, weights_at_hand=at_hand.__contains__)
    assert choice.model_id == largest
    assert choice.reason.startswith(f"{largest}: 0 of 5 sampled sequences")
    assert "\n" not in choice.reason


def test_weights_of_other_families_and_of_no_named_model_do_not_count():
    at_hand = set(CARDS) - set(ESM2)
    with pytest.raises(ModelUnavailableError):
        decide(0, 5, weights_at_hand=at_hand.__contains__)


def test_without_weights_the_error_says_where_it_looked_and_how_to_get_them():
    with pytest.raises(ModelUnavailableError) as caught:
        decide(1, 99, weights_at_hand=nothing, searched=lambda name: [f"/models/{name}.pt"])
    error = caught.value
    assert error.model == "esm2_t33_650M_UR50D"
    assert error.searched == ("/models/esm2_t33_650M_UR50D.pt",)
    assert error.size_bytes == CARDS["esm2_t33_650M_UR50D"].size_bytes
    assert "1 of 100 sampled sequences" in error.hint
    for way in ("plmsearch models fetch esm2_t33_650M_UR50D", "--weights", "--model kmer"):
        assert way in error.hint


def test_the_places_looked_at_are_by_default_those_of_the_weights_module(monkeypatch, tmp_path):
    monkeypatch.setenv("PLMSEARCH_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    with pytest.raises(ModelUnavailableError) as caught:
        decide(0, 1, weights_at_hand=nothing)
    assert str(tmp_path / "esm2_t33_650M_UR50D.pt") in caught.value.searched


def test_t_cell_receptors_are_proteins_and_are_counted():
    choice = choose_model([TRB, TRB, UBIQUITIN], weights_at_hand=everything)
    assert choice.model_id in ESM2
    assert "0 of 3 sampled sequences hold an antibody variable domain, 2 that of a T-cell" in choice.reason
    with pytest.raises(MixedInputError):
        choose_model([TRB, VH], weights_at_hand=everything)


# --- Sampling ------------------------------------------------------------------------------------


@given(st.lists(st.text("ACDE", min_size=1, max_size=4), max_size=80), st.integers(1, 50), st.integers(0, 9))
def test_a_sample_is_drawn_from_the_stream_without_repeats_and_repeats_with_the_seed(stream, n, seed):
    sample = sample_sequences(iter(stream), n, seed)
    assert len(sample) == min(n, len(stream))
    assert Counter(sample) <= Counter(stream)
    assert sample == sample_sequences(stream, n, seed)
    if len(stream) <= n:
        assert list(sample) == stream


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 30), st.integers(1, 10))
def test_adding_one_by_one_is_the_same_as_sampling_the_stream(n_stream, n):
    stream = [f"S{i}" for i in range(n_stream)]
    reservoir = Reservoir(n, seed=3)
    for residues in stream:
        reservoir.add(residues)
    assert reservoir.sample == sample_sequences(stream, n, seed=3)
    assert reservoir.n_seen == n_stream


def test_every_place_of_the_stream_is_drawn_equally_often():
    n_draws, stream = 4000, [str(i) for i in range(20)]
    drawn = Counter(x for seed in range(n_draws) for x in sample_sequences(stream, 5, seed))
    expected = n_draws * 5 / 20
    # 20 counts, each binomial(4000, 1/4) with standard deviation 27.4: five of them either way.
    assert all(abs(drawn[x] - expected) < 5 * 27.4 for x in stream)


def test_the_order_of_the_stream_does_not_hide_its_second_half():
    stream = [VH] * 5000 + [UBIQUITIN] * 5000
    sample = sample_sequences(stream)
    assert len(sample) == SAMPLE_SIZE
    with pytest.raises(MixedInputError):
        choose_model(sample, weights_at_hand=nothing, is_antibody=lambda residues: residues == VH)


@pytest.mark.parametrize("n", [0, -1])
def test_a_sample_of_nothing_is_refused(n):
    with pytest.raises(ParameterError, match=f"n is {n}"):
        sample_sequences(["EVQL"], n)


# --- Real data -----------------------------------------------------------------------------------


def real_antibodies():
    path = DATA / "antibodies" / "sars2_paired.tsv"
    if not path.exists():
        pytest.skip(f"the antibody set {path} is not on this machine")
    with path.open(encoding="utf-8", newline="") as handle:
        return [row["VH"] for row in csv.DictReader(handle, delimiter="\t")]


def real_proteins():
    path = DATA / "proteins" / "scope40_dev_small.fasta"
    if not path.exists():
        pytest.skip(f"the protein set {path} is not on this machine")
    return ["".join(entry.split("\n")[1:]) for entry in path.read_text("utf-8").split(">")[1:]]


def test_real_antibodies_proteins_and_their_mixture_are_told_apart():
    antibodies, proteins = real_antibodies(), real_proteins()
    assert choose_model(sample_sequences(antibodies), weights_at_hand=nothing).model_id == "antiberty"
    choice = choose_model(sample_sequences(proteins), weights_at_hand=everything)
    assert (choice.model_id, choice.n_antibody) == ("esm2_t48_15B_UR50D", 0)
    with pytest.raises(MixedInputError):
        choose_model(sample_sequences(antibodies[:1200] + proteins), weights_at_hand=everything)
