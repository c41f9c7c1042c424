"""Time, memory and F1 of the clustering part of `plmsearch clones --method embedding`, vectors given.

    python bench/clone_scale.py 10000 31623 100000       # sizes; the last line is the log-log slope
    python bench/clone_scale.py 1000000

The vectors are SIMULATED, of 1,024 components, float32: a family's centre is drawn from a falling
spectrum (deviations as rank ** -0.62), so that unrelated ones have about the distances of the product's
(1% within 0.45, 0.01% within 0.24); members lie around it, two of them up to 0.2 apart. Junction lengths
are about those of human heavy chains. Peak memory includes the vectors. Core seconds hold on a busy machine.
"""

from __future__ import annotations

import resource
import sys
import time

import numpy as np

from plmsearch.repertoire.agreement import agreement
from plmsearch.repertoire.vector_families import find_vector_families
from plmsearch.types import Float2D

DIM = 1024
#: Share of junctions of 9 to 27 residues, from 40,000 of GenAIRR's human rearrangements: about normal.
LENGTHS = np.arange(8, 32)
_SHAPE = np.exp(-0.5 * ((LENGTHS - 17.0) / 3.8) ** 2)


def simulate(n: int, seed: int) -> tuple[Float2D, np.ndarray, np.ndarray]:
    """Draw vectors of unit length, junction lengths and families of n rows."""
    rng = np.random.default_rng(seed)
    sizes = np.minimum((1 - rng.random(n)) ** -1.0, 100).astype(int)
    truth = np.repeat(np.arange(n), sizes)[:n]
    lengths = rng.choice(LENGTHS, int(truth[-1]) + 1, p=_SHAPE / _SHAPE.sum())[truth]
    spread = (1.0 / np.arange(1, DIM + 1) ** 0.62).astype(np.float32)
    vectors = np.empty((n, DIM), np.float32)
    for start in range(0, n, 20_000):
        of = truth[start : start + 20_000]
        # a family's centre is drawn from its own number: nothing is kept from block to block
        families, places = np.unique(of, return_inverse=True)
        centres = np.stack(
            [np.random.default_rng((seed, f)).standard_normal(DIM, np.float32) for f in families]
        )
        own = 0.35 * rng.random((len(of), 1), np.float32) * rng.standard_normal((len(of), DIM), np.float32)
        part = (centres[places] + own) * spread
        vectors[start : start + len(of)] = part / np.linalg.norm(part, axis=1, keepdims=True)
    return vectors, lengths, truth


def main() -> None:
    """Measure each size."""
    points = []
    for n in map(int, sys.argv[1:]):
        vectors, lengths, truth = simulate(n, 1)
        order = np.random.default_rng(2).permutation(n)
        start, cpu = time.perf_counter(), time.process_time()
        found = find_vector_families(vectors, order, [""] * n, lengths[order].tolist())
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        score = agreement(found.labels.tolist(), truth[order].tolist())
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(
            f"{n} x {DIM}, seed 1: {seconds:.1f} s, of all cores {cpu:.1f} s, peak {peak:.2f} GiB, pairwise "
            f"F1 {score.pairwise_f1:.3f} (precision {score.pairwise_precision:.3f}, recall "
            f"{score.pairwise_recall:.3f}), B-cubed "
            f"{score.bcubed_f1:.3f}, threshold {np.median(found.thresholds):.2f}, largest family "
            f"{max(np.bincount(found.labels))}",
            flush=True,
        )
        points.append((n, cpu))
    if len(points) > 1:
        logs = np.log(np.array(points))
        print(f"log-log slope of core seconds {np.polyfit(logs[:, 0], logs[:, 1], 1)[0]:.2f}")


if __name__ == "__main__":
    main()
