"""``python -m torture``: put faults to databases and print how many survived."""

from __future__ import annotations

import argparse
import random
import secrets
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from plmsearch.database import open_database
from torture import fulldisk, machine, tracer
from torture.backups import back_up_beside_a_writer
from torture.flips import flip
from torture.kills import kill_at_random
from torture.mutations import PLACES
from torture.oracle import Problem, Tally, table
from torture.powercut import cut_power, is_noticed
from torture.syscalls import EIO, ENOSPC, KILL, disturb
from torture.workload import OPERATIONS, peptide, small_chunks

_EXAMPLES = 5

#: How many tries of each kind the bounded run makes per operation, or in all.
_BOUNDED = {"kill": 25, "error": 10, "power": 30, "full": 8, "random": 200, "flips": 150, "machine": 60,
            "backups": 20}  # fmt: skip
#: Operations of a history of the state machine.
_STEPS = 40


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="torture", description=__doc__)
    parser.add_argument("--full", action="store_true", help="every system call, not a sample")
    parser.add_argument("--seed", type=int, default=None, help="repeat a run")
    parser.add_argument("--only", choices=list(_PARTS), action="append", help="this part; may be repeated")
    parser.add_argument("--operation", choices=list(OPERATIONS), action="append", help="this operation only")
    return parser.parse_args()


def _at_calls(given: argparse.Namespace, fault: str, n: int) -> Iterator[Tally]:
    with tracer.runner() as one:
        for name in given.operation or OPERATIONS:
            yield disturb(one, name, fault, None if given.full else n, random.Random(given.seed))


def _kill(given: argparse.Namespace) -> Iterator[Tally]:
    yield from _at_calls(given, KILL, _BOUNDED["kill"])


def _error(given: argparse.Namespace) -> Iterator[Tally]:
    for fault in (EIO, ENOSPC):
        yield from _at_calls(given, fault, _BOUNDED["error"])


def _power(given: argparse.Namespace) -> Iterator[Tally]:
    with tracer.runner() as one:
        for name in given.operation or OPERATIONS:
            n = None if given.full else _BOUNDED["power"]
            yield cut_power(one, name, n, random.Random(given.seed))


def _mutations(given: argparse.Namespace) -> Iterator[Tally]:
    """A sync left out counts as survived where the power cut after it is noticed."""
    tally = Tally("power cuts notice a sync left out")
    with tracer.runner() as one:
        for place, operation in PLACES.items():
            with one.without(place):
                seen = is_noticed(one, operation)
            tally.add(place, [] if seen else [Problem("other", "can be left out unnoticed")])
    yield tally


def _full_disk(given: argparse.Namespace) -> Iterator[Tally]:
    with tracer.runner() as one:
        for name in given.operation or OPERATIONS:
            yield fulldisk.fill(one, name, _BOUNDED["full"], random.Random(given.seed))


def _random(given: argparse.Namespace) -> Iterator[Tally]:
    n = _BOUNDED["random"] * (5 if given.full else 1)
    for of, share in (("chains", 1), ("antibodies", 4)):
        yield kill_at_random(n // share, random.Random(given.seed), of)


def _flips(given: argparse.Namespace) -> Iterator[Tally]:
    yield from flip(_BOUNDED["flips"] * (10 if given.full else 1), random.Random(given.seed))


def _machine(given: argparse.Namespace) -> Iterator[Tally]:
    yield machine.run(_BOUNDED["machine"] * (10 if given.full else 1), _STEPS, given.seed)


def _backups(given: argparse.Namespace) -> Iterator[Tally]:
    with tempfile.TemporaryDirectory(prefix="torture-backups-") as folder:
        path = Path(folder) / "db"
        with open_database(path, create=True) as db:
            db.add([("first", peptide(random.Random(given.seed)))], model="kmer")
        yield back_up_beside_a_writer(path, Path(folder), _BOUNDED["backups"] * (10 if given.full else 1))


#: What each part needs beyond the library: the function says why it is not there, or "".
_PARTS: dict[str, tuple[Callable[[argparse.Namespace], Iterator[Tally]], Callable[[], str]]] = {
    "kill": (_kill, tracer.why_not),
    "error": (_error, tracer.why_not),
    "power": (_power, tracer.why_not),
    "mutations": (_mutations, tracer.why_not),
    "full-disk": (_full_disk, fulldisk.why_not),
    "random": (_random, lambda: ""),
    "flips": (_flips, lambda: ""),
    "machine": (_machine, lambda: ""),
    "backups": (_backups, lambda: ""),
}


def main() -> int:
    given = _arguments()
    given.seed = secrets.randbelow(10**6) if given.seed is None else given.seed
    print(f"seed {given.seed}", flush=True)
    small_chunks()
    tallies: list[Tally] = []
    for part in given.only or _PARTS:
        run, why_not = _PARTS[part]
        reason = why_not()
        if reason:
            print(f"{part}: skipped: {reason}", flush=True)
            continue
        started = time.monotonic()
        for tally in run(given):
            tallies.append(tally)
            for example in tally.examples[:_EXAMPLES]:
                print(f"  {example}", flush=True)
        print(f"{part}: {time.monotonic() - started:.0f} s", flush=True)
    print(f"\n{table(tallies)}\nseed {given.seed}")
    return int(any(t.failed for t in tallies))


if __name__ == "__main__":
    sys.exit(main())
