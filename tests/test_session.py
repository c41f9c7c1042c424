"""Opening for reading and writing: whole or absent, by version, and after a crash."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys

import pytest
from support import break_seal

from plmsearch.errors import (
    DatabaseLocked,
    DatabaseNotFound,
    NotADatabase,
    SchemaOutdatedError,
    SchemaTooNewError,
    StoreError,
)
from plmsearch.store.directory import FORMAT_VERSION, is_database
from plmsearch.store.lock import writer_lock
from plmsearch.store.schema import HEAD
from plmsearch.store.session import open_reader, open_writer

VERSIONS = {"plmsearch": "0"}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "db"


@pytest.fixture
def database(path):
    with open_writer(path):
        pass
    return path


def generation(path):
    repository = open_reader(path)
    try:
        return repository.generation()
    finally:
        repository.close()


def change_catalog(path, statement):
    connection = sqlite3.connect(path / "catalog.sqlite")
    connection.execute(statement)
    connection.commit()
    connection.close()
    break_seal(path)


# --- Creation ------------------------------------------------------------------------------------


def test_a_new_database_is_empty_and_whole(database):
    assert is_database(database)
    assert generation(database) == 0
    assert {p.name for p in database.iterdir()} >= {"catalog.sqlite", "segments", "derived", "tmp", "LOCK"}
    assert list((database / "tmp").iterdir()) == []


def test_the_marker_is_written_once(database):
    before = (database / "plmsearch.json").read_bytes()
    with open_writer(database):
        pass
    assert (database / "plmsearch.json").read_bytes() == before


def test_reading_what_is_not_there_creates_nothing(path):
    with pytest.raises(DatabaseNotFound):
        open_reader(path)
    assert not path.exists()


class Interrupt(BaseException):
    """Stands for a kill: nothing in between may catch it and carry on."""


def interrupted_at(step, monkeypatch):
    """Let the first `step` changes of the file system happen, and no more."""
    remaining = [step]

    def counted(real):
        def call(*args, **options):
            if remaining[0] == 0:
                raise Interrupt
            remaining[0] -= 1
            return real(*args, **options)

        return call

    for name in ("mkdir", "rename", "fsync", "open"):
        monkeypatch.setattr(os, name, counted(getattr(os, name)))


def test_an_interrupted_creation_leaves_a_whole_database_or_none_and_can_be_repeated(path, monkeypatch):
    n_states = 0
    for step in range(100):
        shutil.rmtree(path, ignore_errors=True)
        with monkeypatch.context() as patch:
            interrupted_at(step, patch)
            try:
                with open_writer(path):
                    pass
            except Interrupt:
                finished = False
            else:
                finished = True
        if is_database(path):
            assert generation(path) == 0
        elif path.exists():
            with pytest.raises(NotADatabase):
                open_reader(path)
        with open_writer(path) as repository:
            assert repository.counters().record_key == 1
        assert list((path / "tmp").iterdir()) == []
        n_states += 1
        if finished:
            break
    assert finished
    assert n_states > 8, "the interruptions did not reach the steps of a creation"


@pytest.mark.parametrize("foreign", ["seqs.fasta", "tmp/thesis.doc"])
def test_a_directory_of_something_else_is_never_written_to(path, foreign):
    file = path / foreign
    file.parent.mkdir(parents=True)
    file.write_text("precious")
    before = sorted(path.rglob("*"))
    with pytest.raises(NotADatabase), open_writer(path):
        pass
    assert sorted(path.rglob("*")) == before
    with pytest.raises(NotADatabase):
        open_reader(path)


def test_a_catalog_without_a_marker_is_made_a_database_again(database):
    """A crash can leave it so; and so can a careless hand."""
    change_catalog(database, "UPDATE state SET generation = 7")
    (database / "plmsearch.json").unlink()
    with open_writer(database):
        pass
    assert generation(database) == 7


# --- Versions and damage -------------------------------------------------------------------------

OPENERS = [pytest.param(open_reader, id="reader"), pytest.param(open_writer, id="writer")]


def open_and_close(opener, path):
    if opener is open_writer:
        with open_writer(path):
            pass
    else:
        open_reader(path).close()


@pytest.mark.parametrize("opener", OPENERS)
def test_a_newer_format_is_refused_and_left_alone(database, opener):
    (database / "plmsearch.json").write_text(json.dumps({"format_version": FORMAT_VERSION + 1}))
    before = (database / "catalog.sqlite").read_bytes()
    with pytest.raises(SchemaTooNewError):
        open_and_close(opener, database)
    assert (database / "catalog.sqlite").read_bytes() == before


@pytest.mark.parametrize("opener", OPENERS)
@pytest.mark.parametrize(
    ("version", "error"), [("0000", SchemaOutdatedError), ("9999", SchemaTooNewError)], ids=["older", "newer"]
)
def test_another_schema_version_is_refused_and_left_alone(database, opener, version, error):
    change_catalog(database, f"UPDATE alembic_version SET version_num = '{version}'")
    orphan = database / "segments" / "00000009.vec"
    orphan.write_bytes(b"of a file format that is not known here")
    with pytest.raises(error) as caught:
        open_and_close(opener, database)
    assert version in str(caught.value)
    assert HEAD in str(caught.value)
    assert orphan.exists()


@pytest.mark.parametrize("opener", OPENERS)
@pytest.mark.parametrize(
    "statement", ["DELETE FROM alembic_version", "DROP TABLE alembic_version"], ids=["empty", "absent"]
)
def test_a_catalog_without_a_version_is_no_database(database, opener, statement):
    change_catalog(database, statement)
    with pytest.raises(NotADatabase, match="no schema version"):
        open_and_close(opener, database)


@pytest.mark.parametrize("opener", OPENERS)
@pytest.mark.parametrize("content", [b"", b"SQLite format 3\0" + bytes(500), os.urandom(5000)])
def test_a_catalog_that_is_no_catalog_is_refused(database, opener, content):
    (database / "catalog.sqlite").write_bytes(content)
    with pytest.raises(StoreError):
        open_and_close(opener, database)


def test_a_missing_catalog_is_named_to_a_reader(database):
    (database / "catalog.sqlite").unlink()
    with pytest.raises(NotADatabase, match=r"catalog\.sqlite is missing"):
        open_reader(database)


def test_a_missing_catalog_is_not_replaced_by_an_empty_one(database):
    """The segments are still there: an empty catalog would call all of them orphans."""
    segment = database / "segments" / "00000001.vec"
    segment.write_bytes(b"vectors")
    (database / "catalog.sqlite").unlink()
    with pytest.raises(NotADatabase, match=r"catalog\.sqlite"), open_writer(database):
        pass
    assert segment.exists()
    assert not (database / "catalog.sqlite").exists()


# --- Writers -------------------------------------------------------------------------------------


def test_the_next_writer_removes_what_a_crash_left(database):
    leftovers = [database / "segments" / "00000009.vec", database / "derived" / "00000009-1-unit.vec"]
    leftovers.append(database / "tmp" / "00000010.vec")
    for leftover in leftovers:
        leftover.write_bytes(b"half")
    with open_writer(database):
        assert not any(leftover.exists() for leftover in leftovers)


def test_a_reader_removes_nothing(database):
    orphan = database / "segments" / "00000009.vec"
    orphan.write_bytes(b"half")
    open_reader(database).close()
    assert orphan.exists()


def test_deleted_folders_are_made_again(database):
    for name in ("derived", "tmp"):
        (database / name).rmdir()
    with open_writer(database):
        pass
    assert (database / "derived").is_dir()


def test_a_writer_holds_the_lock_and_releases_it_after_an_error(database):
    with pytest.raises(KeyError), open_writer(database):
        with pytest.raises(DatabaseLocked), open_writer(database, lock_timeout_s=0):
            pass
        raise KeyError
    with writer_lock(database, timeout_s=0):
        pass


def test_a_locked_out_writer_touches_nothing(database):
    leftover = database / "tmp" / "00000010.vec"
    leftover.write_bytes(b"of the writer at work")
    with writer_lock(database), pytest.raises(DatabaseLocked), open_writer(database, lock_timeout_s=0):
        pass
    assert leftover.exists()


def test_a_reader_reads_while_a_writer_writes_and_sees_only_what_was_committed(database):
    with open_writer(database) as repository, repository.begin() as connection:
        connection.exec_driver_sql("UPDATE state SET generation = 99")
        assert generation(database) == 0
    assert generation(database) == 99


def test_a_killed_writer_loses_only_its_open_transaction(database):
    code = (
        "import os, signal, sys; from pathlib import Path; "
        "from plmsearch.store.session import open_writer\n"
        "with open_writer(Path(sys.argv[1])) as repository:\n"
        "    repository.begin_run('index', {}, {})\n"
        "    with repository.begin() as connection:\n"
        "        connection.exec_driver_sql('UPDATE state SET generation = 99')\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(database)], check=False).returncode == -9
    assert generation(database) == 0
    with open_writer(database, lock_timeout_s=0) as repository:
        assert [run.status for run in repository.runs()] == ["running"]
        repository.begin_run("index", VERSIONS, {})
        assert [run.status for run in repository.runs()] == ["interrupted", "running"]
