"""Search by CDR3 and genes alone: every record that fits, exactly, whatever an embedding says.

Concepts
--------
What fits is decided by residues and calls: the CDR3 of variable domains that were found when records were
indexed, and their V and J genes (calls of the input first, those inferred from residues else). So no model is
needed. Where query and target are embedded, the score of their embeddings stands beside and orders what is
equally alike.

Limitations
-----------
T-cell receptors are not among the stored domains, and so are never found. The table of the receptors is held
in memory: about 250 bytes a record.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from plmsearch.domains import CHAIN_SEPARATOR, CutDomain
from plmsearch.errors import EmbeddingError
from plmsearch.ingest.domains import why_no_domain
from plmsearch.ingest.genes import GeneFinder
from plmsearch.ingest.prepare import prepare
from plmsearch.ingest.queries import QUERIES_AT_ONCE, embed_queries
from plmsearch.ingest.receptor_queries import (
    Asked,
    asked_of_records,
    asked_of_stored,
    asked_of_strings,
    stored_receptors,
    with_inferred_genes,
    with_known_genes,
)
from plmsearch.ingest.report import AddOptions, AddReport, GeneOptions, SkippedRow
from plmsearch.ingest.scan import Input
from plmsearch.ingest.spaces import same_space
from plmsearch.reader import Reader
from plmsearch.search.cdr3 import Cdr3Options, read_cdr3
from plmsearch.search.hits import Hit, Query, SearchOptions, is_excluded
from plmsearch.search.receptor_table import Matches, ReceptorTable
from plmsearch.search.stored_scores import StoredScores
from plmsearch.searcher import Searcher
from plmsearch.sequences import SequenceRecord
from plmsearch.slices import slices
from plmsearch.store.rankings import StoredRanking
from plmsearch.store.rows import StoredRecord
from plmsearch.store.vector_files import compared_vectors
from plmsearch.types import Float1D, Int1D
from plmsearch.vectors import unit_vectors

__all__ = ["Cdr3Searcher"]

#: Rows that are joined to their records at once: about 1 KiB each.
_JOINED_AT_ONCE = 20_000
#: With a limit on hits, records of this identity and more are looked for first: most limits are met there.
_STEPS = (0.8, 0.5, 0.0)


@dataclass(frozen=True, slots=True)
class _Ranked:
    """The rows that fit a query, in order, and their scores."""

    asked: Asked
    rows: Int1D
    scores: Float1D


class Cdr3Searcher(Searcher):
    """A database directory that can be searched by CDR3 and genes."""

    _receptors: tuple[tuple[int, str | None], ReceptorTable] | None = None

    def search_cdr3(
        self, cdr3s: Iterable[str], wishes: Cdr3Options, options: SearchOptions | None = None
    ) -> Iterator[tuple[Query, list[Hit]]]:
        """Find the records whose CDR3 is most like a string. No model is loaded.

        Parameters
        ----------
        cdr3s : iterable of str
            CDR3 or junctions (`plmsearch.search.cdr3.read_cdr3`).
        wishes : Cdr3Options
            Of `same` only ``cdr3_length`` is known of a string.
        options : SearchOptions, optional
            `where` and `unique` count.

        Yields
        ------
        query : Query
            In the order given.
        hits : list of Hit
            By falling identity of the CDR3, those of the query's length first, then in order of insertion.

        Raises
        ------
        ParameterError
            If a string is no CDR3.
        EmbeddingError
            If no variable domain is known in the database.
        """
        self._refuse_unknown()
        asked = asked_of_strings(map(read_cdr3, cdr3s))
        return self._answers(asked, wishes, options or SearchOptions(), None, {})

    def search_alike(
        self,
        inputs: Sequence[Input],
        wishes: Cdr3Options,
        options: SearchOptions,
        ranking: StoredRanking | None = None,
        *,
        policy: AddOptions,
        report: AddReport,
    ) -> Iterator[tuple[Query, list[Hit]]]:
        """Find every record that fits each variable domain of inputs, in order.

        What can be refused is refused by this call: each input is read whole before the first answer.

        Parameters
        ----------
        inputs : sequence of Input
        wishes : Cdr3Options
        options : SearchOptions
            `where`, `exclude_self`, `exclude_identical`, `unique` and `across_loci` count.
        ranking : StoredRanking, optional
            By which the queries are embedded, for their scores; None: no model is loaded, and scores are NaN.
        policy : AddOptions
            What to do with invalid letters.
        report : AddReport
            Counts the queries, and lists those that are left out.

        Yields
        ------
        query : Query
        hits : list of Hit
            By falling identity of the CDR3, then by falling score, then in order of insertion.

        Raises
        ------
        InputError
            If a query is no protein sequence.
        EmbeddingError
            If no variable domain is known in the database.
        """
        self._refuse_unknown()
        for one in inputs:
            for record in one:
                prepare(record, policy, takes_chains=True)
        return self._answers_of_inputs(inputs, wishes, options, ranking, policy, report)

    def _answers_of_inputs(
        self,
        inputs: Sequence[Input],
        wishes: Cdr3Options,
        options: SearchOptions,
        ranking: StoredRanking | None,
        policy: AddOptions,
        report: AddReport,
    ) -> Iterator[tuple[Query, list[Hit]]]:
        genes = GeneFinder(GeneOptions()) if {"v", "j"}.intersection(wishes.same) else None
        for one in inputs:
            sample: list[CutDomain] = []
            if genes is not None:
                genes.begin(sample.copy)
            for records in slices(one, QUERIES_AT_ONCE):
                asked = asked_of_records(records, policy, report)
                if genes is not None:
                    asked = with_inferred_genes(asked, wishes, genes, sample, report)
                asked = with_known_genes(asked, wishes, report)
                vectors = {} if ranking is None else self._embedded(records, ranking, policy, report)
                yield from self._answers(asked, wishes, options, ranking, vectors)

    def _embedded(
        self, records: Sequence[SequenceRecord], ranking: StoredRanking, policy: AddOptions, report: AddReport
    ) -> dict[str, Float1D]:
        """Return vectors as the ranking compares them, by hash of what was embedded."""
        specs, own = [part.space.spec for part in ranking.parts], AddReport()
        if not ranking.reads_domains:  # no model reads several chains as one
            records = [r for r in records if CHAIN_SEPARATOR not in r.sequence]
        found: dict[str, Float1D] = {}
        for queries, raw in embed_queries(
            records, specs, self._model, policy, self.model_options.batch_tokens, own
        ):
            unit = unit_vectors(self._compared(queries, raw, ranking), ranking.dim)
            found.update(zip((q.sequence_hash for q in queries), unit, strict=True))
        report.n_embedded += own.n_embedded
        return found

    def search_alike_stored(
        self,
        record_ids: Sequence[str],
        wishes: Cdr3Options,
        options: SearchOptions,
        ranking: StoredRanking | None = None,
        *,
        report: AddReport,
    ) -> Iterator[tuple[Query, list[Hit]]]:
        """Find every record that fits stored records, given by id; as `search_alike`, without a model.

        Raises
        ------
        RecordNotFound
        """
        self._refuse_unknown()
        units = self.units(record_ids)
        found = {name for unit in units for name in (unit.record_id, unit.unit_id)}
        without = [name for name in record_ids if name not in found]
        report.n_rows += len(record_ids)
        report.n_skipped += len(without)
        for record in self.get(without):
            reason = why_no_domain(record.residues)
            report.skipped.append(SkippedRow(str(self.path), None, record.record_id, reason))
        asked = with_known_genes(asked_of_stored(units, str(self.path)), wishes, report)
        return self._answers(asked, wishes, options, ranking, self._stored_vectors(self, asked, ranking))

    def search_alike_all(
        self,
        other: Reader,
        wishes: Cdr3Options,
        options: SearchOptions,
        ranking: StoredRanking | None = None,
        *,
        report: AddReport,
    ) -> Iterator[tuple[Query, list[Hit]]]:
        """Find every record that fits each record of a database, this one or another, without a model."""
        self._refuse_unknown()
        for page in stored_receptors(other.repository, str(other.path), report):
            asked = with_known_genes(asked_of_stored(page, str(other.path)), wishes, report)
            vectors = self._stored_vectors(other, asked, ranking)
            yield from self._answers(asked, wishes, options, ranking, vectors)

    def _stored_vectors(
        self, other: Reader, asked: Sequence[Asked], ranking: StoredRanking | None
    ) -> dict[str, Float1D]:
        """Return vectors of stored queries as the ranking compares them, by hash of what was embedded."""
        if ranking is None:
            return {}
        spaces = [same_space(p.space, self.path, other.spaces(), other.path) for p in ranking.parts]
        ids = {_hash(one, ranking): one for one in asked}
        of = {key: one.vector_id if ranking.reads_domains else one.source_id for key, one in ids.items()}
        wanted = {i for i in of.values() if i is not None}
        for space in spaces:
            wanted &= other.repository.vector_places(space.space_id, wanted).keys()
        keys = [key for key, i in of.items() if i in wanted]
        sequence_ids = [i for key in keys if (i := of[key]) is not None]
        raw = np.concatenate([other.sequence_vectors(space, sequence_ids) for space in spaces], axis=1)
        loci = [ids[key].receptor.locus or "" for key in keys]
        compared = raw if ranking.is_raw else compared_vectors(ranking, raw, loci)
        return dict(zip(keys, unit_vectors(compared, ranking.dim), strict=True))

    def explain_alike(self, wishes: Cdr3Options, options: SearchOptions) -> list[str]:
        """Say how a search by CDR3 and genes is done, in lines of text."""
        table = self._table(options.where)
        parts = [] if wishes.min_identity is None else [f"CDR3 identity >= {wishes.min_identity:g}"]
        parts += [f"same {name}" for name in wishes.same]
        asked = ", ".join(parts) or "CDR3 most alike"
        most = "all hits" if wishes.k is None else f"at most {wishes.k:,} hits"
        return [
            f"exact: {len(table):,} variable domains ({', '.join(table.loci)}); {asked}; {most} of a query"
        ]

    # --- From queries to hits --------------------------------------------------------------------

    def _table(self, where: str | None) -> ReceptorTable:
        """Return the receptors of the records that meet a condition."""
        self._refresh()
        key = (self._generation, where)
        if self._receptors is None or self._receptors[0] != key:
            condition = None if where is None else self.select(where).condition
            self._receptors = (key, ReceptorTable(self.repository.receptor_rows(condition)))
        return self._receptors[1]

    def _refuse_unknown(self) -> None:
        """Refuse a database in which nobody has looked for variable domains."""
        if not self.repository.has_domains() and self.repository.n_not_looked_at():
            reason = f"nobody has looked for variable domains in {self.path}, so no CDR3 is known"
            raise EmbeddingError(reason, hint=f"plmsearch embed {self.path} --preset antibody")

    def _answers(
        self,
        asked: Iterable[Asked],
        wishes: Cdr3Options,
        options: SearchOptions,
        ranking: StoredRanking | None,
        vectors: Mapping[str, Float1D],
    ) -> Iterator[tuple[Query, list[Hit]]]:
        """Answer queries, as many at once as their hits are joined to records."""
        table = self._table(options.where)
        scores = None if ranking is None or not vectors else StoredScores(self._blocks(ranking))
        ids = table.vector_ids if ranking is None or ranking.reads_domains else table.source_ids
        waiting: list[_Ranked] = []
        n_rows = 0
        for one in asked:
            matches = _matches(table, one, wishes, options)
            key = "" if ranking is None else _hash(one, ranking)
            if scores is not None and key in vectors:
                of_rows = scores.of(vectors[key], ids[matches.rows])
            else:
                of_rows = np.full(len(matches.rows), np.nan, dtype=np.float32)
            order = _order(one, matches, of_rows, table)
            waiting.append(_Ranked(one, matches.rows[order], of_rows[order]))
            n_rows += min(len(order), _first_rows(wishes))
            if n_rows >= _JOINED_AT_ONCE:
                yield from self._joined(table, waiting, wishes, options)
                waiting, n_rows = [], 0
        yield from self._joined(table, waiting, wishes, options)

    def _joined(
        self, table: ReceptorTable, waiting: Sequence[_Ranked], wishes: Cdr3Options, options: SearchOptions
    ) -> Iterator[tuple[Query, list[Hit]]]:
        """Join the rows of queries to their records."""
        n_first = _first_rows(wishes)
        rows = np.concatenate([np.empty(0, dtype=np.int64), *(one.rows[:n_first] for one in waiting)])
        first = self._records(table, rows)
        for one in waiting:
            rest = one.rows[n_first:]
            later = (
                self._records(table, rest[start : start + _JOINED_AT_ONCE])
                for start in range(0, len(rest), _JOINED_AT_ONCE)
            )
            yield one.asked.query, _hits(one, first, later, wishes, options)

    def _records(self, table: ReceptorTable, rows: Int1D) -> dict[int, StoredRecord]:
        """Return the record of each row with its domain; those deleted meanwhile are absent."""
        distinct = np.unique(rows)
        sources = set(table.source_ids[distinct].tolist())
        records = {r.key: r for same in self.repository.records_of_sequences(sources).values() for r in same}
        domains = {(i, d.number): d for i, found in self.repository.domains(sources).items() for d in found}
        joined = {}
        for row in distinct.tolist():
            record = records.get(int(table.keys[row]))
            domain = domains.get((int(table.source_ids[row]), int(table.numbers[row])))
            if record is not None and domain is not None:
                joined[row] = record._replace(domain=domain)
        return joined


def _hash(asked: Asked, ranking: StoredRanking) -> str:
    """Return what the vector of a query is found by."""
    return asked.query.sequence_hash if ranking.reads_domains else asked.query.record_hash


def _first_rows(wishes: Cdr3Options) -> int:
    return _JOINED_AT_ONCE if wishes.k is None else min(2 * wishes.k + 8, _JOINED_AT_ONCE)


def _matches(table: ReceptorTable, asked: Asked, wishes: Cdr3Options, options: SearchOptions) -> Matches:
    """Return what fits; with a limit on hits, no more of it than is needed."""
    receptor = asked.receptor._replace(locus=None) if options.across_loci else asked.receptor
    if wishes.k is None or options.exclude_identical or options.unique:
        return table.find(receptor, wishes)
    for step in _STEPS:
        matches = table.find(receptor, replace(wishes, min_identity=max(step, wishes.least)))
        n_records = len(np.unique(table.keys[matches.rows]))
        if n_records > wishes.k or step <= wishes.least:  # one more: its own may be left out
            break
    return matches


def _order(asked: Asked, matches: Matches, scores: Float1D, table: ReceptorTable) -> Int1D:
    """Return the order of hits: CDR3 identity, score, and of strings those of one length first."""
    best = -np.nan_to_num(scores, nan=-np.inf)
    is_other = np.zeros(len(best), dtype=np.bool_)
    if asked.query.cdr3:
        is_other = table.lengths[matches.rows] != len(asked.query.cdr3)
    return np.lexsort((matches.rows, is_other, best, -matches.identities))


def _hits(
    ranked: _Ranked,
    first: Mapping[int, StoredRecord],
    later: Iterator[Mapping[int, StoredRecord]],
    wishes: Cdr3Options,
    options: SearchOptions,
) -> list[Hit]:
    """Make hits of rows in their order: of each record its nearest domain."""
    hits: list[Hit] = []
    records, query = first, ranked.asked.query
    n_first, seen_keys, seen_sequences = _first_rows(wishes), set(), set()
    for place, (row, score) in enumerate(zip(ranked.rows.tolist(), ranked.scores.tolist(), strict=True)):
        if len(hits) == wishes.k:
            break
        if place >= n_first and (place - n_first) % _JOINED_AT_ONCE == 0:
            records = next(later)
        record = records.get(row)
        if record is None or record.key in seen_keys or is_excluded(query, record, options):
            continue
        if options.unique and record.vector_id in seen_sequences:
            continue
        seen_keys.add(record.key)
        seen_sequences.add(record.vector_id)
        hits.append(
            Hit(
                query.query_id,
                record.record_id,
                len(hits) + 1,
                score,
                record.description,
                record.metadata,
                record.unit_residues,
                domain=record.domain,
            )
        )
    return hits
