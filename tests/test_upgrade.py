"""Databases of every earlier schema open or are upgraded, and say what they said."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from antibodies import domains_of
from support import cli, contents
from torture.next_schema import NEXT, write_migrations

from plmsearch import upgrade as module
from plmsearch.database import open_database
from plmsearch.embedding.spec import SpaceRequest
from plmsearch.errors import SchemaOutdatedError, StorageError
from plmsearch.search.hits import SearchOptions
from plmsearch.store import schema
from plmsearch.store.directory import Layout
from plmsearch.upgrade import upgrade
from plmsearch.verify import verify

DATA = Path(__file__).parent / "data"
GOLDEN = sorted(p for p in (DATA / "golden").iterdir() if p.name.isdecimal())
DOMAINS = sorted((DATA / "golden").glob("*-domains"))


def maker():
    spec = importlib.util.spec_from_file_location("make_golden", DATA / "make_golden.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


@pytest.fixture
def path(tmp_path):
    shutil.copytree(DATA / "golden" / schema.HEAD / "db", tmp_path / "db")
    return tmp_path / "db"


@pytest.fixture
def next_version(tmp_path, monkeypatch):
    """Make this plmsearch one whose schema has one revision more."""

    def install(more: str = "pass") -> None:
        folder = write_migrations(tmp_path / "migrations", more)
        monkeypatch.setattr(schema, "migrations_directory", lambda: folder)
        for place in (schema, module):
            monkeypatch.setattr(place, "HEAD", NEXT)

    return install


def test_there_is_a_golden_database_of_the_present_schema():
    assert schema.HEAD in [p.name for p in GOLDEN]
    assert f"{schema.HEAD}-domains" in [p.name for p in DOMAINS]


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda p: p.name)
def test_a_golden_database_is_upgraded_and_answers_as_it_did(golden, tmp_path):
    shutil.copytree(golden / "db", tmp_path / "db")
    assert upgrade(tmp_path / "db").after == schema.HEAD
    assert maker().answers(tmp_path / "db") == json.loads((golden / "answers.json").read_text())
    with open_database(tmp_path / "db") as db:
        assert [f for f in verify(db, full=True) if f.severity == "damage"] == []
        assert db.add([("new", "EVQLVESGGGLVQPGG")]).n_added == 1


@pytest.mark.parametrize("golden", DOMAINS, ids=lambda p: p.name)
def test_a_golden_database_of_domains_is_upgraded_and_answers_as_it_did(golden, tmp_path):
    path = shutil.copytree(golden / "db", tmp_path / "db")
    assert upgrade(path).after == schema.HEAD
    assert maker().domain_answers(path) == json.loads((golden / "answers.json").read_text())
    with open_database(path) as db:
        assert [f for f in verify(db, full=True) if f.severity == "damage"] == []
        # Embeds what is stored; new chains would need the version of the numbering that was.
        assert db.embed(SpaceRequest("kmer", regions="fwr")).spaces == ["kmer/1/fwr/mean"]


@pytest.mark.parametrize("golden", DOMAINS, ids=lambda p: p.name)
@pytest.mark.parametrize("is_upgraded", [False, True])
def test_hits_of_a_golden_database_of_domains_are_of_the_querys_locus_unless_asked(
    golden, is_upgraded, tmp_path
):
    """Before any write too, though the versions of schema 0004 stored no locus with vectors of k-mers."""
    path = shutil.copytree(golden / "db", tmp_path / "db")
    if is_upgraded or golden.name.partition("-")[0] != schema.HEAD:
        upgrade(path)
    with open_database(path) as db:
        locus = {(i, d.number): d.locus for i, of in domains_of(path).items() for _, d in of}
        for name in ("antibody", "kmer/1/cdr3/mean"):
            ranking, options = db.ranking(name), SearchOptions(k=20, significance=False)
            within = list(db.search_stored(["scfv", "h1", "two"], ranking, options))
            across = db.search_stored(["scfv", "h1", "two"], ranking, replace(options, across_loci=True))
            for (query, hits), (_, every) in zip(within, across, strict=True):
                assert {h.domain.locus for h in hits} == {query.locus}
                assert {h.target for h in hits} == {i for (i, _), own in locus.items() if own == query.locus}
                best = {h.target: h.score for h in every}
                assert all(h.score == pytest.approx(best[h.target]) for h in hits)


def test_an_outdated_database_is_refused_with_the_command_that_upgrades_it(path, next_version):
    next_version()
    with pytest.raises(SchemaOutdatedError, match=f"run: plmsearch upgrade {path}"):
        open_database(path)
    result = cli("info", path)
    assert (result.code, result.out) == (1, "")


def test_an_upgrade_keeps_the_database_as_it_was_beside_it(path, next_version):
    before = contents(path)
    head = schema.HEAD
    next_version()
    report = upgrade(path)
    assert (report.before, report.after, report.copy) == (head, "9999", path.with_name(f"db.schema-{head}"))
    assert contents(path) == before


def test_the_copy_opens_in_the_version_that_wrote_it(path, next_version, monkeypatch):
    before = contents(path)
    with monkeypatch.context():
        next_version()
        copy = upgrade(path).copy
    monkeypatch.undo()
    shutil.rmtree(path)
    assert contents(copy) == before


def test_an_upgrade_that_fails_leaves_the_database_as_it_was(path, next_version):
    head = schema.HEAD
    next_version("op.execute('no such statement')")
    with pytest.raises(StorageError):
        upgrade(path)
    with closing(sqlite3.connect(path / "catalog.sqlite")) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(head,)]
        assert "note" not in [row[1] for row in connection.execute("PRAGMA table_info(runs)")]


def test_a_second_upgrade_has_nothing_to_do_and_an_earlier_copy_is_not_written_over(path, next_version):
    assert upgrade(path).copy is None
    result = cli("upgrade", path)
    assert (result.code, result.out) == (0, "")
    assert "already" in result.err
    path.with_name(f"db.schema-{schema.HEAD}").mkdir()
    next_version()
    with pytest.raises(StorageError, match="copy of an earlier upgrade"):
        upgrade(path)


def test_an_upgrade_that_was_interrupted_goes_on_with_the_copy_it_had_made(path, next_version, monkeypatch):
    before, copy = contents(path), path.with_name(f"db.schema-{schema.HEAD}")
    next_version()
    with monkeypatch.context() as patch:
        patch.setattr(module, "create_schema", lambda _: os.close(-1))
        with pytest.raises(OSError, match="Bad file"):
            upgrade(path)
    inode = copy.stat().st_ino
    assert upgrade(path).copy == copy
    assert (copy.stat().st_ino, contents(path)) == (inode, before)


def test_segments_are_shared_with_the_copy(path, next_version):
    next_version()
    copy = upgrade(path).copy
    (segment,) = Layout(path).segments.iterdir()
    assert segment.samefile(Layout(copy).segments / segment.name)
