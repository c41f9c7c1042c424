"""The example scripts run as a user runs them, and find what they are made to find."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from conftest import ENVIRONMENT

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def run(*command: str | Path) -> str:
    environment = {k: v for k, v in os.environ.items() if k not in ENVIRONMENT}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    done = subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "error" not in done.stderr.lower()
    return done.stdout


def true_families() -> dict[str, int]:
    """Family of each held-out query, from the file itself."""
    text = (EXAMPLES / "query.fasta").read_text("utf-8")
    return {name: int(family) for name, family in re.findall(r"^>(\w+) .*family=(\d+)", text, re.MULTILINE)}


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Where the walk through the command line wrote, and what it printed."""
    directory = tmp_path_factory.mktemp("walk")
    return directory, run(EXAMPLES / "cli_walk.sh", directory)


def table_after(text: str, step: str) -> list[dict[str, str]]:
    """Read the TSV that the last command of a step printed."""
    (section,) = (s for s in text.split("\n== ") if s.startswith(step))
    header, *rows = (line.split("\t") for line in section.strip().splitlines()[1:])
    return [dict(zip(header, row, strict=True)) for row in rows]


def test_each_held_out_chain_finds_its_family_first(walk):
    hits = table_after(walk[1], "The nearest chains")
    assert len(hits) == 5 * 3
    nearest = {hit["query"]: int(hit["clone_id"]) for hit in hits if hit["rank"] == "1"}
    families = true_families()
    assert len(families) == 4
    assert {query: nearest[query] for query in families} == families


def test_a_stored_chain_finds_relatives_but_not_itself_in_both_layers(walk):
    by_layer = [table_after(walk[1], step) for step in ("Neighbours of a stored", "A second embedding space")]
    for hits in by_layer:
        assert [hit["query"] for hit in hits] == ["sim_h0010"] * 5
        assert "sim_h0010" not in {hit["target"] for hit in hits}
        assert {hit["clone_id"] for hit in hits} == {"2"}
    scores = [[float(hit["score"]) for hit in hits] for hits in by_layer]
    assert scores[0] != scores[1]


def test_the_exported_table_holds_every_hit_with_its_types(walk):
    frame = pl.read_parquet(walk[0] / "hits.parquet")
    assert frame.height == 5 * 50
    assert frame.schema["clone_id"] == pl.Int64 and frame.schema["v_call"] == pl.String
    assert frame.group_by("query").agg(pl.col("score").is_sorted(descending=True))["score"].all()
    shown = table_after(walk[1], "The nearest chains")
    first = frame.filter(pl.col("rank") <= 3)
    assert first["target"].to_list() == [hit["target"] for hit in shown]


def test_the_python_walk_finds_the_families_with_and_without_a_language_model(tmp_path):
    text = run(sys.executable, EXAMPLES / "python_walk.py", tmp_path)
    shares = dict(re.findall(r"^(\w+): (\d+)% of the held-out", text, re.MULTILINE))
    assert shares.keys() == {"antiberty", "kmer"}
    assert all(int(share) >= 90 for share in shares.values())
