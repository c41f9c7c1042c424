"""Clusters of a database against labels, beside MMseqs2 in the same run, and the time they take.

    python bench/cluster.py DATA scope                 # SCOPe domains, model kmer, superfamilies
    python bench/cluster.py DATA heavy --vectors DIR   # heavy chains, families within a donor
    python bench/cluster.py DATA growth --vectors DIR  # heavy chains: false links per sequence as n grows
    python bench/cluster.py DATA scale                 # SIMULATED vectors: time, memory, log-log slope

DATA is a folder with proteins/ and antibodies/. The records are stored, and `plmsearch.analysis.clusters`
is asked, as `plmsearch cluster` does. --vectors is what bench/calibration.py reads: heavy.npz and its lists.

A family of antibodies is defined within a donor: clusters are cut by donor before they are compared, and
chains without one donor are stored but not compared. Both labels are CDR3 identity, and no truth about
clones: see bench/_labels.py. SCOPe has no pair above 40% identity.

B-cubed, pairwise F1 and ARI are those of `plmsearch.repertoire.agreement`; intervals are 95%, bootstrap
over the groups of the label.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import _labels
import numpy as np

import plmsearch
from plmsearch.analysis.clusters import ClusterOptions, cluster
from plmsearch.analysis.grouping import by_communities, by_components
from plmsearch.analysis.links import Rows, exact_links
from plmsearch.analysis.medoids import medoids
from plmsearch.embedding.spec import SpaceRequest
from plmsearch.exchange.importing import ImportOptions, import_vectors
from plmsearch.formats.read import open_input
from plmsearch.formats.vectors import open_vectors
from plmsearch.repertoire.agreement import agreement
from plmsearch.search.relatives import Cdr3Relation
from plmsearch.vectors import unit_vectors

N_DRAWS = 1000
EVALUES = (0.001, 0.01, 0.1, 1.0)


@dataclass(frozen=True)
class Labelled:
    """Sequences and labels; '' is no label; `part` cuts clusters before they are compared."""

    ids: list[str]
    residues: list[str]
    labels: dict[str, list[str]]
    part: list[str]


# --- Sets ----------------------------------------------------------------------------------------


def scope(data: Path) -> Labelled:
    """Read SCOPe domains and their superfamilies."""
    records = list(open_input(data / "proteins/scope40_dev_small.fasta"))
    sccs = [record.description.split()[0].split(".") for record in records]
    return Labelled(
        [r.record_id for r in records],
        [r.sequence for r in records],
        {"superfamily": [".".join(s[:3]) for s in sccs], "family": [".".join(s) for s in sccs]},
        [""] * len(records),
    )


def heavy(data: Path, vectors: Path) -> tuple[Labelled, np.ndarray, list[str]]:
    """Read heavy chains, their families within a donor, their vectors of layer 6, and their CDR3s."""
    chains = (vectors / "heavy.seqs.txt").read_text().split()
    domains = json.loads((vectors / "heavy.domains.json").read_text())
    raw = np.load(vectors / "heavy.npz")["whole"][6]
    rows: dict[str, list[dict[str, str]]] = {}
    with (data / "antibodies/sars2_paired.tsv").open(newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            rows.setdefault("".join(row["VH"].split()).upper(), []).append(row)
    kept = [
        i
        for i, d in enumerate(domains)
        if d and d["locus"] == "IGH" and d["regions"]["cdr3"] and np.isfinite(raw[i]).all()
    ]
    of = [rows[chains[i]] for i in kept]
    donors = _labels.one_donor([frozenset(r["donor"].strip() for r in o) for o in of], r"mix|pool|/")
    genes = [[_labels.first_gene(o[0][c]) for o in of] for c in ("v_call_heavy", "j_call_heavy")]
    cdr3 = [domains[i]["regions"]["cdr3"] for i in kept]
    groups = _labels.groups(*genes, cdr3, donors)
    clonotype = [o[0]["clonotype"].strip() for o in of]
    labels = {
        "CDR3 family": [f"{g}" if g >= 0 else "" for g in groups],
        "clonotype": [f"{d} {c}" if d and c else "" for d, c in zip(donors, clonotype, strict=True)],
    }
    return Labelled([str(i) for i in kept], [chains[i] for i in kept], labels, donors), raw[kept], cdr3


# --- Scores --------------------------------------------------------------------------------------


def codes(values: Sequence[object]) -> np.ndarray:
    return np.unique(np.array([str(v) for v in values]), return_inverse=True)[1]


def line(method: str, groups: Sequence[str], labels: Sequence[str], seed: int) -> str:
    """Score a grouping on the rows that have a label."""
    found = agreement(groups, labels)
    g, t = codes(groups), codes(labels)
    both = codes([f"{a} {b}" for a, b in zip(g, t, strict=True)])
    n_both, n_g, n_t = (np.bincount(x)[x] for x in (both, g, t))
    sums = [
        np.bincount(t, x) for x in (n_both / n_g, n_both / n_t, np.ones(len(t)), (n_both - 1) / 2,
                                    (n_g - 1) / 2, (n_t - 1) / 2)
    ]  # fmt: skip
    rng = np.random.default_rng(seed)
    n = len(sums[0])
    drawn = np.stack([np.bincount(rng.integers(0, n, n), minlength=n) for _ in range(N_DRAWS)])
    precision, recall, rows, shared, claimed, true = (drawn @ s for s in sums)
    with np.errstate(invalid="ignore", divide="ignore"):
        b3 = 2 * precision * recall / (precision + recall) / rows
        f1 = 2 * shared / (claimed + true)
    sizes = np.bincount(g)
    return (
        f"{method}\t{len(t)}\t{len(sizes)}\t{sizes.max()}\t{found.ari:.3f}\t{found.pairwise_precision:.3f}"
        f"\t{found.pairwise_recall:.3f}\t{found.pairwise_f1:.3f} {interval(f1)}\t{found.bcubed_precision:.3f}"
        f"\t{found.bcubed_recall:.3f}\t{found.bcubed_f1:.3f} {interval(b3)}"
    )


def interval(draws: np.ndarray) -> str:
    low, high = np.nanquantile(draws, (0.025, 0.975))
    return f"[{low:.3f}, {high:.3f}]"


# --- Methods -------------------------------------------------------------------------------------


def mmseqs(given: Labelled, *flags: str) -> list[str] | None:
    """Return the representative of each sequence by ``mmseqs easy-cluster``."""
    if not shutil.which("mmseqs"):
        return None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fasta = folder / "all.fasta"
        fasta.write_text("".join(f">{i}\n{s}\n" for i, s in enumerate(given.residues)))
        command = ["mmseqs", "easy-cluster", fasta, folder / "out", folder / "tmp", *flags, "--threads", "2"]
        subprocess.run([*map(str, command), "-v", "1"], check=True, capture_output=True)
        pairs = [pair.split("\t") for pair in (folder / "out_cluster.tsv").read_text().splitlines()]
    of = {member: representative for representative, member in pairs}
    return [of[str(i)] for i in range(len(given.residues))]


def compare(given: Labelled, db: plmsearch.Database, seed: int) -> None:
    """Print one line for each method and label."""
    methods: dict[str, Callable[[], Sequence[str] | None]] = {
        "each alone": lambda: given.ids,
        "mmseqs easy-cluster": lambda: mmseqs(given),
        "mmseqs -s 7.5 --cluster-mode 1": lambda: mmseqs(given, "-s", "7.5", "--cluster-mode", "1"),
        "mmseqs --min-seq-id 0.9": lambda: mmseqs(given, "--min-seq-id", "0.9"),
    }
    for evalue in EVALUES:
        for method in ("components", "leiden"):
            options = ClusterOptions(method, max_emb_evalue=evalue)
            methods[f"{method}, emb_evalue {evalue:g}"] = lambda options=options: clustered(
                db, given, options
            )
    print(
        "label\tmethod\tn\tgroups\tlargest\tARI\tpairwise precision\trecall\tF1"
        "\tB-cubed precision\trecall\tF1"
    )
    for method, run in methods.items():
        started = time.perf_counter()
        found = run()
        if found is None:
            print(f"\t{method}: not installed")
            continue
        seconds = time.perf_counter() - started
        for label, values in given.labels.items():
            rows = [i for i, value in enumerate(values) if value]
            groups = [f"{given.part[i]} {found[i]}" for i in rows]
            print(
                f"{label}\t{line(method, groups, [values[i] for i in rows], seed)}\t{seconds:.1f} s",
                flush=True,
            )


def clustered(db: plmsearch.Database, given: Labelled, options: ClusterOptions) -> list[str]:
    found = cluster(db, options)
    for said in found.summary():
        print(f"# {options.method}: {said}")
    of = {str(row["record_id"]): str(row.get("cluster_id", row["record_id"])) for row in found.rows()}
    return [of[record_id] for record_id in given.ids]


def stored(given: Labelled, path: Path, vectors: np.ndarray | None) -> plmsearch.Database:
    """Make a database; with vectors these are imported as those of AntiBERTy, layer 6."""
    db = plmsearch.open_database(path, create=True)
    if vectors is None:
        db.add(list(zip(given.ids, given.residues, strict=True)), model="kmer")
        return db
    array, table = path.with_suffix(".npy"), path.with_suffix(".tsv")
    np.save(array, vectors)
    rows = (f"{i}\t{s}\n" for i, s in zip(given.ids, given.residues, strict=True))
    table.write_text("id\tsequence\n" + "".join(rows))
    file = open_vectors(array, records=table, id_col="id", seq_col="sequence")
    import_vectors(db, file, ImportOptions(request=SpaceRequest("antiberty", "6")))
    return db


# --- Growth --------------------------------------------------------------------------------------


def growth(given: Labelled, vectors: np.ndarray, cdr3: Sequence[str], n_draws: int, seed: int) -> None:
    """Print the links of a sequence to unrelated ones, in samples of the chains of several sizes.

    Unrelated: the CDR3 has another length, or less than 60% of it is equal.
    """
    rng = np.random.default_rng(seed)
    print("n\tdraw\tlinks\tto unrelated\tper sequence\tclusters\tlargest\tmedian cutoff")
    for n in (500, 1000, 2000, 4000, len(given.ids)):
        for draw in range(n_draws if n < len(given.ids) else 1):
            rows = np.sort(rng.permutation(len(given.ids))[:n])
            part = Labelled([given.ids[i] for i in rows], [given.residues[i] for i in rows], {}, [])
            texts = [cdr3[i] for i in rows]
            related = Cdr3Relation(texts, texts)
            with (
                tempfile.TemporaryDirectory() as folder,
                stored(part, Path(folder) / "db", vectors[rows]) as db,
            ):
                found = cluster(db)
                ids = np.array([r.sequence_id for r in db.repository.all_records()])
                take = Rows(db.vector_blocks(db.ranking()), ids).take
                links = [
                    pair
                    for first, second in exact_links(take, [np.arange(n)], found.cutoffs.scores)
                    for pair in zip(first.tolist(), second.tolist(), strict=True)
                ]
            n_false = sum(not related(a, np.array([b]))[0] for a, b in links)
            middle = np.nanmedian(found.cutoffs.scores)
            print(
                f"{n}\t{draw}\t{len(links)}\t{n_false}\t{2 * n_false / n:.4f}\t{len(found)}"
                f"\t{found.size.max()}\t{middle:.4f}",
                flush=True,
            )


# --- Scale ---------------------------------------------------------------------------------------


def scale(sizes: Sequence[int], dim: int, seed: int) -> None:
    """Print time and memory of links, components, Leiden and medoids on SIMULATED families of vectors.

    Families have ten members on average, at a cosine of about 0.9 to each other; 0.6 is the cutoff.
    """
    times = []
    for n in sizes:
        rng = np.random.default_rng(seed)
        centres = rng.standard_normal((max(n // 10, 1), dim), dtype=np.float32)
        of = rng.integers(0, len(centres), n)
        unit = unit_vectors(centres[of] + rng.standard_normal((n, dim), dtype=np.float32) / 3, dim)
        cutoffs, take = np.full(n, 0.6), unit.__getitem__
        started = time.perf_counter()
        pairs = list(exact_links(take, [np.arange(n)], cutoffs))
        linked = time.perf_counter()
        labels, n_links = by_components(iter(pairs), n)
        joined = time.perf_counter()
        by_communities(iter(pairs), [f"{i:08d}" for i in range(n)], Fraction(1, 2), 0)
        leiden = time.perf_counter()
        medoids(take, labels)
        done = time.perf_counter()
        times.append(joined - started + done - leiden)
        rate = n * (n - 1) / 2 * 2 * dim / (linked - started) / 1e9
        found = agreement(labels.tolist(), of.tolist())
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(
            f"{n} SIMULATED vectors of {dim}: {n_links} links in {linked - started:.2f} s"
            f" ({rate:.0f} GFLOP/s), components {joined - linked:.2f} s, medoids {done - leiden:.2f} s,"
            f" Leiden {leiden - joined:.2f} s; pairwise F1 {found.pairwise_f1:.4f}; peak {peak:.2f} GiB,"
            f" of which vectors {unit.nbytes / 2**30:.2f}",
            flush=True,
        )
    slope = math.log(times[-1] / times[0]) / math.log(sizes[-1] / sizes[0]) if len(sizes) > 1 else math.nan
    print(f"log-log slope of links, components and medoids: {slope:.2f}")


def main() -> None:
    """Run one comparison."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("what", choices=("scope", "heavy", "growth", "scale"))
    parser.add_argument("--vectors", type=Path, help="folder with heavy.npz and its lists")
    parser.add_argument("--sizes", type=int, nargs="*", default=[10_000, 30_000, 100_000])
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if given.what == "scale":
        scale(given.sizes, given.dim, given.seed)
        return
    if not given.data.is_dir():
        print(f"skipped: there is no {given.data}")
        return
    labelled, vectors, cdr3 = (
        (scope(given.data), None, []) if given.what == "scope" else heavy(given.data, given.vectors)
    )
    if given.what == "growth":
        growth(labelled, vectors, cdr3, 3, given.seed)
        return
    with tempfile.TemporaryDirectory() as folder, stored(labelled, Path(folder) / "db", vectors) as db:
        ranking = db.ranking().name
        print(f"# {given.what}: {len(labelled.ids)} sequences, ranking {ranking}, seed {given.seed}")
        compare(labelled, db, given.seed)


if __name__ == "__main__":
    sys.exit(main())
