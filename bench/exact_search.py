"""Queries a second of `Database.search` against `faiss.knn` on the same vectors, in one run.

The vectors are random (called so: they are no proteins), stored through `Database.add` with a model
that makes them, so that hits are joined to real records.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

import plmsearch
from plmsearch.vectors import unit_vectors


def main() -> None:
    """Run the comparison and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=20_000, help="records")
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    rng = np.random.default_rng(given.seed)
    letters = np.array(list("ACDEFGHIKLMNPQRSTVWY"))
    records = [(f"r{i}", "".join(rng.choice(letters, 60))) for i in range(given.n)]
    with (
        tempfile.TemporaryDirectory() as folder,
        plmsearch.open_database(Path(folder) / "db", create=True) as db,
    ):
        db.add(records, model="kmer")
        import faiss

        vectors = unit_vectors(db.vectors([name for name, _ in records]), 512)
        queries = vectors[rng.choice(given.n, given.queries)] + rng.normal(
            scale=0.01, size=(given.queries, 512)
        ).astype(np.float32)
        print(
            f"n = {given.n} random 60-residue strings, kmer vectors of 512 dimensions, k = 10, "
            f"seed {given.seed}, {given.rounds} rounds; baseline: faiss.knn on the same arrays"
        )
        print("queries\tours_ms\tfaiss_ms\tthroughput_ratio")
        for n in (1, given.queries):
            unit = unit_vectors(queries[:n], 512)
            ours, peer = [], []
            for _ in range(given.rounds + 1):
                started = time.perf_counter()
                db.search(queries[:n], k=10)
                ours.append(time.perf_counter() - started)
                started = time.perf_counter()
                faiss.knn(unit, vectors, 10, metric=faiss.METRIC_INNER_PRODUCT)
                peer.append(time.perf_counter() - started)
            mine, theirs = statistics.median(ours[1:]), statistics.median(peer[1:])
            print(f"{n}\t{mine * 1e3:.2f}\t{theirs * 1e3:.2f}\t{theirs / mine:.2f}")


if __name__ == "__main__":
    main()
