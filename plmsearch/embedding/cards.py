"""What is known of every built-in model without loading it.

Concepts
--------
A *named* model has one published weights file, and its card must match the file. A *generic* model
(``esm2``, ``esm1``, ``esm1b``, ``esm1v``) is any checkpoint of that architecture, handed in with
``--weights``; its card is completed when the file is read, and holds 0 layers and 0 dimensions and
the last layer as -1 until then.

ESM names, layers and dimensions are those of fair-esm 2.0.0 (``esm/pretrained.py`` and README). All
its models were trained on crops of at most 1,024 tokens, hence 1,022 residues; for ESM-1b and ESM-1v,
which learned one vector per position, it is also the most they can read.

Limitations
-----------
A size of 0 means that the size of the published file is not known. Files of ESM-2 up to 150M and of
15B are given to about 2%, from the number of parameters; they are stored in float32, 3B and 15B in
float16. That of ESM-1b also holds the state of its optimiser.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from plmsearch.embedding.base import ModelCard
from plmsearch.errors import UnsupportedModelError
from plmsearch.sequences import RESIDUES, STANDARD_RESIDUES

__all__ = ["CARDS", "is_esm", "is_generic", "refuse_unsupported", "resolve_alias"]

#: fair-esm's ``esm/constants.py::proteinseq_toks`` has every residue letter but J.
_ESM_ALPHABET = RESIDUES.replace("J", "")
_ESM_MAX_RESIDUES = 1022

# Name, layers, dimensions, bytes of the file.
_ESM_MODELS: tuple[tuple[str, int, int, int], ...] = (
    ("esm2_t6_8M_UR50D", 6, 320, 30_000_000),
    ("esm2_t12_35M_UR50D", 12, 480, 134_000_000),
    ("esm2_t30_150M_UR50D", 30, 640, 593_000_000),
    ("esm2_t33_650M_UR50D", 33, 1280, 2_604_537_549),
    ("esm2_t36_3B_UR50D", 36, 2560, 5_678_116_398),
    ("esm2_t48_15B_UR50D", 48, 5120, 30_300_000_000),
    ("esm1b_t33_650M_UR50S", 33, 1280, 7_828_576_466),
    ("esm1v_t33_650M_UR90S_1", 33, 1280, 0),
    ("esm1v_t33_650M_UR90S_2", 33, 1280, 0),
    ("esm1v_t33_650M_UR90S_3", 33, 1280, 0),
    ("esm1v_t33_650M_UR90S_4", 33, 1280, 0),
    ("esm1v_t33_650M_UR90S_5", 33, 1280, 0),
    ("esm1_t34_670M_UR50S", 34, 1280, 0),
    ("esm1_t34_670M_UR50D", 34, 1280, 0),
    ("esm1_t34_670M_UR100", 34, 1280, 0),
    ("esm1_t12_85M_UR50S", 12, 768, 0),
    ("esm1_t6_43M_UR50S", 6, 768, 0),
)
_GENERIC = ("esm2", "esm1b", "esm1v", "esm1")

#: fair-esm's ``esm1v_t33_650M_UR90S()`` reads the file of the first model of the ensemble.
_ALIASES = {"esm1v_t33_650M_UR90S": "esm1v_t33_650M_UR90S_1"}

_UNSUPPORTED: tuple[tuple[str, str], ...] = (
    ("esm_msa", "it reads multiple sequence alignments, not single sequences"),
    ("esm_if", "it reads protein structures, not sequences"),
    ("esmfold", "it predicts structures; its language model is esm2_t36_3B_UR50D"),
)


def _esm_card(name: str, n_layers: int, dim: int, size_bytes: int) -> ModelCard:
    return ModelCard(
        model_id=name,
        family=name.partition("_")[0],
        n_layers=n_layers,
        dim=dim,
        max_residues=_ESM_MAX_RESIDUES,
        alphabet=_ESM_ALPHABET,
        default_layer=n_layers,
        has_cls=True,
        licence="MIT",
        weights=f"plmsearch models fetch {name}, or --weights",
        size_bytes=size_bytes,
    )


def _generic_card(name: str) -> ModelCard:
    return replace(_esm_card(name, 0, 0, 0), default_layer=-1, licence="of the file", weights="--weights")


_OWN_CARDS = (
    ModelCard(
        model_id="antiberty",
        family="antiberty",
        n_layers=8,
        dim=512,
        max_residues=510,
        alphabet=STANDARD_RESIDUES,
        # Not the last: layers 4 to 6 find more clones and epitopes, whatever is pooled.
        default_layer=6,
        has_cls=True,
        licence="MIT",
        weights="inside the antiberty 0.1.x wheel",
        size_bytes=104_174_334,
    ),
    ModelCard(
        model_id="kmer",
        family="kmer",
        n_layers=1,
        dim=512,
        max_residues=1_000_000,
        alphabet=RESIDUES,
        default_layer=1,
        has_cls=False,
        licence="none needed",
        weights="none needed",
    ),
)

#: Card of every built-in model, in the order of ``models list``.
CARDS: Mapping[str, ModelCard] = MappingProxyType(
    {
        card.model_id: card
        for card in (
            *_OWN_CARDS,
            *(_esm_card(*row) for row in _ESM_MODELS),
            *(_generic_card(name) for name in _GENERIC),
        )
    }
)


def is_esm(card: ModelCard) -> bool:
    """Tell whether fair-esm's classes run the model."""
    return card.family in _GENERIC


def is_generic(card: ModelCard) -> bool:
    """Tell whether the card is completed from the weights file.

    Examples
    --------
    >>> is_generic(CARDS["esm2"]), is_generic(CARDS["esm2_t6_8M_UR50D"])
    (True, False)
    """
    return card.model_id in _GENERIC


def resolve_alias(name: str) -> str:
    """Return the model's own name where fair-esm knows it by two.

    Examples
    --------
    >>> resolve_alias("esm1v_t33_650M_UR90S")
    'esm1v_t33_650M_UR90S_1'
    """
    return _ALIASES.get(name, name)


def refuse_unsupported(name: str) -> None:
    """Refuse models that fair-esm names but that do not embed single sequences.

    Raises
    ------
    UnsupportedModelError
        If the name is of an MSA, inverse-folding or structure model.
    """
    for prefix, reason in _UNSUPPORTED:
        if name.lower().startswith(prefix):
            raise UnsupportedModelError(name, reason)
