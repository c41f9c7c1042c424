"""How sequences are cut into windows and put into batches. Pure functions over lengths."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from plmsearch.types import Float1D

__all__ = ["DEFAULT_BATCH_TOKENS", "coverage_weights", "default_overlap", "token_batches", "windows"]

#: Tokens of one forward pass. On a CPU 32 chains of 120 residues stay in cache and were faster than
#: 64; on an accelerator raise it with --batch-tokens.
DEFAULT_BATCH_TOKENS = 4096

#: BOS and EOS; counted so that a budget bounds what the model really sees.
_SPECIAL_TOKENS = 2


def default_overlap(max_residues: int) -> int:
    """Return how many residues neighbouring windows share: a quarter of a window.

    Every residue then stands at least an eighth of a window from the edge in one of its windows, for
    a third more computation than without overlap.

    Examples
    --------
    >>> default_overlap(510)
    127
    """
    return max_residues // 4


def windows(n_residues: int, max_residues: int, overlap: int) -> list[tuple[int, int]]:
    """Cut a sequence into windows of equal length that share at least `overlap` residues.

    Parameters
    ----------
    n_residues : int
        Length of the sequence, at least 1.
    max_residues : int
        Length of a window.
    overlap : int
        0 <= overlap < max_residues.

    Returns
    -------
    list of (start, stop)
        Half-open, in order; together they cover every residue. One window if it fits.

    Examples
    --------
    >>> windows(10, 6, 2)
    [(0, 6), (4, 10)]
    >>> windows(5, 6, 2)
    [(0, 5)]
    """
    if n_residues <= max_residues:
        return [(0, n_residues)]
    n_windows = -(-(n_residues - overlap) // (max_residues - overlap))
    last_start = n_residues - max_residues
    starts = [i * last_start // (n_windows - 1) for i in range(n_windows)]
    return [(start, start + max_residues) for start in starts]


def coverage_weights(cuts: Sequence[tuple[int, int]]) -> list[Float1D]:
    """Weigh residues so that each counts once however many windows hold it.

    Parameters
    ----------
    cuts : sequence of (start, stop)
        What `windows` returned.

    Returns
    -------
    list of ndarray, dtype=float32, shape=(stop - start,)
        One over the number of windows that hold the residue. All weights together sum to the number
        of residues.

    Examples
    --------
    >>> [w.tolist() for w in coverage_weights([(0, 3), (2, 5)])]
    [[1.0, 1.0, 0.5], [0.5, 1.0, 1.0]]
    """
    coverage = np.zeros(cuts[-1][1], dtype=np.float32)
    for start, stop in cuts:
        coverage[start:stop] += 1
    return [np.reciprocal(coverage[start:stop]) for start, stop in cuts]


def token_batches(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Group sequences so that no batch pads to more than a number of tokens, longest first.

    Longest first shows running out of memory in the first batch, not the last, and puts sequences of
    like length together, so that little is padded.

    Parameters
    ----------
    lengths : sequence of int
        Residues of each sequence.
    batch_tokens : int
        Budget of a batch, padding and special tokens included. A sequence above it is a batch of
        its own.

    Yields
    ------
    list of int
        Positions in `lengths`; every position exactly once.

    Examples
    --------
    >>> list(token_batches([3, 9, 4, 10], batch_tokens=24))
    [[3, 1], [2, 0]]
    """
    batch: list[int] = []
    width = 0
    for position in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batch and width * (len(batch) + 1) > batch_tokens:
            yield batch
            batch = []
        if not batch:
            width = lengths[position] + _SPECIAL_TOKENS
        batch.append(position)
    if batch:
        yield batch
