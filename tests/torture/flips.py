"""Flip bits of every file of a database and cut it short: the same results, a typed error, or rebuilt.

A worker opens the damaged copy and searches, so that one that dies by a signal is seen. Run as
``python -m torture.flips`` this module is that worker: it reads a path a line and prints what it found.
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from plmsearch.database import open_database
from plmsearch.errors import PlmsearchError
from plmsearch.verify import verify
from torture.oracle import QUERIES, Problem, Tally
from torture.syscalls import fresh, prepared
from torture.tracer import environment
from torture.workload import OPERATIONS, Operation

#: The header of a vector file is 64 bytes, that of a SQLite file 100.
_HEADER_BYTES = 100
_EVERYTHING = 100


def answers(path: Path) -> object:
    """Everything a user can read: records, raw vectors, and all hits of some queries."""
    with open_database(path) as db:
        records = [
            [r.record_id, r.residues, r.description, dict(r.metadata)] for r in db.repository.all_records()
        ]
        ids = [str(r[0]) for r in records]
        digest = hashlib.sha256(db.vectors(ids).tobytes()).hexdigest()
        hits = [
            [[h.target, round(h.score, 5), h.description, h.residues] for h in found]
            for found in db.search(QUERIES, k=_EVERYTHING)
        ]
    return json.loads(json.dumps([records, digest, hits]))


def worker() -> None:
    for line in sys.stdin:
        path = Path(line.rstrip("\n"))
        try:
            found: object = answers(path)
        except PlmsearchError as error:
            found = f"{type(error).__name__}: {error}"
        except Exception as error:
            found = f"untyped: {type(error).__name__}: {error}"
        print(json.dumps(found), flush=True)


@dataclass(frozen=True)
class Damage:
    """What is done to a file: a bit flipped, or the end cut off.

    Parameters
    ----------
    file : str
    offset : int
        Of the byte, or the new length.
    bit : int or None
        None: cut off.
    """

    file: str
    offset: int
    bit: int | None

    def do(self, root: Path) -> None:
        path = root / self.file
        content = bytearray(path.read_bytes())
        if self.bit is None:
            content = content[: self.offset]
        else:
            content[self.offset] ^= 1 << self.bit
        path.write_bytes(content)

    def __str__(self) -> str:
        done = "cut off" if self.bit is None else f"bit {self.bit} flipped"
        return f"{self.file} {done} at byte {self.offset}"


def damages(root: Path, n: int, rng: random.Random) -> Iterator[Damage]:
    """Every byte of each header, `n` bytes of each file that are not zero, any others, and some lengths."""
    for path in sorted(p for p in root.rglob("*") if p.is_file() and p.name != "LOCK"):
        content = path.read_bytes()
        file, size = str(path.relative_to(root)), len(content)
        header = range(min(size, _HEADER_BYTES))
        used = [offset for offset, byte in enumerate(content) if byte]
        more = sorted({*rng.sample(range(size), min(n // 4, size)), *rng.sample(used, min(n, len(used)))})
        for offset in [*header, *more]:
            yield Damage(file, offset, rng.randrange(8))
        for length in sorted({0, 1, size // 2, size - 1, rng.randrange(size)} - {size}):
            yield Damage(file, length, None)


class Worker:
    """A process that opens damaged databases, started anew when it dies."""

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "torture.flips"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment(),
        )  # fmt: skip

    def ask(self, path: Path) -> object:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"{path}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if line:
            return json.loads(line)
        code = self._process.wait()
        self.close()
        self._start()
        return f"untyped: the process ended with {code}"

    def close(self) -> None:
        self._process.communicate()


@functools.cache
def example() -> Worker:
    """The worker that all share, for it takes a second to start."""
    one = Worker()
    atexit.register(one.close)
    return one


def flip(n: int, rng: random.Random, limit: int | None = None) -> list[Tally]:
    """Damage each file of a database in turn; a row of the table for vector files, catalog and marker.

    With `limit` only so many of the damages, drawn at random.
    """
    tallies: dict[str, Tally] = {}
    operation = OPERATIONS["backup"]
    with prepared(operation) as template:
        expected = example().ask(template / "db")
        assert isinstance(expected, list), expected
        todo = list(damages(template / "db", n, rng))
        for damage in todo if limit is None else rng.sample(todo, limit):
            kind = damage.file.partition("/")[0]
            tally = tallies.setdefault(kind, Tally(f"bit or length of {kind}"))
            root = fresh(template)
            damage.do(root / "db")
            tally.add(str(damage), _outcome(operation, root, expected, tally))
    return list(tallies.values())


def _outcome(operation: Operation, root: Path, expected: object, tally: Tally) -> list[Problem]:
    found = example().ask(root / "db")
    if found == expected:
        return []
    if isinstance(found, str):
        return [Problem("other", found)] if found.startswith("untyped") else []
    return [Problem("silent differences", _difference(expected, found, root))]


def _difference(expected: object, found: object, root: Path) -> str:
    assert isinstance(expected, list) and isinstance(found, list)
    names = [n for n, a, b in zip(("records", "vectors", "hits"), expected, found, strict=True) if a != b]
    try:
        with open_database(root / "db") as db:
            seen = [f.problem for f in verify(db, full=True) if f.severity == "damage"]
    except PlmsearchError as error:
        seen = [str(error)]
    return f"in {', '.join(names)}; verify --full says {seen[:2] or 'nothing'}"


if __name__ == "__main__":
    worker()
