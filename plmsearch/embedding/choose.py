"""Which model suits an input for which none was named.

A random sample of the input decides. Where at least 95% of it hold an immunoglobulin variable
domain, the model is AntiBERTy, which was trained on nothing else. Where at most 5% do, it is the
largest ESM-2 whose weights are at hand. Between the two the input is a mixture, and no model suits
it all: that is an error, not a guess. Both ends leave room for 5%, because real antibody sets hold
truncated chains (2.4% of 5,683 heavy chains were without a complete domain) and real protein sets
hold a few antibodies.

Limitations
-----------
T-cell receptors are no antibodies: they count as other proteins. A chain counts as an antibody
however much follows its variable domain.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from plmsearch.embedding.base import ModelCard
from plmsearch.embedding.cards import CARDS, is_generic
from plmsearch.embedding.weights import find_weights
from plmsearch.errors import MixedInputError, ModelUnavailableError, ParameterError
from plmsearch.numbering import is_antibody as holds_antibody
from plmsearch.numbering import is_t_cell_receptor

__all__ = [
    "SAMPLE_SIZE",
    "ModelChoice",
    "Reservoir",
    "choose_model",
    "is_antibody_sample",
    "places_searched",
    "sample_sequences",
]

#: Sequences to sample. With 2.4% of truncated chains, 200 would call one antibody set in a hundred
#: a mixture (hypergeometric tail, 0.9%), 500 one in 7,000; numbering 500 takes under a second.
SAMPLE_SIZE = 500

_ANTIBODY_PERCENT = 95
_ANTIBODY_MODEL = "antiberty"
_PROTEIN_FAMILY = "esm2"
#: The largest ESM-2 whose file is below 5 GB.
_SUGGESTED_ESM2 = "esm2_t33_650M_UR50D"


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """A model and why it was chosen.

    Parameters
    ----------
    model_id : str
        Registered name.
    reason : str
        One line for the user.
    n_sampled : int
        Sequences looked at.
    n_antibody : int
        Of those, how many hold an immunoglobulin variable domain.
    """

    model_id: str
    reason: str
    n_sampled: int
    n_antibody: int


class Reservoir:
    """A uniform random sample of a stream of unknown length.

    Algorithm R (Vitter 1985, doi:10.1145/3147.3165): after each `add`, every sequence seen so far
    is in the sample with the same probability. The same stream and seed give the same sample.

    Parameters
    ----------
    n : int
        Most sequences to keep, at least 1.
    seed : int

    Raises
    ------
    ParameterError
        If `n` is less than 1.

    Examples
    --------
    >>> reservoir = Reservoir(n=2)
    >>> for residues in ("EVQL", "QVQL", "DIQM"):
    ...     reservoir.add(residues)
    >>> reservoir.n_seen, len(reservoir.sample)
    (3, 2)
    """

    def __init__(self, n: int = SAMPLE_SIZE, seed: int = 0) -> None:
        if n < 1:
            raise ParameterError("n", n, "at least 1")
        self._n = n
        self._random = random.Random(seed)  # noqa: S311 - a sample, no secret
        self._kept: list[str] = []
        self.n_seen = 0

    @property
    def sample(self) -> tuple[str, ...]:
        """The sample; all sequences where no more than `n` were seen."""
        return tuple(self._kept)

    def add(self, residues: str) -> None:
        """See one more sequence."""
        self.n_seen += 1
        if len(self._kept) < self._n:
            self._kept.append(residues)
            return
        slot = self._random.randrange(self.n_seen)
        if slot < self._n:
            self._kept[slot] = residues


def sample_sequences(sequences: Iterable[str], n: int = SAMPLE_SIZE, seed: int = 0) -> tuple[str, ...]:
    """Draw a uniform random sample from a stream, in one pass.

    Parameters
    ----------
    sequences : iterable of str
        Read to its end.
    n : int
        Most sequences to draw, at least 1.
    seed : int

    Returns
    -------
    tuple of str
        Not in input order, except where the stream has at most `n`.

    Raises
    ------
    ParameterError
        If `n` is less than 1.

    Examples
    --------
    >>> sample_sequences(["EVQL", "QVQL"])
    ('EVQL', 'QVQL')
    """
    reservoir = Reservoir(n, seed)
    for residues in sequences:
        reservoir.add(residues)
    return reservoir.sample


def choose_model(
    sample: Sequence[str],
    *,
    weights_at_hand: Callable[[str], bool],
    searched: Callable[[str], Sequence[str]] | None = None,
    is_antibody: Callable[[str], bool] = holds_antibody,
) -> ModelChoice:
    """Choose the model that suits an input.

    Parameters
    ----------
    sample : sequence of str
        Normalised residues, at least one sequence.
    weights_at_hand : callable
        Tells of a model name whether its weights are on this machine.
    searched : callable, optional
        Returns the places where weights of a model were looked for, for the message. Default: those
        of `plmsearch.embedding.weights.find_weights`.
    is_antibody : callable
        Tells whether a chain holds an immunoglobulin variable domain.

    Returns
    -------
    ModelChoice

    Raises
    ------
    MixedInputError
        If more than 5% and less than 95% of the sample are antibodies.
    ModelUnavailableError
        If a protein model is needed and no weights of one are at hand.
    ParameterError
        If the sample is empty.

    Examples
    --------
    >>> choose_model(["EVQL"], weights_at_hand=lambda name: False, is_antibody=lambda residues: True).reason
    'antiberty: 1 of 1 sampled sequences hold an antibody variable domain'
    """
    if not sample:
        raise ParameterError("sample", sample, "at least one sequence")
    others = [residues for residues in sample if not is_antibody(residues)]
    n_antibody = len(sample) - len(others)
    counted = f"{n_antibody} of {len(sample)} sampled sequences hold an antibody variable domain"
    if n_antibody * 100 >= len(sample) * _ANTIBODY_PERCENT:
        return ModelChoice(_ANTIBODY_MODEL, f"{_ANTIBODY_MODEL}: {counted}", len(sample), n_antibody)
    if len(others) * 100 < len(sample) * _ANTIBODY_PERCENT:
        raise MixedInputError(n_antibody, len(others), len(sample))
    n_receptor = sum(map(is_t_cell_receptor, others))
    if n_receptor:
        counted += f", {n_receptor} that of a T-cell receptor"
    model = _largest_at_hand(weights_at_hand)
    if model is None:
        raise _no_protein_model(counted, (searched or places_searched)(_SUGGESTED_ESM2))
    reason = f"{model.model_id}: {counted}; it is the largest ESM-2 whose weights are on this machine"
    return ModelChoice(model.model_id, reason, len(sample), n_antibody)


def is_antibody_sample(sample: Sequence[str]) -> bool:
    """Tell whether at least 95% of a sample hold an immunoglobulin variable domain."""
    n_antibody = sum(map(holds_antibody, sample))
    return bool(sample) and n_antibody * 100 >= len(sample) * _ANTIBODY_PERCENT


def _largest_at_hand(weights_at_hand: Callable[[str], bool]) -> ModelCard | None:
    named = [card for card in CARDS.values() if card.family == _PROTEIN_FAMILY and not is_generic(card)]
    # 12 layers x dim^2 numbers in a transformer block: order of size, from the card alone.
    by_size = sorted(named, key=lambda card: card.n_layers * card.dim**2, reverse=True)
    return next((card for card in by_size if weights_at_hand(card.model_id)), None)


def places_searched(name: str, weights: Path | None = None) -> Sequence[str]:
    """Return where weights of a model are looked for, for a message."""
    try:
        return (str(find_weights(name, weights)),)
    except ModelUnavailableError as error:
        return error.searched


def _no_protein_model(counted: str, searched: Sequence[str]) -> ModelUnavailableError:
    return ModelUnavailableError(
        _SUGGESTED_ESM2,
        searched,
        hint=(
            f"{counted}, so a model of all proteins is needed, and there is no other ESM-2 either; get this "
            f"one with: plmsearch models fetch {_SUGGESTED_ESM2}, or point to weights with --weights, or "
            "pass --model kmer (counts of 3-mers, no weights needed)"
        ),
        size_bytes=CARDS[_SUGGESTED_ESM2].size_bytes or None,
    )
