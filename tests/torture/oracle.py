"""Compare a database after a fault with what it must hold."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from plmsearch.backup import check_manifest, restore
from plmsearch.database import Database, open_database
from plmsearch.errors import DatabaseNotFound, NotADatabase, PlmsearchError
from plmsearch.store.schema import HEAD
from plmsearch.verify import verify
from torture import domains
from torture.workload import Operation, State, vectors_of

QUERIES = ["EVQLVESGGGLVQPGGSLRLSCAASGF", "MKTAYIAKQRQISFVKSHFSRQ"]
_TOLERANCE = 1e-5

KINDS = ("lost", "resurrected", "silent differences", "did not open", "other")


@dataclass(frozen=True)
class Problem:
    kind: str
    what: str


@dataclass
class Tally:
    """A row of the table."""

    fault: str
    tried: int = 0
    survived: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)
    note: str = ""

    def add(self, place: str, problems: Sequence[Problem]) -> None:
        self.tried += 1
        self.survived += not problems
        self.kinds.update({p.kind for p in problems})
        self.examples.extend(f"{place}: {p.kind}: {p.what}" for p in problems)

    @property
    def failed(self) -> bool:
        return self.survived != self.tried


def table(tallies: Sequence[Tally]) -> str:
    head = ["fault", "tried", "survived", *KINDS]
    body = [[t.fault, str(t.tried), str(t.survived), *(str(t.kinds[k]) for k in KINDS)] for t in tallies]
    widths = [max(len(row[column]) for row in [head, *body]) for column in range(len(head))]
    lines = []
    for row in [head, *body]:
        cells = [row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]
        lines.append("  ".join(cells))
    lines.extend(f"{t.fault}: {t.note}" for t in tallies if t.note)
    return "\n".join(lines)


def contents(db: Database) -> State:
    return {r.record_id: (r.residues, r.description) for r in db.repository.all_records()}


def check(operation: Operation, root: Path, n_acknowledged: int, *, finished: bool) -> list[Problem]:
    """Look at everything after a fault, then repeat the operation and look again.

    Parameters
    ----------
    operation : Operation
    root : Path
    n_acknowledged : int
        Commits that returned.
    finished : bool
        The operation returned.
    """
    problems = list(_look(operation, root, n_acknowledged, finished=finished))
    try:
        operation.run(root)
    except Exception as error:
        return [*problems, Problem("other", f"it cannot be repeated: {type(error).__name__}: {error}")]
    again = list(_look(operation, root, len(operation.states), finished=True))
    return [*problems, *again, *_leftovers(operation, root)]


def _look(operation: Operation, root: Path, n_acknowledged: int, *, finished: bool) -> Iterator[Problem]:
    last = len(operation.states) - 1
    allowed = operation.states[min(n_acknowledged, last) :][:2]
    if finished:
        allowed = [operation.states[last]]
    path = root / operation.db
    if operation.db and (path.exists() or not operation.absent_first or finished):
        with _schema(operation, root) as found:
            if operation.is_upgrade and finished and found == HEAD:
                yield Problem("lost", "the upgrade")
            untouched = not n_acknowledged
            yield from _database(operation, path, allowed, untouched=untouched, finished=finished)
    yield from _backup(operation, root)
    try:
        yield from (Problem("lost", what) for what in operation.look(root, finished))
    except PlmsearchError as error:
        yield Problem("did not open", f"{type(error).__name__}: {error}")


@contextmanager
def _schema(operation: Operation, root: Path) -> Iterator[str]:
    """Be the plmsearch that can read what is there, if any can."""
    with ExitStack() as stack:
        try:
            found = stack.enter_context(operation.schema(root))
        except PlmsearchError:
            found = HEAD  # that it cannot be opened is told where it is looked at
        yield found


def _database(
    operation: Operation, path: Path, allowed: Sequence[State], *, untouched: bool, finished: bool
) -> Iterator[Problem]:
    try:
        with open_database(path) as db:
            mended = finished or not operation.damaged_first
            for finding in verify(db, full=True):
                if finding.severity == "damage" and mended:
                    yield Problem("lost", f"{finding.where}: {finding.problem}")
            found = contents(db)
            yield from compare(found, allowed)
            if mended:
                yield from searched(db, found)
    except (DatabaseNotFound, NotADatabase) as error:
        if not (operation.absent_first and untouched and not finished):
            yield Problem("did not open", str(error))
    except PlmsearchError as error:
        yield Problem("did not open", f"{type(error).__name__}: {error}")


def compare(found: State, allowed: Sequence[State]) -> Iterator[Problem]:
    """Say how a state differs from each of those it may be."""
    if any(found == state for state in allowed):
        return
    before = allowed[0]
    lost = [i for i in before if i not in found]
    back = [i for i in found if not any(i in state for state in allowed)]
    if lost:
        yield Problem("lost", f"records {lost}")
    if back:
        yield Problem("resurrected", f"records {back}")
    if not lost and not back:
        yield Problem("other", f"half of a commit: {sorted(found)}")


def searched(db: Database, state: State) -> Iterator[Problem]:
    """Compare vectors and search results with those computed from the residues."""
    ids = list(state)
    if not ids:
        return
    if any(s.spec.reads_domains for s in db.spaces()):
        yield from (Problem("silent differences", what) for what in domains.differences(db, state))
        return
    expected = vectors_of([state[i][0] for i in ids])
    if np.abs(db.vectors(ids, space="kmer/1/whole/mean") - expected).max() > _TOLERANCE:
        yield Problem("silent differences", "stored vectors are not those of the residues")
    units = expected / np.linalg.norm(expected, axis=1, keepdims=True)
    queries = vectors_of(QUERIES)
    scores = units @ (queries / np.linalg.norm(queries, axis=1, keepdims=True)).T
    for column, hits in enumerate(db.search(QUERIES, k=10 * len(ids))):
        got = {hit.target: hit.score for hit in hits}
        want = dict(zip(ids, scores[:, column].tolist(), strict=True))
        wrong = [i for i in {**got, **want} if abs(got.get(i, 9) - want.get(i, 9)) > _TOLERANCE]
        if wrong:
            yield Problem("silent differences", f"hits of query {column}: {sorted(wrong)}")


def _backup(operation: Operation, root: Path) -> Iterator[Problem]:
    """A backup that is there is whole."""
    if not (root / "backup").exists():
        return
    copy = root / "restored"
    try:
        check_manifest(root / "backup")
        restore(root / "backup", copy)
        with open_database(copy) as db:
            yield from compare(contents(db), [operation.states[-1]])
            yield from (Problem("lost", f.problem) for f in verify(db, full=True) if f.severity == "damage")
    except PlmsearchError as error:
        yield Problem("did not open", f"backup: {type(error).__name__}: {error}")
    shutil.rmtree(copy, ignore_errors=True)


def _leftovers(operation: Operation, root: Path) -> Iterator[Problem]:
    """What the repeated operation must have cleared away, and made anew."""
    for path in root.glob(".*"):
        if not path.name.startswith(operation.leaves):
            yield Problem("other", f"left over: {path.name}")
    path = root / operation.db
    if not operation.db or not path.exists():
        return
    with _schema(operation, root), open_database(path) as db:
        known = {Path(name).stem for name in db.repository.segment_files()}
        derived = db.repository.derived_files()
        findings = [f for f in verify(db) if f.severity != "note"]
    if {p.stem for p in (path / "segments").iterdir()} != known or list((path / "tmp").iterdir()):
        yield Problem("other", "left over: files in tmp/ or segments/")
    if {p.name for p in (path / "derived").iterdir()} != derived or {n[:8] for n in derived} != known:
        yield Problem("other", "derived/ is not what the segments need")
    yield from (Problem("other", f"{f.where}: {f.problem}") for f in findings)
