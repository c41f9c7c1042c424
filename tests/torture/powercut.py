"""Cut the power after every system call, by a recording and a model of a disk that forgets."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from plmsearch.store import segments
from torture.disk import Disk, after_cut
from torture.oracle import Problem, Tally, check
from torture.syscalls import fresh, prepared
from torture.tracer import Runner
from torture.workload import OPERATIONS, Operation

#: What is left of that which was not synced.
LEFT = ("nothing", "names", "removals", "holes", "some")


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
            tally.add(cut.place, _looked_at(operation, cut, root))
            if until is not None and tally.tried - tally.survived >= until:
                break
    tally.note = f"{len(cuts)} different states" if len(chosen) < len(cuts) else ""
    return tally


def cut_at_the_end(runner: Runner, name: str, left: Sequence[str] = LEFT) -> list[Problem]:
    """Look at what a power cut leaves when the operation has returned: all of it."""
    operation = OPERATIONS[name]
    with prepared(operation) as template:
        root = fresh(template)
        log = template.with_name("log")
        runner.record(name, root, log)
        disk = Disk(root, template)
        for _ in disk.replay(log):
            pass
        ends = _ends(disk, random.Random(0), left)
        return [problem for cut in ends for problem in _looked_at(operation, cut, root)]


def is_noticed(runner: Runner, name: str) -> bool:
    """Tell whether some power cut does harm; most show at the end, which is soon looked at."""
    if cut_at_the_end(runner, name):
        return True
    certain = [how for how in LEFT if how != "some"]
    return cut_power(runner, name, None, random.Random(0), left=certain, until=1).failed


def _looked_at(operation: Operation, cut: Cut, root: Path) -> list[Problem]:
    """Make what a cut leaves and look at it, with files whose times and inodes are what they were."""
    cut.make(root)
    with patch.object(segments, "_is_untouched", lambda *_: True):
        return check(operation, root, cut.n_acknowledged, finished=cut.finished)


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
    yield from last.values()
    yield from _ends(disk, rng, left)


def _ends(disk: Disk, rng: random.Random, left: Sequence[str]) -> Iterator[Cut]:
    """The operation has returned."""
    for how in left:
        place = f"power cut at the end, {how} left of what was not synced"
        yield Cut(place, disk.n_acknowledged, True, after_cut(disk.top, how, rng))
