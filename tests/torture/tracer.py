"""Run an operation in a child under strace, which injects faults into its system calls."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from torture import child
from torture.disk import RECORDED

#: Every call that changes what is on the disk.
CALLS = (
    "write", "pwrite64", "pwritev", "pwritev2", "writev", "sendfile", "copy_file_range", "fsync", "fdatasync",
    "sync_file_range", "msync", "rename", "renameat", "renameat2", "unlink", "unlinkat", "rmdir", "link",
    "linkat", "symlink", "ftruncate", "truncate", "fallocate", "mkdir", "mkdirat",
)  # fmt: skip

_CALL = re.compile(r"^(\d+) +(\w+)\(")
_HERE = Path(__file__).resolve().parent
#: A file operation on these small databases takes a tenth of a second.
_TIMEOUT_S = 60


def why_not() -> str:
    """Say why no fault can be injected here; empty if one can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    tried = subprocess.run(["strace", "-qq", "-o", "/dev/null", "true"], capture_output=True, text=True)
    return f"ptrace is not permitted: {tried.stderr.strip()}" if tried.returncode else ""


def environment() -> dict[str, str]:
    """One thread, and the helpers and the package of this checkout on the path."""
    path = [str(_HERE.parent), str(_HERE.parents[1]), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    threads = {f"{name}_NUM_THREADS": "1" for name in ("OPENBLAS", "OMP", "MKL")}
    return {**os.environ, **threads, "PYTHONPATH": os.pathsep.join(filter(None, path))}


@dataclass(frozen=True)
class Outcome:
    """How a child ended.

    Parameters
    ----------
    signal : int
        That ended it, or 0.
    n_acknowledged : int
        Commits that had returned.
    told : str
        What it said at its end, if it came to it.
    """

    signal: int
    n_acknowledged: int
    told: str


class Runner:
    """Keeps a process with everything loaded, from which children are forked."""

    def __init__(self) -> None:
        #: The place of the sync that is left out, if any.
        self.mutation = ""
        self._folder = tempfile.TemporaryDirectory(prefix="torture-")
        self.folder = Path(self._folder.name)
        status = self.folder / "status"
        status.write_bytes(bytes(child.SIZE))
        self._status = status
        self._parent = subprocess.Popen(
            [sys.executable, "-m", "torture.child", str(status)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment(),
        )  # fmt: skip

    @contextmanager
    def without(self, place: str) -> Iterator[None]:
        """Leave out the syncs of a place of `torture.mutations`."""
        self.mutation = place
        try:
            yield
        finally:
            self.mutation = ""

    def close(self) -> None:
        self._parent.communicate()
        self._folder.cleanup()

    def run(self, name: str, root: Path, *options: str, tells: bool = False) -> Outcome:
        """Do an operation; `options` go to strace, which is left out if there are none.

        With `tells` each commit that returned is seen among the calls.
        """
        assert self._parent.stdin is not None and self._parent.stdout is not None
        self._parent.stdin.write(f"{name}\t{int(tells)}\t{self.mutation}\t{root}\n")
        self._parent.stdin.flush()
        pid = int(self._parent.stdout.readline())
        with traced(pid, options):
            os.kill(pid, child.GO)
            status = int(self._parent.stdout.readline())
        shared = self._status.read_bytes()
        told = shared[8:].rstrip(b"\0").decode("utf-8", "replace")
        return Outcome(os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0, shared[0], told)

    def record(self, name: str, root: Path, log: Path) -> None:
        """Do an operation undisturbed, and write down its calls with all they write."""
        options = ("-y", "-xx", "-s", str(1 << 26), "-e", f"trace={','.join(RECORDED)}", "-o", str(log))
        outcome = self.run(name, root, *options, tells=True)
        if outcome.told != child.OK:
            raise RuntimeError(f"{name} failed undisturbed: {outcome}")

    def calls(self, name: str, root: Path) -> list[tuple[str, int]]:
        """Do an operation undisturbed, and return its calls in order: name, and which of that name."""
        log = self.folder / "calls"
        outcome = self.run(name, root, "-e", f"trace={','.join(CALLS)}", "-o", str(log))
        assert outcome.told == child.OK, outcome
        seen: Counter[str] = Counter()
        found = []
        for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
            match = _CALL.match(line)
            if match:
                seen[match[2]] += 1
                found.append((match[2], seen[match[2]]))
        return found


@contextmanager
def traced(pid: int, options: tuple[str, ...]) -> Iterator[None]:
    if not options:
        yield
        return
    tracer = subprocess.Popen(["strace", "-f", *options, "-p", str(pid)], stderr=subprocess.PIPE, text=True)
    assert tracer.stderr is not None
    line = tracer.stderr.readline()
    if "attached" not in line:
        os.kill(pid, signal.SIGKILL)
        raise RuntimeError(f"strace did not attach: {line}")
    try:
        yield
    finally:
        tracer.communicate(timeout=_TIMEOUT_S)


@contextmanager
def runner() -> Iterator[Runner]:
    one = Runner()
    try:
        yield one
    finally:
        one.close()
