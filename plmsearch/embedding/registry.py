"""Models by name: the built-in ones and those of other packages.

Concepts
--------
A model is a name and a class, ``module:Class``, with a classmethod ``load(card, *, weights, device,
precision)`` that returns an `Embedder`. Another package adds one with an entry point of the group
``plmsearch.embedders``, named as the model; its class must have its `ModelCard` as class attribute
``card`` (or as a static method of that name).

Looking up names and cards of built-in models imports neither their modules nor torch.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from functools import lru_cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import MappingProxyType
from typing import Any

from plmsearch.embedding.base import Embedder, ModelCard
from plmsearch.embedding.cards import CARDS, refuse_unsupported, resolve_alias
from plmsearch.errors import EmbeddingError, ParameterError, UnknownModelError

__all__ = ["ENTRY_POINT_GROUP", "available_models", "load_embedder", "model_card"]

ENTRY_POINT_GROUP = "plmsearch.embedders"

_ESM = "plmsearch.embedding.esm:EsmEmbedder"
_FAMILY_CLASSES = {
    "antiberty": "plmsearch.embedding.antiberty:AntibertyEmbedder",
    "kmer": "plmsearch.embedding.kmer:KmerEmbedder",
    "esm2": _ESM,
    "esm1b": _ESM,
    "esm1v": _ESM,
    "esm1": _ESM,
}

#: Built-in models: name -> ``module:Class``.
_BUILT_IN: Mapping[str, str] = MappingProxyType(
    {name: _FAMILY_CLASSES[card.family] for name, card in CARDS.items()}
)


def available_models() -> tuple[str, ...]:
    """Return the name of every model, the built-in ones first.

    Raises
    ------
    EmbeddingError
        If two packages, or a package and plmsearch, claim the same name.

    Examples
    --------
    >>> available_models()[:3]
    ('antiberty', 'kmer', 'esm2_t6_8M_UR50D')
    """
    return (*_BUILT_IN, *_plugins())


def model_card(name: str) -> ModelCard:
    """Return the card of a model; of another package's, after importing it.

    Raises
    ------
    UnknownModelError
        If no model has the name; lists those there are.
    UnsupportedModelError
        If the name is of an MSA or structure model.
    EmbeddingError
        If the package that provides the model is broken.

    Examples
    --------
    >>> model_card("esm2_t33_650M_UR50D").dim
    1280
    """
    name = resolve_alias(name)
    plugins = _plugins()
    if name in _BUILT_IN:
        return CARDS[name]
    if name in plugins:
        return _plugin_card(plugins[name])
    refuse_unsupported(name)
    raise UnknownModelError(name, (*_BUILT_IN, *plugins))


def load_embedder(
    name: str,
    *,
    weights: Path | None = None,
    device: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
) -> Embedder:
    """Load a model.

    Parameters
    ----------
    name : str
        One of `available_models`.
    weights : Path, optional
        File or directory of the weights; where they are looked for otherwise is the model's
        business. Nothing is ever downloaded.
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    precision : str
        ``auto``, ``float32`` or ``bfloat16``.
    threads : int, optional
        CPU threads of torch, for the whole process.

    Returns
    -------
    Embedder

    Raises
    ------
    UnknownModelError, UnsupportedModelError
        As `model_card`.
    ModelUnavailableError
        If the weights are not on this machine.
    WeightsError
        If they are damaged or of another model.
    ParameterError
        If `device`, `precision` or `threads` is out of range.
    """
    if threads is not None and threads < 1:
        raise ParameterError("threads", threads, "at least 1")
    card = model_card(name)
    embedder = _embedder_class(card.model_id).load(card, weights=weights, device=device, precision=precision)
    if threads is not None and "torch" in sys.modules:  # the k-mer model runs without torch
        set_threads: Callable[[int], None] = import_module("plmsearch.embedding._torch").set_threads
        set_threads(threads)
    if not isinstance(embedder, Embedder):
        raise EmbeddingError(f"the class of model {name!r} does not load an Embedder but {embedder!r}")
    return embedder


def _embedder_class(name: str) -> Any:
    if name in _BUILT_IN:
        module, _, class_name = _BUILT_IN[name].partition(":")
        return getattr(import_module(module), class_name)
    return _load_plugin(_plugins()[name])


# --- Other packages ------------------------------------------------------------------------------


def _plugins() -> dict[str, EntryPoint]:
    """Entry points by model name, in order of name."""
    found: dict[str, EntryPoint] = {}
    for point in sorted(_entry_points(_places()), key=lambda p: (p.name, p.value)):
        other = _BUILT_IN.get(point.name) or (found[point.name].value if point.name in found else "")
        if other and other != point.value:
            raise EmbeddingError(
                f"two classes claim the model name {point.name!r}: {other} and {point.value}",
                hint="uninstall one of the two packages",
            )
        if not other:
            found[point.name] = point
    return found


@lru_cache(maxsize=1)
def _entry_points(_places: tuple[tuple[str, int], ...]) -> tuple[EntryPoint, ...]:
    """Ask every installed package: with many of them that takes longer than a search."""
    return tuple(entry_points(group=ENTRY_POINT_GROUP))


def _places() -> tuple[tuple[str, int], ...]:
    """Where packages are looked for, and when (ns) each was changed: by installing one, say."""
    return tuple((place, _changed_ns(place)) for place in sys.path)


def _changed_ns(place: str) -> int:
    try:
        return os.stat(place or ".").st_mtime_ns  # noqa: PTH116
    except OSError:
        return 0


def _plugin_card(point: EntryPoint) -> ModelCard:
    card = getattr(_load_plugin(point), "card", None)
    if callable(card):
        card = card()
    if not isinstance(card, ModelCard) or card.model_id != point.name:
        raise EmbeddingError(
            f"{point.value} has no ModelCard of model {point.name!r} as its attribute 'card', but {card!r}",
            hint="update or uninstall the package that provides the model",
        )
    return card


def _load_plugin(point: EntryPoint) -> Any:
    try:
        return point.load()
    except Exception as exc:  # whatever another package's import raises
        raise EmbeddingError(
            f"cannot import {point.value}, which provides the model {point.name!r}: {exc}",
            hint="update or uninstall that package",
        ) from exc
