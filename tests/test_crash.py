"""Killed or interrupted at any moment, and repeated: the same database as if nothing had happened."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from support import assert_same_database, cli, contents, ledger, peptides

from plmsearch.database import open_database
from plmsearch.store.directory import is_database

N = 1000
ROWS_AT_ONCE = 25

#: `plmsearch` with chunks so small that a kill hits many of them.
RUN = f"""
from plmsearch.ingest import chunks
chunks._MAX_ROWS = {ROWS_AT_ONCE}
from plmsearch.cli import main
main()
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records with metadata, shared sequences, names used twice, and rows that are left out."""
    rng = random.Random(11)
    sequences = peptides(N, seed=11, longest=60)
    lines = ["id\tsequence\tdonor\tnote"]
    for i in range(N):
        residues = "EV*QL" if i % 500 == 250 else rng.choice(sequences) if i % 7 == 0 else sequences[i]
        record_id = f"r{rng.randrange(i)}" if i % 50 == 49 else f"r{i}"
        lines.append(f"{record_id}\t{residues}\t{i % 9}\t{'' if i % 3 else 'ünï'}")
    path = tmp_path_factory.mktemp("source") / "in.tsv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def command(path: Path, source: Path) -> list[str]:
    return ["index", str(path), str(source), "-m", "kmer", "--layers", "1", "--on-invalid", "skip"]


@pytest.fixture(scope="module")
def whole(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an uninterrupted run makes."""
    path = tmp_path_factory.mktemp("whole") / "db"
    assert cli(*command(path, source)).code == 3
    return path


def started(arguments: list[str], script: str = RUN) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def n_segments(path: Path) -> int:
    return len(list((path / "segments").glob("*.vec"))) if (path / "segments").is_dir() else 0


def wait_until(happened: Callable[[], bool], running: subprocess.Popen[str]) -> None:
    while not happened() and running.poll() is None:
        time.sleep(0.003)


def assert_nothing_left_over(path: Path) -> None:
    """Every file belongs to the database, and every run that was killed says so."""
    with open_database(path) as db:
        known = {Path(name).stem for name in db.repository.segment_files()}
        derived = db.repository.derived_files()
        assert "running" not in {r.status for r in db.repository.runs()}
    assert {p.stem for p in (path / "segments").iterdir()} == known
    assert {p.name for p in (path / "derived").iterdir()} == derived
    assert {name[:8] for name in derived} == known
    assert list((path / "tmp").iterdir()) == []


def test_killed_five_times_and_repeated_it_ends_as_an_uninterrupted_run(tmp_path, source, whole):
    path, rng = tmp_path / "db", random.Random(3)
    expected = contents(whole)
    for kill in range(5):
        before = n_segments(path)
        running = started(command(path, source))
        wanted = 0 if kill == 0 else before + rng.randint(1, 8)
        wait_until(lambda n=wanted: path.is_dir() and n_segments(path) >= n, running)  # type: ignore[misc]
        time.sleep(rng.uniform(0, 0.03))
        running.kill()
        running.communicate()
        assert running.returncode == -signal.SIGKILL
        if is_database(path):
            stored = contents(path)
            assert stored.items() <= expected.items(), "what is there is right"
            assert list(stored) == list(expected)[: len(stored)], "and the beginning of the input"
    running = started(command(path, source))
    _, said = running.communicate(timeout=60)
    assert running.returncode == 3, said
    assert "internal error" not in said
    assert_same_database(path, whole)
    assert list(contents(path)) == list(expected)
    assert_nothing_left_over(path)
    with open_database(path) as db:
        statuses = Counter(r.status for r in db.repository.runs())
        last = db.repository.runs()[-1].run_id
    assert statuses["finished"] == 1
    assert statuses["interrupted"] >= 3
    assert [row["row"] for row in ledger(path, last)] == list(range(1, N + 1))


def test_ctrl_c_ends_with_130_says_that_it_continues_and_leaves_the_database_intact(tmp_path, source, whole):
    path = tmp_path / "db"
    running = started(command(path, source))
    wait_until(lambda: n_segments(path) >= 3, running)
    running.send_signal(signal.SIGINT)
    out, said = running.communicate(timeout=60)
    assert (running.returncode, out) == (130, "")
    assert said == "plmsearch: interrupted; everything committed so far is kept, the same command continues\n"
    with open_database(path) as db:
        assert [r.status for r in db.repository.runs()] == ["interrupted"]
        n_before = len(db)
    assert 0 < n_before < len(contents(whole))
    assert len(ledger(path, 1)) >= n_before
    assert cli("query", path, "--id", "r3", "-k", 1).rows[0][1] == "r3"
    assert cli(*command(path, source)).code == 3
    assert_same_database(path, whole)
    assert_nothing_left_over(path)


#: Dies like a killed process at the n-th call of a function, before or after it did its work.
DIE = """
import os, sys
from plmsearch.ingest import chunks
from plmsearch.store import directory, repository, session, vector_files
from plmsearch.cli import main

chunks._MAX_ROWS = 10
place, name, when, left = sys.argv.pop(1).split()
owner = eval(place)
real, left = getattr(owner, name), int(left)

def dying(*arguments, **named):
    global left
    left -= 1
    if left == 0 and when == "before":
        os._exit(99)
    result = real(*arguments, **named)
    if left == 0:
        os._exit(99)
    return result

setattr(owner, name, dying)
main()
"""

#: Steps of making a database, and steps of filling one; each list is died through on one directory.
MOMENTS = {
    "creating": [
        "session create_schema before 1",
        "session create_schema after 1",
        "directory.Layout mark before 1",
        "directory.Layout mark after 1",
        "repository _insert_space after 1",
        "repository _insert_space after 2",
        "repository.Repository add_first_spaces after 1",
        "repository.Repository begin_run after 1",
    ],
    "filling": [
        "vector_files write_segment before 3",
        "vector_files write_segment after 3",
        "vector_files publish after 3",
        "repository.Repository commit before 2",
        "repository.Repository commit after 2",
        "repository.Repository finish_run before 1",
    ],
}


@pytest.mark.parametrize("moments", MOMENTS.values(), ids=MOMENTS)
def test_whatever_step_it_dies_at_the_same_command_continues(tmp_path, moments):
    rows = [f">r{i}\n{residues}" for i, residues in enumerate(peptides(100, longest=40))]
    source, path = tmp_path / "in.fasta", tmp_path / "db"
    source.write_text("\n".join(rows) + "\n")
    made = ("-m", "kmer", "--layers", "0,1")
    assert cli("index", tmp_path / "whole", source, *made).code == 0
    n_before = 0
    for moment in moments:
        running = started([moment, "index", str(path), str(source), *made], DIE)
        _, said = running.communicate(timeout=60)
        assert running.returncode == 99, (moment, said)
        if is_database(path):
            stored = contents(path)
            assert len(stored) >= n_before, moment
            assert stored.items() <= contents(tmp_path / "whole").items()
            n_before = len(stored)
    assert n_before == (100 if moments[-1].startswith("repository.Repository finish") else 0)
    assert cli("index", path, source, *made).code == 0
    assert_same_database(path, tmp_path / "whole", atol=0)
    assert_nothing_left_over(path)


def test_a_killed_embed_leaves_a_space_that_the_same_command_completes(tmp_path, source, whole):
    path = tmp_path / "db"
    assert cli(*command(path, source)).code == 3
    running = started(["repository.Repository commit before 3", "embed", str(path), "--layers", "0"], DIE)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 99, said
    with open_database(path) as db:
        assert [s.is_complete for s in db.spaces()] == [True, False]
    assert cli("embed", path, "--layers", "0").code == 0
    assert_nothing_left_over(path)
    with open_database(path) as db:
        assert len({s.n_vectors for s in db.spaces()}) == 1
        assert all(s.is_complete for s in db.spaces())
        assert db.search([next(iter(contents(whole).values()))[0]], k=1, space="kmer/0/whole/mean")
