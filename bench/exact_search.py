"""Queries a second of `Database.search` against `faiss.knn` on the same vectors, in one run.

The records are random strings (called so: they are no proteins) with six columns of metadata, stored
through `Database.add`; what is timed includes joining every hit to its record. Searched twice: as the
vectors lie after adding, in many files, and after `optimize`, in one. Both sides take turns, each round
asks new queries, and the first round is not counted. The baseline of a single query is the quicker of
`faiss.knn` and a product by numpy with a partial sort. On a machine that others use too, compare CPU seconds:
both sides wait for the same cores.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np

import plmsearch
from plmsearch.indexing import IndexOptions
from plmsearch.optimize import optimize
from plmsearch.search.hits import SearchOptions
from plmsearch.sequences import SequenceRecord
from plmsearch.vectors import unit_vectors

K = 10
LETTERS = np.array(list("ACDEFGHIKLMNPQRSTVWY"))


def random_records(n: int, rng: np.random.Generator) -> list[SequenceRecord]:
    """Return records of 60 random letters."""
    return [
        SequenceRecord(
            f"r{i}",
            "".join(letters),
            f"random string {i}",
            {
                "species": ("human", "mouse")[i % 2],
                "v_call": f"IGHV{i % 7 + 1}-{i % 60}*01",
                "j_call": f"IGHJ{i % 6 + 1}*02",
                "donor": f"donor {i % 25}",
                "duplicate_count": i % 40,
                "affinity": i / 7,
            },
        )
        for i, letters in enumerate(rng.choice(LETTERS, (n, 60)))
    ]


def seconds(task: Callable[..., object], *arguments: object) -> np.ndarray:
    """Return how long a call took, and how much time of CPUs."""
    started = np.array([time.perf_counter(), time.process_time()])
    task(*arguments)
    return np.array([time.perf_counter(), time.process_time()]) - started


def by_faiss(unit: np.ndarray, vectors: np.ndarray) -> object:
    """Search as a user of faiss would."""
    return faiss.knn(unit, vectors, K, metric=faiss.METRIC_INNER_PRODUCT)


def by_numpy(unit: np.ndarray, vectors: np.ndarray) -> object:
    """Search one query as a user of numpy would."""
    scores = vectors @ unit[0]
    best = np.argpartition(scores, -K)[-K:]
    return best[np.argsort(-scores[best])]


def compare(
    db: plmsearch.Database, vectors: np.ndarray, n_queries: int, rounds: int, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Time both sides in turns: seconds and CPU seconds of each, of shape (2, rounds)."""
    peers = {"faiss": by_faiss} if n_queries > 1 else {"faiss": by_faiss, "numpy": by_numpy}

    def ours(queries: np.ndarray) -> object:
        return db.search(queries, k=K, options=SearchOptions(index="exact"))

    times = []
    for _ in range(rounds + 1):
        noise = rng.normal(scale=0.01, size=(n_queries, vectors.shape[1]))
        queries = vectors[rng.choice(len(vectors), n_queries)] + noise.astype(np.float32)
        unit = unit_vectors(queries, vectors.shape[1])
        row = {name: seconds(peer, unit, vectors) for name, peer in peers.items()}
        row["plmsearch"] = seconds(ours, queries)
        times.append(row)
    return {side: np.stack([row[side] for row in times[1:]], axis=1) for side in times[0]}


def report(name: str, db: plmsearch.Database, vectors: np.ndarray, given: argparse.Namespace) -> None:
    """Print the throughput of many queries, and what a single one costs more."""
    rng = np.random.default_rng(given.seed + 1)
    n_files = len(db.repository.segments(db.space().space_id))
    many = compare(db, vectors, given.queries, given.rounds, rng)
    print(f"{name}: {n_files} vector files")
    for kind, theirs, ours in zip(("wall", "CPU"), many["faiss"], many["plmsearch"], strict=True):
        ratios = theirs / ours
        print(
            f"  {given.queries} queries, {kind} s: faiss.knn {np.median(theirs):.2f}, plmsearch "
            f"{np.median(ours):.2f}; throughput ratio: median {np.median(ratios):.3f}, {ratios.min():.3f} to "
            f"{ratios.max():.3f}; quickest of each {theirs.min() / ours.min():.3f}"
        )
    one = compare(db, vectors, 1, given.single_rounds, rng)
    medians = {side: float(np.median(times[0])) * 1e3 for side, times in one.items()}
    print("  1 query: " + ", ".join(f"{side} {ms:.2f} ms" for side, ms in medians.items()))
    best = min(medians["faiss"], medians["numpy"])
    print(
        f"  overhead: {medians['plmsearch'] - medians['faiss']:+.2f} ms over faiss.knn, "
        f"{medians['plmsearch'] - best:+.2f} ms over the quicker of the two"
    )


def main() -> None:
    """Run the comparison and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=20_000, help="records")
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--single-rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    records = random_records(given.n, np.random.default_rng(given.seed))
    print(
        f"n = {given.n} random strings, kmer vectors of 512 dimensions, 6 metadata columns, k = {K}, "
        f"seed {given.seed}; {given.rounds} rounds of {given.queries} queries, {given.single_rounds} of one"
    )
    with (
        tempfile.TemporaryDirectory() as folder,
        plmsearch.open_database(Path(folder) / "db", create=True) as db,
    ):
        db.add(records, model="kmer")
        vectors = unit_vectors(db.vectors([r.record_id for r in records]), db.space().spec.dim)
        report("after adding", db, vectors, given)
        optimize(db, index=IndexOptions("none"))
        report("after optimize", db, vectors, given)


if __name__ == "__main__":
    main()
