"""Search with everything that a database holds: all against all.

Concepts
--------
The queries are the stored records of a database, the same or another, in order of insertion. Their
vectors are there already, so no model is loaded. Records are read page by page; a sequence that several
records share is searched when the first of them comes, and its neighbours are remembered until the last
(`plmsearch.search.remembered`). So memory does not grow with either database.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict

import numpy as np

from plmsearch.errors import ParameterError
from plmsearch.ingest.queries import queries_at_once, stored_as_queries, stored_queries
from plmsearch.ingest.report import AddReport
from plmsearch.ingest.spaces import same_space
from plmsearch.reader import Reader
from plmsearch.search.hits import Hit, Query, SearchOptions
from plmsearch.search.remembered import Remembered
from plmsearch.searcher import Searcher
from plmsearch.store.rankings import StoredRanking, StoredSpace
from plmsearch.store.rows import StoredRecord
from plmsearch.store.vector_files import compared_vectors, loci_of
from plmsearch.types import Float2D

__all__ = ["AllPairsSearcher"]


#: Of neighbours of sequences that more records will ask for: those of 120,000 such sequences, ten hits each.
_REMEMBERED_BYTES = 64 << 20


class AllPairsSearcher(Searcher):
    """A database directory that can be searched with all records of one."""

    def search_all(
        self,
        other: Reader,
        k: int = 10,
        *,
        space: str | None = None,
        ranking: str | None = None,
        options: SearchOptions | None = None,
        report: AddReport | None = None,
    ) -> Iterator[tuple[Query, list[Hit]]]:
        """Search with every stored record of a database: this one or another. No model is loaded.

        What can be refused is refused by this call, not by the first step of the iterator. Records are
        searched block by block in bounded memory, a sequence that many share once.

        Parameters
        ----------
        other : Reader
            The database whose records are the queries; may be this one.
        k : int
            Most hits per query, at least 1.
        space : str, optional
            Name of an embedding space of this database: search by the ranking that came with it.
        ranking : str, optional
            Name of a ranking of this database; the default ranking if neither is given.
        options : SearchOptions, optional
            More wishes; its `k` is replaced by `k`.
        report : AddReport, optional
            Counts the queries, and lists the records that have no vector in the space, or nothing to
            align.

        Yields
        ------
        query : Query
            In order of insertion.
        hits : list of Hit

        Raises
        ------
        ParameterError
            If k < 1.
        EmbeddingSpecMismatch
            If the other database lacks a space of the ranking.
        FilterError
            If the condition cannot be read, or does not fit the columns.

        Examples
        --------
        >>> import plmsearch, tempfile
        >>> records = [("a", "EVQLVESGGGLVQPGG"), ("b", "EVQLVESGGGLVKPGG"), ("c", "DIQMTQSPSSLSASVG")]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with plmsearch.open_database(f"{folder}/db", create=True) as db:
        ...         report = db.add(records, model="kmer")
        ...         options = plmsearch.SearchOptions(exclude_self=True)
        ...         [(q.query_id, hits[0].target) for q, hits in db.search_all(db, k=1, options=options)][:2]
        [('a', 'b'), ('b', 'a')]
        """
        wishes = SearchOptions(**{**asdict(options or SearchOptions()), "k": k})
        if k < 1:
            raise ParameterError("k", k, "at least 1")
        chosen = self.ranking(ranking, space=space)
        theirs = [same_space(p.space, self.path, other.spaces(), other.path) for p in chosen.parts]
        n_queries = other.repository.n_sequences()
        self._plan(chosen, wishes, n_queries)
        self.judge(chosen).refuse_unknown(wishes)
        tally = report if report is not None else AddReport()
        n_at_once = queries_at_once(wishes.n_wanted, chosen.n_vectors)
        pages = stored_queries(
            other.repository,
            theirs,
            n_at_once,
            source=str(other.path),
            with_residues=wishes.rerank is not None,
            report=tally,
        )
        return self._search_pages(other, theirs, pages, chosen, wishes)

    def _search_pages(
        self,
        other: Reader,
        theirs: Sequence[StoredSpace],
        pages: Iterable[Sequence[StoredRecord]],
        ranking: StoredRanking,
        options: SearchOptions,
    ) -> Iterator[tuple[Query, list[Hit]]]:
        """Search with the vectors of stored records, page by page."""
        remembered, generation = Remembered(_REMEMBERED_BYTES), self._generation
        first_new, n_queries = other.repository.counters().record_key, other.repository.n_sequences()
        for page in pages:
            self._refresh()
            if self._generation != generation:
                remembered.clear()
                generation = self._generation
            distinct = dict.fromkeys(r.vector_id for r in page)
            new = [i for i in distinct if i not in remembered]
            loci = _loci_by_id(other, new, ranking)
            vectors = self._vectors(other, theirs, new, ranking, [loci[i] for i in new] if loci else None)
            first = {r.vector_id: r for r in reversed(page)}
            asked = stored_as_queries([first[i] for i in new], loci)
            found, condition = self.neighbours_of(asked, vectors, ranking, options, n_queries)
            known = dict(zip(new, found, strict=True))
            near = [known.get(i) or remembered[i] for i in (r.vector_id for r in page)]
            by_domain = ranking.reads_domains
            last = other.repository.last_records(distinct, first_new, by_domain=by_domain)
            for sequence_id in distinct:
                if last.get(sequence_id, 0) <= page[-1].key:
                    remembered.drop(sequence_id)
                elif sequence_id in known:
                    remembered.keep(sequence_id, known[sequence_id])
            queries = stored_as_queries(page, {})
            yield from zip(queries, self.hits_of(queries, near, condition, ranking, options), strict=True)

    def _vectors(
        self,
        other: Reader,
        theirs: Sequence[StoredSpace],
        sequence_ids: list[int],
        ranking: StoredRanking,
        loci: Sequence[str] | None,
    ) -> Float2D:
        """Return the vectors of stored sequences as the ranking compares them."""
        raw = np.concatenate([other.sequence_vectors(space, sequence_ids) for space in theirs], axis=1)
        if ranking.is_raw or not sequence_ids:
            return raw
        return compared_vectors(ranking, raw, loci)


def _loci_by_id(other: Reader, ids: Sequence[int], ranking: StoredRanking) -> dict[int, str]:
    """Return the loci of stored sequences, or domains, if a ranking compares by locus."""
    if not ranking.needs_locus:
        return {}
    return dict(zip(ids, loci_of(other.repository, ids, by_domain=ranking.reads_domains), strict=True))
