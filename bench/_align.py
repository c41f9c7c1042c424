"""Re-ranking of whole matrices of scores by alignment, as ``--rerank align`` does it for one query."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from plmsearch.search.alignment import QueryAligner
from plmsearch.search.hits import SearchOptions
from plmsearch.search.karlin_altschul import evalue

N_CANDIDATES = SearchOptions(k=10, rerank="align").n_wanted  # max(10 k, 100)


class Reranker:
    """Re-ranks rows of scores as ``--rerank align`` does: the first candidates, by E-value.

    A pair is aligned once, whatever the number of methods: raw scores are symmetric.
    """

    def __init__(self, domains: Sequence[str]) -> None:
        self._domains = list(domains)
        self._lengths = [len(d) for d in domains]
        self._n_searched = sum(self._lengths)
        self._raw = np.full((len(domains), len(domains)), -1, np.int16)
        self._evalue = functools.cache(lambda raw, q, t: evalue(raw, q, t, self._n_searched))

    def rows(self, queries: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Return scores with the candidates of each query put first, in their new order.

        Parameters
        ----------
        queries : ndarray, dtype=int64, shape=(q,)
        scores : ndarray, dtype=float32, shape=(q, n)
            At most 1; those at minus infinity are no candidates.
        """
        out = scores.copy()
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda i: self._one(int(queries[i]), out[i]), range(len(queries))))
        return out

    def _one(self, query: int, row: np.ndarray) -> None:
        n = min(N_CANDIDATES, len(row))
        first = np.argpartition(-row, n - 1)[:n]
        first = first[row[first] > -np.inf]
        candidates = first[np.lexsort((first, -row[first]))]
        aligner = None
        for target in candidates[self._raw[query, candidates] < 0]:
            aligner = aligner or QueryAligner(str(query), self._domains[query])
            self._raw[query, target] = self._raw[target, query] = aligner.raw_score(self._domains[target])
        keys = [self._key(query, int(target)) for target in candidates]
        order = sorted(range(len(candidates)), key=keys.__getitem__)
        row[candidates[order]] = 2 + np.arange(len(candidates), 0, -1)

    def _key(self, query: int, target: int) -> tuple[bool, float, int]:
        raw = int(self._raw[query, target])
        if raw == 0:
            return True, 0.0, 0
        return False, self._evalue(raw, self._lengths[query], self._lengths[target]), -raw
