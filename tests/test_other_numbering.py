"""Databases whose variable domains another version of the numbering found."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from antibodies import (
    KMER_CDR3,
    KMER_CHAIN,
    LEADER,
    NO_DOMAIN,
    SCFV,
    VH_2,
    VH_3,
    antibody_db,
    unit_vectors_of,
)
from databases import tamper
from sqlalchemy import update
from support import VH, cli, write_fasta

from plmsearch.database import open_database
from plmsearch.numbering import ImmunumNumberer
from plmsearch.store import tables as t
from plmsearch.verify import verify

RECORDS = [("scfv", SCFV), ("chain", LEADER + VH_2), ("none", NO_DOMAIN), ("vh", VH)]
THEN, NOW = ImmunumNumberer().describe(), "IMGT immunum 99.0"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same records as domains and as chains; as domains of another region; as chains alone."""
    folder = tmp_path_factory.mktemp("made")
    antibody_db(folder / "both", RECORDS, chains=True)
    antibody_db(folder / "fwr", RECORDS, regions="fwr")
    return folder


@pytest.fixture
def path(made, tmp_path, monkeypatch):
    copied = Path(shutil.copytree(made / "both", tmp_path / "db"))
    monkeypatch.setattr(ImmunumNumberer, "describe", lambda _: NOW)
    return copied


def test_new_sequences_and_queries_are_refused_and_both_versions_named(path, tmp_path):
    rows = write_fasta(tmp_path / "in.fasta", [("new", VH_3)])
    antibody_db(tmp_path / "other", [("new", VH_3)])
    for asked in (
        ("index", path, rows),
        ("query", path, rows),
        ("query", path, tmp_path / "other"),
        ("merge", path, tmp_path / "other", "-o", tmp_path / "merged"),
    ):
        done = cli(*asked)
        assert done.code == 1 and THEN in done.err and NOW in done.err, (asked, done.err)
    with open_database(path) as db:
        assert len(db) == len(RECORDS) and verify(db, full=True) == []
    assert not (tmp_path / "merged").exists()


def test_what_is_stored_is_searched_and_a_cdr3_that_may_be_cut_otherwise_is_said(path, tmp_path):
    found = cli("query", path, "--id", "vh", "-k", 1, "--exclude-self", "--format-output", "target,score")
    assert found.code == 0 and found.rows[0][0] == "scfv"
    rows = write_fasta(tmp_path / "in.fasta", [("new", VH_3)])
    asked = ("query", path, "--min-cdr3-identity", 1, "--no-model")
    done = cli(*asked, rows)
    assert done.code == 0 and THEN in done.err and NOW in done.err and "warning" in done.err
    assert NOW not in cli(*asked, "--id", "vh").err


def test_stored_domains_are_embedded_as_they_were_cut(made, path):
    """More regions, and what a damaged file held: no sequence is numbered again."""
    done = cli("embed", path, "--model", "kmer", "--regions", "fwr")
    assert done.code == 0, done.err
    before = unit_vectors_of(path)
    expected = unit_vectors_of(made / "fwr")["kmer/1/fwr/mean"]
    assert before["kmer/1/fwr/mean"].keys() == expected.keys()
    with open_database(path) as db:
        assert {s.spec.numbering for s in db.spaces()} == {THEN, ""}
        (space,) = (s for s in db.spaces() if s.spec.name == KMER_CDR3)
        (segment,) = db.repository.segments(space.space_id)
    (path / "segments" / segment.file).unlink()
    done = cli("repair", path)
    assert done.code == 0 and "3 sequences embedded anew" in done.err, done.err
    after = unit_vectors_of(path)
    for name, vectors in {**before, "kmer/1/fwr/mean": expected}.items():
        for unit_id, vector in vectors.items():
            np.testing.assert_allclose(after[name][unit_id], vector, atol=1e-6, rtol=0)


def test_sequences_that_nobody_looked_at_are_not_numbered_by_two_versions(made, tmp_path, monkeypatch):
    path = Path(shutil.copytree(made / "both", tmp_path / "db"))
    tamper(path, update(t.sequences).where(t.sequences.c.n_domains == 0).values(n_domains=None))
    monkeypatch.setattr(ImmunumNumberer, "describe", lambda _: NOW)
    done = cli("embed", path, "--model", "kmer", "--regions", "fwr")
    assert done.code == 1 and THEN in done.err and NOW in done.err and "not looked at" in done.err
    assert KMER_CHAIN in cli("info", path).out
