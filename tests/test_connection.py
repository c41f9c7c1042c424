"""How the catalog is opened: pragmas, transactions, and users who may only read."""

import importlib
import os
import shutil
import sqlite3

import pytest
from sqlalchemy import column, select, table
from sqlalchemy.exc import DBAPIError

from plmsearch.store import connection as module
from plmsearch.store.connection import open_catalog, sqlite_module, sqlite_version, wal_is_safe


@pytest.fixture
def opened():
    """`open_catalog`, and everything is closed in the end."""
    engines = []

    def open_one(path, writable):
        engines.append(open_catalog(path, writable=writable))
        return engines[-1]

    yield open_one
    for engine in engines:
        engine.dispose()


@pytest.fixture
def catalog(tmp_path, opened):
    path = tmp_path / "catalog.sqlite"
    engine = opened(path, True)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE t (x INTEGER PRIMARY KEY)")
        connection.exec_driver_sql("CREATE TABLE child (x INTEGER REFERENCES t(x))")
        connection.exec_driver_sql("INSERT INTO t VALUES (1)")
    engine.dispose()
    return path


@pytest.fixture
def only_the_standard_module(monkeypatch):
    """A machine without the pysqlite3 wheel."""
    real = importlib.import_module

    def import_module(name, *args):
        if name.startswith("pysqlite3"):
            raise ImportError(name)
        return real(name, *args)

    monkeypatch.setattr(module.importlib, "import_module", import_module)


@pytest.fixture
def not_permitted(monkeypatch):
    """A user who may only read, also where the tests run as root."""
    monkeypatch.setattr(module.os, "access", lambda path, mode: mode & os.W_OK == 0)


def pragma(engine, name):
    with engine.connect() as connection:
        return connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()


def values(engine):
    with engine.begin() as connection:
        return [row[0] for row in connection.exec_driver_sql("SELECT x FROM t ORDER BY x")]


def insert(engine, value):
    with engine.begin() as connection:
        connection.exec_driver_sql(f"INSERT INTO t VALUES ({value})")


# --- Which SQLite --------------------------------------------------------------------------------


def test_the_bundled_library_is_preferred_and_free_of_the_wal_reset_bug():
    pytest.importorskip("pysqlite3", reason="no pysqlite3 wheel for this machine")
    assert sqlite_module().__name__ == "pysqlite3.dbapi2"
    assert wal_is_safe()


def test_without_it_the_standard_library_is_used(only_the_standard_module):
    assert sqlite_module() is sqlite3
    assert sqlite_version() == sqlite3.sqlite_version


@pytest.mark.parametrize(
    ("version", "safe"),
    [("3.40.1", False), ("3.51.2", False), ("3.51.3", True), ("3.53.0", True), ("4.0", True)],
)
def test_the_bug_is_known_by_version(monkeypatch, version, safe):
    monkeypatch.setattr(module, "sqlite_version", lambda: version)
    assert wal_is_safe() is safe


# --- Writers -------------------------------------------------------------------------------------


def test_a_writer_commits_durably(catalog, opened):
    engine = opened(catalog, True)
    expected = ("wal", 2) if wal_is_safe() else ("truncate", 3)
    assert (pragma(engine, "journal_mode"), pragma(engine, "synchronous")) == expected
    assert (pragma(engine, "foreign_keys"), pragma(engine, "trusted_schema")) == (1, 0)


def test_with_an_old_library_a_writer_commits_durably_without_a_wal(tmp_path, opened, monkeypatch):
    monkeypatch.setattr(module, "wal_is_safe", lambda: False)
    engine = opened(tmp_path / "catalog.sqlite", True)
    assert (pragma(engine, "journal_mode"), pragma(engine, "synchronous")) == ("truncate", 3)


def test_a_catalog_goes_from_one_library_to_the_other_and_back(catalog, opened, monkeypatch):
    for value, safe in ((2, False), (3, True), (4, False)):
        monkeypatch.setattr(module, "wal_is_safe", lambda safe=safe: safe)
        engine = opened(catalog, True)
        insert(engine, value)
        engine.dispose()
    assert values(opened(catalog, False)) == [1, 2, 3, 4]


def test_the_standard_module_reads_and_writes_the_same_file(catalog, opened, only_the_standard_module):
    insert(opened(catalog, True), 2)
    assert values(opened(catalog, False)) == [1, 2]


def test_a_question_is_made_into_sql_once_and_asked_of_each_catalog(tmp_path, catalog, opened, monkeypatch):
    shutil.copy(catalog, tmp_path / "other.sqlite")
    with opened(tmp_path / "other.sqlite", True).begin() as connection:
        connection.exec_driver_sql("INSERT INTO t VALUES (2)")

    def asked(path):
        with opened(path, False).begin() as connection:
            result = connection.execute(select(column("x")).select_from(table("t")).order_by("x"))
            return result.context.compiled, result.scalars().all()

    sql, found = asked(catalog)
    assert found == [1]
    assert asked(tmp_path / "other.sqlite") == (sql, [1, 2])
    monkeypatch.setattr(module, "sqlite_module", lambda: sqlite3)
    assert asked(catalog)[0] is not sql, "another library, other SQL"


def test_a_transaction_that_fails_leaves_nothing(catalog, opened):
    engine = opened(catalog, True)
    with pytest.raises(KeyError), engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO t VALUES (2)")
        connection.exec_driver_sql("CREATE TABLE half (x)")
        raise KeyError
    assert values(engine) == [1]
    with pytest.raises(DBAPIError, match="no such table"), engine.begin() as connection:
        connection.exec_driver_sql("SELECT * FROM half")


def test_a_writer_takes_the_write_lock_when_a_transaction_begins(catalog, opened, monkeypatch):
    """What it reads in order to write cannot change in between."""
    monkeypatch.setattr(module, "_BUSY_TIMEOUT_S", 0.05)
    with opened(catalog, True).begin():
        other = opened(catalog, True)
        with pytest.raises(DBAPIError, match="locked"), other.begin():
            pass


def test_references_are_enforced(catalog, opened):
    with pytest.raises(DBAPIError, match="FOREIGN KEY"), opened(catalog, True).begin() as connection:
        connection.exec_driver_sql("INSERT INTO child VALUES (42)")


# --- Readers -------------------------------------------------------------------------------------


def test_a_reader_cannot_write(catalog, opened):
    with pytest.raises(DBAPIError, match="readonly"):
        insert(opened(catalog, False), 2)


def test_a_reader_does_not_create_a_catalog(tmp_path, opened):
    with pytest.raises(DBAPIError, match="unable to open"):
        values(opened(tmp_path / "absent.sqlite", False))
    assert list(tmp_path.iterdir()) == []


def test_a_reader_sees_each_commit_and_does_not_stop_the_writer(catalog, opened):
    reader, writer = opened(catalog, False), opened(catalog, True)
    for n in range(2, 5):
        with reader.begin() as connection:
            seen = connection.exec_driver_sql("SELECT count(*) FROM t").scalar_one()
            insert(writer, n)
            assert connection.exec_driver_sql("SELECT count(*) FROM t").scalar_one() == seen
        assert values(reader) == list(range(1, n + 1))


def test_who_may_not_write_reads_a_catalog_at_rest_as_immutable(catalog, opened, not_permitted):
    before = sorted(p.name for p in catalog.parent.iterdir() if p.stat().st_size)
    assert module._open_mode(catalog, False) == "ro&immutable=1"
    assert values(opened(catalog, False)) == [1]
    assert sorted(p.name for p in catalog.parent.iterdir()) == before


def test_who_may_not_write_sees_what_is_still_in_the_log(catalog, opened, not_permitted):
    if not wal_is_safe():
        pytest.skip("this SQLite keeps no write-ahead log")
    writer = opened(catalog, True)
    insert(writer, 2)
    assert (catalog.parent / "catalog.sqlite-wal").stat().st_size > 0
    assert module._open_mode(catalog, False) == "ro"
    assert values(opened(catalog, False)) == [1, 2]


def test_who_may_not_write_sees_what_is_committed_later(catalog, opened, not_permitted):
    """A connection that takes the file for immutable would answer from pages of two states."""
    reader = opened(catalog, False)
    assert values(reader) == [1]
    for n in range(2, 5):
        writer = opened(catalog, True)
        insert(writer, n)
        assert values(reader) == list(range(1, n + 1)), "still in the log"
        writer.dispose()
        assert values(reader) == list(range(1, n + 1)), "in the catalog"


def test_who_may_not_write_never_reads_a_half_written_catalog(catalog, opened, not_permitted, monkeypatch):
    """Without a write-ahead log a killed writer leaves a journal that only a writer can roll back."""
    monkeypatch.setattr(module, "wal_is_safe", lambda: False)
    crashed = catalog.parent / "crashed"
    crashed.mkdir()
    writer = opened(catalog, True)
    with writer.begin() as connection:
        connection.exec_driver_sql("PRAGMA cache_size = 1")
        many = ",".join(f"({n})" for n in range(2, 5000))
        connection.exec_driver_sql(f"INSERT INTO t VALUES {many}")
        for file in (catalog, catalog.with_name("catalog.sqlite-journal")):
            shutil.copy(file, crashed / file.name)
    assert (crashed / "catalog.sqlite-journal").stat().st_size > 0
    with pytest.raises(DBAPIError):
        values(opened(crashed / "catalog.sqlite", False))
    with opened(crashed / "catalog.sqlite", True).begin():
        pass
    assert values(opened(crashed / "catalog.sqlite", False)) == [1]


# --- Paths ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["50%", "a b", "a?mode=memory", "a#b", "%41", "ünï", "a&b=c", b"\xff\xfe"])
def test_any_directory_name_is_taken_literally(tmp_path, opened, name):
    folder = tmp_path / os.fsdecode(name)
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("this file system has no such names")
    path = folder / "catalog.sqlite"
    with opened(path, True).begin() as connection:
        connection.exec_driver_sql("CREATE TABLE t (x)")
    insert(opened(path, True), 7)
    assert path.stat().st_size > 0
    assert values(opened(path, False)) == [7]


def test_a_relative_path_is_meant_from_here_even_if_the_process_moves(catalog, opened, monkeypatch):
    monkeypatch.chdir(catalog.parent)
    engine = opened(catalog.relative_to(catalog.parent), False)
    monkeypatch.chdir("/")
    assert values(engine) == [1]
