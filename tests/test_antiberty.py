"""AntiBERTy on bare torch against the published AntiBERTyRunner, and every way its weights can be wrong."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from plmsearch.embedding.base import Embedder
from plmsearch.embedding.registry import load_embedder, model_card
from plmsearch.errors import (
    EmptySequenceError,
    ParameterError,
    SequenceTooLongError,
)
from plmsearch.sequences import AMBIGUOUS_RESIDUES, STANDARD_RESIDUES

REPO = Path(__file__).resolve().parents[1]
CARD = model_card("antiberty")
ALL_LAYERS = tuple(range(CARD.n_layers + 1))
TRASTUZUMAB_VH = (
    "EVQLVESGGGLVQPGGSLRLSCAASGFNIKDTYIHWVRQAPGKGLEWVARIYPTNGYTRYADSVKGRFTISADTSKNTAYLQM"
    "NSLRAEDTAVYYCSRWGGDGFYAMDYWGQGTLVTVSS"
)
TRASTUZUMAB_VL = (
    "DIQMTQSPSSLSASVGDRVTITCRASQDVNTAVAWYQQKPGKAPKLLIYSASFLYSGVPSRFSGSRSGTDFTLTISSLQPEDF"
    "ATYYCQQHYTTPPTFGQGTKVEIK"
)
ADALIMUMAB_VH = (
    "EVQLVESGGGLVQPGRSLRLSCAASGFTFDDYAMHWVRQAPGKGLEWVSAITWNSGHIDYADSVEGRFTISRDNAKNSLYLQM"
    "NSLRAEDTAVYYCAKVSYLSTASSLDYWGQGTLVTVSS"
)
RITUXIMAB_VH = (
    "QVQLQQPGAELVKPGASVKMSCKASGYTFTSYNMHWVKQTPGRGLEWIGAIYPGNGDTSYNQKFKGKATLTADKSSSTAYMQL"
    "SSLTSEDSAVYYCARSTYYGGDWYFNVWGAGTTVTVSA"
)
SEQUENCES = (TRASTUZUMAB_VH, TRASTUZUMAB_VL, ADALIMUMAB_VH, RITUXIMAB_VH, STANDARD_RESIDUES, "W")
SHORT = (TRASTUZUMAB_VH[:40], *SEQUENCES[-2:])


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLMSEARCH_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def in_wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pytest.MonkeyPatch]:
    """An environment that names no weights, for fixtures that outlive a test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("ANTIBERTY_WEIGHTS_DIR", raising=False)
        patch.setenv("PLMSEARCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield patch


@pytest.fixture(scope="module")
def embedder(in_wheel: pytest.MonkeyPatch) -> Embedder:
    return load_embedder("antiberty", device="cpu", precision="float32")


class Oracle:
    """The published implementation, which imports transformers."""

    def __init__(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from antiberty import AntiBERTyRunner

            self.runner = AntiBERTyRunner()
        self.hidden_states = cache(self._hidden_states)

    def _hidden_states(self, sequence: str) -> np.ndarray:
        """All layers of one sequence, [CLS] first and [SEP] last: (9, n_residues + 2, 512)."""
        (states,) = self.runner.embed([sequence], hidden_layer=None)
        return states.cpu().numpy()


@pytest.fixture(scope="module")
def oracle(in_wheel: pytest.MonkeyPatch) -> Oracle:
    return Oracle()


@pytest.fixture(scope="module")
def wheel_folder() -> Path:
    spec = importlib.util.find_spec("antiberty")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent / "trained_models" / "AntiBERTy_md_smooth"


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest relative error of the vectors along the last axis, in the Euclidean norm."""
    difference = np.linalg.norm(found - expected, axis=-1)
    return float((difference / np.linalg.norm(expected, axis=-1)).max())


def each(embedder: Embedder, sequences: Sequence[str], layers: Sequence[int]) -> list[np.ndarray]:
    """Embed one batch; return (layers, n_residues, dim) of each sequence."""
    out = embedder.residue_embeddings(sequences, layers)
    assert out.n_residues.tolist() == [len(s) for s in sequences]
    return [np.stack([out.layers[i][row, :n] for i in layers]) for row, n in enumerate(out.n_residues)]


# --- Numbers -------------------------------------------------------------------------------------


def test_every_layer_agrees_with_the_published_implementation(embedder: Embedder, oracle: Oracle) -> None:
    for sequence, found in zip(SEQUENCES, each(embedder, SEQUENCES, ALL_LAYERS), strict=True):
        expected = oracle.hidden_states(sequence)[:, 1:-1]
        assert found.dtype == np.float32
        assert found.shape == expected.shape == (9, len(sequence), 512)
        assert relative_error(found.mean(1), expected.mean(1)) <= 1e-5
        assert relative_error(found, expected) <= 1e-5


def test_the_special_token_is_cls(embedder: Embedder, oracle: Oracle) -> None:
    special = embedder.residue_embeddings(SEQUENCES, ALL_LAYERS).special
    for row, sequence in enumerate(SEQUENCES):
        expected = oracle.hidden_states(sequence)[:, 0]
        assert relative_error(np.stack([special[i][row] for i in ALL_LAYERS]), expected) <= 1e-5


def test_a_letter_beyond_the_twenty_is_read_as_unknown(embedder: Embedder, oracle: Oracle) -> None:
    sequence = f"EVQLVESGG{AMBIGUOUS_RESIDUES}GLVQPGGS"
    same = ["".join("X" if c in AMBIGUOUS_RESIDUES else c for c in sequence), sequence]
    x, found = each(embedder, same, [0, 6])
    np.testing.assert_array_equal(found, x)
    assert relative_error(found, oracle.hidden_states(sequence)[[0, 6], 1:-1]) <= 1e-5


def test_the_longest_sequence_is_read_whole(embedder: Embedder, oracle: Oracle) -> None:
    sequence = (TRASTUZUMAB_VH * 5)[:510]
    (found,) = each(embedder, [sequence], [8])
    expected = oracle.hidden_states(sequence)[[8], 1:-1]
    assert relative_error(found.mean(1), expected.mean(1)) <= 1e-5


def test_bfloat16_keeps_the_direction_of_every_layer(embedder: Embedder) -> None:
    low = load_embedder("antiberty", device="cpu", precision="bfloat16")
    pairs = zip(each(low, SEQUENCES, ALL_LAYERS), each(embedder, SEQUENCES, ALL_LAYERS), strict=True)
    for found, expected in ((a.mean(1), b.mean(1)) for a, b in pairs):
        assert found.dtype == np.float32
        assert not np.array_equal(found[1:], expected[1:])
        norms = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
        assert ((found * expected).sum(1) / norms).min() >= 0.9999


@pytest.fixture(scope="module")
def alone(embedder: Embedder) -> dict[str, np.ndarray]:
    """Layers 0 and 8 of each sequence, embedded in a batch of its own."""
    return {sequence: each(embedder, [sequence], [0, 8])[0] for sequence in SHORT}


@settings(max_examples=6)
@given(
    batch=st.lists(st.sampled_from(SHORT), min_size=1, max_size=3),
    stranger=st.text(STANDARD_RESIDUES, min_size=1, max_size=60),
    place=st.integers(0, 3),
)
def test_a_row_does_not_depend_on_its_neighbours(
    embedder: Embedder, alone: dict[str, np.ndarray], batch: list[str], stranger: str, place: int
) -> None:
    batch.insert(place, stranger)
    for sequence, found in zip(batch, each(embedder, batch, [0, 8]), strict=True):
        if sequence in alone:
            assert relative_error(found.mean(1), alone[sequence].mean(1)) <= 1e-5


def test_rows_follow_the_order_of_the_batch(embedder: Embedder) -> None:
    forwards = each(embedder, SEQUENCES, [6])
    backwards = each(embedder, SEQUENCES[::-1], [6])
    for found, expected in zip(backwards[::-1], forwards, strict=True):
        assert relative_error(found.mean(1), expected.mean(1)) <= 1e-5


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_cuda_device_gives_the_same_directions(embedder: Embedder) -> None:
    for precision, tolerance in (("float32", 1e-4), ("bfloat16", 0.0142)):  # cosine 0.9999
        on_device = load_embedder("antiberty", device="cuda", precision=precision)
        assert on_device.device == "cuda:0"
        pairs = zip(each(on_device, SEQUENCES, [6]), each(embedder, SEQUENCES, [6]), strict=True)
        assert all(relative_error(a.mean(1), b.mean(1)) <= tolerance for a, b in pairs)


# --- Work ----------------------------------------------------------------------------------------


def test_blocks_above_the_highest_layer_are_not_run(
    embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    masks: list[object] = []
    attention = torch.nn.functional.scaled_dot_product_attention

    def counted(*args: torch.Tensor, attn_mask: torch.Tensor | None) -> torch.Tensor:
        masks.append(attn_mask)
        return attention(*args, attn_mask=attn_mask)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", counted)
    out = embedder.residue_embeddings(["EVQL", "QVQL"], [2, 0])
    assert list(out.layers) == [2, 0]
    assert masks == [None, None]  # equal lengths need no mask
    embedder.residue_embeddings(["EVQL", "EVQLV"], [1])
    assert len(masks) == 3
    assert masks[-1] is not None


def test_a_query_imports_neither_transformers_nor_antiberty() -> None:
    code = (
        "import sys\n"
        "from plmsearch.embedding.registry import load_embedder\n"
        "load_embedder('antiberty').residue_embeddings(['EVQL'], [6])\n"
        "print(sorted({'transformers', 'antiberty', 'safetensors'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == "[]"
    assert done.stderr == ""


# --- Input ---------------------------------------------------------------------------------------


def test_a_sequence_above_510_residues_is_refused(embedder: Embedder) -> None:
    with pytest.raises(SequenceTooLongError, match=r"'#2'.*511 residues, the model reads 510") as caught:
        embedder.residue_embeddings(["EVQL", "A" * 511], [6])
    assert (caught.value.n_residues, caught.value.max_residues) == (511, 510)


def test_what_has_no_residues_is_refused(embedder: Embedder) -> None:
    with pytest.raises(EmptySequenceError, match="#1"):
        embedder.residue_embeddings(["", "EVQL"], [6])
    with pytest.raises(ParameterError, match="sequences"):
        embedder.residue_embeddings([], [6])


@pytest.mark.parametrize("layers", [(), (9,), (6, -1)])
def test_a_layer_that_does_not_exist_is_refused(embedder: Embedder, layers: tuple[int, ...]) -> None:
    with pytest.raises(ParameterError, match=r"one or more of 0\.\.8"):
        embedder.residue_embeddings(["EVQL"], layers)


def test_what_was_loaded_is_recorded(embedder: Embedder) -> None:
    assert (embedder.device, embedder.precision) == ("cpu", "float32")
    assert embedder.card == CARD
    assert embedder.card.size_bytes == 104_174_334
    assert len(embedder.weights_digest) == 64


# --- Weights in the 1.x layout -------------------------------------------------------------------


@pytest.fixture(scope="module")
def newer_folder(tmp_path_factory: pytest.TempPathFactory, wheel_folder: Path) -> Path:
    """The weights of the wheel as antiberty 1.x stores them: without buffers and tied tensors."""
    folder = tmp_path_factory.mktemp("weights")
    left_out = ("bert.embeddings.position_ids", "cls.predictions.decoder")
    stored = torch.load(wheel_folder / "pytorch_model.bin", weights_only=True, map_location="cpu")
    save_file({k: v for k, v in stored.items() if not k.startswith(left_out)}, folder / "model.safetensors")
    for path in (wheel_folder / "config.json", wheel_folder.parent / "vocab.txt"):
        shutil.copy(path, folder)
    return folder


@pytest.mark.parametrize("named_by", ["folder", "file", "environment", "copy of the wheel"])
def test_the_newer_layout_is_the_same_model(
    named_by: str,
    embedder: Embedder,
    newer_folder: Path,
    wheel_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    weights: Path | None = newer_folder
    if named_by == "file":
        weights = newer_folder / "model.safetensors"
    elif named_by == "environment":
        monkeypatch.setenv("ANTIBERTY_WEIGHTS_DIR", str(newer_folder))
        weights = None
    elif named_by == "copy of the wheel":
        weights = wheel_folder
    other = load_embedder("antiberty", weights=weights, device="cpu")
    assert other.weights_digest == embedder.weights_digest
    for found, expected in zip(
        each(other, SEQUENCES[:2], [0, 8]), each(embedder, SEQUENCES[:2], [0, 8]), strict=True
    ):
        np.testing.assert_array_equal(found, expected)
