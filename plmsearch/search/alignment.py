"""Local alignment of one query with many targets: Smith-Waterman by parasail, BLOSUM62, gaps 11/1.

Concepts
--------
A gap of n residues costs 11 + n, as in blastp; parasail counts the first residue into opening, so there it is
open 12, extend 1. Scores alone are quick; only an alignment that is shown is traced back.

Letters that BLOSUM62 as published lacks: U scores as C and O as X, which blastp does too; J, isoleucine or
leucine, scores as L. An identity is the same letter in both sequences, whatever the letter: X under X
counts, as it does in blastp.

Limitations
-----------
Of alignments that score the same one is shown, and another program may show another. Tracing back takes
1 to 4 bytes for each pair of residues: 4 MB for two proteins of 1,000, 5 GB for two of 35,000.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from plmsearch.errors import AlignmentError
from plmsearch.search.karlin_altschul import bit_score, evalue

__all__ = ["FITS_8_BITS", "NO_RESIDUES", "Alignment", "QueryAligner", "aligned_rows"]

#: Why a vector, or a record that was imported without a sequence, cannot be aligned.
NO_RESIDUES = "it is a vector without residues"

GAP_OPEN = 12  # for the first residue of a gap
GAP_EXTEND = 1  # for each further one

#: A raw score below this fits 8 bits: BLOSUM62 gives no pair of residues more than 11.
FITS_8_BITS = 127 - 11

# Indices into parasail's tables are safe up to here, and its tables are below 9 GB.
_MAX_CELLS = 1 << 31

_AS_SCORED = str.maketrans("UOJ", "CXL")
_CIGAR = re.compile(r"(\d+)([=XID])")


@dataclass(frozen=True, slots=True)
class Alignment:
    """A local alignment of a query and a target, with at least one column.

    Parameters
    ----------
    score : int
        Raw, more than 0.
    bits : float
    evalue : float
        Over everything that was searched (`plmsearch.search.karlin_altschul.evalue`).
    fident : float
        Identical columns / `alnlen`, in [0, 1].
    alnlen : int
        Columns, those with a gap included.
    mismatch : int
        Columns with two different letters.
    gapopen : int
        Gaps, each of any length.
    qstart, qend, tstart, tend : int
        First and last residue aligned, counted from 1.
    qcov, tcov : float
        Share of the query's and of the target's residues from first to last, in (0, 1].
    cigar : str
        From `qstart` and `tstart` on: ``=`` same letter, ``X`` another, ``I`` residues of the query alone,
        ``D`` of the target alone.
    """

    score: int
    bits: float
    evalue: float
    fident: float
    alnlen: int
    mismatch: int
    gapopen: int
    qstart: int
    qend: int
    tstart: int
    tend: int
    qcov: float
    tcov: float
    cigar: str

    @property
    def n_identical(self) -> int:
        """Columns with the same letter."""
        return round(self.fident * self.alnlen)


class QueryAligner:
    """Aligns one query with targets.

    Parameters
    ----------
    query_id : str
        For messages.
    residues : str
        Normalised, at least one.

    Raises
    ------
    AlignmentError
        If there are no residues.
    """

    def __init__(self, query_id: str, residues: str) -> None:
        import parasail

        if not residues:
            raise AlignmentError(query_id, NO_RESIDUES)
        self._id, self._residues = query_id, residues
        self._parasail: Any = parasail
        # A profile is the query laid out for the vector registers: made once, used for each target.
        self._profiles: dict[str, Any] = {}

    def raw_score(self, target: str) -> int:
        """Return the score of the best local alignment; 0 if no two residues score above 0.

        Parameters
        ----------
        target : str
            Normalised residues, at least one.
        """
        align = self._parasail.sw_striped_profile_sat
        return int(align(self._profile("sat"), target.translate(_AS_SCORED), GAP_OPEN, GAP_EXTEND).score)

    def score_up_to(self, target: str) -> int | None:
        """Return what `raw_score` does, in half to a third of the time; None if it does not fit 8 bits.

        It is then at least `FITS_8_BITS`.
        """
        align = self._parasail.sw_striped_profile_8
        found = align(self._profile("8"), target.translate(_AS_SCORED), GAP_OPEN, GAP_EXTEND)
        return None if found.saturated else int(found.score)

    def align(self, target: str, n_searched: int) -> Alignment | None:
        """Return the best local alignment; None if no two residues score above 0.

        Parameters
        ----------
        target : str
            Normalised residues, at least one.
        n_searched : int
            Residues of all sequences that were searched.

        Raises
        ------
        AlignmentError
            If query and target are too long to trace an alignment back.
        """
        if len(self._residues) * len(target) > _MAX_CELLS:
            reason = f"{len(self._residues):,} residues against {len(target):,} take too much memory"
            raise AlignmentError(self._id, reason)
        traced = self._trace(target.translate(_AS_SCORED))
        if traced.score <= 0:
            return None
        cigar = traced.cigar
        q, t = cigar.beg_query, cigar.beg_ref
        runs = _runs(cigar.decode.decode("ascii"))
        # An alignment that begins at the first residue of one sequence: parasail (1.3.4) puts what comes
        # before it in the other one in front, as a gap that it did not count into the score.
        while runs[0][1] in "ID":
            n, op = runs.pop(0)
            q, t = (q + n, t) if op == "I" else (q, t + n)
        return _alignment(self._residues, target, runs, (q, t), traced.score, n_searched)

    def _trace(self, target: str) -> Any:
        traced = self._parasail.sw_trace_striped_profile_16(self._profile("16"), target, GAP_OPEN, GAP_EXTEND)
        if traced.saturated:
            traced = self._parasail.sw_trace_striped_profile_32(
                self._profile("32"), target, GAP_OPEN, GAP_EXTEND
            )
        return traced

    def _profile(self, width: str) -> Any:
        if width not in self._profiles:
            create = getattr(self._parasail, f"profile_create_{width}")
            self._profiles[width] = create(self._residues.translate(_AS_SCORED), self._parasail.blosum62)
        return self._profiles[width]


def _runs(cigar: str) -> list[tuple[int, str]]:
    return [(int(n), op) for n, op in _CIGAR.findall(cigar)]


def _alignment(
    query: str, target: str, runs: list[tuple[int, str]], first: tuple[int, int], score: int, n_searched: int
) -> Alignment:
    """Count columns; `first` are the first residues of query and target, counted from 0."""
    qstart, tstart = q, t = first
    counts = dict.fromkeys("=XID", 0)
    operations: list[tuple[str, int]] = []
    for n, op in runs:
        if op in "=X":  # anew: in what parasail was given, a letter stands for those it scores as
            columns = zip(query[q : q + n], target[t : t + n], strict=True)
            operations += [(o, len(list(g))) for o, g in groupby("=" if a == b else "X" for a, b in columns)]
        else:
            operations.append((op, n))
        q += n * (op != "D")
        t += n * (op != "I")
    # Two runs of one kind may meet, such as X of C under U beside X of C under A.
    joined = [(op, sum(n for _, n in same)) for op, same in groupby(operations, key=lambda run: run[0])]
    for op, n in joined:
        counts[op] += n
    alnlen = sum(counts.values())
    return Alignment(
        score=score,
        bits=bit_score(score),
        evalue=evalue(score, len(query), len(target), n_searched),
        fident=counts["="] / alnlen,
        alnlen=alnlen,
        mismatch=counts["X"],
        gapopen=sum(op in "ID" for op, _ in joined),
        qstart=qstart + 1,
        qend=q,
        tstart=tstart + 1,
        tend=t,
        qcov=(q - qstart) / len(query),
        tcov=(t - tstart) / len(target),
        cigar="".join(f"{n}{op}" for op, n in joined),
    )


def aligned_rows(alignment: Alignment, query: str, target: str) -> tuple[str, str, str]:
    """Lay an alignment out in three rows of `alnlen` characters.

    Parameters
    ----------
    alignment : Alignment
    query, target : str
        The residues that were aligned.

    Returns
    -------
    query, middle, target : str
        Gaps are ``-``. In the middle ``|`` is an identity, ``+`` a pair that scores above 0.
    """
    top: list[str] = []
    middle: list[str] = []
    bottom: list[str] = []
    q, t = alignment.qstart - 1, alignment.tstart - 1
    for n, op in _runs(alignment.cigar):
        above = "-" * n if op == "D" else query[q : q + n]
        below = "-" * n if op == "I" else target[t : t + n]
        top.append(above)
        bottom.append(below)
        if op in "=X":
            middle.extend(_sign(a, b) for a, b in zip(above, below, strict=True))
        else:
            middle.append(" " * n)
        q += n * (op != "D")
        t += n * (op != "I")
    return "".join(top), "".join(middle), "".join(bottom)


def _sign(a: str, b: str) -> str:
    if a == b:
        return "|"
    return "+" if (a.translate(_AS_SCORED), b.translate(_AS_SCORED)) in _positive_pairs() else " "


@functools.cache
def _positive_pairs() -> frozenset[tuple[str, str]]:
    """Pairs of letters that score above 0."""
    import parasail

    letters = "ARNDCQEGHILKMFPSTWYVBZX"  # the order of NCBI's matrix files, and of parasail's table
    table = parasail.blosum62.matrix.tolist()
    return frozenset((a, b) for i, a in enumerate(letters) for j, b in enumerate(letters) if table[i][j] > 0)
