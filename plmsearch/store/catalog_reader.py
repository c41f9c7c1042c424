"""Every question to the catalog; `plmsearch.store.repository` has its changes. SQL is nowhere else but in
`plmsearch.store.audit` and the expressions of `plmsearch.store.conditions`.

A reader holds no transaction between calls: each method opens one and ends it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np
from sqlalchemy import ColumnElement, Connection, Engine, Row, Select, func, literal, or_, select
from sqlalchemy.exc import DBAPIError

from plmsearch.domains import CHAIN_SEPARATOR, REGION_SETS
from plmsearch.embedding.spec import EmbeddingSpec
from plmsearch.errors import StorageError
from plmsearch.filters.derived import derived_columns
from plmsearch.filters.tree import Condition, Kind
from plmsearch.numbering import REGIONS
from plmsearch.slices import slices
from plmsearch.store import tables as t
from plmsearch.store.column_indexes import (
    indexed_columns,
)
from plmsearch.store.conditions import sql_condition
from plmsearch.store.connection import sqlite_module
from plmsearch.store.rankings import RankingPart, StoredRanking, StoredSpace, StoredTransform
from plmsearch.store.rows import (
    Counters,
    DerivedFile,
    IndexFacts,
    LedgerRow,
    ReceptorRow,
    RunRow,
    SearchedSize,
    StoredDomain,
    StoredIndex,
    StoredMetadata,
    StoredNull,
    StoredRecord,
    StoredSegment,
)
from plmsearch.store.segments import FileStamp
from plmsearch.transform import Transform
from plmsearch.types import Int1D

__all__ = ["IN_LIST", "AnySelect", "CatalogReader"]

AnyRow: TypeAlias = "Row[*tuple[Any, ...]]"
AnySelect: TypeAlias = "Select[*tuple[Any, ...]]"

#: Values of one IN list; SQLite's default limit on bound parameters was 999 before 3.32.
IN_LIST = 900

#: Records whose domains are read at once: about 500 bytes each.
_KEYS_AT_ONCE = 50_000


class CatalogReader:
    """The catalog behind an engine, for reading.

    Parameters
    ----------
    engine : Engine
        What `plmsearch.store.connection.open_catalog` returned.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """Run one transaction; what the database refuses becomes a `StorageError`."""
        try:
            with self._engine.begin() as connection:
                yield connection
        except DBAPIError as exc:
            raise StorageError("catalog.sqlite", str(exc.orig)) from exc
        except UnicodeDecodeError as exc:  # pages have no checksums: a flipped bit is read as it lies
            raise StorageError(
                "catalog.sqlite", "it holds text that is not UTF-8", hint="restore it from a backup"
            ) from exc
        except UnicodeEncodeError as exc:  # such as half of a surrogate pair, from a file name or argument
            reason = f"{exc.object!r} is no valid Unicode and cannot be stored or looked up"
            raise StorageError("catalog.sqlite", reason) from exc

    # --- Reading ---------------------------------------------------------------------------------

    def generation(self) -> int:
        """Return the number of commits so far."""
        return int(self._scalar(select(t.state.c.generation)))

    def n_records(self, condition: Condition | None = None) -> int:
        """Count live records, or those that meet a condition."""
        return int(self._scalar(select(func.count()).select_from(t.records).where(*_live(condition))))

    def matching_sequences(self, condition: Condition, *, by_domain: bool = False) -> tuple[Int1D, int]:
        """Return the sequences of the live records that meet a condition, or those of their domains.

        Returns
        -------
        sequence_ids : ndarray, dtype=int64, shape=(n,)
            Rising.
        n_records : int
        """
        query = select(t.records.c.sequence_id).where(*_live(condition))
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
        locus = func.coalesce(t.sequences.c.locus, "")
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
            StoredRanking(row[0], row[1], tuple(parts[row[0]]), bool(row[2]))
            for row in self._all(select(r.id, r.name, r.is_default).order_by(r.is_default.desc(), r.id))
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

    def loci(self, sequence_ids: Iterable[int]) -> dict[int, str]:
        """Return the loci of sequences, by id; those nobody has looked at are absent."""
        c = t.sequences.c
        wanted = func.json_each(json.dumps(list(sequence_ids))).table_valued("value").c.value
        query = select(c.id, c.locus).where(c.locus.is_not(None), c.id.in_(select(wanted)))
        return dict(self._plain(query))

    def sequences_of_locus(self, locus: str) -> Int1D:
        """Return the ids of the sequences that are known to be of a locus, rising."""
        c = t.sequences.c
        with self.begin() as connection:
            found = connection.execute(select(c.id).where(c.locus == locus).order_by(c.id)).scalars()
            return np.fromiter(found, dtype=np.int64)

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
        found = self._in(_select_records(), t.records.c.record_id, record_ids)
        return {record.record_id: record for record in _stored_records(found)}

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
        query = _select_records().where(t.records.c.sequence_id.in_(select(wanted)))
        if condition is None:
            rows: Iterable[Sequence[Any]] = self._plain(query)
        else:
            # Asked of each record, not in WHERE: SQLite would read all that an index of a column gives.
            found = self._plain(query.add_columns(sql_condition(condition)))
            rows = (row[:-1] for row in found if row[-1])
        by_sequence: dict[int, list[StoredRecord]] = {}
        for record in _stored_records(rows):
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

    def domains_of_sequences(self, sequence_ids: Iterable[int]) -> list[StoredDomain]:
        """Return where sequences are domains of others, or of themselves."""
        wanted = func.json_each(json.dumps(sorted(sequence_ids))).table_valued("value").c.value
        query = select(t.domains).where(t.domains.c.sequence_id.in_(select(wanted)))
        return [StoredDomain.from_values(row) for row in self._plain(query)]

    def domains(self, source_ids: Iterable[int]) -> dict[int, list[StoredDomain]]:
        """Return the variable domains of sequences, in order of place; of those nobody looked at, none."""
        d, s = t.domains.c, t.sequences.c
        wanted = func.json_each(json.dumps(sorted(source_ids))).table_valued("value").c.value
        looked_at = select(s.id).where(s.n_domains.is_not(None), s.id.in_(select(wanted)))
        found: dict[int, list[StoredDomain]] = {row[0]: [] for row in self._plain(looked_at)}
        query = select(t.domains).where(d.source_id.in_(select(wanted))).order_by(d.source_id, d.number)
        for row in self._plain(query):
            found[row[0]].append(StoredDomain.from_values(row))
        return found

    def receptor_rows(self, condition: Condition | None = None) -> Iterator[ReceptorRow]:
        """Yield the variable domains of the live records that meet a condition, in order of insertion."""
        r, d, s = t.records.c, t.domains.c, t.sequences.c
        cdr3 = func.substr(s.residues, d.fwr3_end + 1, d.cdr3_end - d.fwr3_end)
        calls = [func.json_extract(r.metadata, f"$.{name}") for name in ("v_call", "j_call")]
        joined = t.records.join(t.domains, d.source_id == r.sequence_id)
        joined = joined.join(t.sequences, s.id == d.sequence_id)
        columns = (r.key, d.source_id, d.number, d.sequence_id, d.locus, cdr3, *calls, d.v_call, d.j_call)
        query = select(*columns).select_from(joined).where(*_live(condition)).order_by(r.key, d.number)
        for first in range(0, self.counters().record_key, _KEYS_AT_ONCE):
            of_page = query.where(r.key >= first, r.key < first + _KEYS_AT_ONCE)
            yield from map(ReceptorRow._make, self._plain(of_page))

    def has_domains(self) -> bool:
        """Tell whether any variable domain is stored."""
        return bool(self._scalar(select(select(t.domains.c.number).exists())))

    def has_several_domains(self) -> bool:
        """Tell whether a sequence has more than one variable domain."""
        return bool(self._scalar(select(select(t.domains.c.number).where(t.domains.c.number > 1).exists())))

    def n_not_looked_at(self) -> int:
        """Count live and known sequences whose variable domains nobody has looked for."""
        return self._n_without_domains()

    def most_domains(self, *, by_locus: bool) -> int:
        """Return how many variable domains (of one locus) a sequence has at most; 1 if none has any."""
        d = t.domains.c
        of_locus = select(func.count().label("n")).where(
            d.source_id.in_(select(d.source_id).where(d.number > 1))
        )
        alike = (d.source_id, d.locus) if by_locus else (d.source_id,)
        counts = of_locus.group_by(*alike).subquery()
        return max(1, int(self._scalar(select(func.coalesce(func.max(counts.c.n), 1)))))

    def domains_of_records(self) -> tuple[dict[str, int], int]:
        """Count the variable domains of live records by locus, and the records that have none."""
        r, d = t.records.c, t.domains.c
        joined = t.records.join(t.domains, d.source_id == r.sequence_id)
        by_locus = select(d.locus, func.count()).select_from(joined).where(r.deleted.is_(None))
        has_domain = select(d.number).where(d.source_id == r.sequence_id).exists()
        without = select(func.count()).select_from(t.records).where(r.deleted.is_(None), ~has_domain)
        found = self._all(by_locus.group_by(d.locus).order_by(d.locus))
        return {row[0]: row[1] for row in found}, int(self._scalar(without))

    def sequences_without_domains(self, limit: int) -> list[tuple[int, str]]:
        """Return (id, residues) of live and known sequences whose domains nobody has looked for."""
        c, r = t.sequences.c, t.records.c
        live = select(r.key).where(r.sequence_id == c.id, r.deleted.is_(None)).exists()
        query = select(c.id, c.residues, c.hash).where(c.n_domains.is_(None), c.residues != "", live)
        return [(row[0], _whole(*row)) for row in self._all(query.order_by(c.id).limit(limit))]

    def sequences_without_genes(self, limit: int) -> list[tuple[int, str]]:
        """Return (id, residues) of live sequences with a domain of which genes were not looked for."""
        c, r, d = t.sequences.c, t.records.c, t.domains.c
        live = select(r.key).where(r.sequence_id == c.id, r.deleted.is_(None)).exists()
        lacking = select(d.source_id).where(d.v_call.is_(None))
        query = select(c.id, c.residues, c.hash).where(c.id.in_(lacking), live)
        return [(row[0], _whole(*row)) for row in self._all(query.order_by(c.id).limit(limit))]

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

    def _dead_domains(self) -> list[int]:
        r, d = t.records.c, t.domains.c
        other, live = t.domains.alias("other").c, t.records.alias("live").c
        with_live = select(live.key).where(
            other.sequence_id == d.sequence_id, live.sequence_id == other.source_id, live.deleted.is_(None)
        )
        joined = t.domains.join(t.records, r.sequence_id == d.source_id)
        query = select(d.sequence_id).select_from(joined).where(r.deleted.is_not(None), ~with_live.exists())
        return [row[0] for row in self._all(query.distinct())]

    def all_records(
        self, condition: Condition | None = None, n_at_once: int = 1000
    ) -> Iterator[StoredRecord]:
        """Yield every live record that meets a condition in order of insertion, page by page."""
        last = 0
        while True:
            query = (
                _select_records(condition)
                .where(t.records.c.key > last)
                .order_by(t.records.c.key)
                .limit(n_at_once)
            )
            page = list(_stored_records(self._all(query)))
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
        return [(row[0], _whole(*row)) for row in self._all(query.order_by(c.id).limit(limit))]

    def domains_without_vector(self, space_id: int, limit: int) -> list[tuple[int, str, tuple[int, ...]]]:
        """Return (id, residues, ends of regions) of live domains that a space lacks."""
        s, d = t.sequences.c, t.domains.c
        ends = [d[f"{region}_end"] for region in REGIONS]
        joined = t.domains.join(t.sequences, s.id == d.sequence_id)
        query = select(d.sequence_id, s.residues, s.hash, *ends).select_from(joined)
        query = query.where(*self._lacking_domain(space_id)).group_by(d.sequence_id)
        rows = self._all(query.order_by(d.sequence_id).limit(limit))
        return [(row[0], _whole(*row[:3]), tuple(row[3:])) for row in rows]

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

    def _n_without_domains(self) -> int:
        """Count live and known sequences whose domains nobody has looked for."""
        c, r = t.sequences.c, t.records.c
        live = select(r.key).where(r.sequence_id == c.id, r.deleted.is_(None)).exists()
        query = select(func.count()).select_from(t.sequences)
        return int(self._scalar(query.where(c.n_domains.is_(None), c.residues != "", live)))

    def _lacking_domain(self, space_id: int) -> list[ColumnElement[bool]]:
        """Return what holds for a domain with a live record and the region of a space that has no vector."""
        d, v, r = t.domains.c, t.vectors.c, t.records.c
        (spec,) = [s.spec for s in self.spaces() if s.space_id == space_id]
        live = select(r.key).where(r.sequence_id == d.source_id, r.deleted.is_(None)).exists()
        has_vector = select(v.sequence_id).where(v.space_id == space_id, v.sequence_id == d.sequence_id)
        starts = dict(
            zip(REGIONS, [literal(0), *(d[f"{region}_end"] for region in REGIONS[:-1])], strict=True)
        )
        has_region = [d[f"{region}_end"] > starts[region] for region in REGION_SETS[spec.region]]
        return [live, ~has_vector.exists(), or_(*has_region)]

    def _reads_domains(self, *, space_id: int | None = None, segment_id: int | None = None) -> bool:
        """Tell whether a space, or that of a segment, reads variable domains."""
        c = t.spaces.c
        query = select(c.spec).where(c.id == space_id)
        if segment_id is not None:
            of_segment = select(t.segments.c.space_id).where(t.segments.c.id == segment_id)
            query = select(c.spec).where(c.id.in_(of_segment))
        return any(EmbeddingSpec.from_json(row[0]).reads_domains for row in self._all(query))

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
        query = select(func.count()).select_from(joined).where(*_live(condition), v.space_id == space_id)
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

    def counters(self) -> Counters:
        """Return the next free ids. Only the holder of the lock may use them."""
        c = t.state.c
        row = self._all(select(c.next_sequence_id, c.next_record_key, c.next_segment_id))[0]
        return Counters(*row)

    # --- Helpers ---------------------------------------------------------------------------------

    def _scalar(self, query: AnySelect) -> Any:
        with self.begin() as connection:
            return connection.execute(query).scalar_one()

    def _all(self, query: AnySelect) -> Sequence[AnyRow]:
        with self.begin() as connection:
            return connection.execute(query).all()

    def _plain(self, query: AnySelect) -> list[tuple[Any, ...]]:
        """Return rows as the driver gives them, without SQLAlchemy's class around each."""
        with self.begin() as connection:
            cursor = connection.execute(query).cursor
            try:
                return [] if cursor is None else list(cursor.fetchall())
            except sqlite_module().Error as exc:  # SQLAlchemy does not see it
                raise StorageError("catalog.sqlite", str(exc)) from exc

    def _in(self, query: AnySelect, column: ColumnElement[Any], values: Iterable[Any]) -> list[AnyRow]:
        """Run a query once per slice of a long IN list, in one transaction."""
        rows: list[AnyRow] = []
        with self.begin() as connection:
            for part in slices(values, IN_LIST):
                rows.extend(connection.execute(query.where(column.in_(part))).all())
        return rows


def _live(condition: Condition | None = None) -> list[ColumnElement[bool]]:
    live = t.records.c.deleted.is_(None)
    return [live] if condition is None else [live, sql_condition(condition)]


def _of_searched(
    columns: Sequence[ColumnElement[Any]],
    space_ids: Sequence[int],
    condition: Condition | None,
    by_domain: bool,
) -> AnySelect:
    """Select from the sequences of live records that meet a condition and have a vector in each space."""
    s, v = t.sequences.c, t.vectors.c
    wanted = select(t.records.c.sequence_id).where(*_live(condition))
    if by_domain:
        wanted = select(t.domains.c.sequence_id).where(t.domains.c.source_id.in_(wanted))
    has_vectors = [
        select(v.sequence_id).where(v.space_id == i, v.sequence_id == s.id).exists() for i in space_ids
    ]
    return select(*columns).select_from(t.sequences).where(s.id.in_(wanted), *has_vectors)


def _select_records(condition: Condition | None = None) -> AnySelect:
    r, s = t.records.c, t.sequences.c
    return (
        select(r.key, r.record_id, r.sequence_id, r.description, r.metadata, s.residues, s.hash)
        .select_from(t.records.join(t.sequences))
        .where(*_live(condition))
    )


def _stored_records(rows: Iterable[Sequence[Any]]) -> Iterator[StoredRecord]:
    """Yield the records of `_select_records`; residues are checked once for neighbours that share them."""
    last, whole, hash_hex = -1, "", ""
    for key, record_id, sequence_id, description, metadata, residues, hash_bytes in rows:
        if sequence_id != last:
            last, whole, hash_hex = sequence_id, _whole(sequence_id, residues, hash_bytes), hash_bytes.hex()
        metadata_read = StoredMetadata(metadata)
        yield StoredRecord(key, record_id, sequence_id, description, metadata_read, whole, hash_hex)


def _whole(sequence_id: int, residues: str, hash_bytes: bytes) -> str:
    """Return residues that are what was stored: SQLite would hand out a flipped bit as it lies."""
    if residues and hashlib.sha256(residues.encode()).digest() != hash_bytes:
        reason = f"the residues of sequence {sequence_id} do not have the hash that is stored"
        raise StorageError("catalog.sqlite", reason, hint="restore it from a backup")
    return residues
