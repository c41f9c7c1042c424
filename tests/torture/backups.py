"""Back up again and again while another process writes; each copy must be one committed state.

Run as ``python -m torture.backups DATABASE`` this module is the process that writes.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from plmsearch.backup import backup, restore
from plmsearch.database import open_database
from plmsearch.errors import PlmsearchError
from plmsearch.verify import verify
from torture.oracle import Problem, Tally
from torture.tracer import environment
from torture.workload import peptide

#: Records of one commit: so few that their residues fit into the first chunk.
_AT_ONCE = 16


def write(path: Path) -> None:
    """Add records w0, w1... without end, in one commit each so many; say so after each."""
    rng = random.Random(5)
    with open_database(path) as db:
        for start in count(0, _AT_ONCE):
            db.add([(f"w{n}", peptide(rng)) for n in range(start, start + _AT_ONCE)])
            print(start + _AT_ONCE, flush=True)


def back_up_beside_a_writer(path: Path, folder: Path, n_rounds: int) -> Tally:
    """Back up and restore `n_rounds` times, each time after the writer has committed once more.

    Parameters
    ----------
    path : Path
        A database whose chunks take `_AT_ONCE` short records.
    folder : Path
        For the copies.
    n_rounds : int
    """
    tally = Tally("backup while another process writes")
    writer = subprocess.Popen(
        [sys.executable, "-m", "torture.backups", str(path)],
        stdout=subprocess.PIPE, text=True, env=environment(),
    )  # fmt: skip
    try:
        assert writer.stdout is not None
        for n in range(n_rounds):
            n_before = int(writer.stdout.readline())
            tally.add(f"round {n}", list(_round(path, folder, n_before)))
    finally:
        writer.kill()
        writer.communicate()
    return tally


def _round(path: Path, folder: Path, n_before: int) -> Iterator[Problem]:
    copy, restored = folder / "backup", folder / "restored"
    try:
        with open_database(path) as db:
            backup(db, copy)
        restore(copy, restored)
        with open_database(restored) as db:
            yield from (Problem("lost", f"{f.where}: {f.problem}") for f in verify(db, full=True))
            names = [r.record_id for r in db.repository.all_records()]
    except PlmsearchError as error:
        yield Problem("did not open", f"{type(error).__name__}: {error}")
        return
    finally:
        shutil.rmtree(copy, ignore_errors=True)
        shutil.rmtree(restored, ignore_errors=True)
    written = [int(name[1:]) for name in names if name.startswith("w")]
    if written != list(range(len(written))) or len(written) % _AT_ONCE or len(written) < n_before:
        yield Problem("lost", f"{len(written)} records are no state after {n_before} were written")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
