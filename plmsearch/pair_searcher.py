"""Search with pairs of a heavy and a light chain.

Each query pair is compared with every pair of the database, exactly: the score is the mean of the heavy and
the light chain's cosine similarity by the ranking. Which chains are a pair is told by
`plmsearch.search.pairs`; a record that is of no pair is found singly only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np

from plmsearch.embedding.options import ModelOptions
from plmsearch.errors import ParameterError
from plmsearch.filters.tree import Column, Compare
from plmsearch.ingest.pair_queries import PairBlock, embed_pairs, find_pairs
from plmsearch.ingest.queries import queries_at_once, stored_as_queries
from plmsearch.ingest.report import AddOptions, AddReport
from plmsearch.ingest.scan import Input, RecordList
from plmsearch.ingest.spaces import check_long, same_space
from plmsearch.reader import Reader
from plmsearch.search.hits import Hit, Query, SearchOptions
from plmsearch.search.pair_hits import PairQuery, UnitPlace, make_pair_hits, pair_query, refuse_unknown_wishes
from plmsearch.search.pair_scores import NearPairs, UnitRows, nearest_pairs, rescored, tiles
from plmsearch.search.pair_targets import PairTargets
from plmsearch.search.pairs import LIGHT_LOCI, PAIR_COLUMNS, Pairs, chain_of, pair_chains
from plmsearch.searcher import Searcher
from plmsearch.sequences import SequenceRecord
from plmsearch.slices import slices
from plmsearch.store.chains import matching_keys, stored_chains
from plmsearch.store.rankings import StoredRanking, StoredSpace
from plmsearch.store.rows import StoredRecord
from plmsearch.types import Float2D, Int1D
from plmsearch.vectors import unit_vectors

__all__ = ["PairSearcher", "stored_pairs"]

_LOCI = ("IGH", *LIGHT_LOCI)


def stored_pairs(reader: Reader) -> Pairs:
    """Return the pairs of a database; `Pairs.heavy` and `Pairs.light` are vector ids.

    Parameters
    ----------
    reader : Reader
    """
    rows = stored_chains(reader.repository, PAIR_COLUMNS, _LOCI)
    return pair_chains(
        chain_of(key, number, unit, locus, dict(zip(PAIR_COLUMNS, values, strict=True)))
        for key, number, unit, locus, values in rows
    )


class PairSearcher(Searcher):
    """A database directory that can be searched with pairs.

    Parameters
    ----------
    path : Path
    model_options : ModelOptions
    """

    def __init__(self, path: Path, model_options: ModelOptions) -> None:
        super().__init__(path, model_options)
        self._targets: dict[tuple[object, ...], PairTargets] = {}

    def pair_targets(self, ranking: StoredRanking, where: str | None = None) -> PairTargets:
        """Return the pairs that are searched.

        Parameters
        ----------
        ranking : StoredRanking
            Of variable domains.
        where : str, optional
            Only the pairs whose target, the record of the heavy chain, meets this condition. What is a pair
            does not depend on it.

        Raises
        ------
        ParameterError
            If the ranking does not compare variable domains.
        FilterError
        """
        if not ranking.reads_domains:
            expected = "one that compares variable domains (plmsearch index --preset antibody), as pairs are"
            raise ParameterError("ranking", ranking.name, expected)
        self._refresh()
        key = (self._generation, ranking.key, where)
        if key not in self._targets:
            self._targets = {key: self._read_targets(ranking, where)}
        return self._targets[key]

    def _read_targets(self, ranking: StoredRanking, where: str | None) -> PairTargets:
        rows = UnitRows(self._blocks(ranking), ranking.dim)
        every = stored_pairs(self)
        has_vectors = np.flatnonzero(rows.has(every.heavy) & rows.has(every.light))
        pairs = every.take(has_vectors)
        chosen: Int1D = np.arange(len(pairs))
        condition = None if where is None else self.select(where, by_domain=True).condition
        if condition is not None:
            keys = matching_keys(self.repository, condition)
            chosen = np.flatnonzero(np.isin(pairs.heavy_record, keys))
        return PairTargets(pairs, rows, chosen, len(every) - len(pairs))

    def search_pairs(
        self,
        pairs: Sequence[tuple[str, str] | SequenceRecord],
        k: int = 10,
        *,
        ranking: str | None = None,
        options: SearchOptions | None = None,
    ) -> list[list[Hit]]:
        """Find the pairs nearest to each query pair.

        Parameters
        ----------
        pairs : sequence of (str, str) or of SequenceRecord
            Residues of a heavy and a light chain, or records that hold both (``VH;VL``, or an scFv).
        k : int
            Most hits per pair, at least 1.
        ranking : str, optional
            As `Searcher.search`.
        options : SearchOptions, optional
            More wishes; its `k` is replaced by `k`.

        Returns
        -------
        list of list of Hit
            In query order; `Hit.pair` has the scores of both chains.

        Raises
        ------
        ParameterError
            If a query is no pair, or holds several.
        """
        records = [
            p if isinstance(p, SequenceRecord) else SequenceRecord(f"query_{n}", ";".join(p))
            for n, p in enumerate(pairs, start=1)
        ]
        report = AddReport()
        wishes = SearchOptions(**{**asdict(options or SearchOptions()), "k": k})
        chosen = self.ranking(ranking)
        found = self.search_pair_inputs(
            [RecordList(records)], self.pair_targets(chosen, wishes.where), chosen, wishes,
            policy=AddOptions(), report=report,
        )  # fmt: skip
        answers = list(found)
        if report.skipped:
            raise ParameterError("pairs", report.skipped[0].record_id, f"pairs: {report.skipped[0].reason}")
        if len(answers) != len(records):
            raise ParameterError("pairs", f"{len(answers)} pairs", "one pair in each record")
        return [hits for _, hits in answers]

    def search_pair_inputs(
        self,
        inputs: Sequence[Input],
        targets: PairTargets,
        ranking: StoredRanking,
        options: SearchOptions,
        *,
        policy: AddOptions,
        report: AddReport,
    ) -> Iterator[tuple[Query, list[Hit]]]:
        """Search with every pair of inputs, in order of the heavy chains.

        What can be refused is refused by this call. Chains of a pair may come in several inputs.

        Parameters
        ----------
        inputs : sequence of Input
        targets : PairTargets
        ranking : StoredRanking
        options : SearchOptions
        policy : AddOptions
        report : AddReport
            Lists the records that are of no pair.

        Yields
        ------
        query : Query
            Of both chains, called as the record of the heavy one.
        hits : list of Hit
        """
        refuse_unknown_wishes(options)
        check_long(policy.long, [part.space for part in ranking.parts])
        specs = [part.space.spec for part in ranking.parts]
        pairs = find_pairs(inputs, policy, report)
        if len(pairs):
            for spec in specs:
                self._model(spec)
        n_at_once = queries_at_once(options.k, len(targets.chosen))
        blocks = embed_pairs(
            inputs, pairs, specs, self._model, partial(self._compared_unit, ranking=ranking),
            policy, self.model_options.batch_tokens, report, n_at_once,
        )  # fmt: skip
        return self._search_blocks(blocks, targets, ranking, options)

    def search_stored_pairs(
        self,
        record_ids: Sequence[str],
        cells: Sequence[str],
        targets: PairTargets,
        ranking: StoredRanking,
        options: SearchOptions,
    ) -> Iterator[tuple[Query, list[Hit]]]:
        """Search with stored pairs: those that hold records, or are of cells; no model is loaded.

        Parameters
        ----------
        record_ids, cells : sequence of str
            A cell is named by its ``cell_id``; one in several samples stands for all of them.
        targets : PairTargets
        ranking : StoredRanking
        options : SearchOptions

        Raises
        ------
        RecordNotFound
        ParameterError
            If a record or a cell is of no pair.
        """
        refuse_unknown_wishes(options)
        pairs = targets.pairs
        places: list[int] = []
        for record in self._stored(record_ids):
            of_record = (pairs.heavy_record == record.key) | (pairs.light_record == record.key)
            places += _some(
                of_record, "id", record.record_id, "a record of a pair whose chains can be compared"
            )
        for cell in cells:
            keys = self._keys_of_cell(cell)
            of_cell = np.isin(pairs.heavy_record, keys)
            places += _some(of_cell, "cell", cell, "the cell_id of a pair whose chains can be compared")
        spaces = [part.space for part in ranking.parts]
        blocks = self._stored_blocks(self, spaces, pairs.take(np.array(places, np.int64)), ranking, options)
        return self._search_blocks(blocks, targets, ranking, options)

    def search_pairs_of(
        self, other: Reader, targets: PairTargets, ranking: StoredRanking, options: SearchOptions
    ) -> Iterator[tuple[Query, list[Hit]]]:
        """Search with every pair of a database, this one or another; no model is loaded.

        Parameters
        ----------
        other : Reader
        targets : PairTargets
        ranking : StoredRanking
        options : SearchOptions

        Raises
        ------
        EmbeddingSpecMismatch
            If the other database lacks a space of the ranking.
        """
        refuse_unknown_wishes(options)
        theirs = [same_space(p.space, self.path, other.spaces(), other.path) for p in ranking.parts]
        pairs = targets.pairs if other is self else _with_vectors(other, theirs, stored_pairs(other))
        blocks = self._stored_blocks(other, theirs, pairs, ranking, options)
        return self._search_blocks(blocks, targets, ranking, options)

    def _keys_of_cell(self, cell: str) -> Int1D:
        if "cell_id" not in self.repository.metadata_columns():
            raise ParameterError("cell", cell, "left out: no record has a cell_id")
        condition = Compare(Column("cell_id", "text", is_metadata=True), "=", cell)
        return matching_keys(self.repository, condition)

    def _stored_blocks(
        self,
        other: Reader,
        spaces: Sequence[StoredSpace],
        pairs: Pairs,
        ranking: StoredRanking,
        options: SearchOptions,
    ) -> Iterator[PairBlock]:
        """Yield stored pairs as queries."""
        several = pairs.has_siblings
        for places in slices(range(len(pairs)), queries_at_once(options.k, len(pairs))):
            part = pairs.take(np.array(places, dtype=np.int64))
            units = _units(other, part)
            heavy = [units.get(p) for p in _places(part.heavy_record, part.heavy_number)]
            light = [units.get(p) for p in _places(part.light_record, part.light_number)]
            both = [
                (h, x, n) for h, x, n in zip(heavy, light, places, strict=True) if h and x
            ]  # none is missing, unless deleted meanwhile
            if not both:
                continue
            queries = [
                pair_query(*stored_as_queries([h, x], {}), has_siblings=bool(several[n])) for h, x, n in both
            ]
            vectors = [
                np.concatenate([other.sequence_vectors(s, [u.vector_id for u in of]) for s in spaces], axis=1)
                for of in ([h for h, _, _ in both], [x for _, x, _ in both])
            ]
            yield PairBlock(
                queries,
                self._compared_unit([q.heavy for q in queries], vectors[0], ranking=ranking),
                self._compared_unit([q.light for q in queries], vectors[1], ranking=ranking),
            )

    def _compared_unit(
        self, queries: Sequence[Query], vectors: Float2D, *, ranking: StoredRanking
    ) -> Float2D:
        return unit_vectors(self._compared(queries, vectors, ranking), ranking.dim)

    def _search_blocks(
        self,
        blocks: Iterable[PairBlock],
        targets: PairTargets,
        ranking: StoredRanking,
        options: SearchOptions,
    ) -> Iterator[tuple[Query, list[Hit]]]:
        for block in blocks:
            found = self._near_pairs(block, targets, ranking, options)
            places = np.unique(np.concatenate([one.places for one in found]))
            units = _units(self, targets.pairs.take(places))
            for query, near in zip(block.queries, found, strict=True):
                yield query.query, make_pair_hits(query, near, targets.pairs, units, options)

    def _near_pairs(
        self, block: PairBlock, targets: PairTargets, ranking: StoredRanking, options: SearchOptions
    ) -> list[NearPairs]:
        """Return what each query pair finds: pairs of its light locus if the ranking compares by locus."""
        pairs, rows = targets.pairs, targets.rows
        excluded = self._excluded(block.queries, pairs, options)
        by_locus = ranking.needs_locus and not options.across_loci
        loci = [q.light.locus or "" for q in block.queries] if by_locus else [""] * len(block.queries)
        most = int(np.unique(pairs.heavy_record, return_counts=True)[1].max(initial=1))
        near: dict[int, NearPairs] = {}
        for locus in dict.fromkeys(loci):
            asked = [row for row, name in enumerate(loci) if name == locus]
            chosen = targets.chosen
            if by_locus:
                chosen = chosen[pairs.light_locus[chosen] == LIGHT_LOCI.index(locus)]
            best = nearest_pairs(
                block.heavy[asked], block.light[asked], tiles(pairs, chosen, rows),
                options.k * most, [excluded[row] for row in asked],
            )  # fmt: skip
            for place, row in enumerate(asked):
                ids = best.ids[place][best.scores[place] > -np.inf]
                heavy, light = block.heavy[row], block.light[row]
                near[row] = rescored(heavy, light, ids, pairs, rows, options.min_score)
        return [near[row] for row in range(len(block.queries))]

    def _excluded(self, queries: Sequence[PairQuery], pairs: Pairs, options: SearchOptions) -> list[Int1D]:
        """Return the places that each query may not find: its own records, or its own residues."""
        none: Int1D = np.empty(0, dtype=np.int64)
        excluded = [none] * len(queries)
        if options.exclude_self:
            own = self._own_keys(queries)
            for row, query in enumerate(queries):
                heavy, light = (own.get((q.record_id, q.record_hash), -1) for q in (query.heavy, query.light))
                is_own = (pairs.heavy_record == heavy) & (pairs.light_record == light)
                excluded[row] = np.flatnonzero(is_own)
        if options.exclude_identical:
            hashes = {bytes.fromhex(q.sequence_hash) for p in queries for q in (p.heavy, p.light)}
            known = self.repository.sequence_ids(hashes)
            for row, query in enumerate(queries):
                ids = [known.get(bytes.fromhex(q.sequence_hash), -1) for q in (query.heavy, query.light)]
                is_same = (pairs.heavy == ids[0]) & (pairs.light == ids[1])
                excluded[row] = np.union1d(excluded[row], np.flatnonzero(is_same))
        return excluded

    def _own_keys(self, queries: Sequence[PairQuery]) -> dict[tuple[str, str], int]:
        """Return the keys of the stored records that queries are, by id and hash."""
        names = {q.record_id for p in queries for q in (p.heavy, p.light)}
        found = self.repository.records_by_id(names)
        return {(r.record_id, r.sequence_hash): r.key for r in found.values()}


def _some(
    is_meant: np.ndarray[tuple[int], np.dtype[np.bool_]], what: str, name: str, expected: str
) -> list[int]:
    """Return the places that are meant, refusing none."""
    places: list[int] = np.flatnonzero(is_meant).tolist()
    if not places:
        raise ParameterError(what, name, expected)
    return places


def _places(records: Int1D, numbers: Int1D) -> list[UnitPlace]:
    return [UnitPlace(*place) for place in zip(records.tolist(), numbers.tolist(), strict=True)]


def _units(reader: Reader, pairs: Pairs) -> dict[UnitPlace, StoredRecord]:
    """Read the chains of pairs."""
    ids = {*pairs.heavy.tolist(), *pairs.light.tolist()}
    wanted = {
        *_places(pairs.heavy_record, pairs.heavy_number),
        *_places(pairs.light_record, pairs.light_number),
    }
    found = reader.repository.records_of_sequences(ids, by_domain=True)
    units = (unit for of_sequence in found.values() for unit in of_sequence if unit.domain is not None)
    by_place = ((UnitPlace(u.key, u.domain.number if u.domain else 0), u) for u in units)
    return {place: unit for place, unit in by_place if place in wanted}


def _with_vectors(reader: Reader, spaces: Sequence[StoredSpace], pairs: Pairs) -> Pairs:
    """Return the pairs of which both chains have a vector in each space."""
    has = np.ones(len(pairs), dtype=np.bool_)
    for space in spaces:
        ids = np.union1d(pairs.heavy, pairs.light)
        known = np.array(
            sorted(reader.repository.vector_places(space.space_id, ids.tolist())), dtype=np.int64
        )
        has &= np.isin(pairs.heavy, known) & np.isin(pairs.light, known)
    return pairs.take(np.flatnonzero(has))
