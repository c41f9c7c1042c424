"""The digest of weights, its cache, and the places where weights are looked for."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from plmsearch.embedding import weights as module
from plmsearch.embedding.cards import CARDS, is_esm, is_generic
from plmsearch.embedding.weights import (
    cached_digest,
    find_weights,
    hub_checkpoints,
    tensors_digest,
    weights_at_hand,
)
from plmsearch.errors import ModelUnavailableError

NAME = "esm2_t6_8M_UR50D"
OTHER = "esm2_t12_35M_UR50D"
DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool, torch.float64)


@pytest.fixture(autouse=True)
def _own_caches(monkeypatch, tmp_path):
    monkeypatch.setenv("PLMSEARCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


# --- Digest --------------------------------------------------------------------------------------


def oracle(tensors):
    """The documented definition, byte by byte, without torch's views."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f'["{name}", "{str(tensor.dtype)[6:]}", {json.dumps(list(tensor.shape))}]\n'.encode())
        flat = tensor.contiguous().flatten()
        for value in flat:
            digest.update(bytes(value.clone().untyped_storage()))
    return digest.hexdigest()


@settings(max_examples=30)
@given(
    st.dictionaries(
        st.text("abc.xyz", min_size=1, max_size=6),
        st.tuples(st.sampled_from(DTYPES), st.lists(st.integers(0, 3), max_size=3)),
        max_size=4,
    ),
    st.randoms(use_true_random=False),
)
def test_digest_is_the_documented_hash_whatever_the_order_of_the_mapping(layout, random):
    tensors = {
        name: (torch.rand(shape) * 100).to(dtype) if shape else torch.tensor(7).to(dtype)
        for name, (dtype, shape) in layout.items()
    }
    shuffled = list(tensors.items())
    random.shuffle(shuffled)
    assert tensors_digest(dict(shuffled)) == oracle(tensors)


def test_digest_of_a_transposed_view_is_that_of_its_values():
    tensor = torch.arange(6.0).reshape(2, 3)
    assert tensors_digest({"a": tensor.t()}) == tensors_digest({"a": tensor.t().clone()})


@pytest.mark.parametrize(
    "changed",
    [
        {"b": torch.zeros(2, 3)},
        {"a": torch.zeros(3, 2)},
        {"a": torch.zeros(2, 3, dtype=torch.int32)},
        {"a": torch.tensor([[0.0, 0, 0], [0, 0, 1e-38]])},
        {"a": torch.zeros(2, 3), "b": torch.zeros(0)},
    ],
    ids=["name", "shape", "dtype", "one value", "one more tensor"],
)
def test_digest_changes_with(changed):
    assert tensors_digest(changed) != tensors_digest({"a": torch.zeros(2, 3)})


def test_digest_looks_each_tensor_up_once():
    class Counting(dict):
        seen = ()

        def __getitem__(self, name):
            self.seen = (*self.seen, name)
            return super().__getitem__(name)

    tensors = Counting(b=torch.zeros(1), a=torch.zeros(1))
    tensors_digest(tensors)
    assert tensors.seen == ("a", "b")


# --- Cache ---------------------------------------------------------------------------------------


class Compute:
    def __init__(self, digest="0" * 64):
        self.digest, self.calls = digest, 0

    def __call__(self):
        self.calls += 1
        return self.digest


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "w.pt"
    path.write_bytes(b"weights")
    return path


def test_digest_is_computed_once_for_unchanged_files(file, monkeypatch):
    compute = Compute()
    assert [cached_digest([file], "esm", compute) for _ in range(3)] == ["0" * 64] * 3
    monkeypatch.chdir(file.parent)
    cached_digest([Path("w.pt")], "esm", compute)
    assert compute.calls == 1


def test_digest_is_computed_anew_when_a_file_or_the_kind_changes(file):
    compute = Compute()
    cached_digest([file], "esm", compute)
    cached_digest([file], "other", compute)
    file.write_bytes(b"weights!")
    cached_digest([file], "esm", compute)
    status = file.stat()
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    cached_digest([file], "esm", compute)
    assert compute.calls == 4


def test_a_file_that_changes_while_it_is_hashed_is_not_remembered(file):
    status = file.stat()

    def compute():
        file.write_bytes(b"something longer")
        return "1" * 64

    cached_digest([file], "esm", compute)
    file.write_bytes(b"weights")  # the first content again, as a restored backup would be
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    again = Compute("2" * 64)
    assert cached_digest([file], "esm", again) == "2" * 64


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"null",
        b'{"format": 1, "digests": 3}',
        b"[" * 100_000,
        b'{"format": 99, "digests": {}}',
    ],
    ids=["empty", "binary", "list", "null", "wrong type", "deep", "newer format"],
)
def test_a_damaged_cache_costs_time_only(file, tmp_path, content):
    cache = tmp_path / "cache" / "digests.json"
    cache.parent.mkdir()
    cache.write_bytes(content)
    compute = Compute()
    for _ in range(2):
        assert cached_digest([file], "esm", compute) == "0" * 64
    assert compute.calls == 1


def test_a_forged_digest_that_is_none_is_not_believed(file, tmp_path):
    cached_digest([file], "esm", Compute())
    cache = tmp_path / "cache" / "digests.json"
    cache.write_text(cache.read_text().replace("0" * 64, "not a digest"))
    assert cached_digest([file], "esm", Compute("3" * 64)) == "3" * 64


def test_a_cache_that_cannot_be_written_is_no_error(file, tmp_path, monkeypatch):
    (tmp_path / "taken").write_text("a file where the directory should be")
    monkeypatch.setenv("PLMSEARCH_CACHE", str(tmp_path / "taken"))
    compute = Compute()
    assert [cached_digest([file], "esm", compute) for _ in range(2)] == ["0" * 64] * 2
    assert compute.calls == 2


def test_a_failed_write_leaves_the_old_cache_and_no_temporary_file(file, tmp_path, monkeypatch):
    cached_digest([file], "esm", Compute())
    before = (tmp_path / "cache" / "digests.json").read_text()

    def full(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    cached_digest([file], "other", Compute())
    assert [p.name for p in (tmp_path / "cache").iterdir()] == ["digests.json"]
    assert (tmp_path / "cache" / "digests.json").read_text() == before


def test_the_cache_lies_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.delenv("PLMSEARCH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert module._cache_file() == tmp_path / "xdg" / "plmsearch" / "digests.json"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert module._cache_file() == tmp_path / "home" / ".cache" / "plmsearch" / "digests.json"


# --- Places --------------------------------------------------------------------------------------


def touch(path, content=b"x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def hf_directory(path, *, layers=6, dim=320, model_type="esm", position="rotary"):
    config = {
        "model_type": model_type,
        "num_hidden_layers": layers,
        "hidden_size": dim,
        "position_embedding_type": position,
    }
    touch(path / "config.json", json.dumps(config).encode())
    return path


@pytest.mark.parametrize(
    "variables", [{}, {"TORCH_HOME": "/a"}, {"XDG_CACHE_HOME": "/b"}, {"TORCH_HOME": "~/c"}]
)
def test_the_hub_cache_is_where_torch_keeps_it(monkeypatch, variables):
    for name in ("TORCH_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert hub_checkpoints() == Path(torch.hub.get_dir()) / "checkpoints"


def test_explicit_weights_come_first_then_the_variable_then_the_hub(tmp_path, monkeypatch):
    hub = touch(hub_checkpoints() / f"{NAME}.pt")
    assert find_weights(NAME) == hub
    named = touch(tmp_path / "dir" / f"{NAME}.pt")
    monkeypatch.setenv("PLMSEARCH_WEIGHTS", str(tmp_path / "dir"))
    assert find_weights(NAME) == named
    file = touch(tmp_path / "any.pt")
    assert find_weights(NAME, file) == file


def test_a_directory_may_hold_a_file_a_hugging_face_directory_or_be_one(tmp_path):
    inner = hf_directory(tmp_path / "many" / NAME)
    assert find_weights(NAME, tmp_path / "many") == inner
    assert find_weights(NAME, inner) == inner
    file = touch(tmp_path / "many" / f"{NAME}.pt")
    assert find_weights(NAME, tmp_path / "many") == file


def test_explicit_weights_that_are_absent_are_never_replaced_by_others(tmp_path):
    touch(hub_checkpoints() / f"{NAME}.pt")
    with pytest.raises(ModelUnavailableError) as caught:
        find_weights(NAME, tmp_path / "nowhere")
    assert caught.value.searched == tuple(
        str(tmp_path / "nowhere" / part) for part in (f"{NAME}.pt", NAME, "")
    )


def test_absent_weights_name_every_place_the_size_and_the_command(tmp_path, monkeypatch):
    monkeypatch.setenv("PLMSEARCH_WEIGHTS", str(tmp_path))
    with pytest.raises(ModelUnavailableError) as caught:
        find_weights(NAME)
    message = str(caught.value)
    for part in (tmp_path / f"{NAME}.pt", tmp_path / NAME, hub_checkpoints() / f"{NAME}.pt"):
        assert str(part) in message
    assert "(30 MB)" in message
    assert f"plmsearch models fetch {NAME}" in message


@pytest.mark.parametrize("name", [n for n, c in CARDS.items() if is_esm(c) and not is_generic(c)])
def test_absent_weights_of_every_model_say_how_large_they_are(name):
    with pytest.raises(ModelUnavailableError, match=r"[\d,]{2,} MB\)"):
        find_weights(name)


def test_a_variable_naming_the_file_of_one_model_does_not_serve_another(tmp_path, monkeypatch):
    file = touch(tmp_path / f"{OTHER}.pt")
    monkeypatch.setenv("PLMSEARCH_WEIGHTS", str(file))
    assert find_weights(OTHER) == file
    with pytest.raises(ModelUnavailableError):
        find_weights(NAME)
    mine = touch(tmp_path / "mine.pt")
    monkeypatch.setenv("PLMSEARCH_WEIGHTS", str(mine))
    assert find_weights(NAME) == mine


def test_only_weights_of_just_this_model_are_at_hand(tmp_path, monkeypatch):
    assert not weights_at_hand(NAME)
    monkeypatch.setenv("PLMSEARCH_WEIGHTS", str(touch(tmp_path / "mine.pt")))
    assert not weights_at_hand(NAME)
    touch(hub_checkpoints() / f"{NAME}.pt")
    assert weights_at_hand(NAME)
    assert not weights_at_hand(OTHER)


@pytest.mark.parametrize(
    ("changes", "fits"),
    [
        ({}, True),
        ({"layers": 12}, False),
        ({"dim": 480}, False),
        ({"model_type": "bert"}, False),
        ({"position": "absolute"}, False),
    ],
    ids=str,
)
def test_a_hugging_face_directory_is_at_hand_if_its_config_fits(tmp_path, monkeypatch, changes, fits):
    directory = hf_directory(tmp_path / "snapshot", **changes)
    assert weights_at_hand(NAME, directory) is fits
    monkeypatch.setenv("PLMSEARCH_WEIGHTS", str(directory))
    assert weights_at_hand(NAME) is fits
    if not fits:
        with pytest.raises(ModelUnavailableError):
            find_weights(NAME)


@pytest.mark.parametrize("config", [b"", b"[]", b"\xff", b"{}"])
def test_a_directory_with_a_broken_config_is_not_at_hand(tmp_path, config):
    touch(tmp_path / "d" / "config.json", config)
    assert not weights_at_hand(NAME, tmp_path / "d")


def test_looking_for_weights_imports_no_torch(tmp_path):
    code = (
        "import sys; from plmsearch.embedding.weights import weights_at_hand as w;"
        f"w({NAME!r}); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1]).returncode == 0
