"""Kill a writer and two readers at random moments of a mixed workload.

The writer tells in a journal what it is about to do and what has returned; the oracle applies that to a
dictionary. Run as ``python -m torture.kills ROLE DATABASE JOURNAL KIND`` this module is such a process: it
forks the one that works, so that the next needs no loading. The kind says what is written: ``chains`` or
``antibodies``, constructs with variable domains.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from plmsearch.backup import backup, restore
from plmsearch.database import Database, open_database
from plmsearch.embedding.spec import Preset, SpaceRequest
from plmsearch.errors import PlmsearchError
from plmsearch.ingest.report import AddOptions, GeneOptions
from plmsearch.ingest.scan import RecordList
from plmsearch.optimize import optimize
from plmsearch.search.hits import Hit
from plmsearch.sequences import SequenceRecord
from plmsearch.verify import verify
from torture import domains
from torture.domains import construct
from torture.oracle import Problem, Tally, compare, searched
from torture.tracer import environment
from torture.workload import ROWS_AT_ONCE, State, applied, peptide, small_chunks, vectors_of

_ADD, _REPLACE, _DELETE, _BACKUP, _OPTIMIZE = "add", "replace", "delete", "backup", "optimize"
#: Of a hundred operations.
_WEIGHTS = {_ADD: 40, _REPLACE: 25, _DELETE: 20, _BACKUP: 8, _OPTIMIZE: 7}
_MAX_RECORDS = 60
_TOLERANCE = 1e-5
_ROLES = ("writer", "reader", "reader")
_MAKE = {"chains": peptide, "antibodies": construct}
#: Between two kills: a process that numbers loads polars first, whose threads a fork would not have.
_PAUSE_S = {"chains": (0.01, 0.4), "antibodies": (0.1, 2.0)}
_OPTIONS = {
    "chains": AddOptions(on_duplicate="replace"),
    "antibodies": AddOptions(on_duplicate="replace", genes=GeneOptions(species="human")),
}


# --- What the processes do -----------------------------------------------------------------------


def plan(
    state: State, rng: random.Random, make: Callable[[random.Random], str]
) -> tuple[str, list[tuple[str, str, str]]]:
    """Draw the next operation, and the records it is about."""
    kind = rng.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]
    ids = list(state)
    if kind == _DELETE or len(ids) > _MAX_RECORDS:
        gone = rng.sample(ids, min(len(ids), rng.randint(1, 20 if len(ids) > _MAX_RECORDS else 5)))
        return (_DELETE, [(i, "", "") for i in gone]) if gone else (_BACKUP, [])
    if kind in {_BACKUP, _OPTIMIZE}:
        return kind, []
    n = rng.randint(1, 3 * ROWS_AT_ONCE)
    number = rng.randrange(10**9)
    fresh = [f"n{number}_{i}" for i in range(n)]
    names = [rng.choice(ids) if kind == _REPLACE and ids and rng.random() < 0.7 else i for i in fresh]
    known = [residues for residues, _ in state.values()]
    made = [rng.choice(known) if known and rng.random() < 0.2 else make(rng) for _ in names]
    return kind, [(i, r, f"version {number}") for i, r in zip(dict.fromkeys(names), made, strict=False)]


def outcomes(state: State, kind: str, given: Sequence[Sequence[str]]) -> list[State]:
    """The states an operation goes through, commit by commit."""
    if kind == _DELETE:
        gone = {i for i, _, _ in given}
        return [state, {i: c for i, c in state.items() if i not in gone}]
    if kind in {_BACKUP, _OPTIMIZE}:
        return [state]
    records = [SequenceRecord(*row) for row in given]
    ends = [*range(0, len(records), ROWS_AT_ONCE), len(records)]
    return [applied(state, records[:end], replace=True) for end in ends]


def _write(path: Path, journal: Path, of: str) -> None:
    """Do one operation after the other, and say so before and after each."""
    told = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    rng = random.Random(journal.with_name("seed").read_text())
    state: State = {i: (r, d) for i, (r, d) in json.loads(journal.with_name("state").read_text()).items()}
    with open_database(path, create=True) as db:
        while True:
            kind, given = plan(state, rng, _MAKE[of])
            os.write(told, (json.dumps(["begin", kind, given]) + "\n").encode())
            _operate(db, kind, given, journal.with_name("backup"), _OPTIONS[of])
            os.write(told, b'["done"]\n')
            state = outcomes(state, kind, given)[-1]


def _operate(
    db: Database, kind: str, given: Sequence[Sequence[str]], target: Path, options: AddOptions
) -> None:
    if kind == _DELETE:
        db.delete([i for i, _, _ in given])
    elif kind == _BACKUP:
        shutil.rmtree(target, ignore_errors=True)
        backup(db, target)
    elif kind == _OPTIMIZE:
        optimize(db)
    else:
        records = [SequenceRecord(*row) for row in given]
        db.add(records, model="kmer", options=options)


def _read(path: Path, _journal: Path, of: str) -> None:
    """Search without end; the score of every hit must be that of its residues."""
    rng = random.Random(os.getpid())
    while True:
        with open_database(path) as db:
            for _ in range(20):
                query = peptide(rng) if of == "chains" else rng.choice(domains.QUERIES)
                hits = db.search([query], k=30)[0] if db.spaces() else []
                wrong = (_wrong_hits if of == "chains" else domains.wrong_hits)(query, hits)
                if wrong:
                    raise RuntimeError(f"scores of {wrong} are not those of their residues")


def _wrong_hits(query: str, hits: list[Hit]) -> list[str]:
    """Targets whose score is not that of the residues they show."""
    vectors = vectors_of([query, *(h.residues for h in hits)])
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    scores = units[1:] @ units[0]
    return [h.target for h, s in zip(hits, scores, strict=True) if abs(h.score - s) > _TOLERANCE]


def role() -> None:
    """Fork a process that plays a role, each time a line comes in; print its id, then how it ended."""
    small_chunks()
    play = _write if sys.argv[1] == "writer" else _read
    path, journal, of = Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]
    for _ in sys.stdin:
        child = os.fork()
        if child == 0:
            try:
                play(path, journal, of)
            except BaseException as error:
                kind = "typed " if isinstance(error, PlmsearchError) else ""
                journal.with_name("errors").open("a").write(f"{sys.argv[1]}: {kind}{error!r}\n")
            os._exit(1)
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        print(status, flush=True)


# --- Who kills and checks ------------------------------------------------------------------------


class _Actor:
    """A process with everything loaded, and the child of it that is at work."""

    def __init__(self, name: str, path: Path, journal: Path, of: str) -> None:
        self.name = name
        self._parent = subprocess.Popen(
            [sys.executable, "-m", "torture.kills", name, str(path), str(journal), of],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment(),
        )  # fmt: skip

    def start(self) -> None:
        assert self._parent.stdin is not None and self._parent.stdout is not None
        self._parent.stdin.write("\n")
        self._parent.stdin.flush()
        self._child = int(self._parent.stdout.readline())

    def kill(self) -> int:
        """Kill the child; return the signal it ended by, 0 if it had ended of itself."""
        assert self._parent.stdout is not None
        os.kill(self._child, signal.SIGKILL)
        status = int(self._parent.stdout.readline())
        return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0

    def close(self) -> None:
        self.kill()
        self._parent.communicate()


def kill_at_random(n: int, rng: random.Random, of: str = "chains") -> Tally:
    """Kill `n` times; two of three times the writer."""
    tally = Tally(f"KILL at random, a writer of {of} and two readers")
    with tempfile.TemporaryDirectory(prefix="torture-kills-") as folder:
        path, journal = Path(folder) / "db", Path(folder) / "journal"
        with open_database(path, create=True) as db:
            preset: Preset = "whole" if of == "chains" else "antibody"
            first = peptide(rng) if of == "chains" else domains.QUERIES[0]
            rows = RecordList([SequenceRecord("first", first)])
            db.add_inputs([rows], request=SpaceRequest("kmer", preset=preset), options=_OPTIONS[of])
            state = {r.record_id: (r.residues, r.description) for r in db.repository.all_records()}
        actors = [_Actor(name, path, journal, of) for name in _ROLES]
        _prepare(journal, state, rng)
        for actor in actors:
            actor.start()
        for number in range(n):
            actor = rng.choice([actors[0], *actors])
            time.sleep(rng.uniform(*_PAUSE_S[of]))
            ended_by = actor.kill()
            problems = (
                list(_errors(journal))
                if ended_by == signal.SIGKILL
                else [*_errors(journal)] or [Problem("other", f"{actor.name} ended by signal {ended_by}")]
            )
            if actor.name == "writer":
                allowed = _told(journal, state)
                found, more = _examined(path, allowed, journal)
                problems, state = [*problems, *more], found
                _prepare(journal, state, rng)
            tally.add(f"kill {number} of a {actor.name}", problems)
            actor.start()
        for actor in actors:
            actor.close()
    return tally


def _prepare(journal: Path, state: State, rng: random.Random) -> None:
    journal.write_text("")
    journal.with_name("state").write_text(json.dumps(state))
    journal.with_name("seed").write_text(str(rng.random()))


def _errors(journal: Path) -> Iterator[Problem]:
    """What a process ended with that was not killed."""
    told = journal.with_name("errors")
    if told.exists():
        for line in told.read_text().splitlines():
            yield Problem("other", line)
        told.unlink()


def _told(journal: Path, state: State) -> list[State]:
    """The states that the journal allows: after what was done, and amid what was begun."""
    allowed = [state]
    for line in journal.read_text().splitlines():
        entry = json.loads(line)
        if entry[0] == "begin":
            allowed = outcomes(state, entry[1], entry[2])
        else:
            state = allowed[-1]
            allowed = [state]
    return allowed


def _examined(path: Path, allowed: Sequence[State], journal: Path) -> tuple[State, list[Problem]]:
    try:
        with open_database(path) as db:
            found = {r.record_id: (r.residues, r.description) for r in db.repository.all_records()}
            problems = list(compare(found, allowed))
            problems += [Problem("lost", f.problem) for f in verify(db, full=True) if f.severity == "damage"]
            problems += searched(db, found)
        problems += _backup(journal)
    except PlmsearchError as error:
        return allowed[0], [Problem("did not open", f"{type(error).__name__}: {error}")]
    return found, problems


def _backup(journal: Path) -> Iterator[Problem]:
    """A backup under its name is whole."""
    source, target = journal.with_name("backup"), journal.with_name("restored")
    if not (source / "SHA256SUMS").exists():  # being removed when the kill came
        shutil.rmtree(source, ignore_errors=True)
        return
    restore(source, target)
    with open_database(target) as db:
        yield from (
            Problem("lost", f"backup: {f.problem}") for f in verify(db, full=True) if f.severity == "damage"
        )
    shutil.rmtree(target)


if __name__ == "__main__":
    role()
