"""Every change of the catalog.

A writer holds the directory's lock (`plmsearch.store.lock`) around everything that reads in order to
write.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from plmsearch.embedding.centres import reference_centres
from plmsearch.embedding.spec import EmbeddingSpec
from plmsearch.slices import slices
from plmsearch.store import tables as t
from plmsearch.store.catalog_reader import IN_LIST
from plmsearch.store.column_indexes import (
    drop_column_indexes,
    make_column_indexes,
    remake_column_index,
)
from plmsearch.store.ranking_writer import (
    RankingWriter,
    drop_derived,
    insert_ranking,
    insert_transform,
    next_generation,
)
from plmsearch.store.rankings import RankingPart, StoredRanking, StoredSpace, StoredTransform
from plmsearch.store.rows import (
    Chunk,
    DerivedFile,
    LedgerRow,
    NewSegment,
    StoredDomain,
    StoredIndex,
    StoredRecord,
    VectorRow,
)
from plmsearch.store.segments import FileStamp
from plmsearch.transform import Transform

__all__ = ["Repository"]

_INSERTED_AT_ONCE = 10_000


class Repository(RankingWriter):
    """The catalog behind an engine, for reading and writing.

    Parameters
    ----------
    engine : Engine
        What `plmsearch.store.connection.open_catalog` returned.
    """

    def add_space(self, spec: EmbeddingSpec, *, is_default: bool, is_complete: bool) -> int:
        """Add an embedding space and return its id."""
        with self.begin() as connection:
            space_id = _insert_space(connection, spec, is_default=is_default, is_complete=is_complete)
            next_generation(connection)
        return space_id

    def add_first_spaces(self, specs: Sequence[EmbeddingSpec]) -> None:
        """Add the spaces of a new database, all or none; the first is the default."""
        with self.begin() as connection:
            for number, spec in enumerate(specs):
                _insert_space(connection, spec, is_default=number == 0, is_complete=True)
            next_generation(connection)

    def set_index(self, index: StoredIndex) -> None:
        """Record the approximate index of a ranking, in the place of any before. Its file is in place."""
        with self.begin() as connection:
            _drop_index(connection, index.ranking_id)
            connection.execute(
                insert(t.indexes).values(
                    ranking_id=index.ranking_id,
                    file=index.file,
                    facts=index.facts.to_json(),
                    **asdict(index.stamp),
                )
            )
            next_generation(connection)

    def drop_index(self, ranking_id: int) -> None:
        """Forget the approximate index of a ranking."""
        with self.begin() as connection:
            _drop_index(connection, ranking_id)
            next_generation(connection)

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
            next_generation(connection)

    def vector_rows(self, space_id: int, sequence_ids: Sequence[int]) -> list[VectorRow]:
        """Return how the vectors of sequences were made, each with its place in the list as row."""
        c = t.vectors.c
        query = select(c.sequence_id, c.n_windows, c.n_used, c.n_unknown).where(c.space_id == space_id)
        made = {row[0]: row for row in self._in(query, c.sequence_id, sequence_ids)}
        return [VectorRow(i, row, *made[i][1:]) for row, i in enumerate(sequence_ids)]

    def exchange_segments(self, old: Sequence[int], new: NewSegment | None) -> None:
        """Put one segment in the place of others, in one transaction. Its files are in place."""
        v, d, s = t.vectors.c, t.derived_files.c, t.segments.c
        with self.begin() as connection:
            _drop_index_over(connection, old)
            connection.execute(delete(t.vectors).where(v.segment_id.in_(old)))
            connection.execute(delete(t.derived_files).where(d.segment_id.in_(old)))
            connection.execute(delete(t.segments).where(s.id.in_(old)))
            if new is not None:
                _insert_segment(connection, new)
                _drop_incomplete(connection, new.space_id, new.segment_id)
                connection.execute(update(t.state).values(next_segment_id=new.segment_id + 1))
            next_generation(connection)

    def drop_tombstones(self) -> tuple[int, int]:
        """Remove deleted records, and sequences that nothing points to any more.

        Returns
        -------
        n_records, n_sequences : int
        """
        r, s, v, d = t.records.c, t.sequences.c, t.vectors.c, t.domains.c
        has_record = select(r.key).where(r.sequence_id == s.id).exists()
        has_vector = select(v.sequence_id).where(v.sequence_id == s.id).exists()
        is_domain = select(d.number).where(d.sequence_id == s.id).exists()
        of_source = select(r.key).where(r.sequence_id == d.source_id).exists()
        with self.begin() as connection:
            dead = set(
                connection.execute(select(r.sequence_id).where(r.deleted.is_not(None)).distinct()).scalars()
            )
            n_records = connection.execute(delete(t.records).where(r.deleted.is_not(None))).rowcount
            n_sequences = 0
            for part in slices(sorted(dead), IN_LIST):
                gone = d.source_id.in_(part) & ~of_source
                dead.update(connection.execute(select(d.sequence_id).where(gone)).scalars())
                connection.execute(delete(t.domains).where(gone))
                connection.execute(
                    update(t.sequences).where(s.id.in_(part), ~has_record).values(n_domains=None)
                )
            for part in slices(sorted(dead), IN_LIST):
                condition = s.id.in_(part) & ~has_record & ~has_vector & ~is_domain
                n_sequences += connection.execute(delete(t.sequences).where(condition)).rowcount
            if n_records:
                next_generation(connection)
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
        v, r, s, p = t.vectors.c, t.records.c, t.segments.c, t.ranking_parts.c
        held = select(v.sequence_id).where(v.segment_id == segment_id)
        if self._reads_domains(segment_id=segment_id):
            held = select(t.domains.c.source_id).where(t.domains.c.sequence_id.in_(held))
        names = select(r.record_id).where(r.sequence_id.in_(held), r.deleted.is_(None)).order_by(r.key)
        space = select(s.space_id).where(s.id == segment_id).scalar_subquery()
        with self.begin() as connection:
            record_ids = list(connection.execute(names).scalars())
            connection.execute(update(t.spaces).where(t.spaces.c.id == space).values(is_complete=0))
            drop_derived(connection, select(t.ranking_parts.c.ranking_id).where(p.space_id == space))
            connection.execute(delete(t.vectors).where(v.segment_id == segment_id))
            connection.execute(delete(t.segments).where(s.id == segment_id))
            next_generation(connection)
        return record_ids

    def complete_space(self, space_id: int) -> None:
        """Record that every live sequence has a vector in the space."""
        with self.begin() as connection:
            connection.execute(update(t.spaces).where(t.spaces.c.id == space_id).values(is_complete=1))
            next_generation(connection)

    def set_segment_stamp(self, segment_id: int, stamp: FileStamp) -> None:
        """Record that a segment's file was checked as it lies now."""
        with self.begin() as connection:
            connection.execute(
                update(t.segments)
                .where(t.segments.c.id == segment_id)
                .values(mtime_ns=stamp.mtime_ns, inode=stamp.inode)
            )
            next_generation(connection)

    def set_derived(self, segment_id: int, derived: DerivedFile) -> None:
        """Record the file that holds a segment's vectors as a ranking compares them."""
        d = t.derived_files.c
        with self.begin() as connection:
            same = (d.segment_id == segment_id) & (d.ranking_id == derived.ranking_id)
            connection.execute(delete(t.derived_files).where(same))
            _insert_derived(connection, segment_id, derived)
            next_generation(connection)

    def set_loci(self, loci: Mapping[int, str]) -> None:
        """Store the loci of sequences, by id."""
        with self.begin() as connection:
            _set_loci(connection, loci)

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
                (
                    (i, hash_bytes, residues, len(residues), None, None)
                    for i, hash_bytes, residues in chunk.sequences
                ),
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
                _drop_incomplete(connection, segment.space_id, segment.segment_id)
            _set_loci(connection, chunk.loci)
            _set_domains(connection, chunk.domains)
            _set_columns(connection, chunk.columns)
            connection.execute(
                update(t.state).values(
                    next_sequence_id=chunk.counters.sequence_id,
                    next_record_key=chunk.counters.record_key,
                    next_segment_id=chunk.counters.segment_id,
                )
            )
            next_generation(connection)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _bury(connection: Connection, run_id: int, keys: Iterable[int]) -> None:
    """Set the tombstone of records."""
    for part in slices(keys, IN_LIST):
        connection.execute(update(t.records).where(t.records.c.key.in_(part)).values(deleted=run_id))


def _drop_index(connection: Connection, ranking_id: int) -> None:
    connection.execute(delete(t.indexes).where(t.indexes.c.ranking_id == ranking_id))


def _drop_index_over(connection: Connection, segment_ids: Sequence[int]) -> None:
    """Forget the indexes that have rows of segments that go."""
    p, s = t.ranking_parts.c, t.segments.c
    spaces = select(s.space_id).where(s.id.in_(segment_ids))
    rankings = select(p.ranking_id).where(p.space_id.in_(spaces))
    connection.execute(delete(t.indexes).where(t.indexes.c.ranking_id.in_(rankings)))


def _set_loci(connection: Connection, loci: Mapping[int, str]) -> None:
    statement = "UPDATE sequences SET locus = ? WHERE id = ?"
    for part in slices(loci.items(), _INSERTED_AT_ONCE):
        connection.exec_driver_sql(statement, [(locus, sequence_id) for sequence_id, locus in part])


def _set_domains(connection: Connection, domains: Mapping[int, Sequence[StoredDomain]]) -> None:
    """Store the domains of sequences; those that were stored before are exchanged."""
    for part in slices(domains.items(), _INSERTED_AT_ONCE):
        connection.exec_driver_sql(
            "DELETE FROM domains WHERE source_id IN (SELECT value FROM json_each(?))",
            (json.dumps([source_id for source_id, _ in part]),),
        )
        counts = [(len(found), source_id) for source_id, found in part]
        connection.exec_driver_sql("UPDATE sequences SET n_domains = ? WHERE id = ?", counts)
        _insert_many(connection, t.domains, (domain.values() for _, found in part for domain in found))


def _insert_many(connection: Connection, table: Any, rows: Iterable[tuple[Any, ...]]) -> None:
    """Insert rows whose values are in the order of the table's columns.

    Tuples straight to the driver: SQLAlchemy's own handling of a million dicts takes longer than SQLite.
    """
    names = [c.name for c in table.columns]
    statement = str(insert(table).compile(dialect=connection.dialect, column_keys=names))
    for part in slices(rows, _INSERTED_AT_ONCE):
        connection.exec_driver_sql(statement, part)


def _insert_space(connection: Connection, spec: EmbeddingSpec, *, is_default: bool, is_complete: bool) -> int:
    """Add a space and the ranking that searches it, with the shipped transform if there is one."""
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
    space_id = int(result.inserted_primary_key[0])
    space = StoredSpace(space_id, spec, is_default, is_complete, 0)
    part, centres = RankingPart(space, 1.0), reference_centres(spec)
    if centres is not None:
        reference = Transform("reference", centres)
        transform_id = insert_transform(connection, space_id, reference)
        part = RankingPart(space, 1.0, StoredTransform(transform_id, space_id, 1, reference))
    insert_ranking(connection, StoredRanking(0, part.name, (part,), is_default))
    return space_id


def _insert_segment(connection: Connection, segment: NewSegment) -> None:
    connection.execute(
        insert(t.segments).values(
            id=segment.segment_id,
            space_id=segment.space_id,
            file=segment.file,
            n_vectors=len(segment.rows),
            **asdict(segment.stamp),
        )
    )
    for derived in segment.derived:
        _insert_derived(connection, segment.segment_id, derived)
    _insert_many(
        connection,
        t.vectors,
        (
            (segment.space_id, sequence_id, segment.segment_id, row, n_windows, n_used, n_unknown)
            for sequence_id, row, n_windows, n_used, n_unknown in segment.rows
        ),
    )


def _drop_incomplete(connection: Connection, space_id: int, segment_id: int) -> None:
    """Forget derived files in which sequences have no row because a space lacked them until now.

    They are of rankings that have the space behind another; the index over their rows goes with them.
    """
    p, first, v, d = t.ranking_parts.c, t.ranking_parts.alias("first").c, t.vectors.c, t.derived_files.c
    with_space = select(p.ranking_id).where(p.space_id == space_id, p.position > 0)
    rankings = connection.execute(
        select(first.ranking_id, first.space_id).where(first.position == 0, first.ranking_id.in_(with_space))
    ).all()
    new = select(v.sequence_id).where(v.segment_id == segment_id)
    for ranking_id, first_space in rankings:
        here = select(v.segment_id).where(v.space_id == first_space, v.sequence_id.in_(new))
        stale = delete(t.derived_files).where(d.ranking_id == ranking_id, d.segment_id.in_(here))
        if connection.execute(stale).rowcount:
            _drop_index(connection, ranking_id)


def _insert_derived(connection: Connection, segment_id: int, derived: DerivedFile) -> None:
    connection.execute(
        insert(t.derived_files).values(
            segment_id=segment_id, ranking_id=derived.ranking_id, file=derived.file, **asdict(derived.stamp)
        )
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
