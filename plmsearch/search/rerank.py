"""Re-ranking of hits by alignment: a pure function from candidates to hits.

Every candidate is scored, those that remain are aligned. A candidate that cannot be aligned, because its
record has no sequence or no two residues score above 0, comes after those that are, in its order by
embedding; sorted by score, it keeps its place.

*Seen by the embedding only.* A hit is marked so if both hold:

- it is among the first k by embedding, with a score of at least 0.5 (vectors less than 60 degrees apart).
  There is no better level: the scores of unrelated proteins differ from model to model.
- its identity is below 25%, where alignment no longer tells relatives from strangers (the twilight zone:
  Rost 1999, doi:10.1093/protein/12.2.85). An alignment whose E-value is above 0.001, what MMseqs2 reports
  by default, is taken as chance: its identities are counted over the whole of the shorter sequence, for
  every pair of sequences has a few residues that agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from plmsearch.errors import AlignmentError
from plmsearch.search.alignment import NO_RESIDUES, Alignment, QueryAligner
from plmsearch.search.hits import Hit, Query, SearchOptions
from plmsearch.search.karlin_altschul import evalue

__all__ = ["refuse_without_residues", "rerank"]

_HIGH_SCORE = 0.5
_TWILIGHT_IDENTITY = 0.25
_CHANCE_EVALUE = 1e-3


def refuse_without_residues(queries: Sequence[Query]) -> None:
    """Refuse queries that cannot be aligned.

    Raises
    ------
    AlignmentError
        Naming the first query that is a vector, or a record without a sequence.
    """
    for query in queries:
        if not query.residues:
            raise AlignmentError(query.query_id, NO_RESIDUES)


def rerank(query: Query, candidates: Sequence[Hit], n_searched: int, options: SearchOptions) -> list[Hit]:
    """Align a query with its candidates and sort these anew.

    Parameters
    ----------
    query : Query
    candidates : sequence of Hit
        By falling score.
    n_searched : int
        Residues of all sequences that were searched.
    options : SearchOptions
        Its `k`, `max_evalue` and `order`.

    Returns
    -------
    list of Hit
        At most `options.k`, ranked from 1 anew. Ties keep the order of the candidates.

    Raises
    ------
    AlignmentError
        If the query has no residues, or too many.
    """
    work = _Work(query, n_searched, options)
    places = [i for i, hit in enumerate(candidates) if work.is_within(hit.residues)]
    if options.order != "score":
        places.sort(key=lambda i: work.sort_key(candidates[i].residues))
    return [
        work.finished(candidates[place], rank, was_first=place < options.k)
        for rank, place in enumerate(places[: options.k], start=1)
    ]


class _Work:
    """The alignments of one query, each target sequence scored and aligned once."""

    def __init__(self, query: Query, n_searched: int, options: SearchOptions) -> None:
        self._n_query = len(query.residues)
        self._aligner = QueryAligner(query.query_id, query.residues)
        self._n_searched, self._options = n_searched, options
        self._raw: dict[str, int] = {"": 0}
        self._alignments: dict[str, Alignment | None] = {"": None}

    def is_within(self, target: str) -> bool:
        """Tell whether a target's E-value is small enough."""
        largest = self._options.max_evalue
        return largest is None or (self._raw_score(target) > 0 and self._evalue(target) <= largest)

    def sort_key(self, target: str) -> tuple[bool, float, int]:
        """Return what sorts the best target first, and those without an alignment last."""
        raw = self._raw_score(target)
        if raw == 0:
            return True, 0.0, 0
        first = {"evalue": self._evalue, "bits": lambda _: 0.0, "fident": self._minus_identity}
        return False, first[self._options.order](target), -raw

    def finished(self, hit: Hit, rank: int, *, was_first: bool) -> Hit:
        """Give a hit its rank, its alignment and its mark."""
        alignment = self._aligned(hit.residues)
        emb_only = None
        if hit.residues:
            shorter = min(self._n_query, len(hit.residues))
            near = was_first and hit.score >= _HIGH_SCORE
            emb_only = near and _identity(alignment, shorter) < _TWILIGHT_IDENTITY
        return replace(hit, rank=rank, alignment=alignment, emb_only=emb_only)

    def _raw_score(self, target: str) -> int:
        if target not in self._raw:
            self._raw[target] = self._aligner.raw_score(target)
        return self._raw[target]

    def _evalue(self, target: str) -> float:
        return evalue(self._raw_score(target), self._n_query, len(target), self._n_searched)

    def _minus_identity(self, target: str) -> float:
        alignment = self._aligned(target)
        return 0.0 if alignment is None else -alignment.fident

    def _aligned(self, target: str) -> Alignment | None:
        if target not in self._alignments:
            self._alignments[target] = self._aligner.align(target, self._n_searched)
        return self._alignments[target]


def _identity(alignment: Alignment | None, n_shorter: int) -> float:
    if alignment is None:
        return 0.0
    if alignment.evalue <= _CHANCE_EVALUE:
        return alignment.fident
    return alignment.n_identical / max(alignment.alnlen, n_shorter)
