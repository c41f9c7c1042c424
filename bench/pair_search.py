"""What a search with pairs costs beside one with heavy chains alone, on random vectors.

    python bench/pair_search.py --pairs 100000

Both are exact; CPU seconds of one process, the smallest of some rounds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np

from plmsearch.index.base import Block
from plmsearch.index.exact import ExactIndex
from plmsearch.search.pair_scores import UnitRows, nearest_pairs, tiles
from plmsearch.search.pairs import Chain, pair_chains

DIM = 1024  # of whole ++ CDR3 with AntiBERTy
ROUNDS = 3


def seconds(work: Callable[[], object]) -> float:
    """Return the CPU time of the quickest round."""
    found = []
    for _ in range(ROUNDS):
        started = time.process_time()
        work()
        found.append(time.process_time() - started)
    return min(found)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=100_000)
    parser.add_argument("--queries", default="1,8,64")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    n = given.pairs
    vectors = np.random.default_rng(given.seed).standard_normal((2 * n, DIM), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ids = np.arange(2 * n)
    loci = ("IGH", "IGK")
    chains = [Chain(i, 1, i, loci[i % 2], "s", f"cell{i // 2:09d}") for i in range(2 * n)]
    print(f"{n:,} pairs of {DIM} components, seed {given.seed}; numpy {np.__version__}")
    print(f"pairing the chains: {seconds(lambda: pair_chains(chains)):.2f} s")
    pairs, rows = pair_chains(chains), UnitRows([Block(vectors, ids)], DIM)
    heavy = ExactIndex([Block(vectors[0::2].copy(), ids[0::2])], DIM)
    none = np.empty(0, dtype=np.int64)
    print("\n| queries | heavy alone, s | pairs, s | ratio |\n|---|---|---|---|")
    for q in map(int, given.queries.split(",")):
        first, second = vectors[: 2 * q : 2], vectors[1 : 2 * q : 2]

        def search(first: np.ndarray = first, second: np.ndarray = second, q: int = q) -> object:
            return nearest_pairs(first, second, tiles(pairs, np.arange(n), rows), 10, [none] * q)

        alone, both = seconds(lambda first=first: heavy.search(first, 10)), seconds(search)
        print(f"| {q} | {alone:.2f} | {both:.2f} | {both / alone:.1f} |")


if __name__ == "__main__":
    main()
