"""Every question to the catalog; `plmsearch.store.repository` has its changes. SQL is nowhere else but in
`plmsearch.store.audit` and the expressions of `plmsearch.store.conditions`.

A reader holds no transaction between calls: each method opens one and ends it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from sqlalchemy import ColumnElement, func, select

from plmsearch.domains import CHAIN_SEPARATOR
from plmsearch.embedding.spec import EmbeddingSpec
from plmsearch.filters.derived import derived_columns
from plmsearch.filters.tree import Condition, Kind
from plmsearch.store import tables as t
from plmsearch.store.catalog_base import (
    IN_LIST,
    AnySelect,
    live,
    locus_column,
    select_records,
    stored_records,
    whole_residues,
)
from plmsearch.store.column_indexes import (
    indexed_columns,
)
from plmsearch.store.conditions import sql_condition
from plmsearch.store.domain_reader import DomainReader
from plmsearch.store.rankings import RankingPart, StoredRanking, StoredSpace, StoredTransform
from plmsearch.store.rows import (
    DerivedFile,
    IndexFacts,
    LedgerRow,
    RunRow,
    SearchedSize,
    StoredIndex,
    StoredNull,
    StoredRecord,
    StoredSegment,
)
from plmsearch.store.segments import FileStamp
from plmsearch.transform import Transform
from plmsearch.types import Int1D

__all__ = ["IN_LIST", "AnySelect", "CatalogReader"]


class CatalogReader(DomainReader):
    """The catalog behind an engine, for reading.

    Parameters
    ----------
    engine : Engine
        What `plmsearch.store.connection.open_catalog` returned.
    """

    def generation(self) -> int:
        """Return the number of commits so far."""
        return int(self._scalar(select(t.state.c.generation)))

    def n_records(self, condition: Condition | None = None) -> int:
        """Count live records, or those that meet a condition."""
        return int(self._scalar(select(func.count()).select_from(t.records).where(*live(condition))))

    def matching_sequences(self, condition: Condition, *, by_domain: bool = False) -> tuple[Int1D, int]:
        """Return the sequences of the live records that meet a condition, or those of their domains.

        Returns
        -------
        sequence_ids : ndarray, dtype=int64, shape=(n,)
            Rising.
        n_records : int
        """
        query = select(t.records.c.sequence_id).where(*live(condition))
        with self.begin() as connection:
            found = np.fromiter(connection.execute(query).scalars(), dtype=np.int64)
            sequence_ids = np.unique(found)
            if by_domain:
                d = t.domains.c
                pairs = connection.execute(select(d.source_id, d.sequence_id)).all()
                table = np.array(pairs, dtype=np.int64).reshape(-1, 2)
                sequence_ids = np.unique(table[np.isin(table[:, 0], sequence_ids), 1])
        return sequence_ids, len(found)

    def n_sequences(self) -> int:
        """Count distinct sequences that a live record points to."""
        live = t.records.c.deleted.is_(None)
        return int(self._scalar(select(func.count(t.records.c.sequence_id.distinct())).where(live)))

    def n_residues(self) -> int:
        """Sum the residues of the distinct sequences of records."""
        s, r = t.sequences.c, t.records.c
        has_record = select(r.key).where(r.sequence_id == s.id).exists()
        return int(self._scalar(select(func.coalesce(func.sum(s.n_residues), 0)).where(has_record)))

    def searched_size(
        self, space_ids: Sequence[int], condition: Condition | None = None, *, by_domain: bool = False
    ) -> SearchedSize:
        """Measure what a search compares with: sequences of live records that meet a condition, or domains.

        Only those count that have a vector in each of the spaces.
        """
        s = t.sequences.c
        columns = (
            func.count(),
            func.coalesce(func.sum(s.n_residues), 0),
            func.count(func.nullif(s.n_residues, 0)),
        )
        query = _of_searched(columns, space_ids, condition, by_domain)
        n_sequences, n_residues, n_known = self._all(query)[0]
        return SearchedSize(n_sequences, n_residues, n_sequences - n_known)

    def n_by_locus(
        self, space_ids: Sequence[int], condition: Condition | None = None, *, by_domain: bool = False
    ) -> dict[str, int]:
        """Count the sequences that `searched_size` counts by their locus; '' for those without one."""
        locus = func.coalesce(locus_column(by_domain), "")
        query = _of_searched((locus, func.count()), space_ids, condition, by_domain).group_by(locus)
        return {row[0]: row[1] for row in self._all(query)}

    def spaces(self) -> list[StoredSpace]:
        """Return the embedding spaces, the default first."""
        c, n_vectors = t.spaces.c, func.coalesce(func.sum(t.segments.c.n_vectors), 0)
        query = (
            select(c.id, c.spec, c.is_default, c.is_complete, n_vectors)
            .select_from(t.spaces.outerjoin(t.segments))
            .group_by(c.id)
            .order_by(c.is_default.desc(), c.id)
        )
        return [
            StoredSpace(row[0], EmbeddingSpec.from_json(row[1]), bool(row[2]), bool(row[3]), row[4])
            for row in self._all(query)
        ]

    def transforms(self) -> dict[int, StoredTransform]:
        """Return the transforms of all spaces, by id."""
        c = t.transforms.c
        found = {}
        for row in self._all(select(c.id, c.space_id, c.facts, c.data).order_by(c.id)):
            version = int(json.loads(row[2])["version"])
            found[row[0]] = StoredTransform(row[0], row[1], version, Transform.from_bytes(row[3]))
        return found

    def rankings(self) -> list[StoredRanking]:
        """Return what can be searched, the default first."""
        r, p = t.rankings.c, t.ranking_parts.c
        spaces = {s.space_id: s for s in self.spaces()}
        transforms = self.transforms()
        parts: dict[int, list[RankingPart]] = {}
        query = select(p.ranking_id, p.space_id, p.weight, p.transform_id)
        for row in self._all(query.order_by(p.ranking_id, p.position)):
            transform = None if row[3] is None else transforms[row[3]]
            parts.setdefault(row[0], []).append(RankingPart(spaces[row[1]], row[2], transform))
        return [
            StoredRanking(row[0], row[1], tuple(parts[row[0]]), bool(row[2]), bool(row[3]))
            for row in self._all(
                select(r.id, r.name, r.is_default, r.keeps_files).order_by(r.is_default.desc(), r.id)
            )
        ]

    def segments(self, space_id: int) -> list[StoredSegment]:
        """Return the vector files of a space with what is derived from them, oldest first."""
        s, d = t.segments.c, t.derived_files.c
        of_space = select(s.id).where(s.space_id == space_id)
        columns = (d.segment_id, d.ranking_id, d.file, d.size_bytes, d.digest, d.mtime_ns, d.inode)
        derived: dict[int, dict[int, DerivedFile]] = {}
        for row in self._all(select(*columns).where(d.segment_id.in_(of_space))):
            derived.setdefault(row[0], {})[row[1]] = DerivedFile(row[1], row[2], FileStamp(*row[3:7]))
        query = select(s.id, s.file, s.n_vectors, s.size_bytes, s.digest, s.mtime_ns, s.inode)
        return [
            StoredSegment(row[0], row[1], row[2], FileStamp(*row[3:7]), derived.get(row[0], {}))
            for row in self._all(query.where(s.space_id == space_id).order_by(s.id))
        ]

    def index_of(self, ranking_id: int) -> StoredIndex | None:
        """Return the approximate index of a ranking, if it has one."""
        found = [i for i in self.indexes() if i.ranking_id == ranking_id]
        return found[0] if found else None

    def indexes(self) -> list[StoredIndex]:
        """Return the approximate indexes of all rankings."""
        return [
            StoredIndex(row[0], row[1], FileStamp(*row[2:6]), IndexFacts.from_json(row[6]))
            for row in self._all(select(t.indexes))
        ]

    def nulls(self, ranking_id: int) -> list[StoredNull]:
        """Return what is stored of the null distributions of a ranking, in order of locus."""
        c = t.nulls.c
        query = select(c.ranking_id, c.locus, c.facts, c.data).where(c.ranking_id == ranking_id)
        return [StoredNull(*row) for row in self._all(query.order_by(c.locus))]

    def derived_files(self) -> set[str]:
        """Return the names of all files in ``derived/`` that the catalog knows."""
        files = [t.derived_files.c.file, t.indexes.c.file]
        return {row[0] for file in files for row in self._all(select(file))}

    def lacks_derived_files(self) -> bool:
        """Tell whether a segment has no derived file for a ranking whose first space is its own."""
        s, p, d = t.segments.c, t.ranking_parts.c, t.derived_files.c
        wanted = t.segments.join(t.ranking_parts, (p.space_id == s.space_id) & (p.position == 0))
        joined = wanted.outerjoin(t.derived_files, (d.segment_id == s.id) & (d.ranking_id == p.ranking_id))
        query = select(func.count()).select_from(joined).where(d.file.is_(None))
        return bool(self._scalar(query))

    def loci(self, sequence_ids: Iterable[int], *, by_domain: bool = False) -> dict[int, str]:
        """Return the loci of sequences, or of domains, by id; those nobody has looked at are absent."""
        c, locus = t.sequences.c, locus_column(by_domain)
        wanted = func.json_each(json.dumps(list(sequence_ids))).table_valued("value").c.value
        query = select(c.id, locus).where(c.id.in_(select(wanted)))
        return {row[0]: row[1] for row in self._plain(query) if row[1] is not None}

    def sequences_of_locus(self, locus: str, *, by_domain: bool = False) -> Int1D:
        """Return the ids of the sequences, or domains, that are known to be of a locus, rising."""
        c = t.sequences.c
        query = select(c.id).where(locus_column(by_domain) == locus).order_by(c.id)
        with self.begin() as connection:
            return np.fromiter(connection.execute(query).scalars(), dtype=np.int64)

    def sequences_without_locus(self, space_id: int, limit: int) -> list[tuple[int, str]]:
        """Return (id, residues) of sequences with a vector in a space whose locus nobody has looked at."""
        c, v = t.sequences.c, t.vectors.c
        has_vector = select(v.sequence_id).where(v.space_id == space_id, v.sequence_id == c.id).exists()
        query = select(c.id, c.residues).where(c.locus.is_(None), has_vector)
        return [(row[0], row[1]) for row in self._all(query.order_by(c.id).limit(limit))]

    def segment_files(self) -> set[str]:
        """Return the names of all vector files that are part of the database."""
        return {row[0] for row in self._all(select(t.segments.c.file))}

    def records_by_id(self, record_ids: Iterable[str]) -> dict[str, StoredRecord]:
        """Return the live records that have these ids; ids without one are absent."""
        found = self._in(select_records(), t.records.c.record_id, record_ids)
        return {record.record_id: record for record in stored_records(found)}

    def records_of_sequences(
        self, sequence_ids: Iterable[int], condition: Condition | None = None, *, by_domain: bool = False
    ) -> dict[int, list[StoredRecord]]:
        """Return the live records of each sequence that meet a condition, in order of insertion.

        The records of a domain, if `by_domain`, have it as `StoredRecord.domain`; a record that holds it
        twice comes twice.
        """
        if by_domain:
            return self._records_of_domains(sequence_ids, condition)
        # One parameter for all ids: a long IN list is compiled anew, and answered in slices.
        wanted = func.json_each(json.dumps(sorted(sequence_ids))).table_valued("value").c.value
        query = select_records().where(t.records.c.sequence_id.in_(select(wanted)))
        if condition is None:
            rows: Iterable[Sequence[Any]] = self._plain(query)
        else:
            # Asked of each record, not in WHERE: SQLite would read all that an index of a column gives.
            found = self._plain(query.add_columns(sql_condition(condition)))
            rows = (row[:-1] for row in found if row[-1])
        by_sequence: dict[int, list[StoredRecord]] = {}
        for record in stored_records(rows):
            by_sequence.setdefault(record.sequence_id, []).append(record)
        for same in by_sequence.values():
            if len(same) > 1:
                same.sort(key=lambda record: record.key)
        return by_sequence

    def _records_of_domains(
        self, sequence_ids: Iterable[int], condition: Condition | None
    ) -> dict[int, list[StoredRecord]]:
        found = self.domains_of_sequences(sequence_ids)
        records = self.records_of_sequences({d.source_id for d in found}, condition)
        by_sequence: dict[int, list[StoredRecord]] = {}
        for domain in found:
            for record in records.get(domain.source_id, ()):
                by_sequence.setdefault(domain.sequence_id, []).append(record._replace(domain=domain))
        for same in by_sequence.values():
            if len(same) > 1:
                same.sort(key=lambda record: (record.key, record.domain.number if record.domain else 0))
        return by_sequence

    def last_records(
        self, sequence_ids: Iterable[int], before: int, *, by_domain: bool = False
    ) -> dict[int, int]:
        """Return the largest key below `before` of the live records of each sequence, or each domain."""
        c, d = t.records.c, t.domains.c
        if by_domain:
            joined = t.domains.join(t.records, c.sequence_id == d.source_id)
            of_domain = select(d.sequence_id, func.max(c.key)).select_from(joined)
            of_domain = of_domain.where(c.deleted.is_(None), c.key < before).group_by(d.sequence_id)
            return {row[0]: row[1] for row in self._in(of_domain, d.sequence_id, sequence_ids)}
        query = select(c.sequence_id, func.max(c.key)).where(c.deleted.is_(None), c.key < before)
        return {
            row[0]: row[1] for row in self._in(query.group_by(c.sequence_id), c.sequence_id, sequence_ids)
        }

    def dead_sequences(self, *, by_domain: bool = False) -> list[int]:
        """Return the ids of sequences that only deleted records point to, or hold as a domain."""
        if by_domain:
            return self._dead_domains()
        r, live = t.records.c, t.records.alias("live").c
        has_live = select(live.key).where(live.sequence_id == r.sequence_id, live.deleted.is_(None))
        query = select(r.sequence_id).where(r.deleted.is_not(None), ~has_live.exists()).distinct()
        return [row[0] for row in self._all(query)]

    def all_records(
        self, condition: Condition | None = None, n_at_once: int = 1000
    ) -> Iterator[StoredRecord]:
        """Yield every live record that meets a condition in order of insertion, page by page."""
        last = 0
        while True:
            query = (
                select_records(condition)
                .where(t.records.c.key > last)
                .order_by(t.records.c.key)
                .limit(n_at_once)
            )
            page = list(stored_records(self._all(query)))
            if not page:
                return
            yield from page
            last = page[-1].key

    def similar_ids(self, record_id: str, limit: int = 500) -> list[str]:
        """Return ids that begin like this one, to suggest a spelling."""
        prefix = record_id[: max(1, len(record_id) // 2)]
        condition = t.records.c.record_id.startswith(prefix, autoescape=True)
        query = select(t.records.c.record_id).where(condition, t.records.c.deleted.is_(None)).limit(limit)
        return [row[0] for row in self._all(query)]

    def addresses(self) -> Iterator[str]:
        """Yield the ids of live records that end in ``#`` and a number, as that of a variable domain does."""
        c, last = t.records.c, ""
        like = [func.glob("?*#[1-9]*", c.record_id) == 1, c.deleted.is_(None)]
        while True:
            query = select(c.record_id).where(*like, c.record_id > last).order_by(c.record_id).limit(1000)
            page = [row[0] for row in self._all(query)]
            yield from (name for name in page if name.rpartition("#")[2].isdecimal())
            if len(page) < 1000:
                return
            last = page[-1]

    def sequence_ids(self, hashes: Iterable[bytes]) -> dict[bytes, int]:
        """Return the ids of the sequences that are stored, by raw hash."""
        c = t.sequences.c
        return {row[0]: row[1] for row in self._in(select(c.hash, c.id), c.hash, hashes)}

    def residues(self, sequence_ids: Iterable[int]) -> dict[int, str]:
        """Return the residues of sequences, by id."""
        c = t.sequences.c
        return {row[0]: row[1] for row in self._in(select(c.id, c.residues), c.id, sequence_ids)}

    def vector_places(self, space_id: int, sequence_ids: Iterable[int]) -> dict[int, tuple[int, int]]:
        """Return (segment id, row) of each sequence that has a vector in the space."""
        c = t.vectors.c
        query = select(c.sequence_id, c.segment_id, c.row).where(c.space_id == space_id)
        return {row[0]: (row[1], row[2]) for row in self._in(query, c.sequence_id, sequence_ids)}

    def sequences_without_vector(self, space_id: int, limit: int) -> list[tuple[int, str]]:
        """Return (id, residues) of live and known sequences that a space of chains lacks, in order of id."""
        c, v = t.sequences.c, t.vectors.c
        has_vector = select(v.sequence_id).where(v.space_id == space_id, v.sequence_id == c.id).exists()
        live = select(t.records.c.key).where(t.records.c.sequence_id == c.id, t.records.c.deleted.is_(None))
        query = select(c.id, c.residues, c.hash).where(
            ~has_vector, c.residues != "", c.residues.not_like(f"%{CHAIN_SEPARATOR}%"), live.exists()
        )
        return [(row[0], whole_residues(*row)) for row in self._all(query.order_by(c.id).limit(limit))]

    def n_without_vector(self, space_id: int) -> int:
        """Count live and known sequences that a space lacks, or domains that have its region."""
        if self.has_every_vector(space_id):
            return 0
        c, v, s, d = t.records.c, t.vectors.c, t.sequences.c, t.domains.c
        if self._reads_domains(space_id=space_id):
            lacking = self._lacking_domain(space_id)
            query = select(func.count(d.sequence_id.distinct())).where(*lacking)
            return int(self._scalar(query)) + self._n_without_domains()
        has_vector = select(v.sequence_id).where(v.space_id == space_id, v.sequence_id == c.sequence_id)
        query = (
            select(func.count(c.sequence_id.distinct()))
            .select_from(t.records.join(t.sequences))
            .where(
                c.deleted.is_(None),
                s.residues != "",
                s.residues.not_like(f"%{CHAIN_SEPARATOR}%"),
                ~has_vector.exists(),
            )
        )
        return int(self._scalar(query))

    def has_every_vector(self, space_id: int) -> bool:
        """Tell whether each sequence has a vector in a space, by counting: no sequence has two."""
        vectors = select(func.count()).where(t.vectors.c.space_id == space_id)
        sequences = select(func.count()).select_from(t.sequences)
        return bool(self._scalar(select(vectors.scalar_subquery() == sequences.scalar_subquery())))

    def n_records_with_vector(self, space_id: int, condition: Condition | None = None) -> int:
        """Count live records that have a vector in a space and meet a condition, once for each domain."""
        c, v, d = t.records.c, t.vectors.c, t.domains.c
        joined = t.records.join(t.vectors, v.sequence_id == c.sequence_id)
        if self._reads_domains(space_id=space_id):
            of_source = t.records.join(t.domains, d.source_id == c.sequence_id)
            joined = of_source.join(t.vectors, v.sequence_id == d.sequence_id)
        query = select(func.count()).select_from(joined).where(*live(condition), v.space_id == space_id)
        return int(self._scalar(query))

    def metadata_columns(self) -> dict[str, str]:
        """Return the type of each metadata column, in the order the columns were first seen."""
        c = t.metadata_columns.c
        return {row[0]: row[1] for row in self._all(select(c.name, c.type).order_by(c.position))}

    def derived_columns(self) -> dict[str, Kind]:
        """Return the type of each derived column that there is; a name that metadata have is left out."""
        has_domains = bool(self._scalar(select(select(t.domains.c.number).exists())))
        return derived_columns(self.metadata_columns(), has_domains=has_domains)

    def indexed_columns(self) -> set[str]:
        """Return the names of the metadata columns that have an index."""
        with self.begin() as connection:
            return indexed_columns(connection)

    def runs(self) -> list[RunRow]:
        """Return all runs, oldest first."""
        return [RunRow(*row) for row in self._all(select(t.runs).order_by(t.runs.c.id))]

    def run_inputs(self, run_id: int) -> list[dict[str, Any]]:
        """Return the inputs of a run: number, name, format, size and SHA-256."""
        query = select(t.run_inputs).where(t.run_inputs.c.run_id == run_id)
        return [dict(row._mapping) for row in self._all(query.order_by(t.run_inputs.c.input))]

    def ledger(self, run_id: int) -> Iterator[tuple[LedgerRow, str | None]]:
        """Yield what became of each input row of a run, and the id of its record, in input order."""
        c, r = t.ledger.c, t.records.c
        columns = (c.input, c.row, c.input_id, c.outcome, c.record_key, c.reason, c.notes, r.record_id)
        place = (-1, -1)
        while True:
            after = (c.input > place[0]) | ((c.input == place[0]) & (c.row > place[1]))
            joined = t.ledger.outerjoin(t.records, r.key == c.record_key)
            query = select(*columns).select_from(joined).where(c.run_id == run_id, after)
            page = [
                (LedgerRow(row[0], row[1], row[2], row[3], row[4], row[5] or "", row[6] or ""), row[7])
                for row in self._all(query.order_by(c.input, c.row).limit(1000))
            ]
            if not page:
                return
            yield from page
            place = (page[-1][0].input, page[-1][0].row)


def _of_searched(
    columns: Sequence[ColumnElement[Any]],
    space_ids: Sequence[int],
    condition: Condition | None,
    by_domain: bool,
) -> AnySelect:
    """Select from the sequences of live records that meet a condition and have a vector in each space."""
    s, v = t.sequences.c, t.vectors.c
    wanted = select(t.records.c.sequence_id).where(*live(condition))
    if by_domain:
        wanted = select(t.domains.c.sequence_id).where(t.domains.c.source_id.in_(wanted))
    has_vectors = [
        select(v.sequence_id).where(v.space_id == i, v.sequence_id == s.id).exists() for i in space_ids
    ]
    return select(*columns).select_from(t.sequences).where(s.id.in_(wanted), *has_vectors)
