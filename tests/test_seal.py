"""The seal finds any change of the catalog's file that no writer made, and no writer is ever accused."""

import os
import shutil
import threading
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import cli, contents, make_db, records

from plmsearch.backup import backup, restore
from plmsearch.database import open_database
from plmsearch.errors import CatalogDamaged
from plmsearch.optimize import optimize
from plmsearch.store.connection import sqlite_module
from plmsearch.store.directory import Layout
from plmsearch.store.seal import check_seal, is_sealed, seal
from plmsearch.store.session import open_reader, open_writer
from plmsearch.verify import verify


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    return make_db(tmp_path_factory.mktemp("seal") / "db", records(20))


@pytest.fixture
def path(template, tmp_path):
    # With the times of the files, as `cp -a` would.
    return shutil.copytree(template, tmp_path / "db")


def flip(path, offset, bit, *, keep_times=False):
    status = path.stat()
    with path.open("r+b") as file:
        file.seek(offset)
        (byte,) = file.read(1)
        file.seek(offset)
        file.write(bytes([byte ^ 1 << bit]))
    if keep_times:
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def damage(findings):
    return [f.where for f in findings if f.severity == "damage"]


@given(st.data())
def test_any_flipped_bit_of_the_catalog_is_refused_by_reader_and_writer(template, tmp_path_factory, data):
    path = shutil.copytree(template, tmp_path_factory.mktemp("flip") / "db")
    catalog = path / "catalog.sqlite"
    flip(catalog, data.draw(st.integers(0, catalog.stat().st_size - 1)), data.draw(st.integers(0, 7)))
    before = catalog.read_bytes()
    with pytest.raises(CatalogDamaged, match="bytes"):
        open_reader(path)
    with pytest.raises(CatalogDamaged), open_writer(path):
        pass
    assert catalog.read_bytes() == before
    shutil.rmtree(path)


@pytest.mark.parametrize("size", [0, 1, 4096, -1])
def test_a_catalog_that_was_cut_or_grew_is_refused(path, size):
    catalog = path / "catalog.sqlite"
    os.truncate(catalog, size if size >= 0 else catalog.stat().st_size + 4096)
    with pytest.raises(CatalogDamaged, match="were written"):
        open_reader(path)


@given(st.data())
def test_a_damaged_seal_accuses_nobody_and_is_made_anew(template, tmp_path_factory, data):
    path = shutil.copytree(template, tmp_path_factory.mktemp("flip") / "db")
    file = path / "catalog.seal"
    flip(file, data.draw(st.integers(0, file.stat().st_size - 1)), data.draw(st.integers(0, 7)))
    assert len(contents(path)) == 20
    assert not is_sealed(Layout(path))
    with open_writer(path):
        pass
    assert is_sealed(Layout(path))
    shutil.rmtree(path)


def test_a_change_that_left_the_times_as_they_were_is_found_by_a_full_verify(path):
    with open_writer(path):
        pass  # a copy has another inode than its seal
    flip(path / "catalog.sqlite", 5000, 3, keep_times=True)
    open_reader(path).close()
    with open_database(path) as db:
        assert "catalog.sqlite" in damage(verify(db, full=True))
        with pytest.raises(CatalogDamaged):
            backup(db, path.with_name("backup"))


def test_every_change_of_a_database_leaves_it_sealed(path):
    layout = Layout(path)
    with open_database(path, create=True) as db:
        db.add([("new", "ACDEFGHIKLMNPQ")])
        check_seal(layout, full=True)
        assert is_sealed(layout)
        db.delete(["new", "r1"])
        check_seal(layout, full=True)
        optimize(db)
        check_seal(layout, full=True)
        assert is_sealed(layout)
        backup(db, path.with_name("backup"))
    restored = path.with_name("restored")
    restore(path.with_name("backup"), restored)
    for one in (path, path.with_name("backup"), restored):
        check_seal(Layout(one), full=True)
        with open_database(one) as db:
            assert [f for f in verify(db, full=True) if f.severity != "rebuildable"] == []
    assert "catalog.seal" in (path.with_name("backup") / "SHA256SUMS").read_text()


def test_a_database_is_not_sealed_while_it_is_written_to_and_can_be_read(path):
    layout = Layout(path)
    with open_writer(path) as repository:
        assert not layout.seal.exists()
        repository.begin_run("index", {}, {})
        assert len(contents(path)) == 20
        with open_database(path) as db:
            assert [(f.severity, f.where) for f in verify(db)] == [("note", "catalog.seal")]
    assert is_sealed(layout)


def test_no_seal_is_made_while_a_reader_needs_the_log(path):
    layout = Layout(path)
    with closing(sqlite_module().connect(layout.catalog, isolation_level=None)) as reader:
        if reader.execute("PRAGMA journal_mode").fetchone() != ("wal",):
            pytest.skip("this SQLite writes with a rollback journal, which a reader cannot hold up")
        with open_writer(path) as repository:
            reader.execute("BEGIN")
            reader.execute("SELECT * FROM runs").fetchall()
            repository.begin_run("index", {}, {})
        assert not is_sealed(layout)
        assert len(contents(path)) == 20
        reader.execute("COMMIT")
    # That reader, the last to close, folded the log into the file: nobody calls that damage.
    assert len(contents(path)) == 20
    with open_writer(path):
        pass
    assert is_sealed(layout)


def test_readers_never_take_a_writer_at_work_for_damage(path):
    """Copies have other inodes, so each of these readers compares the whole file."""
    stop, failures = threading.Event(), []

    def read():
        while not stop.is_set():
            try:
                check_seal(Layout(path), full=True)
            except CatalogDamaged as error:
                failures.append(error)

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(40):
        with open_writer(path) as repository:
            repository.finish_run(repository.begin_run("index", {}, {}), "finished", {})
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []


def test_what_the_system_refuses_leaves_a_database_without_a_seal_not_a_failed_job(path, monkeypatch):
    real = os.rename

    def full(source, target, **options):
        if str(target).endswith("catalog.seal"):
            raise OSError(28, "No space left on device")
        return real(source, target, **options)

    monkeypatch.setattr(os, "rename", full)
    with open_writer(path):
        pass
    assert not seal(Layout(path))
    assert not any((path / "tmp").iterdir())
    assert len(contents(path)) == 20


def test_a_catalog_that_was_changed_on_purpose_can_be_accepted(path):
    with closing(sqlite_module().connect(path / "catalog.sqlite")) as connection:
        connection.execute("UPDATE records SET description = 'by hand' WHERE record_id = 'r3'")
        connection.commit()
    refused = cli("info", path)
    assert refused.code == 1
    assert "repair --accept-catalog" in refused.err
    assert cli("repair", path, "--accept-catalog").code == 0
    with open_database(path) as db:
        assert db.get(["r3"])[0].description == "by hand"
        assert verify(db, full=True) == []


def test_a_catalog_that_is_not_whole_is_not_accepted(path):
    catalog = path / "catalog.sqlite"
    content = catalog.read_bytes()
    residues = records(20)[1][1].encode()
    catalog.write_bytes(content.replace(residues, b"W" + residues[:-1]))
    refused = cli("repair", path, "--accept-catalog")
    assert refused.code == 1
    assert "hash" in refused.err
    with pytest.raises(CatalogDamaged):
        open_reader(path)
