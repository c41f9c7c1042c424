"""Chains a second of the antiberty embedder against its peer, `AntiBERTyRunner.embed`, in one run.

Both embed the same simulated heavy chains (examples/heavy.fasta) in float32 on the CPU, the peer in
batches of 64 as its users do. Rounds alternate, so that a busy machine slows both; the ratio of the
medians is what counts. No chain is embedded before the first round but one, to warm up.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from pathlib import Path

import plmsearch
from plmsearch.embedding.embed import make_specs, plan_of

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def main() -> None:
    """Run the comparison and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=128, help="chains")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with plmsearch.open_input(EXAMPLES / "heavy.fasta") as source:
        chains = [record.sequence for record in source][: given.n]

    ours = {name: plmsearch.load_embedder("antiberty", precision=name) for name in ("float32", "bfloat16")}
    plans = {name: plan_of(make_specs(e, [6])) for name, e in ours.items()}
    warnings.simplefilter("ignore")
    from antiberty import AntiBERTyRunner

    peer = AntiBERTyRunner()

    def run_peer() -> None:
        for start in range(0, len(chains), 64):
            for states in peer.embed(chains[start : start + 64], hidden_layer=6):
                states[1:-1].mean(dim=0)

    jobs = {f"plmsearch {name}": _job(ours[name], chains, plans[name]) for name in ours}
    jobs["AntiBERTyRunner.embed"] = run_peer
    times: dict[str, list[float]] = {name: [] for name in jobs}
    peer.embed(chains[:1])
    for _ in range(given.rounds):
        for name, job in jobs.items():
            started = time.perf_counter()
            job()
            times[name].append(time.perf_counter() - started)
    baseline = statistics.median(times["AntiBERTyRunner.embed"])
    print(f"n = {len(chains)} simulated heavy chains, {given.rounds} rounds, no randomness, float32 peer")
    print("method\tchains_per_s\tratio_to_peer")
    for name, taken in times.items():
        median = statistics.median(taken)
        print(f"{name}\t{len(chains) / median:.1f}\t{baseline / median:.2f}")


def _job(embedder, chains, plan):
    return lambda: plmsearch.embed_sequences(embedder, chains, plan)


if __name__ == "__main__":
    main()
