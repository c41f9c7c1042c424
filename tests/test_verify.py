"""`verify` finds whatever is wrong, names it and what mends it; `repair` mends it."""

from __future__ import annotations

import os
import random

import numpy as np
import pytest
from sqlalchemy import delete, update
from support import cli, contents, make_db, records

from plmsearch.database import open_database
from plmsearch.embedding.kmer import KmerEmbedder
from plmsearch.embedding.spec import SpaceRequest
from plmsearch.errors import EmbeddingError
from plmsearch.repair import repair
from plmsearch.store import audit
from plmsearch.store import tables as t
from plmsearch.store.directory import Layout
from plmsearch.store.repository import Repository
from plmsearch.store.session import open_writer
from plmsearch.verify import verify

RECORDS = records(30)


@pytest.fixture
def path(tmp_path):
    make_db(tmp_path / "db", RECORDS[:20])
    return make_db(tmp_path / "db", RECORDS)


def findings(path, *, full=False):
    with open_database(path) as db:
        return verify(db, full=full)


def first_segment(path):
    return min(Layout(path).segments.iterdir())


def held_by_first_segment(path):
    with open_database(path) as db:
        sequence_ids = audit.vector_ids(db.repository, 1).tolist()
        found = db.repository.records_of_sequences(sequence_ids)
        return [r.record_id for i in sequence_ids for r in found[i]]


def tamper(path, statement):
    with open_writer(path) as repository, repository.begin() as connection:
        connection.exec_driver_sql("PRAGMA defer_foreign_keys=ON")
        connection.execute(statement)


def test_a_whole_database_has_no_findings(path):
    assert findings(path) == []
    assert findings(path, full=True) == []


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        (
            delete(t.ledger).where(t.ledger.c.row == 3, t.ledger.c.run_id == 1),
            "19 ledger rows added, 20 were",
        ),
        (delete(t.vectors).where(t.vectors.c.sequence_id == 5), "1 sequences have no vector"),
        (update(t.vectors).where(t.vectors.c.sequence_id == 5).values(row=6), "the catalog has other rows"),
        (update(t.vectors).where(t.vectors.c.sequence_id == 5).values(segment_id=2), "has other rows for it"),
    ],
)
def test_a_catalog_that_contradicts_itself_is_found_by_the_fast_check(path, statement, problem):
    tamper(path, statement)
    assert any(problem in f.problem and f.severity == "damage" for f in findings(path)), findings(path)


def test_rows_that_were_swapped_and_residues_that_were_changed_are_found_by_the_full_check(path):
    tamper(
        path,
        update(t.vectors)
        .where(t.vectors.c.sequence_id.in_([5, 6]))
        .values(row=11 - t.vectors.c.sequence_id - 1),
    )
    tamper(
        path, update(t.sequences).where(t.sequences.c.id == 9).values(residues=t.sequences.c.residues + "A")
    )
    assert findings(path) == []
    problems = " ".join(f.problem for f in findings(path, full=True))
    assert "its rows belong to other sequences" in problems
    assert "sequence 9 do not have the hash" in problems


@pytest.mark.parametrize("seed", range(8))
def test_a_flipped_bit_anywhere_in_a_vector_file_is_found_and_mended(path, seed):
    rng = random.Random(seed)
    layout = Layout(path)
    file = rng.choice(sorted([*layout.segments.iterdir(), *layout.derived.iterdir()]))
    content = bytearray(file.read_bytes())
    place = rng.randrange(len(content))
    content[place] ^= 1 << rng.randrange(8)
    with open_database(path) as db:
        names = [name for name, _ in RECORDS]
        before = db.vectors(names)
    kept = contents(path)
    file.write_bytes(content)
    (found,) = findings(path, full=True)
    assert found.where == f"{file.parent.name}/{file.name}"
    assert found.severity == ("damage" if file.parent == layout.segments else "rebuildable")
    assert found.remedy == f"plmsearch repair {path}"
    with open_database(path) as db:
        repair(db)
    assert findings(path, full=True) == []
    assert contents(path) == kept
    with open_database(path) as db:
        np.testing.assert_allclose(db.vectors(names), before, atol=1e-5)


def test_a_missing_segment_is_embedded_anew_and_its_records_are_named(path):
    first = first_segment(path)
    held = held_by_first_segment(path)
    first.unlink()
    (found,) = findings(path)
    assert (found.where, found.problem) == (f"segments/{first.name}", "it is missing")
    result = cli("repair", path)
    assert result.code == 0
    assert result.out.split() == held
    assert f"1 vector file damaged, {len(held)} sequences embedded anew" in result.err
    assert findings(path, full=True) == []


def test_the_damaged_file_is_kept(path):
    first = first_segment(path)
    content = bytearray(first.read_bytes())
    content[70] ^= 1
    first.write_bytes(content)
    with open_database(path) as db:
        (quarantined,) = repair(db).quarantined
    assert (path / quarantined.file).read_bytes() == bytes(content)
    assert "not what was written" in quarantined.reason


def test_an_interrupted_repair_is_never_searched_and_is_continued(path, monkeypatch):
    held = held_by_first_segment(path)
    first_segment(path).unlink()

    def fail(*_):
        raise EmbeddingError("no memory left")

    with monkeypatch.context() as patch, open_database(path) as db:
        patch.setattr(KmerEmbedder, "residue_embeddings", fail)
        with pytest.raises(EmbeddingError, match="no memory left"):
            repair(db)
    with open_database(path) as db, pytest.raises(EmbeddingError, match="not complete"):
        db.search([RECORDS[0][1]], k=1)
    with open_database(path) as db:
        assert repair(db).n_embedded == len(held)
        assert db.search([RECORDS[0][1]], k=1)[0][0].target == "r0"
    assert findings(path, full=True) == []


def test_a_damaged_space_leaves_the_others_alone(path):
    with open_database(path) as db:
        db.embed(SpaceRequest("kmer", "0"))
        damaged = db.repository.segments(db.spaces()[1].space_id)[0]
    (Layout(path).segments / damaged.file).unlink()
    with open_database(path) as db:
        repair(db)
        assert [s.is_complete for s in db.spaces()] == [True, True]
        assert db.search([RECORDS[0][1]], k=1)[0][0].target == "r0"


def test_a_space_that_is_not_complete_is_a_note_and_a_leftover_file_too(path):
    tamper(path, update(t.spaces).values(is_complete=0))
    (Layout(path).segments / "99999999.vec").write_bytes(b"left over")
    found = findings(path)
    assert [f.severity for f in found] == ["note", "note"]
    assert "plmsearch embed" in found[0].remedy


def test_the_command_prints_findings_and_says_by_its_exit_code_whether_all_is_well(path):
    assert cli("verify", path).code == 0
    assert "every checksum in order" in cli("verify", path, "--full").out
    first = first_segment(path)
    first.unlink()
    result = cli("verify", path)
    assert result.code == 1
    severity, where, problem, remedy = result.out.splitlines()[0].split("\t")
    assert (severity, where, problem) == ("damage", f"segments/{first.name}", "it is missing")
    assert remedy == f"plmsearch repair {path}"


@pytest.mark.parametrize("has_links", [True, False])
def test_a_damaged_file_has_a_name_at_any_moment_of_a_repair(path, monkeypatch, has_links):
    """Stopped before the catalog forgets it, and repeated; also where there are no hard links."""

    def refuse(*_):
        raise OSError(1, "Operation not permitted")

    if not has_links:
        monkeypatch.setattr(os, "link", refuse)
    segment, n_held = first_segment(path), len(held_by_first_segment(path))
    content = bytearray(segment.read_bytes())
    content[200] ^= 1
    segment.write_bytes(content)
    kept = Layout(path).quarantine / segment.name
    with monkeypatch.context() as patch:
        patch.setattr(Repository, "drop_segment", refuse)
        with open_database(path) as db, pytest.raises(OSError, match="not permitted"):
            repair(db)
    assert segment.read_bytes() == kept.read_bytes() == content
    with open_database(path) as db:
        assert repair(db).n_embedded == n_held
    assert not segment.exists()
    assert kept.read_bytes() == content
    assert findings(path, full=True) == []
