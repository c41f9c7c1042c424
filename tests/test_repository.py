"""The catalog: a commit is all or nothing, and every question has the answer of plain Python."""

import hashlib
import json
import pickle
from ast import literal_eval
from contextlib import closing
from copy import copy
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plmsearch.embedding.spec import EmbeddingSpec
from plmsearch.errors import StorageError
from plmsearch.filters.parse import parse_condition
from plmsearch.metadata import metadata_json
from plmsearch.store import repository as module
from plmsearch.store import tables
from plmsearch.store.connection import open_catalog
from plmsearch.store.repository import Repository
from plmsearch.store.rows import (
    Chunk,
    Counters,
    DerivedFile,
    LedgerRow,
    NewRecord,
    NewSegment,
    NewSequence,
    VectorRow,
)
from plmsearch.store.schema import create_schema
from plmsearch.store.segments import FileStamp

SPEC = EmbeddingSpec("kmer", "ab" * 32, 1, 512, 1000, 0)
OTHER_SPEC = EmbeddingSpec("kmer", "ab" * 32, 0, 512, 1000, 0)


@pytest.fixture
def repository(tmp_path):
    with closing(Repository(open_catalog(tmp_path / "catalog.sqlite", writable=True))) as opened:
        with opened.begin() as connection:
            create_schema(connection)
        yield opened


@pytest.fixture
def run_id(repository):
    return repository.begin_run("index", {"plmsearch": "0"}, {"k": 1})


@pytest.fixture
def space_id(repository):
    return repository.add_space(SPEC, is_default=True, is_complete=True)


def sequences(first, n):
    """Distinct made-up sequences; sequence i has 5 + i residues of one letter and a tail."""
    for i in range(first, first + n):
        residues = "EVQL" + "A" * (i % 7) + f"{'W' * (i // 7)}Y"
        yield NewSequence(i, hashlib.sha256(residues.encode()).digest(), residues)


def records(first, n, name="r", **metadata):
    text = metadata_json(metadata)
    return [NewRecord(i, f"{name}{i}", i, f"chain {i}", text) for i in range(first, first + n)]


def segment(segment_id, space_id, sequence_ids):
    stamp = FileStamp(1000 + segment_id, f"{segment_id:064x}", 10 + segment_id, 20 + segment_id)
    unit = FileStamp(2000 + segment_id, f"{segment_id + 100:064x}", 30 + segment_id, 40 + segment_id)
    rows = [VectorRow(i, row, 1, 5, 0) for row, i in enumerate(sequence_ids)]
    derived = [DerivedFile(space_id, f"{segment_id}-unit.vec", unit)]
    return NewSegment(segment_id, space_id, f"{segment_id}.vec", stamp, rows, derived)


def chunk(run_id, space_id, first=1, n=3, segment_id=1, **changes):
    """Sequences, records and vectors first..first+n-1."""
    ledger = [LedgerRow(0, i, f"r{i}", "added", i) for i in range(first, first + n)]
    content = {
        "run_id": run_id,
        "counters": Counters(first + n, first + n, segment_id + 1),
        "sequences": list(sequences(first, n)),
        "records": records(first, n),
        "segments": [segment(segment_id, space_id, range(first, first + n))],
        "ledger": ledger,
        "columns": {"v_call": "text"},
    }
    return Chunk(**(content | changes))


def everything(repository):
    """Every row of every table."""
    with repository.begin() as connection:
        return {
            name: sorted(map(repr, connection.execute(table.select()).all()))
            for name, table in tables.metadata.tables.items()
        }


# --- Commits -------------------------------------------------------------------------------------


def test_a_chunk_adds_all_of_it(repository, run_id, space_id):
    repository.commit(chunk(run_id, space_id))
    assert (repository.n_records(), repository.n_sequences()) == (3, 3)
    assert repository.n_residues() == sum(len(s.residues) for s in sequences(1, 3))
    assert [row.outcome for row, _ in repository.ledger(run_id)] == ["added"] * 3
    assert repository.metadata_columns() == {"v_call": "text"}
    assert repository.counters() == Counters(4, 4, 2)
    assert repository.segment_files() == {"1.vec"}


def test_an_empty_chunk_is_a_commit_too(repository, run_id):
    before = repository.generation()
    repository.commit(Chunk(run_id, repository.counters()))
    assert repository.generation() == before + 1


STEPS = [
    ("_insert_many", 0),
    ("_insert_many", 3),
    ("_insert_segment", 0),
    ("_set_columns", 0),
    ("next_generation", 0),
]


@pytest.mark.parametrize(("name", "nth"), STEPS)
def test_a_commit_that_is_interrupted_anywhere_adds_nothing(
    repository, run_id, space_id, monkeypatch, name, nth
):
    repository.commit(chunk(run_id, space_id))
    before = everything(repository)
    real, calls = getattr(module, name), []

    def interrupted(*args):
        calls.append(name)
        real(*args)
        if len(calls) > nth:
            raise KeyboardInterrupt

    monkeypatch.setattr(module, name, interrupted)
    with pytest.raises(KeyboardInterrupt):
        repository.commit(chunk(run_id, space_id, first=4, segment_id=2, columns={"new": "int"}))
    assert everything(repository) == before
    monkeypatch.undo()
    repository.commit(chunk(run_id, space_id, first=4, segment_id=2))
    assert repository.n_records() == 6


CONFLICTS = {
    "live id": {"records": [*records(4, 2), NewRecord(6, "r1", 6, "", "{}")]},
    "record key": {"records": [*records(4, 2), NewRecord(1, "x", 6, "", "{}")]},
    "sequence": {"sequences": [*sequences(4, 2), next(sequences(1, 1))._replace(sequence_id=6)]},
    "segment file": {"segments": [segment(1, 1, [4, 5, 6])]},
    "vector": {"segments": [segment(2, 1, [4, 5, 1])]},
    "unknown sequence": {"records": [*records(4, 2), NewRecord(6, "x", 99, "", "{}")]},
    "ledger row": {"ledger": [LedgerRow(0, 1, "again", "added")]},
    "run": {"run_id": 99},
}


@pytest.mark.parametrize("conflict", CONFLICTS)
def test_a_chunk_that_conflicts_is_refused_whole(repository, run_id, space_id, conflict):
    repository.commit(chunk(run_id, space_id))
    before = everything(repository)
    with pytest.raises(StorageError, match="constraint failed"):
        repository.commit(replace(chunk(run_id, space_id, first=4, segment_id=2), **CONFLICTS[conflict]))
    assert everything(repository) == before


def test_a_segment_whose_files_could_not_be_written_takes_the_chunk_back(repository, run_id, space_id):
    def written():
        yield segment(1, space_id, [1, 2])
        raise OSError("no space")

    before = everything(repository)
    with pytest.raises(OSError, match="no space"):
        repository.commit(chunk(run_id, space_id, segments=written()))
    assert everything(repository) == before


def test_every_commit_of_data_raises_the_generation_by_one(repository, run_id, space_id):
    start = repository.generation()
    for n in range(3):
        repository.commit(chunk(run_id, space_id, first=1 + 3 * n, segment_id=1 + n))
        assert repository.generation() == start + n + 1
    other = repository.add_space(OTHER_SPEC, is_default=False, is_complete=False)
    assert repository.generation() == start + 4
    repository.complete_space(other)
    assert repository.generation() == start + 5


def test_ids_are_counted_on_even_after_the_last_rows_are_gone(repository, run_id, space_id):
    repository.commit(chunk(run_id, space_id))
    with repository.begin() as connection:
        for table in ("vectors", "derived_files", "segments", "records", "sequences"):
            connection.exec_driver_sql(f"DELETE FROM {table}")
    assert repository.counters() == Counters(4, 4, 2)


def test_a_tombstone_frees_the_id_and_hides_the_record(repository, run_id, space_id):
    repository.commit(chunk(run_id, space_id))
    with repository.begin() as connection:
        connection.exec_driver_sql("UPDATE records SET deleted = 5 WHERE record_id = 'r2'")
    assert repository.n_records() == 2
    assert repository.records_by_id(["r1", "r2"]).keys() == {"r1"}
    assert repository.records_of_sequences([2]) == {}
    assert [r.record_id for r in repository.all_records()] == ["r1", "r3"]
    assert repository.similar_ids("r2") == ["r1", "r3"]
    again = [NewRecord(4, "r2", 2, "", "{}")]
    repository.commit(Chunk(run_id, Counters(4, 5, 2), records=again))
    assert repository.records_by_id(["r2"])["r2"].key == 4


def test_a_column_keeps_its_place_when_its_type_widens(repository, run_id):
    repository.commit(Chunk(run_id, Counters(1, 1, 1), columns={"b": "int", "a": "bool"}))
    repository.commit(Chunk(run_id, Counters(1, 1, 1), columns={"c": "text", "a": "text", "b": "int"}))
    assert list(repository.metadata_columns().items()) == [("b", "int"), ("a", "text"), ("c", "text")]


# --- Questions -----------------------------------------------------------------------------------


@pytest.fixture
def large(repository, run_id, space_id):
    """2,500 sequences; the even ones have a vector, every fifth a second record."""
    n = 2500
    twice = [NewRecord(n + i, f"again{i}", i, "", "{}") for i in range(5, n + 1, 5)]
    repository.commit(
        chunk(
            run_id,
            space_id,
            n=n,
            records=[*records(1, n), *twice],
            segments=[segment(1, space_id, range(2, n + 1, 2))],
            ledger=[LedgerRow(i % 3, i, f"r{i}", "added", i) for i in range(1, n + 1)],
        )
    )
    return repository


def test_lists_longer_than_one_statement_are_answered_whole(large, space_id):
    ids = list(range(2500, 0, -1))
    hashes = {s.hash_bytes: s.sequence_id for s in sequences(1, 2500)}
    assert large.sequence_ids(iter(hashes)) == hashes
    assert large.residues(ids) == {s.sequence_id: s.residues for s in sequences(1, 2500)}
    found = large.records_by_id(f"r{i}" for i in range(3000))
    assert {r.record_id: r.sequence_id for r in found.values()} == {f"r{i}": i for i in range(1, 2501)}
    assert large.vector_places(space_id, ids) == {i: (1, i // 2 - 1) for i in range(2, 2501, 2)}
    shared = large.records_of_sequences(ids)
    assert len(shared) == 2500
    assert [r.record_id for r in shared[10]] == ["r10", "again10"]


def test_records_of_sequences_are_those_that_meet_a_condition_with_an_index_and_without(large):
    with large.begin() as connection:
        connection.exec_driver_sql("UPDATE records SET metadata = ? WHERE key % 2", ('{"v_call":"A"}',))
    condition = parse_condition("v_call = 'A' or record_id = 'r6'", {"v_call": "text"})
    expected = {1: ["r1"], 3: ["r3"], 5: ["r5", "again5"], 6: ["r6"], 7: ["r7"], 9: ["r9"]}
    for _ in range(2):
        found = large.records_of_sequences(range(10), condition)
        assert {i: [r.record_id for r in same] for i, same in found.items()} == expected
        large.index_columns({"v_call": "text"}, [])


def test_residues_that_are_not_what_was_stored_are_refused_however_they_are_asked_for(large):
    with large.begin() as connection:
        connection.exec_driver_sql("UPDATE sequences SET residues = 'X' || residues WHERE id = 10")
    assert len(large.records_of_sequences(range(1, 10))) == 9
    for ask in (
        lambda: large.records_of_sequences([9, 10, 11]),
        lambda: large.records_by_id(["again10"]),
        lambda: list(large.all_records()),
    ):
        with pytest.raises(StorageError, match="sequence 10 do not have the hash"):
            ask()


def test_text_that_is_not_utf8_is_a_storage_error(large):
    with large.begin() as connection:
        connection.exec_driver_sql("UPDATE records SET description = CAST(x'fffe' AS TEXT) WHERE key = 10")
    for ask in (lambda: large.records_of_sequences([9, 10]), lambda: large.records_by_id(["r10"])):
        with pytest.raises(StorageError, match="UTF-8"):
            ask()


def test_metadata_are_a_mapping_that_is_read_when_it_is_looked_at(repository, run_id, space_id):
    repository.commit(chunk(run_id, space_id, records=records(1, 3, v_call="IGHV1-2*02", count="3")))
    (record,) = repository.records_of_sequences([2])[2]
    plain = {"v_call": "IGHV1-2*02", "count": "3"}
    for metadata in (record.metadata, pickle.loads(pickle.dumps(record)).metadata, copy(record).metadata):
        assert metadata == plain
        assert plain == metadata
        assert (dict(metadata), len(metadata), metadata["count"]) == (plain, 2, "3")
        assert literal_eval(repr(metadata)) == plain
    assert record == repository.records_by_id(["r2"])["r2"]
    assert json.loads(json.dumps(dict(record.metadata))) == plain
    with pytest.raises(TypeError):
        record.metadata["count"] = "4"


@pytest.mark.parametrize("text", ["", "{", "[]", '"a"', "null"])
def test_metadata_that_are_no_object_are_a_storage_error(repository, run_id, space_id, text):
    repository.commit(chunk(run_id, space_id, records=[NewRecord(1, "r1", 1, "", text)]))
    record = repository.records_by_id(["r1"])["r1"]
    with pytest.raises(StorageError, match="not a JSON object"):
        record.metadata.get("n")


def test_records_come_page_by_page_in_order_of_insertion(large):
    keys = [r.key for r in large.all_records()]
    assert keys == sorted(keys)
    assert len(keys) == large.n_records() == 3000


def test_reading_on_after_a_page_holds_no_transaction(large, run_id):
    """A reader that stops half-way must not stop a writer, or see half a commit."""
    pages = large.all_records()
    next(pages)
    large.commit(Chunk(run_id, Counters(2501, 9001, 2), records=[NewRecord(9000, "late", 1, "", "{}")]))
    assert [r.record_id for r in pages][-1] == "late"


def test_the_ledger_comes_whole_in_input_order_with_the_ids_of_the_records(large, run_id):
    rows = list(large.ledger(run_id))
    assert [(r.input, r.row) for r, _ in rows] == sorted((i % 3, i) for i in range(1, 2501))
    assert all(record_id == r.input_id for r, record_id in rows)


def test_a_ledger_row_comes_back_as_it_was(repository, run_id):
    rows = [
        LedgerRow(0, 1, "a", "skipped", None, "the sequence is empty"),
        LedgerRow(0, 2, "", "present", None, "", '{"gaps": 3}'),
        LedgerRow(2, 1, "x\ty 'q'", "renamed", 7, "the id was taken"),
    ]
    repository.commit(Chunk(run_id, Counters(1, 1, 1), ledger=rows))
    assert list(repository.ledger(run_id)) == [(row, None) for row in rows]
    assert list(repository.ledger(run_id + 1)) == []


def test_sequences_that_a_space_lacks_are_found_and_counted(large, space_id):
    assert large.n_without_vector(space_id) == 1250
    first = large.sequences_without_vector(space_id, 3)
    assert [i for i, _ in first] == [1, 3, 5]
    assert dict(first) == large.residues([1, 3, 5])
    other = large.add_space(OTHER_SPEC, is_default=False, is_complete=False)
    assert large.n_without_vector(other) == 2500
    with large.begin() as connection:
        connection.exec_driver_sql("UPDATE records SET deleted = 9 WHERE sequence_id = 1")
    assert large.n_without_vector(space_id) == 1249
    assert [i for i, _ in large.sequences_without_vector(space_id, 1)] == [3]


def test_nothing_asked_is_nothing_answered(repository):
    assert repository.records_by_id([]) == {}
    assert repository.records_of_sequences(iter(())) == {}
    assert list(repository.all_records()) == []
    assert (repository.n_records(), repository.n_residues(), repository.spaces()) == (0, 0, [])


IDS = st.text(st.sampled_from("ab%_\\/[*'\""), min_size=1, max_size=6)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sets(IDS, max_size=12), IDS)
def test_similar_ids_begin_with_the_first_half_taken_literally(repository, stored, asked):
    with repository.begin() as connection:
        for table in ("records", "sequences", "runs"):
            connection.exec_driver_sql(f"DELETE FROM {table}")
    run = repository.begin_run("index", {}, {})
    rows = [NewRecord(key, name, 1, "", "{}") for key, name in enumerate(sorted(stored), start=1)]
    repository.commit(Chunk(run, Counters(2, 99, 1), sequences=list(sequences(1, 1)), records=rows))
    prefix = asked[: max(1, len(asked) // 2)]
    assert set(repository.similar_ids(asked)) == {name for name in stored if name.startswith(prefix)}


@pytest.mark.parametrize("text", ["it's", 'a "b"', "tab\there", "🧬 ünï", "x\0y", "", "; DROP TABLE records"])
def test_any_text_comes_back_as_it_was(repository, run_id, text):
    metadata = {"name": text, text: "value"}
    record = NewRecord(1, text, 1, text, metadata_json(metadata))
    one = list(sequences(1, 1))
    columns = {text: "text"}
    repository.commit(Chunk(run_id, Counters(2, 2, 1), sequences=one, records=[record], columns=columns))
    found = repository.records_by_id([text])[text]
    assert (found.record_id, found.description, found.metadata) == (text, text, metadata)
    assert (found.residues, found.sequence_hash) == (one[0].residues, one[0].hash_bytes.hex())
    assert repository.metadata_columns() == columns


def test_text_that_is_no_unicode_is_named(repository):
    with pytest.raises(StorageError, match="udcff"):
        repository.records_by_id(["\udcff"])


# --- Spaces, segments, runs ----------------------------------------------------------------------


def test_spaces_come_back_with_their_vectors_counted_the_default_first(repository, run_id):
    first = repository.add_space(OTHER_SPEC, is_default=False, is_complete=False)
    default = repository.add_space(SPEC, is_default=True, is_complete=True)
    parts = [segment(1, default, [1, 2]), segment(2, default, [3]), segment(3, first, [1])]
    repository.commit(chunk(run_id, default, segments=parts))
    spaces = repository.spaces()
    assert [(s.space_id, s.spec, s.n_vectors) for s in spaces] == [(default, SPEC, 3), (first, OTHER_SPEC, 1)]
    assert [(s.is_default, s.is_complete) for s in spaces] == [(True, True), (False, False)]
    repository.complete_space(first)
    assert [s.is_complete for s in repository.spaces()] == [True, True]


def test_a_space_is_added_once(repository, space_id):
    with pytest.raises(StorageError, match="UNIQUE"):
        repository.add_space(SPEC, is_default=False, is_complete=True)
    assert len(repository.spaces()) == 1


def test_what_is_done_at_once_is_seen_within_and_kept_or_taken_back_as_a_whole(repository, space_id):
    def names():
        return [s.spec.name for s in repository.spaces()]

    before = repository.generation()
    with pytest.raises(StorageError), repository.at_once():
        repository.add_space(OTHER_SPEC, is_default=False, is_complete=True)
        assert names() == [SPEC.name, OTHER_SPEC.name]
        repository.add_space(SPEC, is_default=False, is_complete=True)
    assert (names(), repository.generation()) == ([SPEC.name], before)
    with repository.at_once():
        repository.add_space(OTHER_SPEC, is_default=False, is_complete=True)
        repository.set_default_ranking(repository.rankings()[1].ranking_id)
    assert (names(), repository.rankings()[0].name) == ([SPEC.name, OTHER_SPEC.name], OTHER_SPEC.name)


def test_segments_come_back_with_both_stamps_oldest_first(repository, run_id, space_id):
    parts = [segment(2, space_id, [3]), segment(1, space_id, [1, 2])]
    repository.commit(chunk(run_id, space_id, segments=parts))
    found = repository.segments(space_id)
    for stored, new in zip(found, reversed(parts), strict=True):
        assert (stored.segment_id, stored.file, stored.stamp) == (new.segment_id, new.file, new.stamp)
        assert list(stored.derived.values()) == list(new.derived)
        assert stored.n_vectors == len(new.rows)


def test_a_segment_without_a_derived_file_comes_without_one(repository, run_id, space_id):
    repository.commit(chunk(run_id, space_id))
    with repository.begin() as connection:
        connection.exec_driver_sql("DELETE FROM derived_files")
    (found,) = repository.segments(space_id)
    assert found.derived == {}


def test_a_run_is_kept_from_beginning_to_end(repository):
    run_id = repository.begin_run("index", {"torch": "2"}, {"b": 1, "a": [None]})
    repository.add_run_input(run_id, 0, {"name": "x.fa", "format": "fasta", "size_bytes": 9, "sha256": "ab"})
    repository.add_run_input(run_id, 1, {"name": "-", "format": "fasta", "size_bytes": None, "sha256": None})
    (run,) = repository.runs()
    assert (run.command, run.status, run.finished, run.summary) == ("index", "running", None, None)
    repository.finish_run(run_id, "finished", {"n_added": 3})
    (run,) = repository.runs()
    assert (run.status, json.loads(run.summary)) == ("finished", {"n_added": 3})
    assert json.loads(run.parameters) == {"a": [None], "b": 1}
    assert run.started <= run.finished
    assert [(i["input"], i["name"], i["size_bytes"]) for i in repository.run_inputs(run_id)] == [
        (0, "x.fa", 9),
        (1, "-", None),
    ]


def test_a_run_that_never_ended_is_marked_when_the_next_begins(repository):
    first = repository.begin_run("index", {}, {})
    second = repository.begin_run("index", {}, {})
    repository.finish_run(second, "failed", {})
    third = repository.begin_run("embed", {}, {})
    assert [(r.run_id, r.status) for r in repository.runs()] == [
        (first, "interrupted"),
        (second, "failed"),
        (third, "running"),
    ]
