from __future__ import annotations

import errno
import json
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import update
from support import all_vectors, cli, contents, ledger, make_db, records

import plmsearch
from plmsearch.database import open_database
from plmsearch.embedding.spec import external_spec
from plmsearch.exchange import writer
from plmsearch.store import tables as t
from plmsearch.store import vector_files
from plmsearch.store.session import open_writer
from plmsearch.verify import verify

RNG = np.random.default_rng(0)
VECTORS = RNG.standard_normal((7, 5)).astype(np.float32)
IDS = [f"p{i}" for i in range(7)]


def npz(path: Path, vectors: np.ndarray = VECTORS, ids: list[str] = IDS) -> Path:
    np.savez(path, ids=np.array(ids), embeddings=vectors)
    return path


@pytest.fixture
def path(tmp_path):
    assert cli("import", tmp_path / "db", npz(tmp_path / "x.npz"), "--space", "mine").code == 0
    return tmp_path / "db"


def findings(path: Path) -> list[str]:
    with open_database(path) as db:
        return [f"{f.severity}: {f.problem}" for f in verify(db, full=True)]


def test_vectors_without_sequences_are_found_by_id_and_by_vector(path):
    assert findings(path) == []
    assert {i: r[0] for i, r in contents(path).items()} == dict.fromkeys(IDS, "")
    with open_database(path) as db:
        hits = db.search(VECTORS, k=1)
        assert db.spaces()[0].spec == external_spec("mine", 5)
    assert [h[0].target for h in hits] == IDS
    assert cli("query", path, "--id", "p3", "-k", "1").rows[0][:2] == ["p3", "p3"]
    assert [row["outcome"] for row in ledger(path, 1)] == ["added"] * 7


def test_the_oracle_is_the_array_in_several_segments(tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "_MAX_ROWS", 3)
    cli("import", tmp_path / "db", npz(tmp_path / "x.npz"))
    ((_, found),) = all_vectors(tmp_path / "db").items()
    np.testing.assert_array_equal(np.stack([found[i] for i in IDS]), VECTORS)
    assert len(list((tmp_path / "db" / "segments").iterdir())) == 3
    assert findings(tmp_path / "db") == []


@pytest.mark.parametrize("known", [[0], [6], [1, 2, 5], []], ids=str)
def test_known_rows_are_passed_over_wherever_they_stand(tmp_path, monkeypatch, known):
    monkeypatch.setattr(writer, "_MAX_ROWS", 3)
    path = tmp_path / "db"
    first = [*known, *({0, 3} - {*known} if not known else ())]
    cli("import", path, npz(tmp_path / "x.npz", VECTORS[first], [IDS[i] for i in first]), "--space", "mine")
    done = cli("import", path, npz(tmp_path / "y.npz"), "--space", "mine")
    assert f"{7 - len(first)} added" in done.err and f"{len(first)} already present" in done.err
    assert [row["outcome"] == "present" for row in ledger(path, 2)] == [i in first for i in range(7)]
    assert [(row["row"], row["input_id"]) for row in ledger(path, 2)] == list(enumerate(IDS, start=1))
    ((_, found),) = all_vectors(path).items()
    np.testing.assert_array_equal(np.stack([found[i] for i in IDS]), VECTORS)
    assert findings(path) == []


def test_an_id_that_a_renamed_record_took_is_renamed_too(path, tmp_path):
    for rows, ids in (slice(1, 2), ["p0"]), (slice(2, 4), ["p0_2", "new"]):
        other = npz(tmp_path / "y.npz", VECTORS[rows], ids)
        assert cli("import", path, other, "--space", "mine", "--on-duplicate", "rename").code == 0
    vectors = all_vectors(path)["external:mine/0/whole/mean"]
    for record_id, row in {"p0": 0, "p0_2": 1, "p0_2_2": 2, "new": 3}.items():
        np.testing.assert_array_equal(vectors[record_id], VECTORS[row])
    assert findings(path) == []


@pytest.mark.parametrize("unit", [False, True])
def test_a_full_disk_keeps_what_was_committed_and_the_same_command_continues(tmp_path, monkeypatch, unit):
    monkeypatch.setattr(writer, "_MAX_ROWS", 3)
    path, file, write = tmp_path / "db", npz(tmp_path / "x.npz"), vector_files.write_segment

    def full(target, *content, **how):
        if target.name == f"00000002{'-1-unit' * unit}.vec":
            raise OSError(errno.ENOSPC, "No space left on device", str(target))
        return write(target, *content, **how)

    with monkeypatch.context() as patch:
        patch.setattr(vector_files, "write_segment", full)
        done = cli("import", path, file, "--space", "mine")
    assert done.code != 0 and "free some space and run the same command again" in done.err
    assert list(contents(path)) == IDS[:3]
    with open_database(path) as db:
        (run,) = db.repository.runs()
        assert (run.status, json.loads(run.summary or "")["n_added"]) == ("failed", 3)
    assert cli("import", path, file, "--space", "mine").code == 0
    assert list(contents(path)) == IDS and findings(path) == []


def test_a_hash_that_is_not_that_of_its_record_is_found(path):
    with open_writer(path) as repository, repository.begin() as connection:
        connection.execute(update(t.sequences).where(t.sequences.c.id == 4).values(hash=b"x" * 32))
    assert findings(path) == ["damage: the residues of sequence 4 do not have the hash that is stored"]


def test_what_normalising_changes_is_counted(tmp_path):
    (tmp_path / "x.tsv").write_text("id\tseq\n" + "".join(f"{i}\tEVQLVE{i}GG\n" for i in "acdef"))
    file = npz(tmp_path / "x.npz", VECTORS[:5], list("acdef"))
    done = cli("import", tmp_path / "db", file, "--records", tmp_path / "x.tsv")
    assert done.code == 0 and "5 rows: lower-case letters raised" in done.err
    assert [json.loads(row["notes"]) for row in ledger(tmp_path / "db", 1)] == [{"lowercase": 1}] * 5


@pytest.mark.parametrize("command", [("query", "--seq", "EVQLVESGG"), ("embed",)])
def test_no_sequence_is_embedded_into_an_external_space(path, command):
    done = cli(command[0], path, *command[1:])
    assert done.code == 1 and "external" in done.err


def test_sequences_are_not_indexed_into_an_external_space(path, tmp_path):
    (tmp_path / "x.fasta").write_text(">a\nEVQLVESGG\n")
    done = cli("index", path, tmp_path / "x.fasta")
    assert done.code == 1 and "plmsearch import" in done.err


def test_a_model_passes_over_records_without_a_sequence(path):
    assert cli("embed", path, "--model", "kmer").code == 0
    assert findings(path) == []


def test_importing_again_adds_nothing(path, tmp_path):
    done = cli("import", path, tmp_path / "x.npz", "--space", "mine")
    assert done.code == 0 and "7 already present" in done.err
    assert findings(path) == []


@pytest.mark.parametrize(("policy", "code", "ids"), [("error", 1, 7), ("skip", 3, 7), ("rename", 0, 8)])
def test_another_vector_of_a_taken_id_is_a_duplicate(path, tmp_path, policy, code, ids):
    other = npz(tmp_path / "y.npz", VECTORS[1:2], ["p0"])
    done = cli("import", path, other, "--space", "mine", "--on-duplicate", policy)
    assert done.code == code, done.err
    assert len(contents(path)) == ids and findings(path) == []
    if policy == "rename":
        np.testing.assert_array_equal(all_vectors(path)["external:mine/0/whole/mean"]["p0_2"], VECTORS[1])


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_a_vector_without_direction_is_named_and_nothing_is_stored(tmp_path, value):
    vectors = VECTORS.copy()
    vectors[4] = value
    done = cli("import", tmp_path / "db", npz(tmp_path / "x.npz", vectors))
    assert done.code == 1 and "'p4'" in done.err
    assert not (tmp_path / "db").exists()


def test_a_repeated_id_is_named_and_nothing_is_stored(tmp_path):
    done = cli("import", tmp_path / "db", npz(tmp_path / "x.npz", ids=[*IDS[:6], "p2"]))
    assert done.code == 1 and "'p2'" in done.err and "record 7" in done.err
    assert not (tmp_path / "db").exists()


@pytest.mark.parametrize(("name", "dim"), [("other", 5), ("mine", 4)])
def test_vectors_of_another_space_are_refused(path, tmp_path, name, dim):
    done = cli("import", path, npz(tmp_path / "y.npz", VECTORS[:, :dim]), "--space", name)
    assert done.code == 1 and "mismatch" in done.err


def test_a_declared_model_answers_sequences(tmp_path):
    source = make_db(tmp_path / "a", records(6))
    ((_, vectors),) = all_vectors(source).items()
    file = npz(tmp_path / "x.npz", np.stack(list(vectors.values())), list(vectors))
    done = cli("import", tmp_path / "db", file, "--model", "kmer", "--layers", "1")
    assert done.code == 0, done.err
    for record_id, residues in records(6):
        assert cli("query", tmp_path / "db", "--seq", residues, "-k", "1").rows[0][1] == record_id
    wrong = npz(tmp_path / "y.npz")
    assert "5 dimensions" in cli("import", tmp_path / "c", wrong, "--model", "kmer", "--layers", "1").err


def test_one_sequence_with_two_vectors_is_refused(tmp_path):
    (tmp_path / "x.tsv").write_text("id\tseq\n" + "".join(f"{i}\tEVQLVESGG\n" for i in IDS))
    done = cli("import", tmp_path / "db", npz(tmp_path / "x.npz"), "--records", tmp_path / "x.tsv")
    assert done.code == 1 and "another vector" in done.err


def test_a_lost_segment_is_named_and_mended_by_importing_again(path, tmp_path):
    (segment,) = (path / "segments").iterdir()
    segment.write_bytes(segment.read_bytes()[:-1])
    done = cli("repair", path)
    assert "7 records have an imported vector" in done.err
    assert any("no vector" in f for f in findings(path))
    assert "not complete" in cli("query", path, "--id", "p1").err
    assert cli("import", path, tmp_path / "x.npz", "--space", "mine").code == 0
    assert findings(path) == []
    assert cli("query", path, "--id", "p1", "-k", "1").rows[0][1] == "p1"


def test_a_deleted_record_comes_back_with_another_vector_after_optimize(path, tmp_path):
    cli("delete", path, "p0", "--yes")
    other = npz(tmp_path / "y.npz", VECTORS[1:2], ["p0"])
    assert "plmsearch optimize" in cli("import", path, other, "--space", "mine").err
    assert cli("optimize", path).code == 0
    assert cli("import", path, other, "--space", "mine").code == 0
    assert findings(path) == []


@pytest.mark.parametrize("name", ["test-data_bonsai_knn_reference.h5", "examples_deepblast_cath-db.h5"])
def test_real_files_of_other_tools_are_imported(shared_data, tmp_path, name):
    h5py = pytest.importorskip("h5py")
    file = shared_data / "formats" / name
    if not file.exists():
        pytest.skip(f"needs {file}")
    assert cli("import", tmp_path / "db", file).code == 0
    with h5py.File(file) as opened:
        expected = {d.attrs.get("original_id", key): d[()] for key, d in opened.items()}
    ((_, found),) = all_vectors(tmp_path / "db").items()
    assert found.keys() == expected.keys()
    for record_id, vector in expected.items():
        np.testing.assert_array_equal(found[record_id], vector)
    with plmsearch.open_database(tmp_path / "db") as db:
        assert verify(db, full=True) == []
