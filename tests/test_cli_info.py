"""`plmsearch info`: text, JSON and the ledger, without loading anything heavy."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support import DNA, VH, VL, cli, process, write_fasta

import plmsearch
from plmsearch.store.schema import HEAD

HEAVY = {"torch", "esm", "faiss", "polars", "transformers", "pandas", "scipy", "immunum", "antiberty"}


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("info")
    source = folder / "in.tsv"
    rows = [("a", VH, "7"), ("b", VL, ""), ("a", VL, "8"), ("dna\t", DNA, "9")]
    lines = ["id\tsequence\tdonor", *("\t".join((r[0].strip(), *r[1:])) for r in rows)]
    source.write_text("\n".join(lines) + "\n")
    assert cli("index", folder / "db", source, "-m", "kmer", "--on-invalid", "skip").code == 3
    assert cli("index", folder / "db", write_fasta(folder / "more.fasta", [("c", VH)])).code == 0
    return folder / "db"


def test_the_text_says_what_there_is_and_where_it_came_from(db):
    ended = cli("info", db)
    assert (ended.code, ended.err) == (0, "")
    lines = ended.out.splitlines()
    assert lines[0].startswith(f"database    {db}  (format 1, schema {HEAD}, generation ")
    assert "records     4" in lines
    assert f"sequences   2 distinct, {len(VH + VL)} residues" in lines
    assert "space       kmer/1/whole/mean (default): 2 vectors" in lines
    assert "columns     donor (int)" in lines
    runs = [line for line in lines if line.startswith("run ")]
    assert [line.split()[3:5] for line in runs] == [["index", "finished"]] * 2
    assert runs[0].endswith("in.tsv")


def test_json_is_one_object_for_programs(db):
    ended = cli("info", db, "--json")
    found = json.loads(ended.out)
    assert (found["n_records"], found["n_sequences"]) == (4, 2)
    assert found["columns"] == {"donor": "int"}
    assert [r["summary"]["n_skipped"] for r in found["runs"]] == [1, 0]


def test_the_ledger_is_tsv_with_one_line_per_input_row(db):
    ended = cli("info", db, "--ledger", 1)
    assert ended.out.splitlines()[0] == "input\trow\tinput_id\toutcome\trecord_id\treason\tnotes"
    found = [row[1:5] for row in ended.rows]
    assert found == [
        ["1", "a", "added", "a"],
        ["2", "b", "added", "b"],
        ["3", "a", "renamed", "a_2"],
        ["4", "dna", "skipped", ""],
    ]
    assert ended.rows[3][5] == "this is a nucleotide sequence"
    assert len(cli("info", db, "--ledger", 2).rows) == 1


def test_the_database_can_come_from_the_environment(db, monkeypatch):
    monkeypatch.setenv("PLMSEARCH_DB", str(db))
    assert cli("info").out == cli("info", db).out


def test_no_database_is_named_as_such(tmp_path):
    ended = cli("info", tmp_path / "absent")
    assert (ended.code, ended.out) == (1, "")
    assert "no database at" in ended.err
    assert cli("info").code == 2


def test_help_and_info_import_nothing_heavy(db, tmp_path):
    for arguments in (("--help",), ("--version",), ("info", db), ("info", db, "--ledger", 1)):
        done = process(tmp_path, *arguments)
        assert (done.code, done.err) == (0, "")
        assert done.out
        assert not done.packages & HEAVY
    done = process(tmp_path, "--help")
    assert not done.packages & {"numpy", "sqlalchemy", "needletail"}


@pytest.mark.parametrize("module", ["plmsearch", "plmsearch.cli"])
def test_python_runs_the_package_as_the_command(module, tmp_path):
    def run(*arguments):
        command = [sys.executable, "-m", module, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"plmsearch {plmsearch.__version__}\n")
    done = run("info", str(tmp_path / "absent"))
    assert done.returncode == 1 and "no database at" in done.stderr
