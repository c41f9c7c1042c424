"""What `plmsearch doctor` says of this machine."""

from __future__ import annotations

import os

import faiss
import torch
from typer.testing import CliRunner

from plmsearch.cli.app import app
from plmsearch.doctor import doctor
from plmsearch.store import connection


def test_the_doctor_names_what_is_really_loaded():
    facts = {what: value for what, value, _ in doctor()}
    assert facts["torch"] == torch.__version__
    assert facts["torch threads"] == str(torch.get_num_threads())
    assert facts["faiss"] == faiss.__version__
    assert facts["SQLite"].startswith(connection.sqlite_version())
    assert {"antiberty", "kmer"} <= set(facts["models at hand"].split(", "))


def test_an_old_sqlite_is_warned_of(monkeypatch):
    monkeypatch.setattr(connection, "sqlite_version", lambda: "3.40.1")
    warnings = {what: warning for what, _, warning in doctor()}
    assert "rollback journal" in warnings["SQLite"]


def test_values_go_to_stdout_and_warnings_to_stderr(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", os.fspath(tmp_path))
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 0
    assert "SQLite" in result.stdout
    assert "no ESM-2 weights" in result.stderr
    assert "warning" not in result.stdout
