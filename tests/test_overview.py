"""What `plmsearch info` gathers."""

from __future__ import annotations

import json

import pytest
from support import DNA, cli, make_db, peptides, records

from plmsearch.database import open_database
from plmsearch.errors import ParameterError
from plmsearch.ingest.report import AddOptions
from plmsearch.overview import ledger_rows, overview
from plmsearch.sequences import SequenceRecord
from plmsearch.store.directory import FORMAT_VERSION
from plmsearch.store.schema import HEAD


def test_counts_are_those_of_what_was_added(tmp_path):
    a, b, c = peptides(3)
    path = make_db(tmp_path / "db", [("x", a), ("y", b), ("z", a), ("w", c)], layers="0,1")
    with open_database(path) as db:
        found = overview(db)
        assert found.size_bytes == sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
    assert (found.n_records, found.n_sequences, found.n_residues) == (4, 3, len(a + b + c))
    assert (found.format_version, found.schema) == (FORMAT_VERSION, HEAD)
    assert [(s.name, s.is_default, s.is_complete, s.n_vectors) for s in found.spaces] == [
        ("kmer/0/whole/mean", True, True, 3),
        ("kmer/1/whole/mean", False, True, 3),
    ]
    assert found.size_bytes > 2 * 2 * 3 * 512 * 4


def test_generation_grows_with_every_commit_and_not_by_reading(tmp_path):
    path = make_db(tmp_path / "db", records(10))

    def generation() -> int:
        with open_database(path) as db:
            db.search(peptides(1))
            return overview(db).generation

    before = generation()
    assert generation() == before
    make_db(path, [("new", peptides(9, seed=4)[8])])
    assert generation() == before + 1


def test_columns_are_listed_with_their_types_in_the_order_first_seen(tmp_path):
    given = {"donor": 7, "v_call": "IGHV1-2*02", "identity": 0.5, "productive": True}
    path = make_db(tmp_path / "db", [SequenceRecord("a", peptides(1)[0], metadata=given)])
    with open_database(path) as db:
        columns = overview(db).columns
    assert dict(columns) == {"donor": "int", "v_call": "text", "identity": "float", "productive": "bool"}
    assert list(columns) == list(given)


def test_the_json_is_the_whole_overview(tmp_path):
    path = make_db(tmp_path / "db", records(2))
    with open_database(path) as db:
        found = overview(db)
    read = json.loads(found.to_json())
    assert read["n_records"] == 2
    assert read["spaces"][0]["spec"]["dim"] == 512
    assert read["runs"][0]["versions"] == found.runs[0].versions
    assert read.keys() == set(found.__dataclass_fields__)


def test_the_ledger_of_a_run_that_is_not_there_names_those_that_are(tmp_path):
    path = make_db(tmp_path / "db", records(1))
    with open_database(path) as db, pytest.raises(ParameterError, match="a run of the database: 1"):
        ledger_rows(db, 5)
    ended = cli("info", path, "--ledger", 5)
    assert (ended.code, ended.out) == (1, "")


def test_a_long_ledger_is_read_page_by_page_without_losing_a_row(tmp_path):
    sequence = peptides(1)[0]
    rows = [(f"r{i}", DNA if i % 1000 == 999 else sequence) for i in range(2500)]
    path = make_db(tmp_path / "db", rows, options=AddOptions(on_invalid="skip"))
    with open_database(path) as db:
        found = list(ledger_rows(db, 1))
    assert [r["row"] for r in found] == list(range(1, 2501))
    assert [r["input_id"] for r in found] == [record_id for record_id, _ in rows]
    assert [r["record_id"] for r in found if r["outcome"] == "skipped"] == [None, None]
