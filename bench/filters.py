"""Filtered search against pandas and numpy: recall, hits, and time, by how many records a filter leaves.

The records are random strings (called so: they are no proteins) in families of ten, with a uniform random
number each; the filter is ``u < share``. Baseline: the same selection by pandas, and a matrix product and a
full sort by numpy over what it selects.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

import plmsearch
from plmsearch.indexing import IndexOptions
from plmsearch.optimize import optimize
from plmsearch.search.hits import SearchOptions
from plmsearch.sequences import SequenceRecord
from plmsearch.vectors import unit_vectors

K = 10
SHARES = (0.5, 0.1, 0.01, 0.001, 0.0001)
LETTERS = np.array(list("ACDEFGHIKLMNPQRSTVWY"))


def family(rng: np.random.Generator, size: int) -> list[str]:
    """Return variants of one random string of 60 letters, three letters changed in each."""
    founder = rng.choice(LETTERS, 60)
    members = []
    for _ in range(size):
        one = founder.copy()
        one[rng.integers(0, 60, 3)] = rng.choice(LETTERS, 3)
        members.append("".join(one))
    return members


def main() -> None:
    """Run the comparison and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=60_000, help="records")
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--index", default="auto", help="as --index of optimize")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    rng = np.random.default_rng(given.seed)
    sequences = [s for _ in range(-(-given.n // 10)) for s in family(rng, 10)][: given.n]
    table = pd.DataFrame({"record_id": [f"r{i}" for i in range(given.n)], "u": rng.random(given.n).round(6)})
    records = [
        SequenceRecord(name, sequence, metadata={"u": u})
        for name, u, sequence in zip(table["record_id"], table["u"], sequences, strict=True)
    ]
    with (
        tempfile.TemporaryDirectory() as folder,
        plmsearch.open_database(Path(folder) / "db", create=True) as db,
    ):
        db.add(records, model="kmer")
        (outcome,) = optimize(db, index=IndexOptions(given.index, 0.99, given.seed)).indexes
        vectors = unit_vectors(db.vectors(list(table["record_id"])), db.space().spec.dim)
        queries = vectors[rng.choice(given.n, given.queries)] + rng.normal(
            scale=0.02, size=(given.queries, vectors.shape[1])
        ).astype(np.float32)
        unit = unit_vectors(queries, vectors.shape[1])
        print(
            f"n = {given.n} random strings, kmer vectors, {given.queries} queries, k = {K}, seed {given.seed}"
        )
        print(f"index: {outcome.facts.describe() if outcome.facts else outcome.reason}")
        print("share\tmatching\tsearch\trecall@10\tfewest hits missing\tplmsearch_ms\tpandas_numpy_ms")
        for share in SHARES:
            print("\t".join(map(str, row(db, table, vectors, queries, unit, share))))


def row(
    db: plmsearch.Database,
    table: pd.DataFrame,
    vectors: np.ndarray,
    queries: np.ndarray,
    unit: np.ndarray,
    share: float,
) -> list[object]:
    """Search behind one filter, both ways."""
    options = SearchOptions(k=K, where=f"u < {share}")
    way = db.explain(db.ranking(), options, len(queries))[-1].split(",")[0].removeprefix("search: ")
    started = time.perf_counter()
    found = db.search(queries, k=K, options=options)
    ours = time.perf_counter() - started
    started = time.perf_counter()
    rows = np.flatnonzero((table["u"] < share).to_numpy())
    scores = unit @ vectors[rows].T
    best = -np.sort(-scores, axis=1)[:, :K]
    theirs = time.perf_counter() - started
    allowed = set(table["record_id"].to_numpy()[rows])
    assert all(h.target in allowed for hits in found for h in hits)
    width = min(K, len(rows))
    missing = max(width - len(hits) for hits in found)
    right = [
        sum(h.score >= worst - 1e-6 for h in hits) / width
        for hits, worst in zip(found, best[:, width - 1] if width else [], strict=False)
    ]
    recall = f"{np.mean(right):.4f}" if width else "-"
    return [f"{share:.2%}", len(rows), way, recall, missing, f"{ours * 1e3:.0f}", f"{theirs * 1e3:.0f}"]


if __name__ == "__main__":
    main()
