"""Devices, precisions, threads and memory of torch."""

from __future__ import annotations

import pytest
import torch

from plmsearch.embedding._torch import (
    memory_errors,
    precision_name,
    resolve_device,
    resolve_precision,
    set_threads,
)
from plmsearch.errors import EmbeddingError, ParameterError

CPU = torch.device("cpu")


def test_auto_takes_the_first_cuda_device_or_else_the_cpu() -> None:
    assert resolve_device("auto") == torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    assert resolve_device("cpu") == CPU


@pytest.mark.parametrize("device", ["cuda:99", "cpu:1", "tpu", "", "gpu"])
def test_a_device_that_is_not_there_is_refused_with_those_that_are(device: str) -> None:
    with pytest.raises(ParameterError, match="device of this machine: cpu") as caught:
        resolve_device(device)
    assert (caught.value.name, caught.value.value) == ("device", device)


def test_devices_are_numbered_as_torch_numbers_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert str(resolve_device("auto")) == str(resolve_device("cuda")) == "cuda:0"
    assert str(resolve_device("cuda:1")) == "cuda:1"
    with pytest.raises(ParameterError, match="cpu, cuda:0, cuda:1"):
        resolve_device("cuda:2")


def test_auto_on_a_cpu_is_float32() -> None:
    assert resolve_precision("auto", CPU) == torch.float32


@pytest.mark.parametrize("name", ["float32", "bfloat16"])
def test_a_precision_keeps_its_name(name: str) -> None:
    assert precision_name(resolve_precision(name, CPU)) == name


@pytest.mark.parametrize("name", ["float16", "double", ""])
def test_another_precision_is_refused(name: str) -> None:
    with pytest.raises(ParameterError, match="auto, float32, bfloat16"):
        resolve_precision(name, CPU)


def test_threads_are_set_or_left_alone() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        set_threads(1)
        assert torch.get_num_threads() == 1
        set_threads(None)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
    with pytest.raises(ParameterError, match="at least 1"):
        set_threads(0)


def test_running_out_of_memory_says_what_to_lower() -> None:
    with (
        pytest.raises(EmbeddingError, match=r"cpu .*3 sequences of up to 120 residues; lower --batch-tokens"),
        memory_errors(CPU, 3, 120),
    ):
        torch.empty(2**55, dtype=torch.uint8)
    with pytest.raises(EmbeddingError), memory_errors(CPU, 3, 120):
        raise torch.OutOfMemoryError("CUDA out of memory")


def test_other_failures_pass_unchanged() -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), memory_errors(CPU, 3, 120):
        torch.ones(2, 3) @ torch.ones(2, 3)
