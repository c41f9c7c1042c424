"""Which sequences are relatives, told by residues: what a null distribution must not hold.

Antibodies of one locus are all homologous; their relatives are those of a similar CDR3. Other proteins are
relatives if they align better than chance.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from plmsearch.search.alignment import FITS_8_BITS, QueryAligner
from plmsearch.search.karlin_altschul import evalue
from plmsearch.types import Bool1D, Int1D

__all__ = ["MAX_EVALUE", "MIN_IDENTITY", "Cdr3Relation", "HomologyRelation"]

#: Share of equal residues from which CDR3s of the same length count as relatives. Families are usually called
#: at 0.8 and more; convergent antibodies are found lower.
MIN_IDENTITY = 0.6
#: E-value over all residues of the sample up to which two proteins count as relatives: what MMseqs2 reports.
MAX_EVALUE = 1e-3


class Cdr3Relation:
    """Related: CDR3s of the same length and an identity of at least 60%.

    Parameters
    ----------
    queries, sample : sequence of str
        CDR3 residues, in ASCII; empty where there is none: related to nobody.

    Examples
    --------
    >>> Cdr3Relation(["ARDY"], ["ARDF", "ARD", "GGGY", ""])(0, np.arange(4))
    array([ True, False, False, False])
    """

    def __init__(self, queries: Sequence[str], sample: Sequence[str]) -> None:
        self._queries = queries
        self._lengths = np.array([len(s) for s in sample], dtype=np.int64)
        width = max(1, int(self._lengths.max(initial=0)))
        self._letters = np.frombuffer("".join(s.ljust(width, "-") for s in sample).encode(), np.uint8)
        self._letters = self._letters.reshape(len(sample), width)

    def __call__(self, query: int, rows: Int1D) -> Bool1D:
        """Return which rows of the sample are relatives of a query."""
        cdr3 = np.frombuffer(self._queries[query].encode(), np.uint8)
        related: Bool1D = self._lengths[rows] == len(cdr3)
        same = rows[related]
        if len(cdr3) and len(same):
            n_equal = (self._letters[same, : len(cdr3)] == cdr3).sum(axis=1)
            related[related] = n_equal >= MIN_IDENTITY * len(cdr3)
        elif not len(cdr3):
            related[:] = False
        return related


class HomologyRelation:
    """Related: the best local alignment has an E-value of at most 1e-3 over all residues of the sample.

    Parameters
    ----------
    queries, sample : sequence of str
        Residues; empty where there are none: related to nobody.
    """

    def __init__(self, queries: Sequence[str], sample: Sequence[str]) -> None:
        self._queries, self._sample = queries, sample
        self._n_residues = sum(len(s) for s in sample)

    def __call__(self, query: int, rows: Int1D) -> Bool1D:
        """Return which rows of the sample are relatives of a query."""
        residues = self._queries[query]
        related: Bool1D = np.zeros(len(rows), dtype=np.bool_)
        if not residues:
            return related
        aligner = QueryAligner("", residues)
        for at, row in enumerate(rows.tolist()):
            target = self._sample[row]
            if target:
                raw = aligner.score_up_to(target)
                if raw is None and not self._is_relative(residues, target, FITS_8_BITS):
                    raw = aligner.raw_score(target)  # so long that a score of 116 is no proof
                related[at] = raw is None or self._is_relative(residues, target, raw)
        return related

    def _is_relative(self, query: str, target: str, raw: int) -> bool:
        return evalue(raw, len(query), len(target), self._n_residues) <= MAX_EVALUE
