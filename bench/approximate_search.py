"""Approximate search at size: recall on fresh queries, and queries a second against the bare faiss index.

The vectors are simulated, and called so: clusters of different width on the unit sphere (families), or,
with ``--like DB``, vectors of that database moved by differences between near neighbours of it. Queries are
drawn in the same way and take no part in building or tuning. Baselines, in the same run: exact search for
recall, and for speed the same faiss index called without plmsearch at the same effort.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import plmsearch
from plmsearch.exchange.importing import ImportOptions, import_vectors
from plmsearch.formats.vectors import open_vectors
from plmsearch.index.base import Neighbours
from plmsearch.index.faiss_index import faiss_facts
from plmsearch.index.recall import recalls
from plmsearch.indexing import IndexOptions
from plmsearch.optimize import optimize
from plmsearch.search.hits import SearchOptions
from plmsearch.vectors import unit_vectors

K = 10
#: Two vectors of one family: nearer than this cosine.
RELATIVES = 0.9


def clusters(n: int, dim: int, rng: np.random.Generator) -> Callable[[int], np.ndarray]:
    """Return a source of vectors: one family per 100, log-normal in size, of different width."""
    n_families = max(10, n // 100)
    centres = rng.standard_normal((n_families, dim)).astype(np.float32)
    weights = rng.lognormal(size=n_families)
    widths = rng.uniform(0.2, 0.8, n_families).astype(np.float32)

    def draw(size: int) -> np.ndarray:
        of = rng.choice(n_families, size, p=weights / weights.sum())
        noise = rng.standard_normal((size, dim), dtype=np.float32)
        noise *= widths[of, None]
        noise += centres[of]
        return noise

    return draw


def like(path: Path, rng: np.random.Generator) -> tuple[Callable[[int], np.ndarray], int, int]:
    """Return a source of vectors like a database's, its number of vectors and their dimensions."""
    with plmsearch.open_database(path) as db:
        names = [r.record_id for r in db.repository.all_records()]
        stored = np.unique(db.vectors(names), axis=0)
    unit = unit_vectors(stored, stored.shape[1])
    scores = unit @ unit.T
    np.fill_diagonal(scores, 0)
    first, second = np.nonzero(scores > RELATIVES)
    if not len(first):
        raise SystemExit(f"no two vectors of {path} have a cosine above {RELATIVES}")

    def draw(size: int) -> np.ndarray:
        pair = rng.integers(0, len(first), size)
        moved = stored[rng.integers(0, len(stored), size)] + stored[first[pair]] - stored[second[pair]]
        return moved.astype(np.float32)

    return draw, len(stored), stored.shape[1]


def in_turns(actions: Sequence[Callable[[], object]], rounds: int) -> list[tuple[float, float, float]]:
    """Return of each call: median seconds, and how much of them, and of the processor's, the first call took.

    They take turns, and a ratio is of one turn, so that a machine that others use too slows both alike; the
    processor's time leaves the others out. The first turn does not count.
    """
    wall, cpu = np.empty((rounds + 1, len(actions))), np.empty((rounds + 1, len(actions)))
    for turn in range(rounds + 1):
        for column, action in enumerate(actions):
            begun = time.process_time()
            wall[turn, column] = took(action)[1]
            cpu[turn, column] = time.process_time() - begun
    ratios = [np.median(seconds[1:, :1] / seconds[1:], axis=0) for seconds in (wall, cpu)]
    return list(zip(np.median(wall[1:], axis=0).tolist(), *(r.tolist() for r in ratios), strict=True))


class Peak:
    """The most memory of this process that is not a mapped file, looked at ten times a second."""

    def __init__(self) -> None:
        self._most = 0
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while True:
            (line,) = (
                s for s in Path("/proc/self/status").read_text().splitlines() if s.startswith("RssAnon")
            )
            self._most = max(self._most, int(line.split()[1]))
            time.sleep(0.1)

    def take(self) -> str:
        """Return the most since the last call, in words, with the most that was resident at all."""
        most, self._most = self._most / 2**20, 0
        resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        return f"{most:.2f} GiB without mapped files, {resident:.2f} GiB resident so far"


def prepare(folder: Path, given: argparse.Namespace) -> str:
    """Make a database of simulated vectors and a file of queries; say what they are."""
    rng = np.random.default_rng(given.seed)
    if given.like:
        draw, n_real, dim = like(given.like, rng)
        what = f"simulated: {n_real} stored vectors, moved by differences between relatives"
    else:
        draw, dim = clusters(given.n, given.dim, rng), given.dim
        what = "simulated: clusters"
    out = np.lib.format.open_memmap(folder / "v.npy", "w+", np.float32, (given.n, dim))
    for start in range(0, given.n, 50_000):
        out[start : start + 50_000] = draw(min(50_000, given.n - start))
    del out
    (folder / "ids.txt").write_text("".join(f"r{i}\n" for i in range(given.n)))
    np.save(folder / "queries.npy", draw(given.queries))
    with plmsearch.open_database(folder / "db", create=True) as db:
        file = open_vectors(folder / "v.npy", records=folder / "ids.txt")
        import_vectors(db, file, ImportOptions(space="simulated"))
    (folder / "v.npy").unlink()
    what = f"n = {given.n} x {dim}, {what}, seed {given.seed}"
    (folder / "what.txt").write_text(what)
    return what


def main() -> None:
    """Build, measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=60_000, help="vectors")
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--kind", default="auto", help="as --index of optimize")
    parser.add_argument("--recall", type=float, default=0.99)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--like", type=Path, help="database whose vectors are imitated")
    parser.add_argument("--keep", type=Path, help="folder of the files: kept, and used again if it is there")
    parser.add_argument("--prepare", action="store_true", help="only make the files of --keep")
    given = parser.parse_args()
    peak = Peak()
    with tempfile.TemporaryDirectory() as name:
        folder = given.keep or Path(name)
        folder.mkdir(exist_ok=True)
        is_there = (folder / "what.txt").exists()
        what, seconds = took(
            lambda: (folder / "what.txt").read_text() if is_there else prepare(folder, given)
        )
        if not is_there:
            print(f"files made in {seconds:.0f} s; memory: {peak.take()}")
        if given.prepare:
            return
        queries = np.load(folder / "queries.npy")
        print(f"{what}, {len(queries)} queries, k = {K}, {faiss_facts()['faiss threads']} threads")
        with plmsearch.open_database(folder / "db", create=True) as db:
            options = IndexOptions(given.kind, given.recall, given.seed)
            report, seconds = took(lambda: optimize(db, index=options))
            (outcome,) = report.indexes
            print(
                f"index: {outcome.reason}; optimize took {seconds:.0f} s; memory: {peak.take()}", flush=True
            )
            if outcome.facts is None:
                raise SystemExit(1)
            print(outcome.facts.describe())
            compare(db, queries, given.rounds)
            print(f"memory of the searches: {peak.take()}")


def took(action: Callable[[], Any]) -> tuple[Any, float]:
    """Return what a call returns, and its seconds."""
    started = time.perf_counter()
    return action(), time.perf_counter() - started


def compare(db: plmsearch.Database, queries: np.ndarray, rounds: int) -> None:
    """Print recall and seconds."""
    space = db.ranking()
    unit = unit_vectors(queries, space.dim)
    choice = db.index_facts(space).kind.partition("-")[0]  # type: ignore[union-attr]
    exact, _, _ = db._plan(space, SearchOptions(index="exact"), len(queries))
    index, _, _ = db._plan(space, SearchOptions(index=choice), len(queries))
    truth, exact_seconds = took(lambda: exact.search(queries, K))
    found = index.search(queries, K)
    print(f"recall@{K} on queries that had no part in the build\t{float(recalls(found, truth).mean()):.4f}")
    engine, effort = index._engine, index._effort  # type: ignore[attr-defined]
    print("what\tqueries\tms\tof raw faiss\tof its CPU time")
    for size in (1, len(queries)):
        some = queries[:size]
        ways = {
            "faiss index alone": lambda u=unit[:size]: engine.propose(u, K, effort),
            "index of plmsearch": lambda q=some: index.search(q, K),
            "Database.search, joined": lambda q=some: db.search(q, options=SearchOptions(index=choice)),
        }
        for what, (seconds, ratio, of_cpu) in zip(ways, in_turns(list(ways.values()), rounds), strict=True):
            print(f"{what}\t{size}\t{seconds * 1e3:.2f}\t{ratio:.2f}\t{of_cpu:.2f}", flush=True)
    print(f"exact search, once\t{len(queries)}\t{exact_seconds * 1e3:.0f}", flush=True)
    some = queries[:200]
    for share in (0.9, 0.5):  # below, the planner searches exactly
        allowed = np.flatnonzero(np.random.default_rng(1).random(len(exact)) < share) + 1
        wanted = exact.search(some, K, allowed=allowed)
        got = index.search(some, K, allowed=allowed)
        n_short = int((np.sort(got.ids, axis=1)[:, :1] < 0).sum())
        value = float(recalls(Neighbours(got.scores, got.ids), wanted).mean())
        print(
            f"filter {share:.0%}, by the index, {len(some)} queries\trecall@{K} {value:.4f}\t{n_short} short"
        )
    for k in (100, 1000):
        value = float(recalls(index.search(some, k), exact.search(some, k)).mean())
        print(f"recall@{k}, {len(some)} queries\t{value:.4f}")


if __name__ == "__main__":
    main()
