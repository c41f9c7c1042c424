"""The p-values of what a search found, by the null distributions that are stored of its ranking."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from plmsearch.errors import ParameterError
from plmsearch.index.base import Block
from plmsearch.numbering import locus_and_cdr3
from plmsearch.search.cutoffs import cutoffs
from plmsearch.search.hits import Found, Query, SearchOptions
from plmsearch.search.nulls import KnownNull, Sample, gather, pvalues, read_null
from plmsearch.search.significance import NoNull, NullDistribution, evalues
from plmsearch.store.catalog_reader import CatalogReader
from plmsearch.store.rankings import StoredRanking
from plmsearch.store.rows import StoredNull
from plmsearch.types import Float2D

__all__ = ["Judge", "known_nulls"]

_Float64 = np.ndarray[Any, np.dtype[np.float64]]

_NOT_STORED = "the ranking was put together for this search: plmsearch optimize --add-ranking stores it"
_NONE_YET = "no null distribution has been built yet: plmsearch optimize builds it"
_UNREADABLE = "its null distribution cannot be read: plmsearch optimize builds it anew"


def known_nulls(stored: Sequence[StoredNull]) -> dict[str, KnownNull]:
    """Read the nulls of a ranking, by locus; one that cannot be read is none, with that as its reason."""
    found = {}
    for one in stored:
        try:
            found[one.locus] = read_null(one)
        except ValueError:
            found[one.locus] = KnownNull(one.locus, NoNull(_UNREADABLE, 0), 0, 0)
    return found


class Judge:
    """The nulls of one ranking at one generation of a database.

    Parameters
    ----------
    catalog : CatalogReader
    ranking : StoredRanking
    """

    def __init__(self, catalog: CatalogReader, ranking: StoredRanking) -> None:
        self._catalog, self._ranking = catalog, ranking
        self.known = known_nulls(catalog.nulls(ranking.ranking_id)) if ranking.ranking_id else {}
        self._samples: dict[tuple[str, bool], Sample] = {}

    @property
    def reason(self) -> str:
        """Why no hit has a p-value; empty if there is a null."""
        if not self._ranking.ranking_id:
            return _NOT_STORED
        if not self.known:
            return _NONE_YET
        if any(isinstance(one.null, NullDistribution) for one in self.known.values()):
            return ""
        return "; ".join(
            f"{locus}: {one.null.reason}" if locus else one.null.reason
            for locus, one in self.known.items()
            if isinstance(one.null, NoNull) and (locus or len(self.known) == 1)
        )

    def refuse_unknown(self, options: SearchOptions) -> None:
        """Refuse a largest E-value where no hit has one.

        Raises
        ------
        ParameterError
            Saying why.
        """
        if options.max_emb_evalue is not None and self.reason:
            expected = f"left out, for {self._ranking.name} has no E-values: {self.reason}"
            raise ParameterError("max_emb_evalue", options.max_emb_evalue, expected)

    def judged(
        self,
        queries: Sequence[Query],
        vectors: Float2D,
        found: Sequence[Found],
        blocks: Callable[[], Sequence[Block]],
        n_searched: Callable[[], Mapping[str, int]],
    ) -> list[Found]:
        """Return what was found with its p-values and E-values.

        Parameters
        ----------
        queries : sequence of Query
        vectors : ndarray, dtype=float32, shape=(n, d)
            Of the queries, of unit length, as the ranking compares them.
        found : sequence of Found
            Of each query.
        blocks : callable
            Returns the vectors of the ranking; called when a sample is needed for the first time.
        n_searched : callable
            Returns the number of distinct sequences that were searched, by locus ('' for all of a ranking
            that does not compare by locus).

        Returns
        -------
        list of Found
            With NaN where the query or the target has no null; as it came where there is none at all.
        """
        if self.reason or not found:
            return list(found)
        loci = [self._locus(query) for query in queries]
        values: list[_Float64] = [np.full(len(one.ids), np.nan) for one in found]
        for locus in dict.fromkeys(loci):
            rows = [row for row, name in enumerate(loci) if name == locus]
            texts = [self._text(queries[row], locus) for row in rows]
            sample = self._sample(locus, blocks, with_texts=any(texts))
            if sample is not None:
                scores = [found[row].scores for row in rows]
                of_locus = pvalues(sample, vectors[rows], texts, scores)
                for row, p in zip(rows, of_locus, strict=True):
                    values[row] = p
        if self._ranking.needs_locus:
            self._blank_other_loci(loci, found, values)
        counts = n_searched()
        return [
            one._replace(pvalues=p, evalues=evalues(p, counts.get(locus, 0)))
            for one, p, locus in zip(found, values, loci, strict=True)
        ]

    def cutoffs(
        self,
        queries: Sequence[Query],
        vectors: Float2D,
        blocks: Callable[[], Sequence[Block]],
        pvalues: Mapping[str, float],
    ) -> _Float64:
        """Return the score of each query from which on no p-value of a hit is larger.

        Parameters
        ----------
        queries, vectors, blocks
            As `judged` takes them.
        pvalues : mapping of str to float
            More than 0, by locus ('' for all of a ranking that does not compare by locus).

        Returns
        -------
        ndarray, dtype=float64, shape=(n,)
            NaN where the query or its locus has no null.
        """
        found = np.full(len(queries), np.nan)
        loci = [self._locus(query) for query in queries]
        for locus in dict.fromkeys(loci):
            rows = [row for row, name in enumerate(loci) if name == locus]
            texts = [self._text(queries[row], locus) for row in rows]
            sample = self._sample(locus, blocks, with_texts=any(texts))
            if sample is not None:
                found[rows] = cutoffs(sample, vectors[rows], texts, pvalues[locus])
        return found

    def _locus(self, query: Query) -> str:
        if not self._ranking.needs_locus:
            return ""
        return locus_and_cdr3(query.residues)[0] if query.locus is None else query.locus

    def _text(self, query: Query, locus: str) -> str:
        """What its relatives are told by."""
        if not self._ranking.needs_locus or not query.residues:
            return query.residues
        own, cdr3 = locus_and_cdr3(query.residues)
        return cdr3 if own == locus else ""

    def _sample(
        self, locus: str, blocks: Callable[[], Sequence[Block]], *, with_texts: bool
    ) -> Sample | None:
        one = self.known.get(locus)
        if one is None or isinstance(one.null, NoNull):
            return None
        key = (locus, with_texts)
        if key not in self._samples:
            self._samples = {k: s for k, s in self._samples.items() if k[0] != locus}
            self._samples[key] = self._gathered(one, one.null, blocks(), with_texts=with_texts)
        return self._samples[key]

    def _gathered(
        self, one: KnownNull, null: NullDistribution, blocks: Sequence[Block], *, with_texts: bool
    ) -> Sample:
        """Return the sample without sequences whose vectors were dropped since."""
        places, vectors = gather(blocks, null.ids)
        left = NullDistribution(null.facts, null.ids[places])
        by_cdr3 = self._ranking.needs_locus
        if by_cdr3:
            return Sample(left, vectors, [one.cdr3[place] for place in places.tolist()], by_cdr3)
        ids = left.ids.tolist() if with_texts else []
        residues = self._catalog.residues(ids)  # another process may have dropped some meanwhile
        return Sample(left, vectors, [residues.get(i, "") for i in ids], by_cdr3)

    def _blank_other_loci(
        self, loci: Sequence[str], found: Sequence[Found], values: Sequence[_Float64]
    ) -> None:
        """A null says nothing of targets of another locus."""
        ids = [one.ids.tolist() for one in found]
        near = {i for of_query in ids for i in of_query}
        known = self._catalog.loci(near, by_domain=self._ranking.reads_domains)
        for locus, of_query, p in zip(loci, ids, values, strict=True):
            p[[known.get(i, "") != locus for i in of_query]] = np.nan
