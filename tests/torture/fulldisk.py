"""Fill a real file system: a tmpfs that is too small by so much."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torture.flips import example
from torture.mutations import UNCHECKED
from torture.oracle import Problem, Tally
from torture.syscalls import judge, prepared
from torture.tracer import Runner
from torture.workload import OPERATIONS

_ROOM_BYTES = 64 << 20
_PAGE_BYTES = 4096
#: What SQLite writes in order to read a database in WAL mode that nobody has open: ``-wal`` and ``-shm``.
_READER_BYTES = 40960


def why_not() -> str:
    """Say why no file system can be filled here; empty if one can."""
    with tempfile.TemporaryDirectory(prefix="torture-") as folder:
        mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder]
        try:
            done = subprocess.run(mount, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            return "there is no mount command"
        if done.returncode:
            return f"mount is not permitted: {done.stderr.strip()}"
        subprocess.run(["umount", folder], check=True)
    return ""


@contextmanager
def mounted() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="torture-full-") as folder:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_ROOM_BYTES}", "tmpfs", folder], check=True)
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", folder], check=True)


def leave(folder: Path, n_bytes: int | None) -> None:
    """Leave room for so much more; None: all there is."""
    filler = folder / "filler"
    filler.unlink(missing_ok=True)
    if n_bytes is not None:
        with filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(folder).free - n_bytes)


def fill(runner: Runner, name: str, n: int, rng: random.Random) -> Tally:
    """Do an operation with `n` amounts of room, from none to more than enough, checked first or not."""
    operation = OPERATIONS[name]
    tally = Tally(f"full disk in {name}")
    with prepared(operation) as template, mounted() as folder:
        is_readable = not (operation.absent_first or operation.damaged_first or operation.is_upgrade)
        needed = _needed(runner, name, template, folder)
        amounts = sorted({0, *(rng.randrange(0, needed + 1, _PAGE_BYTES) for _ in range(n))})
        for number, n_bytes in enumerate(amounts):
            root = _copied(template, folder)
            leave(folder, n_bytes)
            with runner.without(UNCHECKED if number % 2 else ""):
                outcome = runner.run(name, root)
            problems = []
            if is_readable:
                # Not compared: the operation may have committed some of its work.
                left = shutil.disk_usage(folder).free
                found = example().ask(root / "db")
                refused = isinstance(found, str) and found.startswith("StorageError")
                if not isinstance(found, list) and not (refused and left < _READER_BYTES):
                    problems.append(Problem("did not open", f"on the full disk: {found}"))
            leave(folder, None)
            tally.add(f"{n_bytes} bytes left in {name}", [*problems, *judge(operation, root, outcome)])
    return tally


def _copied(template: Path, folder: Path) -> Path:
    root = folder / "work"
    shutil.rmtree(root, ignore_errors=True)
    leave(folder, None)
    shutil.copytree(template, root)
    return root


def _needed(runner: Runner, name: str, template: Path, folder: Path) -> int:
    """What an operation leaves behind, and as much again for what it needs meanwhile."""
    root = _copied(template, folder)
    used = shutil.disk_usage(folder).used
    runner.run(name, root)
    return 2 * max(shutil.disk_usage(folder).used - used, 64 * _PAGE_BYTES) // _PAGE_BYTES * _PAGE_BYTES
