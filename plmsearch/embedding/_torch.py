"""Devices, precisions and threads of torch, by the names users type.

Concepts
--------
``auto`` precision is float32 on a CPU and bfloat16 on a CUDA device that computes it natively. A CPU with
bfloat16 instructions would be about twice as fast in it, at cosine similarities above 0.9999 to float32, but
the promise that a vector does not depend on its neighbours in a batch (1e-5) holds in float32 only, so on a
CPU bfloat16 is never chosen unasked.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from plmsearch.errors import EmbeddingError, ParameterError

__all__ = ["memory_errors", "precision_name", "resolve_device", "resolve_precision", "set_threads"]

_PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def resolve_device(device: str) -> torch.device:
    """Return the torch device of a ``--device`` value.

    Parameters
    ----------
    device : str
        ``auto`` (the first CUDA device, or else the CPU), ``cpu``, ``cuda`` (the first) or ``cuda:N``.

    Returns
    -------
    torch.device
        With its index, where it is a CUDA device.

    Raises
    ------
    ParameterError
        If this machine has no such device; names those it has.
    """
    n_cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    available = ["cpu", *(f"cuda:{i}" for i in range(n_cuda))]
    if device == "auto":
        return torch.device("cuda:0" if n_cuda else "cpu")
    name = "cuda:0" if device == "cuda" else device
    if name not in available:
        raise ParameterError("device", device, f"'auto' or a device of this machine: {', '.join(available)}")
    return torch.device(name)


def resolve_precision(precision: str, device: torch.device) -> torch.dtype:
    """Return the torch dtype of a ``--precision`` value.

    Parameters
    ----------
    precision : str
        ``auto``, ``float32`` or ``bfloat16``.
    device : torch.device
        As `resolve_device` returns it.

    Returns
    -------
    torch.dtype
        ``auto``: bfloat16 on a CUDA device that has it in hardware, else float32.

    Raises
    ------
    ParameterError
        If the name is none of the three.
    """
    if precision == "auto":
        return torch.bfloat16 if _has_native_bfloat16(device) else torch.float32
    if precision not in _PRECISIONS:
        raise ParameterError("precision", precision, f"one of: auto, {', '.join(_PRECISIONS)}")
    return _PRECISIONS[precision]


def _has_native_bfloat16(device: torch.device) -> bool:
    if device.type != "cuda":
        return False
    with torch.cuda.device(device):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))


def precision_name(dtype: torch.dtype) -> str:
    """Return the name users type for a dtype: ``float32`` or ``bfloat16``."""
    return str(dtype).removeprefix("torch.")


def set_threads(threads: int | None) -> None:
    """Set how many CPU threads torch computes with, for the whole process.

    Parameters
    ----------
    threads : int or None
        At least 1; None leaves torch's own choice, one per core.

    Raises
    ------
    ParameterError
        If `threads` is below 1.
    """
    if threads is None:
        return
    if threads < 1:
        raise ParameterError("threads", threads, "at least 1")
    torch.set_num_threads(threads)


@contextmanager
def memory_errors(device: torch.device, n_sequences: int, n_residues: int) -> Iterator[None]:
    """Tell what to do where a forward pass does not fit into memory.

    Parameters
    ----------
    device : torch.device
    n_sequences, n_residues : int
        Sequences of the batch, and residues of the longest; for the message.

    Raises
    ------
    EmbeddingError
        If torch could not allocate memory inside the block.
    """
    try:
        yield
    except RuntimeError as exc:
        # On a CPU torch raises a bare RuntimeError; only its text tells.
        if not isinstance(exc, torch.OutOfMemoryError) and "DefaultCPUAllocator" not in str(exc):
            raise
        batch = f"{n_sequences} sequences of up to {n_residues} residues"
        raise EmbeddingError(
            f"{device} has not enough memory for a batch of {batch}", hint="lower --batch-tokens"
        ) from exc
