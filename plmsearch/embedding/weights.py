"""Where model weights lie on this machine, and the digest that identifies them.

Concepts
--------
The *weights digest* is a SHA-256 over tensors, not over files: a ``.pt`` and its safetensors twin
hold the same numbers and must share an embedding space. Hashing gigabytes takes seconds, so a digest
is remembered by the path, size and modification time of the files it was read from.

The weights of an ESM model are looked for in ``--weights`` alone where it is given, else in
``$PLMSEARCH_WEIGHTS``, then in the cache of torch hub, as ``NAME.pt`` or as a Hugging Face directory
``NAME/``. Nothing here imports torch, except to hash.

Limitations
-----------
A file rewritten with the same size and the same modification time (to the nanosecond) keeps its
remembered digest; ``plmsearch models verify`` hashes anew.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plmsearch.embedding.base import ModelCard
from plmsearch.embedding.cards import CARDS, is_esm, is_generic
from plmsearch.errors import ModelUnavailableError

if TYPE_CHECKING:
    import torch

__all__ = ["cached_digest", "find_weights", "hub_checkpoints", "tensors_digest", "weights_at_hand"]

WEIGHTS_VARIABLE = "PLMSEARCH_WEIGHTS"

_HEX_SHA256 = re.compile(r"[0-9a-f]{64}")
_CACHE_FORMAT = 1


# --- Digest --------------------------------------------------------------------------------------


def tensors_digest(tensors: Mapping[str, torch.Tensor]) -> str:
    """Hash tensors by name, type, shape and value.

    Parameters
    ----------
    tensors : mapping of str to Tensor
        Any device, any dtype. Each is looked up once, in order of name, so a mapping that converts
        on the fly never holds more than one converted tensor.

    Returns
    -------
    str
        SHA-256, 64 lower-case hexadecimal digits. The order of the mapping does not matter.

    Notes
    -----
    Hashed are, sorted by name, a JSON line ``[name, dtype, shape]`` and the values in row-major
    order, little-endian. Contiguous tensors in main memory are not copied.
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        dtype = str(tensor.dtype).removeprefix("torch.")
        digest.update(json.dumps([name, dtype, list(tensor.shape)]).encode() + b"\n")
        if tensor.numel():
            digest.update(_little_endian(tensor))
    return digest.hexdigest()


def _little_endian(tensor: torch.Tensor) -> memoryview:
    import torch

    # Integers of the same width: numpy knows no bfloat16, and can swap bytes of integers only.
    width = min(tensor.element_size(), 8)
    integer = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[width]
    flat = tensor.detach().cpu().contiguous().reshape(-1).view(integer).numpy()
    return flat.astype(flat.dtype.newbyteorder("<"), copy=False).data.cast("B")


# --- Cache ---------------------------------------------------------------------------------------


def cached_digest(files: Sequence[Path], kind: str, compute: Callable[[], str]) -> str:
    """Return the digest of files, computing it only when they changed.

    Parameters
    ----------
    files : sequence of Path
        Every file the digest depends on.
    kind : str
        What is hashed, so that two digests of one file do not mix.
    compute : callable
        Returns the digest, 64 hexadecimal digits.

    Returns
    -------
    str

    Notes
    -----
    Remembered in ``digests.json`` in ``$PLMSEARCH_CACHE``, else ``$XDG_CACHE_HOME/plmsearch``, else
    ``~/.cache/plmsearch``. A cache that is absent, damaged or not writable only costs time.
    """
    key = "\n".join([kind, *(str(Path(f).absolute()) for f in files)])
    before = _stamps(files)
    cache = _cache_file()
    if cache is None or before is None:
        return compute()
    known = _read_cache(cache).get(key)
    if isinstance(known, dict) and known.get("files") == before:
        digest = known.get("digest")
        if isinstance(digest, str) and _HEX_SHA256.fullmatch(digest):
            return digest
    digest = compute()
    if _stamps(files) == before:
        _write_cache(cache, _read_cache(cache) | {key: {"files": before, "digest": digest}})
    return digest


def _stamps(files: Sequence[Path]) -> list[list[int]] | None:
    """Size and modification time of each file; None where one cannot be read."""
    try:
        stats = [Path(f).stat() for f in files]
    except OSError:
        return None
    return [[s.st_size, s.st_mtime_ns] for s in stats]


def _cache_file() -> Path | None:
    own = os.environ.get("PLMSEARCH_CACHE")
    if own:
        return Path(own) / "digests.json"
    try:
        return _user_cache_dir() / "plmsearch" / "digests.json"
    except RuntimeError:  # a user without a home directory
        return None


def _user_cache_dir() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()


def _read_cache(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(data, dict) or data.get("format") != _CACHE_FORMAT:
        return {}
    entries = data.get("digests")
    return entries if isinstance(entries, dict) else {}


def _write_cache(path: Path, entries: Mapping[str, Any]) -> None:
    text = json.dumps({"format": _CACHE_FORMAT, "digests": entries}, indent=1, sort_keys=True)
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix="digests-", suffix=".tmp", dir=path.parent)
        temporary = Path(name)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as out:
                out.write(text)
            temporary.replace(path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise


# --- Places --------------------------------------------------------------------------------------


def find_weights(name: str, weights: Path | None = None) -> Path:
    """Find the weights of an ESM model on this machine.

    Parameters
    ----------
    name : str
        A model of `CARDS`, of an ESM family.
    weights : Path, optional
        A checkpoint file, a Hugging Face directory, or a directory that holds ``NAME.pt`` or
        ``NAME/``. Where given, nothing else is looked at.

    Returns
    -------
    Path
        A file, or a directory with a ``config.json``. What it holds has not been checked.

    Raises
    ------
    ModelUnavailableError
        If there are none; names each place looked at.

    Notes
    -----
    A file in ``$PLMSEARCH_WEIGHTS`` serves every model except one that the file is not named after
    while being named after another.
    """
    card = CARDS[name]
    searched: list[str] = []
    for place in _places(card, weights):
        if _is_weights(place):
            return place
        searched.append(str(place))
    raise ModelUnavailableError(name, searched, hint=_how_to_get(card), size_bytes=card.size_bytes or None)


def weights_at_hand(name: str, weights: Path | None = None) -> bool:
    """Tell whether weights of just this model are on this machine.

    Parameters
    ----------
    name : str
        A model of `CARDS`, of an ESM family.
    weights : Path, optional
        As for `find_weights`.

    Returns
    -------
    bool
        Stricter than `find_weights`: a file counts only if it is named ``NAME.pt``, a directory
        only if its ``config.json`` has the layers and dimensions of the card. No file of weights
        is opened.
    """
    card = CARDS[name]
    return any(_is_weights(p) and _is_named_after(p, card) for p in _places(card, weights))


def hub_checkpoints() -> Path:
    """Return the directory where torch hub, and so fair-esm, keeps what it downloads.

    Notes
    -----
    As ``torch.hub.get_dir()`` does: ``$TORCH_HOME``, else ``$XDG_CACHE_HOME/torch``, else
    ``~/.cache/torch``; then ``hub/checkpoints``.
    """
    home = os.environ.get("TORCH_HOME")
    torch_home = Path(home).expanduser() if home else _user_cache_dir() / "torch"
    return torch_home / "hub" / "checkpoints"


def _places(card: ModelCard, weights: Path | None) -> list[Path]:
    """Every path to look at, in order."""
    name = card.model_id
    if weights is not None:
        return [weights] if weights.is_file() else [weights / f"{name}.pt", weights / name, weights]
    places: list[Path] = []
    variable = os.environ.get(WEIGHTS_VARIABLE)
    if variable:
        root = Path(variable).expanduser()
        if not root.is_dir():
            places += [root] if root.stem == name or root.stem not in CARDS else []
        else:
            places += [root / f"{name}.pt", root / name]
            places += [root] if _config_fits(root, card) else []
    with suppress(RuntimeError):  # a user without a home directory
        places.append(hub_checkpoints() / f"{name}.pt")
    return places


def _is_weights(path: Path) -> bool:
    return path.is_file() or (path / "config.json").is_file()


def _is_named_after(path: Path, card: ModelCard) -> bool:
    return _config_fits(path, card) if path.is_dir() else path.name == f"{card.model_id}.pt"


def _config_fits(directory: Path, card: ModelCard) -> bool:
    """Compare a Hugging Face directory with a card, without opening the weights."""
    try:
        config = json.loads((directory / "config.json").read_text("utf-8"))
    except (OSError, ValueError):
        return False
    if not is_esm(card) or not isinstance(config, dict) or config.get("model_type") != "esm":
        return False
    rotary = config.get("position_embedding_type") == "rotary"
    size = config.get("num_hidden_layers"), config.get("hidden_size")
    return rotary == (card.family == "esm2") and (is_generic(card) or size == (card.n_layers, card.dim))


def _how_to_get(card: ModelCard) -> str:
    if is_generic(card):
        return f"point to a checkpoint with --weights FILE|DIR or {WEIGHTS_VARIABLE}"
    # Where the file's size is not known: 12 d^2 numbers of a transformer block, 4 bytes each.
    at_least = 48 * card.n_layers * card.dim**2
    size = "" if card.size_bytes else f" (at least {at_least / 1e6:,.0f} MB)"
    return (
        f"get them with: plmsearch models fetch {card.model_id}{size}, or point to them with --weights "
        f"FILE|DIR or {WEIGHTS_VARIABLE}"
    )
