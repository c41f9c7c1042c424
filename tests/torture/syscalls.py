"""Kill a process, or let a call fail, at every system call that changes the disk."""

from __future__ import annotations

import atexit
import functools
import random
import shutil
import signal
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from torture import child
from torture.oracle import Problem, Tally, check
from torture.tracer import Outcome, Runner
from torture.workload import OPERATIONS, Operation

KILL = "signal=KILL"
EIO = "error=EIO"
ENOSPC = "error=ENOSPC"


@contextmanager
def prepared(operation: Operation) -> Iterator[Path]:
    """A directory with what the operation needs, to be copied for each try."""
    yield _template(operation.name)


@functools.cache
def _template(name: str) -> Path:
    folder = Path(tempfile.mkdtemp(prefix=f"torture-{name}-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    template = folder / "template"
    template.mkdir()
    OPERATIONS[name].prepare(template)
    return template


def fresh(template: Path) -> Path:
    root = template.with_name("work")
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(template, root)
    return root


def disturb(runner: Runner, name: str, fault: str, n: int | None, rng: random.Random) -> Tally:
    """Put one fault into calls of an operation: each call, or `n` of them drawn at random.

    Returns
    -------
    Tally
        A try whose fault did not strike because the operation made fewer calls counts too.
    """
    operation = OPERATIONS[name]
    tally = Tally(f"{fault.partition('=')[2]} at a call of {name}")
    with prepared(operation) as template:
        calls = runner.calls(name, fresh(template))
        for call, which in sampled(calls, n, rng):
            root = fresh(template)
            outcome = runner.run(name, root, "-e", f"inject={call}:{fault}:when={which}", "-o", "/dev/null")
            problems = judge(operation, root, outcome)
            tally.add(f"{fault} at {call} {which} of {name}", problems)
    tally.note = f"{len(calls)} calls" if n is not None and n < len(calls) else ""
    return tally


def sampled(calls: Sequence[tuple[str, int]], n: int | None, rng: random.Random) -> Sequence[tuple[str, int]]:
    if n is None or n >= len(calls):
        return calls
    return [calls[i] for i in sorted(rng.sample(range(len(calls)), n))]


def judge(operation: Operation, root: Path, outcome: Outcome) -> list[Problem]:
    problems = []
    if outcome.signal not in {0, signal.SIGKILL}:
        problems.append(Problem("other", f"ended by signal {outcome.signal}"))
    elif not outcome.signal and not outcome.told.startswith((child.OK, child.TYPED)):
        problems.append(Problem("other", f"no error of ours: {outcome.told}"))
    finished = outcome.told == child.OK
    return [*problems, *check(operation, root, outcome.n_acknowledged, finished=finished)]
