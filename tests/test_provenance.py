"""Every run leaves a record of what was done, with what, from what, and how it ended."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from support import VH, cli, ledger, make_db, peptides, records, write_fasta

from plmsearch._version import __version__
from plmsearch.database import open_database
from plmsearch.embedding.kmer import KmerEmbedder
from plmsearch.embedding.registry import load_embedder
from plmsearch.errors import EmbeddingError
from plmsearch.ingest.provenance import versions
from plmsearch.store.repository import Repository


def runs(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(cli("info", path, "--json").out)["runs"]
    return found


def test_a_run_records_versions_parameters_and_the_digest_of_every_input(tmp_path):
    files = [write_fasta(tmp_path / f"{n}.fasta", records(n)) for n in (2, 3)]
    command = ("--layers", "0,1", "--on-duplicate", "skip", "--threads", "2", "--batch-tokens", "999")
    assert cli("index", tmp_path / "db", *files, "-m", "kmer", *command).code == 0
    (run,) = runs(tmp_path / "db")
    assert (run["command"], run["status"]) == ("index", "finished")
    assert run["started"] <= run["finished"]
    assert run["versions"] == versions()
    assert run["versions"]["plmsearch"] == __version__
    assert [(i["name"], i["format"], i["size_bytes"], i["sha256"]) for i in run["inputs"]] == [
        (str(f), "fasta", f.stat().st_size, hashlib.sha256(f.read_bytes()).hexdigest()) for f in files
    ]
    asked = run["parameters"]
    wanted = {"model": "kmer", "layers": "0,1", "pooling": None}
    assert asked["request"] == {**wanted, "preset": None, "regions": None, "weights": None}
    no_genes = {"germlines": None, "species": None, "infer": True}
    rules = {"on_invalid": "error", "on_duplicate": "skip", "long": None}
    assert (asked["options"], asked["germlines"]) == ({**rules, "genes": no_genes}, None)
    assert (asked["model_options"]["threads"], asked["model_options"]["batch_tokens"]) == (2, 999)
    assert [(s["layer"], s["weights_digest"]) for s in asked["spaces"]] == [
        (layer, load_embedder("kmer").weights_digest) for layer in (0, 1)
    ]
    assert run["summary"]["n_rows"] == 5
    assert (run["summary"]["n_added"], run["summary"]["n_present"]) == (3, 2)


def test_versions_name_every_package_that_can_change_a_vector():
    assert {"plmsearch", "python", "numpy", "torch", "antiberty", "fair-esm", "SQLite"} <= versions().keys()
    assert "absent" not in versions().values()


def test_records_from_memory_and_embed_are_runs_too(tmp_path):
    path = make_db(tmp_path / "db", records(2))
    cli("embed", path, "--layers", "0", "--long", "window")
    first, second = runs(path)
    assert [(i["name"], i["format"], i["sha256"]) for i in first["inputs"]] == [
        ("<records>", "records", None)
    ]
    assert (second["command"], second["status"], second["inputs"]) == ("embed", "finished", [])
    assert second["parameters"]["options"] == {"long": "window"}
    assert second["summary"]["n_embedded"] == 2


def test_standard_input_is_named_and_digested(tmp_path):
    data = f">a\n{VH}\n".encode()
    assert cli("index", tmp_path / "db", "-", "-m", "kmer", stdin=data).code == 0
    (run,) = runs(tmp_path / "db")
    assert run["inputs"][0]["name"] == "stdin"
    assert run["inputs"][0]["sha256"] == hashlib.sha256(data).hexdigest()


def test_a_file_name_that_is_not_utf8_is_kept_readable(tmp_path):
    name = tmp_path / b"\xff\xe9.fasta".decode("utf-8", "surrogateescape")
    write_fasta(name, records(1))
    assert cli("index", tmp_path / "db", name, "-m", "kmer").code == 0
    (run,) = runs(tmp_path / "db")
    assert run["inputs"][0]["name"] == f"{tmp_path}/\\xff\\xe9.fasta"
    assert run["status"] == "finished"


# --- How it ended --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stop", "status"), [(KeyboardInterrupt(), "interrupted"), (EmbeddingError("it broke"), "failed")]
)
def test_a_run_that_stops_says_how_and_what_it_had_done(tmp_path, monkeypatch, stop, status):
    path = make_db(tmp_path / "db", records(2))

    def stopping(*_: object) -> None:
        raise stop

    monkeypatch.setattr(KmerEmbedder, "residue_embeddings", stopping)
    with open_database(path, create=True) as db, pytest.raises(type(stop)):
        db.add([("new", VH)])
    first, second = runs(path)
    assert (first["status"], second["status"]) == ("finished", status)
    assert second["summary"]["error"] == str(stop)
    assert second["summary"]["n_added"] == 0
    assert second["finished"] is not None


def test_a_run_that_was_killed_is_marked_by_the_next_writer(tmp_path, monkeypatch):
    path = make_db(tmp_path / "db", records(2))
    with monkeypatch.context() as patch:
        # A killed process does not come to write how it ended.
        patch.setattr(Repository, "finish_run", lambda *_: None)
        make_db(path, [("new", VH)])
    assert [r["status"] for r in runs(path)] == ["finished", "running"]
    make_db(path, [("new", VH)])
    assert [r["status"] for r in runs(path)] == ["finished", "interrupted", "finished"]


def test_an_input_that_vanishes_after_it_was_read_is_a_failed_run_without_rows(tmp_path, monkeypatch):
    path = make_db(tmp_path / "db", records(1))
    source = write_fasta(tmp_path / "in.fasta", [("new", VH)])
    begin = Repository.begin_run

    def begin_run(*arguments: Any) -> int:
        source.unlink()
        return begin(*arguments)

    monkeypatch.setattr(Repository, "begin_run", begin_run)
    ended = cli("index", path, source)
    assert ended.code == 1
    assert "in.fasta" in ended.err
    assert runs(path)[-1]["status"] == "failed"
    assert ledger(path, 2) == []


# --- The ledger ----------------------------------------------------------------------------------


def test_every_input_row_is_in_the_ledger_exactly_once_and_in_order(tmp_path):
    a, b = peptides(2)
    one = write_fasta(tmp_path / "one.fasta", [("x", a), ("x", b), ("bad", "EV*QL"), ("y", a)])
    two = write_fasta(tmp_path / "two.fasta", [("x", a), ("low", "evqlv"), ("empty", "-")])
    command = ("index", tmp_path / "db", one, two, "-m", "kmer", "--on-invalid", "skip")
    ended = cli(*command)
    assert ended.code == 3
    assert "7 rows: 3 added, 1 renamed, 1 already present, 2 left out" in ended.err
    expected = [
        (str(one), 1, "x", "added", "x", ""),
        (str(one), 2, "x", "renamed", "x_2", ""),
        (str(one), 3, "bad", "skipped", None, ""),
        (str(one), 4, "y", "added", "y", ""),
        (str(two), 1, "x", "present", "x", ""),
        (str(two), 2, "low", "added", "low", '{"lowercase": 5}'),
        (str(two), 3, "empty", "skipped", None, '{"gaps": 1}'),
    ]
    keys = ("input", "row", "input_id", "outcome", "record_id", "notes")
    found = [tuple(r[k] for k in keys) for r in ledger(tmp_path / "db", 1)]
    assert [f[:5] for f in found] == [e[:5] for e in expected]
    assert found[5] == expected[5]
    reasons = {str(r["input_id"]): str(r["reason"]) for r in ledger(tmp_path / "db", 1)}
    assert "'*' at residue 3" in reasons["bad"]
    assert "empty" in reasons["empty"]
    assert cli(*command).code == 3
    again = [r["outcome"] for r in ledger(tmp_path / "db", 2)]
    assert again == ["present", "present", "skipped", "present", "present", "present", "skipped"]
    summary = runs(tmp_path / "db")[1]["summary"]
    assert summary["n_rows"] == len(again) == summary["n_present"] + summary["n_skipped"]
