"""Several embedding spaces of the same records, and what keeps them apart."""

from __future__ import annotations

import shutil
from pathlib import Path

import esm_checkpoints as tiny
import numpy as np
import pytest
from databases import Stopping
from support import (
    VH,
    all_vectors,
    assert_same_database,
    before_writing,
    cli,
    make_db,
    peptides,
    records,
    watched_kmer,
    write_fasta,
)

from plmsearch.database import open_database
from plmsearch.embedding.options import ModelOptions
from plmsearch.embedding.registry import load_embedder
from plmsearch.embedding.spec import SpaceRequest
from plmsearch.errors import DatabaseNotFound, EmbeddingError, EmbeddingSpecMismatch, ParameterError
from plmsearch.ingest import chunks
from plmsearch.ingest.report import AddOptions
from plmsearch.store.repository import Repository


def spaces(path: Path) -> dict[str, tuple[int, bool, bool]]:
    """Vectors, whether it is the default and whether it is complete, by name."""
    with open_database(path) as db:
        return {s.spec.name: (s.n_vectors, s.is_default, s.is_complete) for s in db.spaces()}


# --- Making them ---------------------------------------------------------------------------------


def test_the_first_layer_named_is_the_default_and_every_layer_is_filled(tmp_path):
    path = write_fasta(tmp_path / "in.fasta", records(5))
    ended = cli("index", tmp_path / "db", path, "-m", "kmer", "--layers", "1,0")
    assert ended.code == 0
    assert "kmer/1/whole/mean, kmer/0/whole/mean" in ended.err
    assert spaces(tmp_path / "db") == {
        "kmer/1/whole/mean": (5, True, True),
        "kmer/0/whole/mean": (5, False, True),
    }


def test_all_and_minus_one_are_stored_resolved(tmp_path):
    assert spaces(make_db(tmp_path / "all", records(2), layers="all")).keys() == {
        "kmer/0/whole/mean",
        "kmer/1/whole/mean",
    }
    assert spaces(make_db(tmp_path / "last", records(2), layers="-1")).keys() == {"kmer/1/whole/mean"}


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--layers", "2"), "0..1"),
        (("--layers", "x"), "'x'"),
        (("--pool", "cls"), "kmer has no begin-of-sequence token"),
        (("--pool", "median"), "mean, max, cls"),
        (("--long", "wrap"), "window, truncate, skip, error"),
        (("--model", "esm9"), "unknown model 'esm9'"),
    ],
)
def test_a_space_that_cannot_be_is_refused_and_no_database_is_left_behind(tmp_path, flags, said):
    path = write_fasta(tmp_path / "in.fasta", records(2))
    ended = cli("index", tmp_path / "db", path, "-m", "kmer", *flags)
    assert ended.code == 1
    assert said in ended.err
    assert not (tmp_path / "db").exists()


def test_a_database_keeps_its_model_when_none_is_named(tmp_path):
    db = make_db(tmp_path / "db", records(2))
    antibody = write_fasta(tmp_path / "in.fasta", [("heavy", VH)])
    ended = cli("index", db, antibody)
    assert ended.code == 0
    assert "antiberty" not in ended.err
    assert spaces(db) == {"kmer/1/whole/mean": (3, True, True)}


def test_antibodies_without_a_model_get_antiberty_and_the_user_is_told_why(tmp_path):
    ended = cli("index", tmp_path / "db", write_fasta(tmp_path / "in.fasta", [("heavy", VH)]))
    assert ended.code == 0
    assert "model antiberty: 1 of 1 sampled sequences hold an antibody variable domain" in ended.err
    assert spaces(tmp_path / "db").keys() == {"antiberty/6/whole/mean/domain", "antiberty/6/cdr3/mean"}


# --- Adding one ----------------------------------------------------------------------------------


def test_embed_adds_a_space_of_the_stored_sequences_equal_to_one_made_at_once(tmp_path):
    db = make_db(tmp_path / "db", records(20), layers="1")
    ended = cli("embed", db, "--model", "kmer", "--layers", "0", "--pool", "mean")
    assert (ended.code, ended.out) == (0, "")
    assert "20 sequences embedded" in ended.err
    assert spaces(db)["kmer/0/whole/mean"] == (20, False, True)
    assert_same_database(db, make_db(tmp_path / "at-once", records(20), layers="1,0"))


def test_embed_of_layers_that_are_there_in_part_computes_what_is_missing_only(tmp_path, monkeypatch):
    db = make_db(tmp_path / "db", records(20), layers="1")
    ended = cli("embed", db, "--layers", "0,1")
    assert ended.code == 0
    assert spaces(db) == {"kmer/1/whole/mean": (20, True, True), "kmer/0/whole/mean": (20, False, True)}
    with watched_kmer(monkeypatch) as passes:
        again = cli("embed", db, "--layers", "0,1")
    assert "0 sequences embedded" in again.err
    assert passes == []
    assert_same_database(db, make_db(tmp_path / "at-once", records(20), layers="1,0"))


def test_index_after_embed_fills_every_space(tmp_path):
    db = make_db(tmp_path / "db", records(4))
    cli("embed", db, "--layers", "0")
    with open_database(db, create=True) as opened:
        report = opened.add([("new", VH), ("old", peptides(1)[0])])
        assert (report.n_added, report.n_embedded) == (2, 1)
        assert report.spaces == ["kmer/1/whole/mean", "kmer/0/whole/mean"]
        for name in report.spaces:
            hits = opened.search([VH], k=1, space=name)
            assert hits[0][0].target == "new"
    assert {n for n, _, _ in spaces(db).values()} == {5}


def test_the_same_model_pooled_otherwise_is_another_space(tmp_path):
    db = make_db(tmp_path / "db", records(4))
    assert cli("embed", db, "--pool", "max").code == 0
    vectors = all_vectors(db)
    assert vectors.keys() == {"kmer/1/whole/mean", "kmer/1/whole/max"}
    assert set(np.unique(vectors["kmer/1/whole/max"]["r0"])) == {0.0, 1.0}


def test_embed_without_a_database_or_vectors_says_so(tmp_path, monkeypatch):
    with open_database(tmp_path / "db", create=True) as db, pytest.raises(DatabaseNotFound):
        db.embed(SpaceRequest("kmer"))

    def killed(*_: object, **__: object) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Repository, "add_first_spaces", killed)
        make_db(tmp_path / "db", records(2))
    for arguments in (("embed", tmp_path / "db"), ("query", tmp_path / "db", "--id", "r0")):
        ended = cli(*arguments)
        assert ended.code == 1
        assert "holds no vectors yet; add some with: plmsearch index" in ended.err
    assert spaces(make_db(tmp_path / "db", records(2))) == {"kmer/1/whole/mean": (2, True, True)}


@pytest.mark.parametrize("policy", ["skip", "error"])
def test_embed_refuses_to_leave_stored_sequences_out(tmp_path, policy):
    db = make_db(tmp_path / "db", records(2))
    ended = cli("embed", db, "--layers", "0", "--long", policy)
    assert ended.code == 1
    assert "window or truncate" in ended.err
    assert spaces(db).keys() == {"kmer/1/whole/mean"}


# --- Interrupted ---------------------------------------------------------------------------------


@pytest.fixture
def interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A database whose second space was being filled when the user pressed Ctrl-C."""
    path = make_db(tmp_path / "db", records(30))
    monkeypatch.setattr(chunks, "_FIRST_RESIDUES", 500)
    monkeypatch.setattr(chunks, "_MAX_RESIDUES", 500)
    with open_database(path, create=True) as db, pytest.raises(KeyboardInterrupt):
        db.embed(SpaceRequest("kmer", "0"), progress=Stopping(after=15))
    n_vectors, _, is_complete = spaces(path)["kmer/0/whole/mean"]
    assert 0 < n_vectors < 30
    assert not is_complete
    return path


def test_an_incomplete_space_is_not_searched_and_the_message_has_the_command(interrupted):
    ended = cli("query", interrupted, "--id", "r1", "--space", "kmer/0/whole/mean")
    assert ended.code == 1
    command = f"plmsearch embed {interrupted} --model kmer --layers 0 --pool mean --preset whole"
    assert ended.err.strip().endswith(command)
    with open_database(interrupted) as db, pytest.raises(EmbeddingError, match="interrupted"):
        db.vectors(["r1"], space="kmer/0/whole/mean")
    assert "NOT COMPLETE" in cli("info", interrupted).out
    assert cli(*command.split()[1:]).code == 0
    assert cli("query", interrupted, "--id", "r1", "--space", "kmer/0/whole/mean").rows[0][1] == "r1"


def test_the_default_space_is_searched_meanwhile(interrupted):
    assert cli("query", interrupted, "--id", "r1", "-k", 1).rows == [
        ["r1", "r1", "1", "1.000000", "", "", ""]
    ]


def test_embed_continues_where_it_stopped(interrupted, tmp_path, monkeypatch):
    n_done = spaces(interrupted)["kmer/0/whole/mean"][0]
    with watched_kmer(monkeypatch) as passes:
        assert cli("embed", interrupted, "--layers", "0").code == 0
    assert sum(map(len, passes)) == 30 - n_done
    assert_same_database(interrupted, make_db(tmp_path / "whole", records(30), layers="1,0"))


def test_records_added_meanwhile_do_not_make_it_complete(interrupted):
    with open_database(interrupted, create=True) as db:
        db.add([("new", VH)])
    n_vectors, _, is_complete = spaces(interrupted)["kmer/0/whole/mean"]
    assert not is_complete
    cli("embed", interrupted, "--layers", "0")
    assert spaces(interrupted)["kmer/0/whole/mean"] == (31, False, True)
    assert n_vectors < 31


def test_the_command_for_a_truncating_space_says_so(tmp_path, monkeypatch):
    path = make_db(tmp_path / "db", records(10))
    with open_database(path, create=True) as db, pytest.raises(KeyboardInterrupt):
        db.embed(SpaceRequest("kmer", "0"), long="truncate", progress=Stopping(after=0))
    name = "kmer/0/whole/mean/truncate"
    ended = cli("query", path, "--id", "r1", "--space", name)
    assert ended.err.strip().endswith("--layers 0 --pool mean --preset whole --long truncate")
    assert cli(*ended.err.strip().split("plmsearch ")[-1].split()).code == 0
    assert spaces(path)[name] == (10, False, True)


# --- Never mixed ---------------------------------------------------------------------------------


MISMATCHES = [
    (("--model", "antiberty"), "model antiberty", "--model antiberty --layers 6 --pool mean"),
    (("--layers", "0"), "layer 0", "--model kmer --layers 0 --pool mean"),
    (("--pool", "max"), "pooling max", "--model kmer --layers 1 --pool max"),
]


@pytest.mark.parametrize(("flags", "asked", "command"), MISMATCHES)
@pytest.mark.parametrize("verb", ["index", "query"])
def test_another_model_layer_or_pooling_is_refused_with_both_specs_and_the_command(
    tmp_path, verb, flags, asked, command
):
    db = make_db(tmp_path / "db", records(3))
    path = write_fasta(tmp_path / "in.fasta", [("new", VH)])
    ended = cli(verb, db, path, *flags)
    assert (ended.code, ended.out) == (1, "")
    assert asked in ended.err
    digest = load_embedder("kmer").weights_digest[:12]
    assert f"model kmer, weights {digest}, layer 1, region whole, pooling mean" in ended.err
    assert f"plmsearch embed {db} {command}" in ended.err
    assert spaces(db) == {"kmer/1/whole/mean": (3, True, True)}


@pytest.mark.parametrize(("flags", "asked", "command"), MISMATCHES[1:])
def test_the_command_that_a_mismatch_names_mends_it(tmp_path, flags, asked, command):
    db = make_db(tmp_path / "db", records(3))
    assert cli("query", db, "--id", "r1", *flags).code == 1
    assert cli("embed", db, *command.split()).code == 0
    assert cli("query", db, "--id", "r1", *flags).code == 0


@pytest.mark.parametrize(("made", "asked"), [("window", "truncate"), ("truncate", "window")])
@pytest.mark.parametrize("verb", ["index", "query"])
def test_another_way_to_read_long_sequences_is_refused(tmp_path, verb, made, asked):
    db = make_db(tmp_path / "db", records(3), options=AddOptions(long=made))
    path = write_fasta(tmp_path / "in.fasta", [("new", VH)])
    ended = cli(verb, db, path, "--long", asked)
    assert (ended.code, ended.out) == (1, "")
    assert f"long sequences: {asked}" in ended.err
    assert f"{made} 1000000" in ended.err
    assert cli(verb, db, path, "--long", made).code == 0
    assert cli(verb, db, path, "--long", "skip").code == 0


def test_a_search_looks_at_one_space_and_every_wish_counts(tmp_path):
    db = make_db(tmp_path / "db", records(3), layers="0,1")
    default = cli("query", db, "--id", "r1")
    assert cli("query", db, "--id", "r1", "--layers", "0").out == default.out
    other = cli("query", db, "--id", "r1", "--layers", "1")
    assert other.out != default.out
    assert cli("query", db, "--id", "r1", "--space", "kmer/1/whole/mean").out == other.out
    both = cli("query", db, "--id", "r1", "--layers", "0,1")
    assert (both.code, both.out) == (1, "")
    assert "one layer" in both.err
    against = cli("query", db, "--id", "r1", "--space", "kmer/1/whole/mean", "--layers", "0")
    assert (against.code, against.out) == (1, "")
    assert "mismatch" in against.err
    unknown = cli("query", db, "--id", "r1", "--space", "kmer/9")
    assert "one of: kmer/0/whole/mean, kmer/1/whole/mean" in unknown.err


def test_a_space_that_another_process_adds_meanwhile_is_filled_too(tmp_path, monkeypatch):
    path = make_db(tmp_path / "db", records(3))
    before_writing(monkeypatch, lambda: cli("embed", path, "--layers", "0"))
    with open_database(path, create=True) as db:
        report = db.add([("new", VH)])
    assert report.spaces == ["kmer/1/whole/mean", "kmer/0/whole/mean"]
    assert {n for n, _, _ in spaces(path).values()} == {4}


# --- Weights -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two tiny ESM-2 files of one architecture and different numbers."""
    folder = tmp_path_factory.mktemp("checkpoints")
    return tiny.write_esm2(folder / "a.pt", seed=1), tiny.write_esm2(folder / "b.pt", seed=2)


@pytest.fixture(scope="module")
def esm_db(checkpoints, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("esm") / "db"
    rows = write_fasta(path.parent / "in.fasta", records(4))
    ended = cli("index", path, rows, "-m", "esm2", "--weights", checkpoints[0])
    assert ended.code == 0, ended.err
    return path


def digests(message: str) -> set[str]:
    return {part.split()[1] for part in message.split(", ") if part.startswith("weights ")}


def test_other_weights_of_the_same_model_are_refused_by_both_digests(esm_db, checkpoints, tmp_path):
    rows = write_fasta(tmp_path / "in.fasta", [("new", VH)])
    assert cli("query", esm_db, rows, "--weights", checkpoints[0]).code == 0
    ended = cli("query", esm_db, rows, "--weights", checkpoints[1])
    assert (ended.code, ended.out) == (1, "")
    assert "mismatch" in ended.err
    assert len(digests(ended.err)) == 2
    assert "--weights" in ended.err


def test_nothing_is_added_to_a_database_by_other_weights(esm_db, checkpoints, tmp_path):
    path = Path(shutil.copytree(esm_db, tmp_path / "db"))
    rows = write_fasta(tmp_path / "in.fasta", [("new", VH)])
    before = spaces(path)
    ended = cli("index", path, rows, "--weights", checkpoints[1])
    assert ended.code == 1
    assert len(digests(ended.err)) == 2
    assert spaces(path) == before
    assert "r1" in cli("query", path, "--id", "r1").out, "stored vectors need no model"


def test_embed_refuses_to_fill_a_space_by_other_weights(esm_db, checkpoints):
    options = ModelOptions(weights=checkpoints[1])
    with open_database(esm_db, model_options=options) as db, pytest.raises(EmbeddingSpecMismatch) as caught:
        db.embed(SpaceRequest("esm2"))
    assert "use the same weights, or a new database" in str(caught.value)
    assert len(digests(str(caught.value))) == 2


def test_a_name_that_is_no_request_is_a_parameter_error(esm_db):
    with open_database(esm_db) as db, pytest.raises(ParameterError, match="one of: esm2"):
        db.space("nonsense")
