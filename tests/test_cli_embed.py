"""`plmsearch embed` on a database, as a user meets it; spaces and archives have tests of their own."""

from __future__ import annotations

from support import cli, make_db, process, records

from plmsearch.database import open_database


def test_each_layer_becomes_a_space_and_the_summary_names_them(tmp_path):
    path = make_db(tmp_path / "db", records(3))
    ended = cli("embed", path, "--model", "kmer", "--layers", "0,1", "--pool", "max")
    assert (ended.code, ended.out) == (0, "")
    assert ended.err == ("plmsearch: 3 sequences embedded; spaces: kmer/0/whole/max, kmer/1/whole/max\n")
    with open_database(path) as db:
        assert [s.spec.name for s in db.spaces()] == [
            "kmer/1/whole/mean",
            "kmer/0/whole/max",
            "kmer/1/whole/max",
        ]


def test_without_a_model_it_is_that_of_the_default_space(tmp_path):
    path = make_db(tmp_path / "db", records(3), layers="0")
    assert cli("embed", path, "--layers", "-1", "-q").err == ""
    with open_database(path) as db:
        assert [(s.spec.layer, s.n_vectors) for s in db.spaces()] == [(0, 3), (1, 3)]


def test_a_model_that_is_not_there_leaves_the_database_as_it_was(tmp_path):
    path = make_db(tmp_path / "db", records(3))
    ended = cli("embed", path, "--model", "esm2_t6_8M_UR50D", "--weights", tmp_path)
    assert ended.code == 1
    assert "esm2_t6_8M_UR50D" in ended.err
    with open_database(path) as db:
        assert [s.spec.model_id for s in db.spaces()] == ["kmer"]
        assert [r.command for r in db.repository.runs()] == ["add"]


def test_a_second_embedder_waits_for_the_lock(tmp_path):
    from plmsearch.store.lock import writer_lock

    path = make_db(tmp_path / "db", records(1))
    with writer_lock(path):
        ended = cli("embed", path, "--layers", "0", "--lock-timeout", "0")
    assert ended.code == 1
    assert "another process is writing" in ended.err


def test_kmer_spaces_are_made_without_torch(tmp_path):
    path = make_db(tmp_path / "db", records(2))
    done = process(tmp_path, "embed", path, "--layers", "0")
    assert done.code == 0
    assert not done.packages & {"torch", "esm", "faiss", "polars", "transformers"}
