"""Approximate search at size: recall on fresh queries, and queries a second against the bare faiss index.

The vectors are simulated, and called so: clusters of different width on the unit sphere (families), or,
with ``--like DB``, vectors of that database moved by differences between near neighbours of it. Queries are
drawn in the same way and take no part in building or tuning. Baselines, in the same run: exact search for
recall, and for speed the same faiss index called without plmsearch at the same effort.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import plmsearch
from plmsearch.exchange.importing import ImportOptions, import_vectors
from plmsearch.formats.vectors import open_vectors
from plmsearch.index.base import Neighbours
from plmsearch.index.recall import recalls
from plmsearch.indexing import IndexOptions
from plmsearch.optimize import optimize
from plmsearch.search.hits import SearchOptions
from plmsearch.vectors import unit_vectors

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


def timed(action: Callable[[], object], rounds: int) -> float:
    """Return the median seconds of a call, after one that does not count."""
    action()
    seconds = []
    for _ in range(rounds):
        started = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def main() -> None:
    """Build, measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=60_000, help="vectors")
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--kind", default="auto", help="as --index of optimize")
    parser.add_argument("--recall", type=float, default=0.99)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--like", type=Path, help="database whose vectors are imitated")
    parser.add_argument("--dir", help="where the files are made")
    given = parser.parse_args()
    rng = np.random.default_rng(given.seed)
    if given.like:
        draw, n_real, dim = like(given.like, rng)
        what = f"simulated: {n_real} stored vectors, moved by differences between relatives"
    else:
        draw, dim = clusters(given.n, given.dim, rng), given.dim
        what = "simulated: clusters"
    with tempfile.TemporaryDirectory(dir=given.dir) as name:
        folder = Path(name)
        out = np.lib.format.open_memmap(folder / "v.npy", "w+", np.float32, (given.n, dim))
        for start in range(0, given.n, 50_000):
            out[start : start + 50_000] = draw(min(50_000, given.n - start))
        del out
        (folder / "ids.txt").write_text("".join(f"r{i}\n" for i in range(given.n)))
        queries = draw(given.queries)
        with plmsearch.open_database(folder / "db", create=True) as db:
            file = open_vectors(folder / "v.npy", records=folder / "ids.txt")
            import_vectors(db, file, ImportOptions(space="simulated"))
            started = time.perf_counter()
            report = optimize(db, index=IndexOptions(given.kind, given.recall, given.seed))
            built = time.perf_counter() - started
            print(f"n = {given.n} x {dim}, {what}, seed {given.seed}, {given.queries} queries, k = 10")
            (outcome,) = report.indexes
            if outcome.facts is None:
                raise SystemExit(outcome.reason)
            print(f"{outcome.facts.describe()}; optimize took {built:.0f} s")
            compare(db, queries, given.rounds)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"peak memory of the whole run\t{peak:.2f} GiB, mapped files included")


def compare(db: plmsearch.Database, queries: np.ndarray, rounds: int) -> None:
    """Print recall and seconds."""
    space = db.ranking()
    unit = unit_vectors(queries, space.dim)
    choice = db.index_facts(space).kind.partition("-")[0]  # type: ignore[union-attr]
    exact, _, _ = db._plan(space, SearchOptions(index="exact"), len(queries))
    index, _, _ = db._plan(space, SearchOptions(index=choice), len(queries))
    truth = exact.search(queries, 10)
    found = index.search(queries, 10)
    print(f"recall@10 on fresh queries\t{float(recalls(found, truth).mean()):.4f}")
    engine, effort = index._engine, index._effort  # type: ignore[attr-defined]
    n = 10 if engine.is_exact_in_scores else 40
    print("what\tqueries\tms\tof raw faiss")
    for size in (1, len(queries)):
        raw = timed(lambda s=size: engine.propose(unit[:s], n, max(effort, n)), rounds)
        ours = timed(lambda s=size: index.search(queries[:s], 10), rounds)
        joined = timed(lambda s=size: db.search(queries[:s], options=SearchOptions(index=choice)), rounds)
        all_pairs = timed(lambda s=size: exact.search(queries[:s], 10), rounds)
        print(f"faiss index alone\t{size}\t{raw * 1e3:.2f}\t1")
        print(f"index of plmsearch\t{size}\t{ours * 1e3:.2f}\t{raw / ours:.2f}")
        print(f"Database.search, joined\t{size}\t{joined * 1e3:.2f}\t{raw / joined:.2f}")
        print(f"exact search\t{size}\t{all_pairs * 1e3:.2f}\t{raw / all_pairs:.3f}")
    for share in (0.5, 0.2, 0.1):  # below, the planner searches exactly
        allowed = np.flatnonzero(np.random.default_rng(1).random(len(exact)) < share) + 1
        wanted = exact.search(queries, 10, allowed=allowed)
        got = index.search(queries, 10, allowed=allowed)
        n_short = int((np.sort(got.ids, axis=1)[:, :1] < 0).sum())
        value = float(recalls(Neighbours(got.scores, got.ids), wanted).mean())
        print(f"filter {share:.1%}, by the index\trecall@10 {value:.4f}\tqueries short of hits {n_short}")


if __name__ == "__main__":
    main()
