"""How long does an exact search by CDR3 take? Simulated CDR3: random residues between ends of IGHV and IGHJ4.

    python bench/cdr3_search.py 1000000 1000

Prints milliseconds a query, within a length and over all lengths. One thread. Ten answers are compared with
those of comparing one by one, among the first 100,000.
"""

from __future__ import annotations

import random
import resource
import sys
import time

from plmsearch.search.cdr3 import Cdr3Options, cdr3_identity
from plmsearch.search.receptor_table import Receptor, ReceptorTable
from plmsearch.store.rows import ReceptorRow

SEED = 7
LETTERS = "ACDEFGHIKLMNPQRSTVWY"


def simulated(n: int, rng: random.Random) -> list[str]:
    """CDR3 of 8 to 24 residues; a fifth are others with one to three residues changed."""
    made: list[str] = []
    for _ in range(n):
        if made and rng.random() < 0.2:
            letters = list(rng.choice(made))
            for place in rng.sample(range(len(letters)), rng.randint(1, 3)):
                letters[place] = rng.choice(LETTERS)
            made.append("".join(letters))
        else:
            n_random = max(2, min(18, round(rng.gauss(10, 3.5))))
            made.append("AR" + "".join(rng.choices(LETTERS, k=n_random)) + "FDY")
    return made


def main() -> None:
    n, n_queries = int(sys.argv[1]), int(sys.argv[2])
    rng = random.Random(SEED)
    cdr3s = simulated(n, rng)
    v_genes = [f"IGHV{f}-{g}" for f in range(1, 8) for g in range(1, 8)]
    calls = [(rng.choice(v_genes) + "*01", f"IGHJ{rng.randint(1, 6)}*01") for _ in range(n)]
    rows = (
        ReceptorRow(i, i, 1, i, "IGH", cdr3, v, j, None, None)
        for i, (cdr3, (v, j)) in enumerate(zip(cdr3s, calls, strict=True))
    )
    started = time.perf_counter()
    table = ReceptorTable(rows)
    seconds = time.perf_counter() - started
    print(f"{len(table):,} receptors, table made in {seconds:.1f} s; {n_queries:,} queries")
    asked = [
        Receptor(cdr3s[i], "IGH", (calls[i][0][:-3],), (calls[i][1][:-3],))
        for i in rng.sample(range(n), n_queries)
    ]
    for name, wishes in {
        "identity >= 0.8, same v, j, cdr3_length": Cdr3Options(0.8, ("v", "j", "cdr3_length")),
        "identity >= 0.8, same cdr3_length": Cdr3Options(0.8, ("cdr3_length",)),
        "identity >= 0.8, any length": Cdr3Options(0.8),
    }.items():
        started = time.perf_counter()
        sizes = [len(table.find(one, wishes).rows) for one in asked]
        seconds = time.perf_counter() - started
        print(f"{name}: {seconds:.1f} s, {seconds / n_queries * 1e3:.2f} ms a query, {sum(sizes):,} hits")
    for one in asked[:10]:
        near = table.find(one, Cdr3Options(0.8)).rows
        first = cdr3s[:100_000]
        expected = {i for i, cdr3 in enumerate(first) if cdr3_identity(one.cdr3, cdr3) >= 0.8}
        assert set(near[near < len(first)].tolist()) == expected
    gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"10 answers compared; peak memory {gib:.2f} GiB")


if __name__ == "__main__":
    main()
