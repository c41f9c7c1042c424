"""Damage to variable domains is found and named, and mended where it can be."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from antibodies import (
    KMER_CDR3,
    KMER_CHAIN,
    KMER_DOMAIN,
    LEADER,
    NO_DOMAIN,
    SCFV,
    VH_2,
    VH_3,
    antibody_db,
    assert_same_units,
    domains_of,
    unit_vectors_of,
)
from databases import assert_sound, tamper
from sqlalchemy import delete, select, update
from support import VH, VL, break_seal, cli, watched_kmer

from plmsearch.backup import backup, restore
from plmsearch.database import open_database
from plmsearch.optimize import optimize
from plmsearch.repair import repair
from plmsearch.store import tables as t
from plmsearch.store.connection import sqlite_module
from plmsearch.store.directory import Layout
from plmsearch.verify import verify

RECORDS = [
    ("scfv", SCFV),
    ("chain", LEADER + VH_2),
    ("none", NO_DOMAIN),
    ("pair", f"{VL};{VH_3}"),
    ("vh", VH),
]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return antibody_db(tmp_path_factory.mktemp("template") / "db", RECORDS, chains=True)


@pytest.fixture
def path(template, tmp_path):
    return Path(shutil.copytree(template, tmp_path / "db"))


def problems(path, *, full=True):
    with open_database(path) as db:
        return [f.problem for f in verify(db, full=full) if f.severity == "damage"]


def test_nothing_is_wrong_with_what_is_whole(path):
    with open_database(path) as db:
        assert verify(db) == verify(db, full=True) == []


D, S = t.domains.c, t.sequences.c
SCFV_ID = select(S.id).where(S.residues == SCFV).scalar_subquery()
OF_SCFV = D.source_id == SCFV_ID
SOURCE = update(t.sequences).where(S.residues == SCFV)
FIRST, SECOND = (update(t.domains).where(OF_SCFV, D.number == n) for n in (1, 2))


@pytest.mark.parametrize(
    ("statement", "said", "needs_full"),
    [
        (delete(t.domains).where(OF_SCFV, D.number == 2), "1 variable domains, and 2 were counted", False),
        (delete(t.domains).where(OF_SCFV), "0 variable domains, and 2 were counted", False),
        (SOURCE.values(n_domains=3), "2 variable domains, and 3", False),
        (SOURCE.values(n_domains=0), "2 variable domains, and 0", False),
        (SOURCE.values(n_domains=None), "and none were", False),
        (SECOND.values(number=3), "2 variable domains, and 2", False),
        (FIRST.values(number=0), "2 variable domains, and 2", False),
        (SECOND.values(start=136), "not within it", False),
        (FIRST.values(start=-1), "not within it", False),
        (FIRST.values(cdr1_end=3), "not within it", False),
        (FIRST.values(fwr4_end=119), "not within it", False),
        (FIRST.values(start=1), "not those of its place", True),
        (
            update(t.domains)
            .where(OF_SCFV, D.number == 1)
            .values(sequence_id=select(S.id).where(S.residues == VH_3).scalar_subquery()),
            "not those of its place",
            True,
        ),
        (delete(t.records).where(t.records.c.record_id == "scfv"), "and no record", False),
    ],
)  # fmt: skip
def test_a_change_of_a_domain_is_found(path, statement, said, needs_full):
    tamper(path, statement)
    assert any(said in p for p in problems(path)), problems(path)
    assert any(said in p for p in problems(path, full=False)) != needs_full


def test_a_row_of_a_sequence_that_is_not_there_is_found(path):
    gone = {"source_id": 99, "number": 1, "sequence_id": 98, "locus": "IGH", "start": 0, "is_complete": 1}
    ends = {f"{r}_end": n for n, r in enumerate(["fwr1", "cdr1", "fwr2", "cdr2", "fwr3", "cdr3", "fwr4"], 1)}
    raw = sqlite_module().connect(Layout(path).catalog)
    names = ", ".join({**gone, **ends})
    raw.execute(f"INSERT INTO domains ({names}) VALUES ({', '.join(map(repr, {**gone, **ends}.values()))})")
    raw.commit()
    raw.close()
    break_seal(path)
    assert any("domains refers to rows of sequences that are not there" in p for p in problems(path))


def test_a_sequence_nobody_looked_at_is_missing_in_the_space(path):
    tamper(
        path,
        delete(t.domains).where(OF_SCFV),
        SOURCE.values(n_domains=None),
    )
    assert any("have no vector" in p for p in problems(path))
    assert cli("repair", path).code == 0


# --- Mending -------------------------------------------------------------------------------------


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize("names", [[KMER_CDR3], [KMER_DOMAIN], [KMER_DOMAIN, KMER_CDR3], [KMER_CHAIN]])
def test_a_damaged_segment_is_embedded_again_as_its_space_reads(path, template, names):
    with open_database(path) as db:
        for space in db.spaces():
            if space.spec.name in names:
                for segment in db.repository.segments(space.space_id):
                    flip(Layout(path).segments / segment.file)
    assert problems(path)
    done = cli("repair", path)
    assert done.code == 0, done.err
    assert_same_units(path, template)
    with open_database(path) as db:
        assert verify(db, full=True) == []
        assert db.rankings()[0].name == "antibody"
        assert [s.spec.name for s in db.spaces()] == [KMER_DOMAIN, KMER_CDR3, KMER_CHAIN]


def test_the_records_of_a_damaged_segment_are_named(path):
    with open_database(path) as db:
        space = next(s for s in db.spaces() if s.spec.name == KMER_CDR3)
        for segment in db.repository.segments(space.space_id):
            (Layout(path).segments / segment.file).unlink()
        report = repair(db)
    assert [q.record_ids for q in report.quarantined] == [["scfv", "chain", "pair", "vh"]]
    assert report.n_embedded == 4 and report.lost == []  # VH of two records is one domain


# --- Giving back room ----------------------------------------------------------------------------


def test_a_domain_of_two_records_stays_while_one_is_there(path):
    before = unit_vectors_of(path)
    with open_database(path) as db:
        db.delete(["scfv"])
        assert not any(h.target == "scfv" for h in db.search([VH], k=9)[0])
        report = optimize(db)
        assert report.n_records_dropped == 1
        assert verify(db, full=True) == []
        residues = set(db.repository.residues(range(1, 100)).values())
    assert SCFV not in residues and {VH, VL} <= residues
    after = unit_vectors_of(path)
    for space, vectors in after.items():
        kept = {name for name in before[space] if not name.startswith("scfv")}
        assert vectors.keys() == kept
        for name in kept:
            np.testing.assert_array_equal(vectors[name], before[space][name])


def test_a_domain_that_is_a_deleted_record_too_stays(path):
    """The chain `vh` is the first domain of `scfv`."""
    with open_database(path) as db:
        db.delete(["vh"])
        optimize(db)
        assert verify(db, full=True) == []
        assert [r for r, _ in domains_of(path)["scfv"]] == [VH, VL]
        assert len(db.vectors(["scfv#1"])) == 1


def test_what_nothing_uses_any_more_is_gone(path):
    with open_database(path) as db:
        db.delete(["scfv", "vh", "pair", "chain"])
        optimize(db)
        assert verify(db, full=True) == []
        assert list(db.repository.residues(range(1, 100)).values()) == [NO_DOMAIN]
        assert {s.spec.name: s.n_vectors for s in db.spaces()} == {
            KMER_DOMAIN: 0,
            KMER_CDR3: 0,
            KMER_CHAIN: 1,
        }
        with db.repository.begin() as connection:
            assert connection.execute(select(D.source_id)).all() == []


def test_what_was_deleted_comes_back_with_its_domains(path, template, monkeypatch):
    with open_database(path) as db:
        db.delete(["scfv", "vh"])
    with watched_kmer(monkeypatch) as passes:
        antibody_db(path, RECORDS)
    assert passes == []  # its vectors were still there
    with open_database(path) as db:
        db.delete(["scfv", "vh"])
        optimize(db)
    antibody_db(path, RECORDS)
    assert_same_units(path, template)
    assert_sound(path)


# --- Copies --------------------------------------------------------------------------------------


def test_a_backup_has_domains_and_rankings(path, template, tmp_path):
    with open_database(path) as db:
        backup(db, tmp_path / "copy")
    restore(tmp_path / "copy", tmp_path / "again")
    assert_same_units(tmp_path / "again", template)
    with open_database(tmp_path / "again") as db:
        assert verify(db, full=True) == []
        assert db.rankings()[0].name == "antibody"
