"""Models by name: the table of cards, the registry, and models of other packages."""

import inspect
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import esm
import numpy as np
import pytest

from plmsearch.embedding import registry
from plmsearch.embedding.base import Embedder, ModelCard, ResidueEmbeddings
from plmsearch.embedding.cards import CARDS, is_esm, is_generic
from plmsearch.embedding.registry import available_models, load_embedder, model_card
from plmsearch.errors import EmbeddingError, ParameterError, UnknownModelError, UnsupportedModelError
from plmsearch.sequences import RESIDUES

NAMED_ESM = {n: c for n, c in CARDS.items() if is_esm(c) and not is_generic(c)}


# --- Cards ---------------------------------------------------------------------------------------


def names_in_fair_esm():
    """Every file that fair-esm's own functions download."""
    source = inspect.getsource(esm.pretrained)
    return set(re.findall(r'return load_model_and_alphabet_hub\("(\w+)"\)', source))


def functions_of_fair_esm():
    return {n for n, f in vars(esm.pretrained).items() if n.startswith("esm") and inspect.isfunction(f)}


def test_cards_are_all_single_sequence_files_that_fair_esm_names_and_no_others():
    single = {n for n in names_in_fair_esm() if not n.startswith(("esm_msa", "esm_if", "esmfold"))}
    assert set(NAMED_ESM) == single


def test_every_function_of_fair_esm_is_known_or_refused_by_name():
    for name in functions_of_fair_esm():
        if name.startswith(("esm_msa", "esm_if", "esmfold")):
            with pytest.raises(UnsupportedModelError, match=name):
                model_card(name)
        else:
            assert model_card(name).n_layers > 0


def test_layers_of_every_card_are_those_of_fair_esms_description():
    for name, card in NAMED_ESM.items():
        described = re.search(r"(\d+) layer", inspect.getdoc(getattr(esm.pretrained, name)))
        assert card.n_layers == int(described[1]) == card.default_layer, name


def test_dimensions_of_every_card_give_the_number_of_parameters_in_its_name():
    for name, card in NAMED_ESM.items():
        number, unit = re.search(r"_(\d+)([MB])_", name).groups()
        stated = int(number) * {"M": 1e6, "B": 1e9}[unit]
        in_blocks = 12 * card.n_layers * card.dim**2
        assert 0.8 * stated < in_blocks < 1.05 * stated, name


def test_the_alphabet_of_esm_cards_is_what_fair_esm_has_a_token_for():
    for architecture in ("ESM-1", "ESM-1b"):
        tokens = esm.Alphabet.from_architecture(architecture).tok_to_idx
        assert set(NAMED_ESM["esm2_t6_8M_UR50D"].alphabet) == {c for c in RESIDUES if c in tokens}


def test_cards_of_all_models_are_complete_and_named_by_their_key():
    for name, card in CARDS.items():
        assert card.model_id == name
        assert card.licence
        assert card.weights
        assert is_generic(card) or (card.dim > 0 and 0 <= card.default_layer <= card.n_layers)
        assert set(card.alphabet) <= set(RESIDUES)


# --- Registry ------------------------------------------------------------------------------------


def test_every_available_model_has_a_card_and_a_class_with_load():
    for name in available_models():
        assert model_card(name).model_id == name
        module, _, class_name = registry._BUILT_IN[name].partition(":")
        assert module.startswith("plmsearch.embedding.")
        assert class_name.isidentifier()


def test_fair_esms_second_name_of_a_file_gives_the_same_card():
    assert model_card("esm1v_t33_650M_UR90S") is model_card("esm1v_t33_650M_UR90S_1")


def test_an_unknown_name_lists_the_choices():
    with pytest.raises(UnknownModelError) as caught:
        model_card("esm3")
    assert caught.value.choices == available_models()
    assert "antiberty" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "word"), [("esm_msa1b_t12_100M_UR50S", "alignments"), ("ESMFold_v1", "structures")]
)
def test_models_of_another_kind_are_refused_with_the_reason(name, word):
    with pytest.raises(UnsupportedModelError, match=word):
        load_embedder(name)


def test_cards_and_the_kmer_model_need_no_torch():
    code = (
        "import sys; from plmsearch.embedding.registry import available_models, load_embedder, model_card;"
        "[model_card(n) for n in available_models()]; load_embedder('kmer', threads=2);"
        "sys.exit(bool({'torch', 'esm', 'antiberty'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1]).returncode == 0


@pytest.mark.parametrize("threads", [0, -1])
def test_threads_below_one_are_refused_for_every_model(threads):
    with pytest.raises(ParameterError, match="threads"):
        load_embedder("kmer", threads=threads)


# --- Other packages ------------------------------------------------------------------------------


class Plugin(Embedder):
    card = ModelCard("toy", "toy", 1, 2, 10, "A", 1, False, "MIT", "none needed")
    weights_digest = "0" * 64

    @classmethod
    def load(cls, card, *, weights=None, device="auto", precision="auto"):
        return cls()

    def residue_embeddings(self, sequences, layers):
        return ResidueEmbeddings({}, np.zeros(0, np.int64))


class StaticCardPlugin(Plugin):
    @staticmethod
    def card():
        return Plugin.card


class LoadsNoEmbedder(Plugin):
    @classmethod
    def load(cls, card, **options):
        return "a string"


class WithoutCard:
    pass


def install(monkeypatch, *points):
    entries = [EntryPoint(name, value, registry.ENTRY_POINT_GROUP) for name, value in points]
    monkeypatch.setattr(registry, "_entry_points", lambda _places: entries)


def test_a_package_that_is_installed_meanwhile_is_found(monkeypatch, tmp_path):
    os.utime(tmp_path, ns=(0, 0))  # a file system may not tell two moments apart
    monkeypatch.syspath_prepend(tmp_path)
    assert "toy" not in available_models()
    made, package = tmp_path / "made", tmp_path / "toy-1.dist-info"
    made.mkdir()
    (made / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1\n")
    (made / "entry_points.txt").write_text(f"[{registry.ENTRY_POINT_GROUP}]\ntoy = {__name__}:Plugin\n")
    made.rename(package)
    assert available_models()[-1] == "toy"
    shutil.rmtree(package)
    os.utime(tmp_path, ns=(1, 1))
    assert "toy" not in available_models()


@pytest.mark.parametrize("cls", [Plugin, StaticCardPlugin])
def test_a_model_of_another_package_is_listed_and_loaded(monkeypatch, cls):
    install(monkeypatch, ("toy", f"{__name__}:{cls.__name__}"))
    assert available_models()[-1] == "toy"
    assert model_card("toy") is Plugin.card
    assert isinstance(load_embedder("toy"), cls)


@pytest.mark.parametrize(
    "points",
    [(("kmer", "other:Kmer"),), (("toy", "first:Toy"), ("toy", "second:Toy"))],
    ids=["built-in", "two packages"],
)
def test_a_name_taken_twice_is_an_error_that_names_both(monkeypatch, points):
    install(monkeypatch, *points)
    for _, value in points:
        with pytest.raises(EmbeddingError, match=value):
            available_models()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (f"{__name__}:WithoutCard", "no ModelCard of model 'toy'"),
        ("no_such_package_at_all:Class", "cannot import"),
        (f"{__name__}:NoSuchClass", "cannot import"),
    ],
    ids=["no card", "no module", "no class"],
)
def test_a_broken_package_is_named(monkeypatch, value, message):
    install(monkeypatch, ("toy", value))
    with pytest.raises(EmbeddingError, match=message):
        model_card("toy")


def test_a_card_of_another_name_is_refused(monkeypatch):
    install(monkeypatch, ("play", f"{__name__}:Plugin"))
    with pytest.raises(EmbeddingError, match="'play'"):
        model_card("play")


def test_a_class_that_loads_something_else_is_refused(monkeypatch):
    install(monkeypatch, ("toy", f"{__name__}:LoadsNoEmbedder"))
    with pytest.raises(EmbeddingError, match="does not load an Embedder"):
        load_embedder("toy")
