"""Operations in any order, and crashes amid them, against a dictionary and plain numpy.

`Machine` is drawn and shrunk by hypothesis: `tests/test_state_machine.py` runs a few histories that are
the same each time, ``make torture`` many that are not.
"""

from __future__ import annotations

import functools
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import numpy as np
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from plmsearch.backup import restore
from plmsearch.database import Database, open_database
from plmsearch.embedding.registry import load_embedder
from plmsearch.errors import DuplicateRecordError, RecordNotFound
from plmsearch.metadata import as_text
from plmsearch.repair import repair
from plmsearch.search.hits import Hit, SearchOptions
from plmsearch.store.directory import Layout
from plmsearch.verify import verify
from torture import tracer
from torture.crasher import Crash, Crasher, Job
from torture.oracle import Problem, Tally, compare
from torture.workload import ROWS_AT_ONCE, peptide

#: Residues, description and metadata as text, by record id, in order of insertion.
Contents: TypeAlias = dict[str, tuple[str, str, dict[str, str]]]
Row: TypeAlias = tuple[str, str, str, dict[str, Any]]

_TOLERANCE = 1e-5
_rng = random.Random(5)
SEQUENCES = [peptide(_rng) for _ in range(24)]
#: In no database.
STRANGERS = [peptide(_rng) for _ in range(6)]

IDS = st.sampled_from(["a", "b", "c", "a_2", "a_3", "d e", "ü|x"])
METADATA = st.dictionaries(
    st.sampled_from(["v gene", "n"]), st.sampled_from([1, 2.5, "IGHV1", True, None]), max_size=2
)
ROWS = st.lists(
    st.tuples(IDS, st.sampled_from(SEQUENCES), st.sampled_from(["", "described"]), METADATA),
    min_size=1,
    max_size=3 * ROWS_AT_ONCE,
)
POLICIES = st.sampled_from(["rename", "replace", "skip", "error"])
CRASH_POLICIES = st.sampled_from(["rename", "replace", "skip"])
Call: TypeAlias = tuple[str, int] | None
#: A system call at which a process is killed, where it can be traced; None: at a step.
CALLS = st.none() | st.tuples(
    st.sampled_from(["pwrite64", "write", "fsync", "fdatasync", "rename", "unlink", "ftruncate", "sendfile"]),
    st.integers(1, 12),
)


# --- What must come out --------------------------------------------------------------------------


def _content(row: Row) -> tuple[str, str, dict[str, str]]:
    _, residues, description, metadata = row
    return residues, description, {n: t for n, value in metadata.items() if (t := as_text(value)) is not None}


def _insert(state: Contents, row: Row, policy: str) -> Contents:
    """What one row makes of a state."""
    name, content = row[0], _content(row)
    if name in state and state[name] != content:
        if policy == "skip":
            return state
        if policy == "replace":
            return {**{i: c for i, c in state.items() if i != name}, name: content}
        suffix = 2
        while state.get(f"{name}_{suffix}", content) != content:
            suffix += 1
        name = f"{name}_{suffix}"
    return state if name in state else {**state, name: content}


def states_of_add(state: Contents, rows: Sequence[Row], policy: str) -> list[Contents]:
    """The states after each commit, the one before the first included."""
    states = [state]
    for start in range(0, len(rows), ROWS_AT_ONCE):
        states.append(
            functools.reduce(
                lambda s, row: _insert(s, row, policy), rows[start : start + ROWS_AT_ONCE], states[-1]
            )
        )
    return states


def is_refused(state: Contents, rows: Sequence[Row]) -> bool:
    """Whether an id stands for two contents, which the policy ``error`` refuses."""
    seen = dict(state)
    return any(seen.setdefault(row[0], _content(row)) != _content(row) for row in rows)


@functools.cache
def raw_vector(residues: str, layer: int) -> np.ndarray:
    """What the model says of a sequence, pooled by the definition of the mean."""
    found = load_embedder("kmer").residue_embeddings([residues], [layer]).layers[layer]
    return np.asarray(found[0, : len(residues)], dtype=np.float64).mean(axis=0)


def scores_of(query: str, state: Contents, layer: int) -> dict[str, float]:
    """Cosine similarity of each record to a query, in float64."""
    one = raw_vector(query, layer)
    one = one / np.linalg.norm(one)
    vectors = {i: raw_vector(residues, layer) for i, (residues, _, _) in state.items()}
    return {i: float(v @ one / np.linalg.norm(v)) for i, v in vectors.items()}


def check_hits(hits: Sequence[Hit], query: str, state: Contents, k: int, layer: int) -> None:
    """Compare hits with the exact ones; records of one score may come in any order."""
    expected = scores_of(query, state, layer)
    best = sorted(expected.values(), reverse=True)[:k]
    assert [h.rank for h in hits] == list(range(1, len(best) + 1))
    assert len({h.target for h in hits}) == len(hits)
    np.testing.assert_allclose([h.score for h in hits], best, atol=_TOLERANCE, rtol=0)
    np.testing.assert_allclose(
        [h.score for h in hits], [expected[h.target] for h in hits], atol=_TOLERANCE, rtol=0
    )
    for h in hits:
        assert (h.residues, h.description, dict(h.metadata)) == state[h.target]
    order = {record_id: place for place, record_id in enumerate(state)}
    for residues in {h.residues for h in hits}:
        places = [order[h.target] for h in hits if h.residues == residues]
        assert places == sorted(places), "records of one sequence come in order of insertion"


# --- The machine ---------------------------------------------------------------------------------


class Machine(RuleBasedStateMachine):
    """A database and what it must hold."""

    #: What was done, over all histories.
    done: ClassVar[Counter[str]] = Counter()
    #: System calls may be where a process is killed; else it is at a step of Python only.
    traced: ClassVar[bool] = False
    _crasher: ClassVar[Crasher | None] = None
    _template: ClassVar[tempfile.TemporaryDirectory[str] | None] = None

    @classmethod
    def finish(cls) -> None:
        if cls._crasher is not None:
            cls._crasher.close()
            cls._crasher = None
        if cls._template is not None:
            cls._template.cleanup()
            cls._template = None

    @initialize()
    def begin(self) -> None:
        cls = type(self)
        first: Row = ("first", SEQUENCES[0], "", {})
        if cls._template is None:
            cls._template = tempfile.TemporaryDirectory(prefix="torture-machine-")
            with open_database(Path(cls._template.name) / "db", create=True) as db:
                db.add([first[:2]], model="kmer")
        self.folder = Path(tempfile.mkdtemp(prefix="torture-machine-"))
        self.path = self.folder / "db"
        shutil.copytree(Path(cls._template.name) / "db", self.path)
        self.db: Database = open_database(self.path, create=True)
        #: Stays open whatever others write.
        self.reader: Database = open_database(self.path)
        self.state: Contents = {"first": _content(first)}
        self.layers = [1]
        self.backups: list[tuple[Path, Contents, list[int]]] = []
        cls.done["histories"] += 1

    def teardown(self) -> None:
        if hasattr(self, "db"):
            self.db.close()
            self.reader.close()
            shutil.rmtree(self.folder)

    def space(self, layer: int) -> str:
        return f"kmer/{layer}/whole/mean"

    def job(self, kind: str, rows: Sequence[Row] = (), policy: str = "rename") -> Job:
        return Job(kind, str(self.path), rows, policy, str(self.folder / f"backup{len(self.backups)}"))

    # --- Operations that return ------------------------------------------------------------------

    @rule(rows=ROWS, policy=POLICIES)
    def add(self, rows: list[Row], policy: str) -> None:
        self.done["add"] += 1
        if policy == "error" and is_refused(self.state, rows):
            try:
                self.job("add", rows, policy).do(self.db)
            except DuplicateRecordError:
                return
            raise AssertionError("an id that is taken was not refused")
        self.job("add", rows, policy).do(self.db)
        self.state = states_of_add(self.state, rows, policy)[-1]

    @rule(data=st.data(), unknown=st.booleans())
    def delete(self, data: st.DataObject, unknown: bool) -> None:
        self.done["delete"] += 1
        given = data.draw(
            st.lists(st.sampled_from(sorted(self.state)), unique=True) if self.state else st.just([])
        )
        if unknown:
            try:
                self.db.delete([*given, "never seen"])
            except RecordNotFound:
                return
            raise AssertionError("an id that is not there was not refused")
        assert self.db.delete(given) == len(given)
        self.state = {i: c for i, c in self.state.items() if i not in given}

    @rule()
    def optimize(self) -> None:
        self.done["optimize"] += 1
        self.job("optimize").do(self.db)

    @precondition(lambda self: len(self.layers) == 1)
    @rule()
    def embed(self) -> None:
        self.done["embed"] += 1
        self.job("embed").do(self.db)
        self.layers = [1, 0]

    @rule()
    def reopen(self) -> None:
        self.done["reopen"] += 1
        self.db.close()
        self.db = open_database(self.path, create=True)

    @precondition(lambda self: len(self.backups) < 3)
    @rule()
    def backup(self) -> None:
        self.done["backup"] += 1
        job = self.job("backup")
        job.do(self.db)
        self.backups.append((Path(job.target), self.state, self.layers))

    @precondition(lambda self: self.backups)
    @rule(data=st.data())
    def restore(self, data: st.DataObject) -> None:
        """Go on with what was restored in the place of the database."""
        self.done["restore"] += 1
        source, self.state, self.layers = data.draw(st.sampled_from(self.backups))
        self.db.close()
        self.reader.close()
        shutil.rmtree(self.path)
        restore(source, self.path)
        self.db, self.reader = open_database(self.path, create=True), open_database(self.path)

    @rule(number=st.integers(0, 99), offset=st.integers(64, 10**6), derived=st.booleans())
    def damage_and_repair(self, number: int, offset: int, derived: bool) -> None:
        """Flip a bit of a vector file in a copy that takes its place, as a disk would, and mend it."""
        layout, spaces = Layout(self.path), self.db.spaces()
        known = [s for space in spaces for s in self.db.repository.segments(space.space_id)]
        files = [layout.segments / s.file for s in known]
        if derived:
            files = [layout.derived / d.file for s in known for d in s.derived.values()]
        if not files:
            return
        self.done["repair"] += 1
        file = files[number % len(files)]
        content = bytearray(file.read_bytes())
        content[offset % len(content)] ^= 0x10
        file.unlink()
        file.write_bytes(content)
        report = repair(self.db)
        assert len(report.rebuilt if derived else report.quarantined) == 1
        self._look_at_spaces()

    # --- Questions -------------------------------------------------------------------------------

    @rule(
        queries=st.lists(st.sampled_from([*SEQUENCES, *STRANGERS]), min_size=1, max_size=3),
        k=st.integers(1, 5) | st.just(1000),
        late=st.booleans(),
    )
    def search(self, queries: list[str], k: int, late: bool) -> None:
        self.done["search"] += 1
        for layer in self.layers:
            one = self.reader if late else self.db
            found = one.search(queries, k, space=self.space(layer))
            for query, hits in zip(queries, found, strict=True):
                check_hits(hits, query, self.state, k, layer)

    @precondition(lambda self: self.state)
    @rule(data=st.data(), k=st.integers(1, 5) | st.just(1000), without_self=st.booleans())
    def search_stored(self, data: st.DataObject, k: int, without_self: bool) -> None:
        self.done["search"] += 1
        names = data.draw(st.lists(st.sampled_from(sorted(self.state)), min_size=1, max_size=3, unique=True))
        options = SearchOptions(k=k, exclude_self=without_self)
        for layer in self.layers:
            for query, hits in self.db.search_stored(
                names, self.db.ranking(space=self.space(layer)), options
            ):
                allowed = {i: c for i, c in self.state.items() if not without_self or i != query.query_id}
                check_hits(hits, self.state[query.query_id][0], allowed, k, layer)

    # --- Crashes ---------------------------------------------------------------------------------

    @rule(rows=ROWS, policy=CRASH_POLICIES, step=st.integers(1, 140), call=CALLS)
    def crash_in_add(self, rows: list[Row], policy: str, step: int, call: Call) -> None:
        self._crash(self.job("add", rows, policy), step, call)

    @precondition(lambda self: self.state)
    @rule(data=st.data(), step=st.integers(1, 70), call=CALLS)
    def crash_in_delete(self, data: st.DataObject, step: int, call: Call) -> None:
        gone = data.draw(st.lists(st.sampled_from(sorted(self.state)), unique=True, min_size=1))
        self._crash(self.job("delete", [(i, "", "", {}) for i in gone]), step, call)

    @rule(kind=st.sampled_from(["optimize", "embed", "backup"]), step=st.integers(1, 120), call=CALLS)
    def crash_in_another(self, kind: str, step: int, call: Call) -> None:
        self._crash(self.job(kind), step // 2 if kind == "backup" else step, call)

    def _crash(self, job: Job, step: int, call: Call) -> None:
        """Kill a process amid an operation; what its commits left is all that may be there."""
        cls = type(self)
        cls._crasher = cls._crasher or Crasher()
        ended = cls._crasher.run(job, call if self.traced and call is not None else max(step, 1))
        self.done[f"crash in {job.kind}"] += ended.struck
        assert not ended.told, ended.told
        self._after_crash(job, ended)

    def _after_crash(self, job: Job, ended: Crash) -> None:
        states = [self.state]
        if job.kind == "add":
            states = states_of_add(self.state, job.rows, job.policy)  # type: ignore[arg-type]
        elif job.kind == "delete":
            gone = {row[0] for row in job.rows}
            states.append({i: c for i, c in self.state.items() if i not in gone})
        allowed = states[min(ended.n_acknowledged, len(states) - 1) :][:2] if ended.struck else states[-1:]
        found = self.stored(self.reader)
        problems = list(compare(found, allowed))  # type: ignore[arg-type]
        assert not problems, problems
        self.state = found
        self._look_at_spaces()
        target = Path(job.target)
        if job.kind == "backup" and target.exists():
            self.backups.append((target, self.state, self.layers))
        elif job.kind == "backup":
            shutil.rmtree(target.with_name(f".{target.name}.incomplete"), ignore_errors=True)

    def _look_at_spaces(self) -> None:
        """An interrupted `embed` leaves a space that is not complete until it is repeated or repaired."""
        self.layers = [1, 0][: sum(s.is_complete for s in self.reader.spaces())]

    # --- What always holds -----------------------------------------------------------------------

    def stored(self, db: Database) -> Contents:
        return {
            r.record_id: (r.residues, r.description, dict(r.metadata)) for r in db.repository.all_records()
        }

    @invariant()
    def it_holds_what_the_dictionary_holds(self) -> None:
        if not hasattr(self, "db"):
            return
        for db in (self.db, self.reader):
            assert list(self.stored(db).items()) == list(self.state.items())
        for layer in self.layers:
            if self.state:
                vectors = self.reader.vectors(list(self.state), space=self.space(layer))
                expected = [raw_vector(residues, layer) for residues, _, _ in self.state.values()]
                np.testing.assert_allclose(vectors, expected, atol=1e-7, rtol=1e-6)
            for k in (2, 1000):
                (hits,) = self.reader.search([STRANGERS[0]], k, space=self.space(layer))
                check_hits(hits, STRANGERS[0], self.state, k, layer)

    @invariant()
    def verify_finds_nothing(self) -> None:
        if hasattr(self, "db"):
            findings = verify(self.reader, full=True)
            assert [f for f in findings if f.severity != "note"] == []


def run(n_histories: int, n_steps: int, number: int | None) -> Tally:
    """Draw histories until one fails or all have held; a row of the table.

    Without a seed they are the same each time, and no process is traced.
    """
    tally = Tally("histories of operations and crashes")
    Machine.done.clear()
    Machine.traced = number is not None and not tracer.why_not()
    wanted = settings(
        max_examples=n_histories,
        stateful_step_count=n_steps,
        derandomize=number is None,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    problems = []
    try:
        run_state_machine_as_test(Machine if number is None else seed(number)(Machine), settings=wanted)
    except Exception as error:
        notes = "\n".join(getattr(error, "__notes__", []))
        problems.append(Problem("other", f"{type(error).__name__}: {error}\n{notes}"))
    finally:
        Machine.finish()
    tally.tried = tally.survived = Machine.done.pop("histories") - 1
    tally.add("a history", problems)
    tally.note = ", ".join(f"{count} {name}" for name, count in sorted(Machine.done.items()))
    return tally
