"""Alignments beside those of Biopython and blastp, on real pairs.

For each FASTA file: raw scores of random pairs against Biopython's PairwiseAligner (-12/-1); then, of all
pairs that ``blastp -comp_based_stats 0 -seg no`` reports (all against all, at its default E-value of 10),
raw scores and E-values against those of the best HSP. Last the speed of one query against many targets.
blastp (ncbi-blast+) is left out where it is not installed.

    python bench/alignment.py ../shared/data/proteins/pfam_max50.fasta -n 1000 --seed 1
"""

from __future__ import annotations

import argparse
import math
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from _labels import SHARED
from Bio.Align import PairwiseAligner, substitution_matrices

import plmsearch
from plmsearch.search.alignment import Alignment, QueryAligner

DEFAULT = ("proteins/pfam_max50.fasta", "proteins/scope40_dev_small.fasta")
FIELDS = "qaccver saccver qstart qend sstart send evalue score"


def biopython() -> PairwiseAligner:
    """Return an aligner with the same scoring scheme."""
    return PairwiseAligner(
        mode="local",
        substitution_matrix=substitution_matrices.load("BLOSUM62"),
        open_gap_score=-12,
        extend_gap_score=-1,
    )


def compare_with_biopython(sequences: dict[str, str], n: int, seed: int) -> None:
    """Print the share of random pairs with equal scores."""
    rng, oracle, ids = random.Random(seed), biopython(), sorted(sequences)
    as_scored = str.maketrans("UOJ", "CXL")
    equal = 0
    for _ in range(n):
        query, target = (sequences[i] for i in rng.sample(ids, 2))
        expected = oracle.score(query.translate(as_scored), target.translate(as_scored))
        traced = QueryAligner("q", query).align(target, len(target))
        equal += QueryAligner("q", query).raw_score(target) == expected == (traced.score if traced else 0)
    print(f"Biopython: {equal:,} of {n:,} random pairs have equal scores (seed {seed})")


def blastp(fasta: Path, folder: Path) -> list[list[str]]:
    """Return the HSPs of all against all."""
    made = ["makeblastdb", "-in", str(fasta), "-dbtype", "prot", "-out", str(folder / "db")]
    subprocess.run(made, check=True, capture_output=True)
    command = ["blastp", "-query", str(fasta), "-db", str(folder / "db"), "-comp_based_stats", "0"]
    command += ["-seg", "no", "-max_target_seqs", "1000000", "-outfmt", f"6 {FIELDS}"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return [line.split("\t") for line in done.stdout.splitlines()]


def compare_with_blastp(sequences: dict[str, str], fasta: Path) -> None:
    """Print shares of equal raw scores and of E-values within a factor."""
    n_searched = sum(map(len, sequences.values()))
    with tempfile.TemporaryDirectory() as folder:
        hsps = blastp(fasta, Path(folder))
    pairs: dict[tuple[str, str], list[list[str]]] = {}
    for hsp in hsps:
        pairs.setdefault((hsp[0], hsp[1]), []).append(hsp)
    aligners = {query: QueryAligner(query, sequences[query]) for query, _ in pairs}
    n_covered = n_equal = n_single = n_single_equal = 0
    ratios = []
    for (query, target), found in pairs.items():
        ours = aligners[query].align(sequences[target], n_searched)
        best = max(found, key=lambda hsp: int(hsp[7]))
        same = int(best[7]) == ours.score
        n_single += len(found) == 1
        n_single_equal += same and len(found) == 1
        if any(covers(hsp, ours) for hsp in found):
            n_covered += 1
            n_equal += same
        ratios.append(log_ratio(ours.evalue, float(best[6])))
    print(f"blastp: reports {len(pairs):,} pairs, {len(hsps):,} HSPs; raw scores are equal")
    print(f"  for {share(n_equal, n_covered)} pairs where one HSP covers the alignment")
    print(f"  for {share(n_single_equal, n_single)} pairs with a single HSP")
    for factor in (1.1, 2, 10):
        print(f"  E-value within a factor {factor:g}: {share(within(ratios, factor), len(ratios))}")


def covers(hsp: list[str], ours: Alignment) -> bool:
    """Tell whether an HSP spans all of an alignment, in both sequences."""
    qstart, qend, tstart, tend = map(int, hsp[2:6])
    return qstart <= ours.qstart and ours.qend <= qend and tstart <= ours.tstart and ours.tend <= tend


def log_ratio(ours: float, theirs: float) -> float:
    """Return the logarithm of the ratio; 0 where both are 0, which blastp prints below 1e-180."""
    if theirs == 0:
        return 0.0 if ours < 1e-179 else math.inf
    return math.inf if ours == 0 else abs(math.log(ours / theirs))


def within(ratios: Iterable[float], factor: float) -> int:
    """Count ratios within a factor."""
    return sum(r <= math.log(factor) for r in ratios)


def share(part: int, whole: int) -> str:
    """Write a share and its counts."""
    return f"{part / max(whole, 1):.2%} ({part:,} of {whole:,})"


def speed(sequences: dict[str, str], seed: int) -> None:
    """Print the time of one query against up to 1,000 targets."""
    rng = random.Random(seed)
    query, *targets = (sequences[i] for i in rng.sample(sorted(sequences), min(1001, len(sequences))))
    aligner = QueryAligner("q", query)
    aligner.align(targets[0], 1)
    for name, call in (("scored", aligner.raw_score), ("aligned", lambda t: aligner.align(t, 1_000_000))):
        started = time.perf_counter()
        for target in targets:
            call(target)
        each = (time.perf_counter() - started) / len(targets)
        print(f"speed: {len(targets):,} targets {name}, {each * 1e6:.0f} microseconds each")


def main() -> int:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("fasta", nargs="*", type=Path, default=[SHARED / name for name in DEFAULT])
    parser.add_argument("-n", type=int, default=1000, help="random pairs for Biopython")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    for fasta in arguments.fasta:
        if not fasta.exists():
            print(f"skipped: there is no {fasta}")
            continue
        sequences = {r.record_id: r.sequence for r in plmsearch.open_input(str(fasta))}
        n_residues = sum(map(len, sequences.values()))
        print(f"{fasta.name}: {len(sequences):,} sequences, {n_residues:,} residues")
        compare_with_biopython(sequences, arguments.n, arguments.seed)
        if shutil.which("blastp"):
            compare_with_blastp(sequences, fasta)
        else:
            print("blastp: skipped, it is not installed")
        speed(sequences, arguments.seed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
