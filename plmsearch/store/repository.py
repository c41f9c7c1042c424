"""Every question to, and every change of, the catalog: the only file with SQL.

A reader holds no transaction between calls: each method opens one and ends it. A writer holds the
directory's lock (`plmsearch.store.lock`) around everything that reads in order to write.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, TypeAlias

import numpy as np
from sqlalchemy import ColumnElement, Connection, Engine, Row, Select, delete, func, insert, select, update
from sqlalchemy.exc import DBAPIError

from plmsearch.embedding.spec import EmbeddingSpec
from plmsearch.errors import StorageError
from plmsearch.filters.tree import Condition
from plmsearch.slices import slices
from plmsearch.store import tables as t
from plmsearch.store.column_indexes import (
    drop_column_indexes,
    indexed_columns,
    make_column_indexes,
    remake_column_index,
)
from plmsearch.store.conditions import sql_condition
from plmsearch.store.rows import (
    Chunk,
    Counters,
    IndexFacts,
    LedgerRow,
    NewSegment,
    RunRow,
    SearchedSize,
    StoredIndex,
    StoredRecord,
    StoredSegment,
    StoredSpace,
    VectorRow,
)
from plmsearch.store.segments import FileStamp
from plmsearch.types import Int1D

__all__ = ["Repository"]

AnyRow: TypeAlias = "Row[*tuple[Any, ...]]"
AnySelect: TypeAlias = "Select[*tuple[Any, ...]]"

#: Values of one IN list; SQLite's default limit on bound parameters was 999 before 3.32.
_IN_LIST = 900
_INSERTED_AT_ONCE = 10_000


class Repository:
    """The catalog behind an engine.

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

    def matching_sequences(self, condition: Condition) -> tuple[Int1D, int]:
        """Return the sequences of the live records that meet a condition.

        Returns
        -------
        sequence_ids : ndarray, dtype=int64, shape=(n,)
            Rising.
        n_records : int
        """
        query = select(t.records.c.sequence_id).where(*_live(condition))
        with self.begin() as connection:
            found = np.fromiter(connection.execute(query).scalars(), dtype=np.int64)
        return np.unique(found), len(found)

    def n_sequences(self) -> int:
        """Count distinct sequences that a live record points to."""
        live = t.records.c.deleted.is_(None)
        return int(self._scalar(select(func.count(t.records.c.sequence_id.distinct())).where(live)))

    def n_residues(self) -> int:
        """Sum the residues of the distinct sequences."""
        return int(self._scalar(select(func.coalesce(func.sum(t.sequences.c.n_residues), 0))))

    def searched_size(self, space_id: int, condition: Condition | None = None) -> SearchedSize:
        """Measure what a search of a space compares with: sequences of live records that meet a condition."""
        s, v = t.sequences.c, t.vectors.c
        wanted = select(t.records.c.sequence_id).where(*_live(condition))
        query = (
            select(
                func.count(),
                func.coalesce(func.sum(s.n_residues), 0),
                func.count(func.nullif(s.n_residues, 0)),
            )
            .select_from(t.sequences.join(t.vectors, v.sequence_id == s.id))
            .where(v.space_id == space_id, s.id.in_(wanted))
        )
        n_sequences, n_residues, n_known = self._all(query)[0]
        return SearchedSize(n_sequences, n_residues, n_sequences - n_known)

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

    def segments(self, space_id: int) -> list[StoredSegment]:
        """Return the vector files of a space, oldest first."""
        s, a = t.segments.c, t.artifacts.c
        query = (
            select(
                s.id, s.file, s.n_vectors, s.size_bytes, s.digest, s.mtime_ns, s.inode,
                a.file, a.size_bytes, a.digest, a.mtime_ns, a.inode,
            )
            .select_from(t.segments.outerjoin(t.artifacts, (a.segment_id == s.id) & (a.kind == "unit")))
            .where(s.space_id == space_id)
            .order_by(s.id)
        )  # fmt: skip
        return [
            StoredSegment(
                row[0], row[1], row[2], FileStamp(*row[3:7]),
                row[7], None if row[7] is None else FileStamp(*row[8:12]),
            )
            for row in self._all(query)
        ]  # fmt: skip

    def index_of(self, space_id: int) -> StoredIndex | None:
        """Return the approximate index of a space, if it has one."""
        found = [i for i in self.indexes() if i.space_id == space_id]
        return found[0] if found else None

    def indexes(self) -> list[StoredIndex]:
        """Return the approximate indexes of all spaces."""
        return [
            StoredIndex(row[0], row[1], FileStamp(*row[2:6]), IndexFacts.from_json(row[6]))
            for row in self._all(select(t.indexes))
        ]

    def segment_files(self) -> set[str]:
        """Return the names of all vector files that are part of the database."""
        return {row[0] for row in self._all(select(t.segments.c.file))}

    def records_by_id(self, record_ids: Iterable[str]) -> dict[str, StoredRecord]:
        """Return the live records that have these ids; ids without one are absent."""
        found = self._records_where(t.records.c.record_id, record_ids)
        return {record.record_id: record for record in found}

    def records_of_sequences(
        self, sequence_ids: Iterable[int], condition: Condition | None = None
    ) -> dict[int, list[StoredRecord]]:
        """Return the live records of each sequence that meet a condition, in order of insertion."""
        by_sequence: dict[int, list[StoredRecord]] = {}
        for record in self._records_where(t.records.c.sequence_id, sequence_ids, condition):
            by_sequence.setdefault(record.sequence_id, []).append(record)
        for same in by_sequence.values():
            same.sort(key=lambda record: record.key)
        return by_sequence

    def dead_sequences(self) -> list[int]:
        """Return the ids of sequences that only deleted records point to."""
        r, live = t.records.c, t.records.alias("live").c
        has_live = select(live.key).where(live.sequence_id == r.sequence_id, live.deleted.is_(None))
        query = select(r.sequence_id).where(r.deleted.is_not(None), ~has_live.exists()).distinct()
        return [row[0] for row in self._all(query)]

    def all_records(self, condition: Condition | None = None) -> Iterator[StoredRecord]:
        """Yield every live record that meets a condition in order of insertion, page by page."""
        last = 0
        while True:
            query = (
                _select_records(condition).where(t.records.c.key > last).order_by(t.records.c.key).limit(1000)
            )
            page = [_stored_record(row) for row in self._all(query)]
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
        """Return (id, residues) of live and known sequences that a space lacks, in order of id."""
        c, v = t.sequences.c, t.vectors.c
        has_vector = select(v.sequence_id).where(v.space_id == space_id, v.sequence_id == c.id).exists()
        live = select(t.records.c.key).where(t.records.c.sequence_id == c.id, t.records.c.deleted.is_(None))
        query = select(c.id, c.residues, c.hash).where(~has_vector, c.residues != "", live.exists())
        return [(row[0], _whole(*row)) for row in self._all(query.order_by(c.id).limit(limit))]

    def n_without_vector(self, space_id: int) -> int:
        """Count live and known sequences that a space lacks."""
        if self.has_every_vector(space_id):
            return 0
        c, v, s = t.records.c, t.vectors.c, t.sequences.c
        has_vector = select(v.sequence_id).where(v.space_id == space_id, v.sequence_id == c.sequence_id)
        query = (
            select(func.count(c.sequence_id.distinct()))
            .select_from(t.records.join(t.sequences))
            .where(c.deleted.is_(None), s.residues != "", ~has_vector.exists())
        )
        return int(self._scalar(query))

    def has_every_vector(self, space_id: int) -> bool:
        """Tell whether each sequence has a vector in a space, by counting: no sequence has two."""
        vectors = select(func.count()).where(t.vectors.c.space_id == space_id)
        sequences = select(func.count()).select_from(t.sequences)
        return bool(self._scalar(select(vectors.scalar_subquery() == sequences.scalar_subquery())))

    def n_records_with_vector(self, space_id: int, condition: Condition | None = None) -> int:
        """Count live records that have a vector in a space and meet a condition."""
        c, v = t.records.c, t.vectors.c
        joined = t.records.join(t.vectors, v.sequence_id == c.sequence_id)
        query = select(func.count()).select_from(joined).where(*_live(condition), v.space_id == space_id)
        return int(self._scalar(query))

    def metadata_columns(self) -> dict[str, str]:
        """Return the type of each metadata column, in the order the columns were first seen."""
        c = t.metadata_columns.c
        return {row[0]: row[1] for row in self._all(select(c.name, c.type).order_by(c.position))}

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

    # --- Writing ---------------------------------------------------------------------------------

    def add_space(self, spec: EmbeddingSpec, *, is_default: bool, is_complete: bool) -> int:
        """Add an embedding space and return its id."""
        with self.begin() as connection:
            space_id = _insert_space(connection, spec, is_default=is_default, is_complete=is_complete)
            _next_generation(connection)
        return space_id

    def add_first_spaces(self, specs: Sequence[EmbeddingSpec]) -> None:
        """Add the spaces of a new database, all or none; the first is the default."""
        with self.begin() as connection:
            for number, spec in enumerate(specs):
                _insert_space(connection, spec, is_default=number == 0, is_complete=True)
            _next_generation(connection)

    def set_index(self, index: StoredIndex) -> None:
        """Record the approximate index of a space, in the place of any before. Its file is in place."""
        with self.begin() as connection:
            _drop_index(connection, index.space_id)
            connection.execute(
                insert(t.indexes).values(
                    space_id=index.space_id,
                    file=index.file,
                    facts=index.facts.to_json(),
                    **asdict(index.stamp),
                )
            )
            _next_generation(connection)

    def drop_index(self, space_id: int) -> None:
        """Forget the approximate index of a space."""
        with self.begin() as connection:
            _drop_index(connection, space_id)
            _next_generation(connection)

    def index_columns(self, make: Mapping[str, str], drop: Iterable[str]) -> None:
        """Make and drop indexes on metadata columns, in one transaction."""
        with self.begin() as connection:
            drop_column_indexes(connection, drop)
            make_column_indexes(connection, make)

    def delete_records(self, run_id: int, records: Sequence[StoredRecord]) -> None:
        """Give live records their tombstone, and the ledger a row for each, in one transaction."""
        with self.begin() as connection:
            _bury(connection, run_id, [r.key for r in records])
            rows = (LedgerRow(0, n, r.record_id, "deleted", r.key) for n, r in enumerate(records, start=1))
            _insert_many(connection, t.ledger, (_ledger_values(run_id, row) for row in rows))
            _next_generation(connection)

    def vector_rows(self, space_id: int, sequence_ids: Sequence[int]) -> list[VectorRow]:
        """Return how the vectors of sequences were made, each with its place in the list as row."""
        c = t.vectors.c
        query = select(c.sequence_id, c.n_windows, c.n_used, c.n_unknown).where(c.space_id == space_id)
        made = {row[0]: row for row in self._in(query, c.sequence_id, sequence_ids)}
        return [VectorRow(i, row, *made[i][1:]) for row, i in enumerate(sequence_ids)]

    def exchange_segments(self, old: Sequence[int], new: NewSegment | None) -> None:
        """Put one segment in the place of others, in one transaction. Its files are in place."""
        v, a, s = t.vectors.c, t.artifacts.c, t.segments.c
        with self.begin() as connection:
            _drop_index_over(connection, old)
            connection.execute(delete(t.vectors).where(v.segment_id.in_(old)))
            connection.execute(delete(t.artifacts).where(a.segment_id.in_(old)))
            connection.execute(delete(t.segments).where(s.id.in_(old)))
            if new is not None:
                _insert_segment(connection, new)
                connection.execute(update(t.state).values(next_segment_id=new.segment_id + 1))
            _next_generation(connection)

    def drop_tombstones(self) -> tuple[int, int]:
        """Remove deleted records, and sequences that nothing points to any more.

        Returns
        -------
        n_records, n_sequences : int
        """
        r, s, v = t.records.c, t.sequences.c, t.vectors.c
        has_record = select(r.key).where(r.sequence_id == s.id).exists()
        has_vector = select(v.sequence_id).where(v.sequence_id == s.id).exists()
        with self.begin() as connection:
            dead = list(
                connection.execute(select(r.sequence_id).where(r.deleted.is_not(None)).distinct()).scalars()
            )
            n_records = connection.execute(delete(t.records).where(r.deleted.is_not(None))).rowcount
            n_sequences = 0
            for part in slices(dead, _IN_LIST):
                condition = s.id.in_(part) & ~has_record & ~has_vector
                n_sequences += connection.execute(delete(t.sequences).where(condition)).rowcount
            if n_records:
                _next_generation(connection)
        return n_records, n_sequences

    def shrink(self) -> None:
        """Give free pages of the catalog back to the file system, if a quarter of it is free."""
        with self._engine.connect() as connection:
            raw = connection.connection.dbapi_connection
            assert raw is not None
            cursor = raw.cursor()
            (n_free,), (n_pages,) = (
                cursor.execute(f"PRAGMA {name}").fetchone() for name in ("freelist_count", "page_count")
            )
            if n_free * 4 > n_pages:
                cursor.execute("VACUUM")
            cursor.close()

    def drop_segment(self, segment_id: int) -> list[str]:
        """Forget a segment and its vectors: its space is not complete until they are made again.

        Returns
        -------
        list of str
            Ids of the live records whose vector it held.
        """
        v, r, s = t.vectors.c, t.records.c, t.segments.c
        held = select(v.sequence_id).where(v.segment_id == segment_id)
        names = select(r.record_id).where(r.sequence_id.in_(held), r.deleted.is_(None)).order_by(r.key)
        space = select(s.space_id).where(s.id == segment_id).scalar_subquery()
        with self.begin() as connection:
            record_ids = list(connection.execute(names).scalars())
            connection.execute(update(t.spaces).where(t.spaces.c.id == space).values(is_complete=0))
            _drop_index_over(connection, [segment_id])
            connection.execute(delete(t.vectors).where(v.segment_id == segment_id))
            connection.execute(delete(t.artifacts).where(t.artifacts.c.segment_id == segment_id))
            connection.execute(delete(t.segments).where(s.id == segment_id))
            _next_generation(connection)
        return record_ids

    def complete_space(self, space_id: int) -> None:
        """Record that every live sequence has a vector in the space."""
        with self.begin() as connection:
            connection.execute(update(t.spaces).where(t.spaces.c.id == space_id).values(is_complete=1))
            _next_generation(connection)

    def set_segment_stamp(self, segment_id: int, stamp: FileStamp) -> None:
        """Record that a segment's file was checked as it lies now."""
        with self.begin() as connection:
            connection.execute(
                update(t.segments)
                .where(t.segments.c.id == segment_id)
                .values(mtime_ns=stamp.mtime_ns, inode=stamp.inode)
            )
            _next_generation(connection)

    def set_unit(self, segment_id: int, file: str, stamp: FileStamp) -> None:
        """Record the file that holds a segment's vectors at unit length."""
        a = t.artifacts.c
        with self.begin() as connection:
            connection.execute(delete(t.artifacts).where(a.segment_id == segment_id, a.kind == "unit"))
            connection.execute(
                insert(t.artifacts).values(segment_id=segment_id, kind="unit", file=file, **asdict(stamp))
            )
            _next_generation(connection)

    def begin_run(self, command: str, versions: Mapping[str, str], parameters: Mapping[str, Any]) -> int:
        """Record that a run starts, and that any other run that looks alive is not."""
        with self.begin() as connection:
            # The caller holds the lock, so a run that never ended was killed.
            connection.execute(
                update(t.runs).where(t.runs.c.status == "running").values(status="interrupted")
            )
            result = connection.execute(
                insert(t.runs).values(
                    command=command,
                    status="running",
                    started=_now(),
                    versions=json.dumps(versions, sort_keys=True),
                    parameters=json.dumps(parameters, sort_keys=True),
                )
            )
            assert result.inserted_primary_key is not None
            return int(result.inserted_primary_key[0])

    def add_run_input(self, run_id: int, number: int, facts: Mapping[str, Any]) -> None:
        """Record an input of a run: name, format, size_bytes, sha256."""
        with self.begin() as connection:
            connection.execute(insert(t.run_inputs).values(run_id=run_id, input=number, **facts))

    def finish_run(self, run_id: int, status: str, summary: Mapping[str, Any]) -> None:
        """Record how a run ended."""
        with self.begin() as connection:
            connection.execute(
                update(t.runs)
                .where(t.runs.c.id == run_id)
                .values(status=status, finished=_now(), summary=json.dumps(summary, sort_keys=True))
            )

    def commit(self, chunk: Chunk) -> None:
        """Add a chunk in one transaction.

        A segment is asked for after the rows before it are inserted: while that is done, its files may
        still be written. They are durable and in place when it comes.
        """
        run_id = chunk.run_id
        with self.begin() as connection:
            _insert_many(
                connection,
                t.sequences,
                ((i, hash_bytes, residues, len(residues)) for i, hash_bytes, residues in chunk.sequences),
            )
            _bury(connection, run_id, chunk.buried)
            _insert_many(
                connection,
                t.records,
                (
                    (key, record_id, sequence_id, description, metadata, run_id, run_id if buried else None)
                    for key, record_id, sequence_id, description, metadata, buried in chunk.records
                ),
            )
            _insert_many(connection, t.ledger, (_ledger_values(run_id, row) for row in chunk.ledger))
            for segment in chunk.segments:
                _insert_segment(connection, segment)
            _set_columns(connection, chunk.columns)
            connection.execute(
                update(t.state).values(
                    next_sequence_id=chunk.counters.sequence_id,
                    next_record_key=chunk.counters.record_key,
                    next_segment_id=chunk.counters.segment_id,
                )
            )
            _next_generation(connection)

    # --- Helpers ---------------------------------------------------------------------------------

    def _scalar(self, query: AnySelect) -> Any:
        with self.begin() as connection:
            return connection.execute(query).scalar_one()

    def _all(self, query: AnySelect) -> Sequence[AnyRow]:
        with self.begin() as connection:
            return connection.execute(query).all()

    def _in(self, query: AnySelect, column: ColumnElement[Any], values: Iterable[Any]) -> list[AnyRow]:
        """Run a query once per slice of a long IN list, in one transaction."""
        rows: list[AnyRow] = []
        with self.begin() as connection:
            for part in slices(values, _IN_LIST):
                rows.extend(connection.execute(query.where(column.in_(part))))
        return rows

    def _records_where(
        self, column: ColumnElement[Any], values: Iterable[Any], condition: Condition | None = None
    ) -> list[StoredRecord]:
        return [_stored_record(row) for row in self._in(_select_records(condition), column, values)]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _live(condition: Condition | None = None) -> list[ColumnElement[bool]]:
    live = t.records.c.deleted.is_(None)
    return [live] if condition is None else [live, sql_condition(condition)]


def _select_records(condition: Condition | None = None) -> AnySelect:
    r, s = t.records.c, t.sequences.c
    return (
        select(r.key, r.record_id, r.sequence_id, r.description, r.metadata, s.residues, s.hash)
        .select_from(t.records.join(t.sequences))
        .where(*_live(condition))
    )


def _stored_record(row: AnyRow) -> StoredRecord:
    residues = _whole(row[2], row[5], row[6])
    return StoredRecord(row[0], row[1], row[2], row[3], json.loads(row[4]), residues, row[6].hex())


def _whole(sequence_id: int, residues: str, hash_bytes: bytes) -> str:
    """Return residues that are what was stored: SQLite would hand out a flipped bit as it lies."""
    if residues and hashlib.sha256(residues.encode()).digest() != hash_bytes:
        reason = f"the residues of sequence {sequence_id} do not have the hash that is stored"
        raise StorageError("catalog.sqlite", reason, hint="restore it from a backup")
    return residues


def _bury(connection: Connection, run_id: int, keys: Iterable[int]) -> None:
    """Set the tombstone of records."""
    for part in slices(keys, _IN_LIST):
        connection.execute(update(t.records).where(t.records.c.key.in_(part)).values(deleted=run_id))


def _drop_index(connection: Connection, space_id: int) -> None:
    connection.execute(delete(t.indexes).where(t.indexes.c.space_id == space_id))


def _drop_index_over(connection: Connection, segment_ids: Sequence[int]) -> None:
    """Forget the index of the space whose segments go: its rows are theirs."""
    spaces = select(t.segments.c.space_id).where(t.segments.c.id.in_(segment_ids))
    connection.execute(delete(t.indexes).where(t.indexes.c.space_id.in_(spaces)))


def _next_generation(connection: Connection) -> None:
    connection.execute(update(t.state).values(generation=t.state.c.generation + 1))


def _insert_many(connection: Connection, table: Any, rows: Iterable[tuple[Any, ...]]) -> None:
    """Insert rows whose values are in the order of the table's columns.

    Tuples straight to the driver: SQLAlchemy's own handling of a million dicts takes longer than SQLite.
    """
    names = [c.name for c in table.columns]
    statement = str(insert(table).compile(dialect=connection.dialect, column_keys=names))
    for part in slices(rows, _INSERTED_AT_ONCE):
        connection.exec_driver_sql(statement, part)


def _insert_space(connection: Connection, spec: EmbeddingSpec, *, is_default: bool, is_complete: bool) -> int:
    result = connection.execute(
        insert(t.spaces).values(
            hash=spec.space_hash,
            name=spec.name,
            spec=spec.to_json(),
            is_default=int(is_default),
            is_complete=int(is_complete),
        )
    )
    assert result.inserted_primary_key is not None
    return int(result.inserted_primary_key[0])


def _insert_segment(connection: Connection, segment: NewSegment) -> None:
    stamp, unit = segment.stamp, segment.unit_stamp
    connection.execute(
        insert(t.segments).values(
            id=segment.segment_id,
            space_id=segment.space_id,
            file=segment.file,
            n_vectors=len(segment.rows),
            **asdict(stamp),
        )
    )
    connection.execute(
        insert(t.artifacts).values(
            segment_id=segment.segment_id, kind="unit", file=segment.unit_file, **asdict(unit)
        )
    )
    _insert_many(
        connection,
        t.vectors,
        (
            (segment.space_id, sequence_id, segment.segment_id, row, n_windows, n_used, n_unknown)
            for sequence_id, row, n_windows, n_used, n_unknown in segment.rows
        ),
    )


def _ledger_values(run_id: int, row: LedgerRow) -> tuple[Any, ...]:
    number, place, input_id, outcome, record_key, reason, notes = row
    return run_id, number, place, input_id, outcome, record_key, reason or None, notes or None


def _set_columns(connection: Connection, columns: Mapping[str, str]) -> None:
    """Add metadata columns, and change the type of those that widened."""
    c = t.metadata_columns.c
    known = {row[0]: row[1] for row in connection.execute(select(c.name, c.type))}
    position = len(known)
    for name, kind in columns.items():
        if name not in known:
            connection.execute(insert(t.metadata_columns).values(name=name, type=kind, position=position))
            position += 1
        elif known[name] != kind:
            connection.execute(update(t.metadata_columns).where(c.name == name).values(type=kind))
            remake_column_index(connection, name, kind)
