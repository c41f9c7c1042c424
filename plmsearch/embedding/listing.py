"""The table of models: cards, and whether the weights are on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from plmsearch.embedding.base import ModelCard
from plmsearch.embedding.cards import CARDS, is_esm, is_generic
from plmsearch.embedding.registry import available_models, model_card
from plmsearch.embedding.weights import weights_at_hand

__all__ = ["model_rows"]


def model_rows(weights: Path | None = None) -> Iterator[dict[str, object]]:
    """Yield one row per model: its card, and ``at_hand`` (yes, no, or - where only a file can tell).

    Parameters
    ----------
    weights : Path, optional
        File or directory to look at for ESM weights.
    """
    for name in available_models():
        card = model_card(name)
        read_from_file = name in CARDS and is_generic(card)
        yield {
            "model": name,
            "layers": "-" if read_from_file else card.n_layers,
            "dim": "-" if read_from_file else card.dim,
            "max_residues": card.max_residues,
            "default_layer": card.default_layer,
            "licence": card.licence,
            "at_hand": _at_hand(card, weights),
            "weights": card.weights,
        }


def _at_hand(card: ModelCard, weights: Path | None) -> str:
    if card.model_id not in CARDS or (is_esm(card) and is_generic(card)):
        return "-"
    if is_esm(card):
        here = weights_at_hand(card.model_id, weights)
    else:
        here = card.family == "kmer" or find_spec("antiberty") is not None
    return "yes" if here else "no"
