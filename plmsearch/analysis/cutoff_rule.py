"""From which score on two sequences of a database are linked: a given score, or as many chance links.

The *automatic* rule asks, of each sequence, at which score it is expected to find `MAX_EMB_EVALUE` sequences
that are not related to it, in the whole database (`plmsearch.search.significance`). A pair has to be near
enough from both sides, so a sequence is expected to have at most so many links to unrelated ones, however
many there are: the cutoff rises with n. The n is that of the last time the null distribution was built, so
a database that grows by less than a fifth keeps its cutoffs, and with them its clusters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from plmsearch.analysis.links import Rows
from plmsearch.errors import ParameterError
from plmsearch.search.hits import Query
from plmsearch.search.judge import Judge
from plmsearch.search.significance import NoNull
from plmsearch.searcher import Searcher
from plmsearch.slices import slices
from plmsearch.store.rankings import StoredRanking
from plmsearch.types import Int1D

__all__ = ["MAX_EMB_EVALUE", "Cutoffs", "given_cutoffs", "null_cutoffs"]

_Float64 = np.ndarray[Any, np.dtype[np.float64]]

#: Unrelated sequences that a sequence is expected to be linked to. One in a hundred sequences then has one
#: false link: single linkage joins clusters in long chains only where that number nears 1.
MAX_EMB_EVALUE = 0.01

_AT_ONCE = 2048  # sequences whose residues are read together


@dataclass(slots=True)
class Cutoffs:
    """The lowest score of a link of each sequence.

    Parameters
    ----------
    scores : ndarray, dtype=float64, shape=(n,)
        NaN: it cannot be compared.
    reasons : mapping of str to str
        Why sequences of a locus cannot be compared.
    n_median : int
        Sequences without a null of their own: theirs is the median of their locus.
    """

    scores: _Float64
    reasons: dict[str, str] = field(default_factory=dict)
    n_median: int = 0


def given_cutoffs(n: int, threshold: float) -> Cutoffs:
    """Return one cutoff for n sequences."""
    return Cutoffs(np.full(n, threshold))


def null_cutoffs(
    db: Searcher,
    ranking: StoredRanking,
    rows: Rows,
    sequence_ids: Int1D,
    loci: Sequence[str],
    max_emb_evalue: float,
    where: str | None = None,
    done: Callable[[int], None] = lambda n: None,
) -> Cutoffs:
    """Return the score of each sequence at which its E-value is the largest allowed.

    Parameters
    ----------
    db : Searcher
    ranking : StoredRanking
    rows : Rows
        The vectors of the sequences.
    sequence_ids : ndarray, dtype=int64, shape=(n,)
    loci : sequence of str, length n
    max_emb_evalue : float
        More than 0.
    where : str, optional
        Only so many sequences are searched as the condition leaves.
    done : callable, optional
        Told how many more sequences are done.

    Raises
    ------
    ParameterError
        If the ranking has no null distribution, saying why.
    """
    judge = db.judge(ranking)
    if judge.reason:
        expected = f"given: {ranking.name} has no null distribution to find it from ({judge.reason})"
        raise ParameterError("threshold", "left out", expected)
    pvalues = _pvalues(db, ranking, judge, max_emb_evalue, where)
    scores = np.full(len(sequence_ids), np.nan)
    for part in slices(range(len(sequence_ids)), _AT_ONCE):
        ids = sequence_ids[part].tolist()
        residues = db.repository.residues(ids)
        of_ranking = [loci[i] if ranking.needs_locus else "" for i in part]
        queries = [Query("", "", residues.get(i, ""), of) for i, of in zip(ids, of_ranking, strict=True)]
        vectors = rows.take(np.array(part))
        scores[part] = judge.cutoffs(queries, vectors, lambda: db.vector_blocks(ranking), pvalues)
        done(len(part))
    return _completed(scores, loci if ranking.needs_locus else [""] * len(loci), judge)


def _pvalues(
    db: Searcher, ranking: StoredRanking, judge: Judge, max_emb_evalue: float, where: str | None
) -> Mapping[str, float]:
    """Return the p-value of the cutoff by locus: the E-value over the number of sequences."""
    counts = {locus: known.n_sequences for locus, known in judge.known.items()}
    if where is not None:
        counts |= dict.fromkeys(counts, 0) | dict(db.n_searched(ranking, where))
    return {locus: max_emb_evalue / max(n, 1) for locus, n in counts.items()}


def _completed(scores: _Float64, loci: Sequence[str], judge: Judge) -> Cutoffs:
    """Give sequences without a null of their own the median of their locus, or say why there is none."""
    names, of = np.unique(np.array(loci, dtype=object).astype(str), return_inverse=True)
    found = Cutoffs(scores)
    for number, locus in enumerate(names.tolist()):
        here = np.flatnonzero(of == number)
        known = scores[here][~np.isnan(scores[here])]
        if len(known):
            unknown = here[np.isnan(scores[here])]
            scores[unknown] = np.median(known)
            found.n_median += len(unknown)
            continue
        null = judge.known[locus].null if locus in judge.known else None
        reason = null.reason if isinstance(null, NoNull) else "no null distribution was built"
        found.reasons[locus] = f"{locus}: {reason}" if locus else reason
    return found
