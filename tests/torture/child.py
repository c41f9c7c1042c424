"""Everything loaded, one forked child per fault: ``python -m torture.child STATUS``.

Reads lines ``OPERATION<tab>TELLS<tab>MUTATION<tab>ROOT``; prints the child's process id, and its exit
status at its end. Nothing that a fork would break (torch, faiss) is imported. The child tells how far it
came through shared memory, so that it makes no system call but those of the operation.
"""

from __future__ import annotations

import mmap
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from plmsearch.errors import PlmsearchError
from plmsearch.store.repository import Repository
from torture.disk import ACKNOWLEDGED
from torture.mutations import mutate
from torture.next_schema import more_migrations
from torture.workload import OPERATIONS, small_chunks

GO = signal.SIGUSR1
SIZE = 4096
OK = "ok"
TYPED = "typed error"


def count_acknowledged(shared: mmap.mmap) -> None:
    """Count the commits that returned."""
    for name in ("commit", "delete_records"):
        real = getattr(Repository, name)

        def counted(self: Repository, *arguments: Any, real: Any = real) -> None:
            real(self, *arguments)
            shared[0] += 1
            if shared[1]:
                with suppress(OSError):
                    Path(ACKNOWLEDGED).rmdir()

        setattr(Repository, name, counted)


def _operate(name: str, root: Path, shared: mmap.mmap) -> None:
    signal.sigwait({GO})
    try:
        OPERATIONS[name].run(root)
        outcome = OK
    except PlmsearchError as error:
        outcome = f"{TYPED}: {type(error).__name__}: {error}"
    except BaseException as error:
        outcome = f"{type(error).__name__}: {error}"
    told = outcome.encode("utf-8", "replace")[: SIZE - 8]
    shared[8 : 8 + len(told)] = told
    os._exit(0)


def main() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {GO})
    small_chunks()
    with Path(sys.argv[1]).open("r+b") as file:
        shared = mmap.mmap(file.fileno(), SIZE)
    count_acknowledged(shared)
    more_migrations()
    for line in sys.stdin:
        name, tells, mutation, root = line.rstrip("\n").split("\t")
        shared[:] = bytes([0, int(tells)]) + bytes(SIZE - 2)
        child = os.fork()
        if child == 0:
            if mutation:
                mutate(mutation)
            _operate(name, Path(root), shared)
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        print(status, flush=True)


if __name__ == "__main__":
    main()
