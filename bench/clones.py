"""Clonal families against the truth of SIMULATED repertoires, with bootstrap intervals over clones.

    python bench/clones.py                       # simulations of its own: five kinds, three sizes
    python bench/clones.py --table airr.tsv      # a table whose column clone_id is the truth
    python bench/clones.py --scale 1000000       # time and memory only

V(D)J recombination is GenAIRR's; families grow here: sizes follow a power law, members mutate at random
positions, either each on its own (star) or along a random tree. V genes are used unequally. Rivals are
what people run today: the same blocks with a fixed threshold. "best" is the fixed threshold that fits
the truth best, which nobody knows beforehand.
"""

from __future__ import annotations

import argparse
import csv
import resource
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from plmsearch.formats.rearrangements import open_rearrangements
from plmsearch.repertoire.agreement import agreement
from plmsearch.repertoire.clones import CloneOptions, Clones, assign_clones
from plmsearch.repertoire.clonotype import COLUMNS, Rearrangements, read_rearrangements

THRESHOLDS = (0.02, 0.03, 0.04, 0.06, 0.08, 0.1, 0.12, 0.15, 0.18, 0.2, 0.25, 0.3)
FIXED = (0.1, 0.15, 0.2)
BASES = np.frombuffer(b"ACGT", np.uint8)


@dataclass(frozen=True)
class Kind:
    """One kind of simulated repertoire; `rate` is mutations per base of a member, `tree` or star."""

    name: str
    rate: float
    exponent: float
    most: int
    tree: bool


KINDS = (
    Kind("naive-like", 0.01, 2.5, 20, False),
    Kind("memory star", 0.04, 2.0, 100, False),
    Kind("memory tree", 0.05, 2.0, 100, True),
    Kind("expanded tree", 0.08, 1.6, 300, True),
    Kind("hypermutated", 0.12, 2.0, 100, True),
)


# --- Simulation ----------------------------------------------------------------------------------


def naive_pool(n: int, seed: int) -> list[tuple[str, str, str]]:
    """Draw unmutated rearrangements: V call, J call, junction."""
    import GenAIRR

    warnings.simplefilter("ignore")
    experiment = GenAIRR.Experiment.on("human_igh").recombine().productive_only()
    pool = []
    for start in range(0, n, 2000):
        records = experiment.run_records(n=min(2000, n - start), seed=seed + start)
        pool += [(str(r["v_call"]), str(r["j_call"]), str(r["junction"]).upper()) for r in records]
    return pool


def quick_pool(n: int, seed: int) -> list[tuple[str, str, str]]:
    """Draw many unmutated rearrangements of the same genes, with simple trimming and N additions.

    Trimmed bases and N additions are Poisson numbers with the means of human IGH (3 and 7 bases), N bases
    are uniform. GenAIRR needs a second for a thousand; this one for twenty thousand.
    """
    import GenAIRR.data

    warnings.simplefilter("ignore")
    data = GenAIRR.data.HUMAN_IGH_OGRDB
    v_ends = {g: a[0].ungapped_seq[a[0].anchor :].upper() for g, a in data.v_alleles.items()}
    d_genes = [a[0].ungapped_seq.upper() for a in data.d_alleles.values()]
    j_starts = {g: a[0].ungapped_seq[: a[0].anchor + 3].upper() for g, a in data.j_alleles.items()}
    rng = np.random.default_rng(seed)
    v_genes, j_genes = sorted(v_ends), sorted(j_starts)
    pool: dict[tuple[str, str, str], None] = {}
    while len(pool) < n:
        v, j = v_genes[rng.integers(len(v_genes))], j_genes[rng.integers(len(j_genes))]
        d = d_genes[rng.integers(len(d_genes))]
        trim, (n1, n2) = rng.poisson(3, 4), rng.poisson(7, 2)
        added = rng.choice(BASES, n1 + n2).tobytes().decode()
        start = v_ends[v][: max(len(v_ends[v]) - int(trim[0]), 3)]
        middle = d[int(trim[1]) : max(len(d) - int(trim[2]), int(trim[1]))]
        end = j_starts[j][min(int(trim[3]), len(j_starts[j]) - 3) :]
        junction = start + added[:n1] + middle + added[n1:] + end
        stops = any(junction[i : i + 3] in ("TAA", "TAG", "TGA") for i in range(0, len(junction), 3))
        if len(junction) % 3 == 0 and not stops:
            pool[f"{v}*01", f"{j}*01", junction] = None
    return list(pool)


def mutated(junction: bytes, rate: float, rng: np.random.Generator) -> bytes:
    """Change each base with a probability; a stop codon is drawn anew."""
    while True:
        letters = np.frombuffer(junction, np.uint8).copy()
        hit = rng.random(len(letters)) < rate
        letters[hit] = rng.choice(BASES, int(hit.sum()))
        new = letters.tobytes()
        if not any(new[i : i + 3] in (b"TAA", b"TAG", b"TGA") for i in range(0, len(new) - 2, 3)):
            return new


def family(junction: bytes, size: int, kind: Kind, rng: np.random.Generator) -> list[bytes]:
    """Return the members of a family: each mutated from the founder, or from an earlier member."""
    if not kind.tree:
        return [mutated(junction, kind.rate, rng) for _ in range(size)]
    members = [mutated(junction, kind.rate / 2, rng)]
    while len(members) < size:
        members.append(mutated(members[rng.integers(len(members))], kind.rate / 2, rng))
    return members


def simulate(
    pool: Sequence[tuple[str, str, str]], n: int, kind: Kind, seed: int
) -> tuple[Rearrangements, list[str]]:
    """Draw a repertoire of n heavy chains and the true clone of each."""
    rng = np.random.default_rng(seed)
    genes = sorted({v.split("*")[0] for v, _, _ in pool})
    usage = dict(zip(rng.permutation(genes), 1 / np.arange(1, len(genes) + 1) ** 0.7, strict=True))
    weights = np.array([usage[v.split("*")[0]] for v, _, _ in pool])
    order = rng.choice(len(pool), len(pool), replace=False, p=weights / weights.sum())
    rows, truth = Rearrangements(), []
    for clone, founder in enumerate(np.resize(order, 10 * n)):
        v, j, junction = pool[founder]
        size = min(int((1 - rng.random()) ** (-1 / (kind.exponent - 1))), kind.most)
        for member in family(junction.encode(), size, kind, rng)[: n - len(truth)]:
            rows.locus.append("IGH")
            rows.calls.append((v, j))
            rows.nucleotides.append(member.decode())
            rows.residues.append("")
            rows.donor.append("")
            rows.cell.append(None)
            rows.productive.append(True)
            rows.filtered.append(True)
            rows.weight.append((0, 0))
            truth.append(str(clone))
        if len(truth) == n:
            break
    if clone >= len(pool):
        print(f"note: {n} rows need {clone + 1} founders, the pool has {len(pool)}: some are used twice")
    return rows, truth


# --- Scores --------------------------------------------------------------------------------------


def interval(found: Sequence[str], truth: Sequence[str], rng: np.random.Generator) -> tuple[float, float]:
    """Bootstrap the pairwise F1 over true clones, 95%.

    A clone that is drawn w times counts w times: its own pairs w-fold, its pairs with another clone that was
    drawn v times v w-fold. Copies of one clone are no pairs.
    """
    groups = np.unique(found, return_inverse=True)[1]
    clones = np.unique(truth, return_inverse=True)[1]
    n_clones = int(clones.max()) + 1
    keys, counts = np.unique(groups * n_clones + clones, return_counts=True)
    group, clone = np.divmod(keys, n_clones)
    sizes = np.bincount(clones)
    own, true = counts * (counts - 1) / 2, sizes * (sizes - 1) / 2
    scores = []
    for _ in range(1000):
        drawn = np.bincount(rng.integers(0, n_clones, n_clones), minlength=n_clones)
        weighted = drawn[clone] * counts
        across = np.bincount(group, weighted) ** 2 - np.bincount(group, weighted**2)
        shared = float((drawn[clone] * own).sum())
        both = 2 * shared + across.sum() / 2 + float((drawn * true).sum()) - shared
        scores.append(2 * shared / both if both else 1.0)
    low, high = np.quantile(scores, (0.025, 0.975))
    return float(low), float(high)


def grouped(rows: Rearrangements, **options: object) -> Clones:
    """Group, a row without a family standing alone."""
    clones = assign_clones(rows, CloneOptions(**options))  # type: ignore[arg-type]
    clones.clone_id = [one or f"none{i}" for i, one in enumerate(clones.clone_id)]
    return clones


def compare(name: str, rows: Rearrangements, truth: Sequence[str], seed: int) -> None:
    """Print one line for each method."""
    rng = np.random.default_rng(seed)
    keys = list(zip(rows.calls, rows.nucleotides, rows.residues, truth, strict=True))
    distinct = sorted({key: i for i, key in reversed(list(enumerate(keys)))}.values())
    for method in ("junction", "cdr3"):
        best = max(
            (agreement(grouped(rows, method=method, threshold=t).clone_id, truth).pairwise_f1, t)
            for t in THRESHOLDS
        )
        start = time.perf_counter()
        clones = grouped(rows, method=method)
        seconds = time.perf_counter() - start
        found = agreement(clones.clone_id, truth)
        on_distinct = agreement([clones.clone_id[i] for i in distinct], [truth[i] for i in distinct])
        fixed = [
            agreement(grouped(rows, method=method, threshold=t).clone_id, truth).pairwise_f1 for t in FIXED
        ]
        low, high = interval(clones.clone_id, truth, rng)
        shares = [limit.most / limit.length for limit in clones.families.limits]
        print(
            f"{name}\t{len(rows)}\t{seed}\t{method}\t{found.pairwise_f1:.3f}\t[{low:.3f}, {high:.3f}]"
            f"\t{found.pairwise_precision:.3f}\t{found.pairwise_recall:.3f}\t{found.bcubed_f1:.3f}"
            f"\t{on_distinct.pairwise_f1:.3f}\t{on_distinct.bcubed_f1:.3f}\t{best[0]:.3f}\t{best[1]}\t"
            + "\t".join(f"{f:.3f}" for f in fixed)
            + f"\t{np.median(shares or [0]):.3f}\t{max(clones.sizes) / len(rows):.3f}\t{seconds:.1f}",
            flush=True,
        )


def main() -> None:
    """Run the comparison and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", type=Path, action="append", help="AIRR table with the truth in clone_id")
    parser.add_argument("--truth", default="clone_id", help="its column")
    parser.add_argument("--sizes", type=int, nargs="*", default=[1000, 10_000])
    parser.add_argument("--kinds", nargs="*", default=[kind.name for kind in KINDS])
    parser.add_argument("--seeds", type=int, nargs="*", default=[1])
    parser.add_argument("--pool", type=Path, help="TSV of v_call, j_call, junction instead of drawing one")
    parser.add_argument("--scale", type=int, help="rows; time and memory of junction only")
    given = parser.parse_args()
    if given.pool is not None:
        with given.pool.open() as file:
            pool = [(r["v_call"], r["j_call"], r["junction"]) for r in csv.DictReader(file, delimiter="\t")]
    elif given.table is None:
        most = given.scale or max(given.sizes)
        pool = naive_pool(most, 1) if most <= 20_000 else quick_pool(most // 2, 1)
    if given.scale:
        measure_scale(pool, given.scale)
        return
    print(
        "set\tn\tseed\tmethod\tF1\t95%\tprecision\trecall\tB-cubed\tF1 distinct\tB-cubed distinct\tbest\tat\t"
        + "\t".join(f"fixed {t}" for t in FIXED)
        + "\tthreshold\tlargest\tseconds"
    )
    for path in given.table or ():
        with open_rearrangements(path) as table:
            rows = read_rearrangements((cells, "") for cells in table.cells(COLUMNS))
            truth = [cell for (cell,) in table.cells((given.truth,))]
            is_productive = [i for i, productive in enumerate(rows.productive) if productive]
        compare(path.name, selected(rows, is_productive), [truth[i] for i in is_productive], 0)
    if given.table is None:
        for kind in (kind for kind in KINDS if kind.name in given.kinds):
            for n in given.sizes:
                for seed in given.seeds:
                    compare(kind.name, *simulate(pool, n, kind, seed), seed)


def selected(rows: Rearrangements, chosen: Sequence[int]) -> Rearrangements:
    """Return some rows."""
    names = ("locus", "calls", "nucleotides", "residues", "donor", "cell", "productive", "filtered", "weight")
    return Rearrangements(**{name: [getattr(rows, name)[i] for i in chosen] for name in names})


def measure_scale(pool: Sequence[tuple[str, str, str]], n: int) -> None:
    """Print time, memory and F1 of `junction` on one simulated repertoire."""
    rows, truth = simulate(pool, n, KINDS[2], 1)
    start = time.perf_counter()
    clones = grouped(rows, method="junction")
    seconds = time.perf_counter() - start
    found = agreement(clones.clone_id, truth)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{n} rows: {seconds:.1f} s, peak {peak:.2f} GiB (simulation included), pairwise F1 "
        f"{found.pairwise_f1:.3f} (precision {found.pairwise_precision:.3f}, recall "
        f"{found.pairwise_recall:.3f}), B-cubed {found.bcubed_f1:.3f}, largest family {max(clones.sizes)}"
    )


if __name__ == "__main__":
    sys.exit(main())
