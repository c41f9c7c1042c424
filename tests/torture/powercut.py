"""Cut the power after every system call, by a recording and a model of a disk that forgets."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from torture.disk import Disk, after_cut
from torture.oracle import Problem, Tally, check
from torture.syscalls import fresh, prepared
from torture.tracer import Runner
from torture.workload import OPERATIONS

#: What is left of that which was not synced.
LEFT = ("nothing", "names", "some")


@dataclass(frozen=True)
class Cut:
    """A state a power cut leaves.

    Parameters
    ----------
    place : str
    n_acknowledged : int
    finished : bool
    files : dict of str to (bytes or None)
        None for a directory.
    """

    place: str
    n_acknowledged: int
    finished: bool
    files: dict[str, bytes | None]

    def make(self, root: Path) -> None:
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir()
        for name, content in self.files.items():
            if content is None:
                (root / name).mkdir()
            else:
                (root / name).write_bytes(content)


def cut_power(
    runner: Runner,
    name: str,
    n: int | None,
    rng: random.Random,
    *,
    left: Sequence[str] = LEFT,
    until: int | None = None,
) -> Tally:
    """Record an operation, and look at what a power cut leaves after each call, or at `n` of these.

    Stops after `until` states that do not survive.
    """
    operation = OPERATIONS[name]
    tally = Tally(f"power cut in {name}")
    with prepared(operation) as template:
        root = fresh(template)
        log = template.with_name("log")
        runner.record(name, root, log)
        cuts = list(_cuts(root, template, log, rng, left))
        chosen = cuts if n is None or n >= len(cuts) else rng.sample(cuts, n)
        for cut in chosen:
            cut.make(root)
            tally.add(cut.place, check(operation, root, cut.n_acknowledged, finished=cut.finished))
            if until is not None and tally.tried - tally.survived >= until:
                break
    tally.note = f"{len(cuts)} different states" if len(chosen) < len(cuts) else ""
    return tally


def cut_at_the_end(runner: Runner, name: str) -> list[Problem]:
    """Look at what a power cut leaves when the operation has returned: all of it."""
    operation = OPERATIONS[name]
    with prepared(operation) as template:
        root = fresh(template)
        log = template.with_name("log")
        runner.record(name, root, log)
        *_, last = _cuts(root, template, log, random.Random(0), ("nothing",))
        last.make(root)
        return check(operation, root, last.n_acknowledged, finished=True)


def _cuts(root: Path, template: Path, log: Path, rng: random.Random, left: Sequence[str]) -> Iterator[Cut]:
    """Yield each different state once, with all that was acknowledged while it lasted."""
    disk = Disk(root, template)
    last: dict[str, Cut] = {}
    for n_calls, call in enumerate(disk.replay(log), start=1):
        for how in left:
            place = f"power cut after call {n_calls} ({call}), {how} left of what was not synced"
            new = Cut(place, disk.n_acknowledged, False, after_cut(disk.top, how, rng))
            old = last.get(how)
            if old is not None and old.files != new.files:
                yield old
            last[how] = new
    for how, old in last.items():
        yield old
        files = after_cut(disk.top, how, rng)
        yield Cut(
            f"power cut at the end, {how} left of what was not synced", disk.n_acknowledged, True, files
        )
