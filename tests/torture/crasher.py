"""One operation on a database in a forked process, which is killed at one of its steps.

Run as ``python -m torture.crasher`` this module is the process that forks: it reads an operation a line
as JSON. A step is a call of Python that changes the disk, or a statement or commit of the catalog; with
strace it can be any system call instead.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event

from plmsearch.backup import backup
from plmsearch.database import Database, open_database
from plmsearch.embedding.spec import SpaceRequest
from plmsearch.errors import PlmsearchError
from plmsearch.ingest.report import AddOptions
from plmsearch.optimize import optimize
from plmsearch.sequences import SequenceRecord
from plmsearch.store.repository import Repository
from torture.tracer import environment, traced
from torture.workload import small_chunks

_GO = signal.SIGUSR1
_CHANGES = frozenset({"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link"})
#: What the process says: a commit returned; how it ended.
_COMMITTED, _ENDED = "committed", "ended"


@dataclass(frozen=True)
class Job:
    """An operation on a database.

    Parameters
    ----------
    kind : {"add", "delete", "optimize", "embed", "backup"}
    path : str
    rows : sequence of (id, residues, description, metadata)
        To add; of those to delete the ids count.
    policy : str
        Of `add`, for an id that is taken.
    target : str
        Of `backup`.
    """

    kind: str
    path: str
    rows: Sequence[Sequence[Any]] = ()
    policy: str = "rename"
    target: str = ""

    @property
    def records(self) -> list[SequenceRecord]:
        return [SequenceRecord(*row) for row in self.rows]

    def do(self, db: Database) -> None:
        if self.kind == "add":
            db.add(self.records, model="kmer", options=AddOptions(on_duplicate=self.policy))
        elif self.kind == "delete":
            db.delete([row[0] for row in self.rows])
        elif self.kind == "optimize":
            optimize(db)
        elif self.kind == "embed":
            db.embed(SpaceRequest("kmer", "0"))
        else:
            backup(db, Path(self.target))


@dataclass(frozen=True)
class Crash:
    """How an operation ended.

    Parameters
    ----------
    struck : bool
        It was killed.
    n_acknowledged : int
        Commits that returned.
    told : str
        The error that it ended with, if any.
    """

    struck: bool
    n_acknowledged: int
    told: str


# --- The process that is killed ------------------------------------------------------------------


def _kill_at(step: int) -> None:
    left = step

    def one_step(*_: object, **__: object) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def audited(name: str, arguments: tuple[Any, ...]) -> None:
        if name in _CHANGES or (name == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)):
            one_step()

    def fsync(descriptor: int, real: Callable[[int], None] = os.fsync) -> None:
        one_step()
        real(descriptor)

    os.fsync = fsync
    sys.addaudithook(audited)
    event.listen(Engine, "before_cursor_execute", one_step)
    event.listen(Engine, "commit", one_step)


def _tell_commits() -> None:
    for name in ("commit", "delete_records"):
        real = getattr(Repository, name)

        def told(self: Repository, *arguments: Any, real: Any = real) -> None:
            real(self, *arguments)
            os.write(1, f"{_COMMITTED}\n".encode())

        setattr(Repository, name, told)


def _operate(job: Job, step: int) -> None:
    signal.sigwait({_GO})
    if step:
        _kill_at(step)
    outcome = ""
    try:
        with open_database(job.path) as db:
            job.do(db)
    except PlmsearchError as error:
        outcome = f"typed: {type(error).__name__}: {error}"
    except BaseException as error:
        outcome = f"{type(error).__name__}: {error}"
    os.write(1, f"{json.dumps(outcome)}\n".encode())
    os._exit(0)


def main() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {_GO})
    small_chunks()
    _tell_commits()
    for line in sys.stdin:
        asked = json.loads(line)
        child = os.fork()
        if child == 0:
            _operate(Job(**asked["job"]), asked["step"])
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        print(f"{_ENDED} {os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0}", flush=True)


# --- Who lets it be killed -----------------------------------------------------------------------


class Crasher:
    """Keeps the process that forks."""

    def __init__(self) -> None:
        self._parent = subprocess.Popen(
            [sys.executable, "-m", "torture.crasher"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment(),
        )  # fmt: skip

    def close(self) -> None:
        self._parent.communicate()

    def run(self, job: Job, at: int | tuple[str, int]) -> Crash:
        """Do an operation and kill it at a step, or at the n-th system call of a name."""
        assert self._parent.stdin is not None and self._parent.stdout is not None
        step = at if isinstance(at, int) else 0
        self._parent.stdin.write(json.dumps({"job": asdict(job), "step": step}) + "\n")
        self._parent.stdin.flush()
        pid = int(self._parent.stdout.readline())
        options = () if isinstance(at, int) else _killing(*at)
        n_acknowledged, told = 0, ""
        with traced(pid, options):
            os.kill(pid, _GO)
            for line in self._parent.stdout:
                if line.startswith(_ENDED):
                    break
                if line.startswith(_COMMITTED):
                    n_acknowledged += 1
                else:
                    told = json.loads(line)
        return Crash(line.split()[1] != "0", n_acknowledged, told)


def _killing(call: str, which: int) -> tuple[str, ...]:
    return ("-e", f"inject={call}:signal=KILL:when={which}", "-o", "/dev/null")


if __name__ == "__main__":
    main()
