"""What a raw alignment score is worth: bits and E-values.

Concepts
--------
The best local alignment of two unrelated sequences scores S or more about K A exp(-lambda S) times, where
lambda and K belong to the scoring scheme and A is the search space (Karlin and Altschul 1990,
doi:10.1073/pnas.87.6.2264). An alignment must fit into both sequences, so A is smaller than the product of
their lengths, the more so the higher S. A and its constants are those of the finite-size correction that
blastp has used since version 2.2.26 (Park, Sheetlin, Ma, Madden and Spouge 2012, BMC Research Notes 5:286,
doi:10.1186/1756-0500-5-286). The E-value of a pair is scaled to everything that was searched by the ratio of
residues searched to residues of the target.

Limitations
-----------
The constants hold for sequences of average composition: neither composition nor low complexity is corrected
for, as in ``blastp -comp_based_stats 0 -seg no``.
"""

from __future__ import annotations

import math

__all__ = ["bit_score", "evalue"]

# BLOSUM62, existence 11, extension 1, gapped. Source: NCBI BLAST+, src/algo/blast/core/blast_stat.c, table
# blosum62_values; the first two are in every report of blastp.
LAMBDA = 0.267
K = 0.041
_A = 1.9  # residues that a chance alignment takes for each unit of its score
_A_UNGAPPED = 0.7916
_ALPHA = 42.6028  # variance of these residues, for each unit of the score
_ALPHA_UNGAPPED = 4.96466
_SIGMA = 43.6362  # covariance of those in the query with those in the target

# Gumbel parameters of the same file (Blast_GumbelBlkLoadFromTables): lines a S + b, from the ungapped values
# and the cost of opening a gap. Their names there: b, Beta, Tau.
_OPEN = 12  # existence and the first residue
_B = 2 * _OPEN * (_A_UNGAPPED - _A)
_BETA = 2 * _OPEN * (_ALPHA_UNGAPPED - _ALPHA)
_TAU = 2 * _OPEN * (_ALPHA_UNGAPPED - _SIGMA)


def bit_score(raw: int) -> float:
    """Normalise a raw score, so that it can be compared between scoring schemes.

    Parameters
    ----------
    raw : int
        Score with BLOSUM62, gap existence 11, extension 1.

    Returns
    -------
    float
        (lambda S - ln K) / ln 2.

    Examples
    --------
    >>> round(bit_score(629), 1)
    246.9
    """
    return (LAMBDA * raw - math.log(K)) / math.log(2)


def evalue(raw: int, n_query: int, n_target: int, n_searched: int) -> float:
    """Return how many alignments of this score or better chance alone would find in the whole search.

    Parameters
    ----------
    raw : int
        Score with BLOSUM62, gap existence 11, extension 1.
    n_query, n_target : int
        Residues, at least 1.
    n_searched : int
        Residues of all sequences that were searched, at least `n_target`.

    Returns
    -------
    float
        At least 0; 0 where it is too small for a float.

    Examples
    --------
    >>> f"{evalue(100, 123, 123, 10_000_000):.1e}"
    '2.3e-06'
    """
    in_query, fits_query = _room(n_query, raw)
    in_target, fits_target = _room(n_target, raw)
    covariance = max(2 * _SIGMA / LAMBDA, _SIGMA * raw + _TAU)
    space = in_query * in_target + covariance * fits_query * fits_target
    return space * K * math.exp(-LAMBDA * raw) * (n_searched / n_target)


def _room(n_residues: int, raw: int) -> tuple[float, float]:
    """Return how many starts an alignment of this score has in a sequence, and how likely it fits at all.

    The length a chance alignment takes is normal with mean a S + b and variance alpha S + beta.
    """
    left = n_residues - (_A * raw + _B)
    spread = math.sqrt(max(2 * _ALPHA / LAMBDA, _ALPHA * raw + _BETA))
    z = left / spread
    fits = math.erfc(-z / math.sqrt(2)) / 2
    starts = left * fits + spread * math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    return max(starts, 0.0), fits  # far out in the tail rounding may leave less than 0
