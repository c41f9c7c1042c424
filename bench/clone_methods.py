"""Methods of `plmsearch clones` and what people use instead, against the truth of SIMULATED repertoires.

    python bench/clone_methods.py --n 500 --seeds 1 --cache DIR      # eight kinds of its own
    python bench/clone_methods.py --table genairr.tsv --table partis.tsv --cache DIR

Each set is written as a table without its truth, with V and J calls as they are true, as inferred from
residues (re-assigned), and absent; absent also means that the table holds sequences and no junction. Every
method of the product runs as the command does, with its automatic threshold. A rival groups by single
linkage of its score at the threshold that fits the truth best, which nobody knows beforehand: *best* says
the same of a method of the product. Scores of alignments are shares of the smaller of the two self scores.

One line for each: pairwise F1 with a bootstrap over clones (95%), precision, recall, B-cubed, both F1 over
distinct residues, best F1 and its threshold, size of the largest family.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from _clone_repertoires import KINDS, repertoire
from _rivals import blastp, kmer_tfidf, mmseqs
from clones import interval

from plmsearch.embedding.registry import load_embedder
from plmsearch.formats.rearrangements import open_rearrangements
from plmsearch.germlines.genes import GermlineSet
from plmsearch.numbering import ImmunumNumberer
from plmsearch.repertoire.agreement import agreement
from plmsearch.repertoire.clone_table import TableOptions, clone_table
from plmsearch.repertoire.clones import CloneOptions, assign_clones
from plmsearch.repertoire.clonotype import COLUMNS as AIRR_COLUMNS
from plmsearch.repertoire.clonotype import read_rearrangements
from plmsearch.repertoire.family_vectors import made_vectors
from plmsearch.repertoire.linkage import components

SHARES = (0.02, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2, 0.25, 0.3)
DISTANCES = (0.04, 0.06, 0.08, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4)
COLUMNS = ("v_call", "j_call", "junction", "junction_aa", "sequence", "sequence_aa")
CALLS = {"true": ("hybrid", "junction", "auto"), "re-assigned": ("hybrid", "junction"),
         "absent": ("auto", "cdr3", "embedding")}  # fmt: skip


@dataclass(frozen=True)
class Repertoire:
    """Rows of a set, by column, and the clone of each."""

    name: str
    seed: int
    cells: dict[str, list[str]]
    truth: list[str]


def given(path: Path) -> Repertoire:
    """Read a table whose column clone_id is the truth; rows that are productive."""
    with open_rearrangements(path) as table:
        rows = list(table.cells((*COLUMNS, "clone_id", "productive")))
    kept = [row for row in rows if row[-1] not in ("F", "false", "False")]
    cells = {name: [row[i] for row in kept] for i, name in enumerate(COLUMNS)}
    return Repertoire(path.name, 0, cells, [row[-2] for row in kept])


def simulated(n: int, seed: int, names: Sequence[str]) -> Iterator[Repertoire]:
    """Draw one set of each kind."""
    for kind in (kind for kind in KINDS if kind.name in names):
        chains = repertoire(kind, n, seed)
        cells = {name: [getattr(chain, name) for chain in chains] for name in COLUMNS}
        yield Repertoire(kind.name, seed, cells, [chain.clone for chain in chains])


def with_calls(one: Repertoire, calls: str) -> dict[str, list[str]]:
    """Return the columns that a method may see."""
    if calls == "true":
        return {name: cells for name, cells in one.cells.items() if any(cells)}
    sequences = {name: one.cells[name] for name in ("sequence", "sequence_aa")}
    if calls == "absent":
        return sequences
    numberer, genes = ImmunumNumberer(), GermlineSet.load(None, "human")
    domains = [numberer.domains(chain, ("IG",)) for chain in one.cells["sequence_aa"]]
    known = [i for i, found in enumerate(domains) if len(found) == 1]
    found = dict(zip(known, genes.infer_all([domains[i][0] for i in known]), strict=True))
    n = range(len(one.truth))
    columns = {"v_call": [found[i].v_call if i in found else "" for i in n],
               "j_call": [found[i].j_call if i in found else "" for i in n]}  # fmt: skip
    junctions = {name: one.cells[name] for name in ("junction", "junction_aa") if any(one.cells[name])}
    return columns | junctions | sequences


def run(cells: dict[str, list[str]], folder: Path, options: CloneOptions, vectors: Path | None) -> list[str]:
    """Run the command; a row without a family stands alone."""
    source, output = folder / "in.tsv", folder / "out.tsv"
    with source.open("w", newline="") as file:
        out = csv.writer(file, delimiter="\t", lineterminator="\n")
        out.writerow(["sequence_id", *cells])
        out.writerows((f"s{i}", *row) for i, row in enumerate(zip(*cells.values(), strict=True)))
    clone_table(source, output, options, TableOptions(vectors=vectors))
    with output.open(newline="") as file:
        return [row["clone_id"] or f"none{i}" for i, row in enumerate(csv.DictReader(file, delimiter="\t"))]


def product_vectors(one: Repertoire, cache: Path) -> Path:
    """Return a file with the product's vectors, made once."""
    path = cache / f"{one.name}-{one.seed}-{len(one.truth)}.npz"
    if not path.exists():
        made = made_vectors(one.cells["sequence_aa"], load_embedder("antiberty", device="cpu"))
        known = np.flatnonzero(made.of_row >= 0)
        ids = np.array([f"s{i}" for i in known])
        np.savez(path, ids=ids, embeddings=made.vectors[made.of_row[known]])
    return path


def naive_scores(one: Repertoire, cache: Path) -> np.ndarray:
    """Return cosines of the last layer's mean over the whole chain, made once."""
    path = cache / f"{one.name}-{one.seed}-{len(one.truth)}-naive.npy"
    if not path.exists():
        embedder = load_embedder("antiberty", device="cpu")
        layer, chains = embedder.card.n_layers, one.cells["sequence_aa"]
        distinct = sorted(set(chains), key=len)
        means = {}
        for start in range(0, len(distinct), 32):
            batch = [chain[: embedder.card.max_residues] for chain in distinct[start : start + 32]]
            output = embedder.residue_embeddings(batch, [layer]).layers[layer]
            for key, row, chain in zip(distinct[start : start + 32], output, batch, strict=True):
                means[key] = row[: len(chain)].mean(axis=0)
        np.save(path, np.array([means[chain] for chain in chains]))
    vectors = np.load(path)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors @ vectors.T


def best_by_scores(scores: np.ndarray, truth: Sequence[str]) -> tuple[float, float, list[str]]:
    """Group by single linkage at the threshold that fits the truth best: F1, threshold, labels."""
    first, second = np.triu_indices(len(truth), 1)
    values = scores[first, second]
    # true pairs are 0.1 to 20% of all: most thresholds at the upper end of the scores
    steps = np.quantile(values, 1 - np.geomspace(1e-5, 0.3, 120))
    best = (-1.0, 0.0, [""])
    for step in np.unique([*steps, values.max()]):
        close = values >= step
        labels = components(np.arange(len(truth)), first[close], second[close]).astype(str).tolist()
        best = max(best, (agreement(labels, truth).pairwise_f1, float(step), labels))
    return best


def by_self_score(scores: np.ndarray | None) -> np.ndarray | None:
    """Divide scores of alignments by the smaller self score."""
    if scores is None:
        return None
    own = np.maximum(np.diagonal(scores), 1.0)
    return np.maximum(scores, scores.T) / np.minimum(own[:, None], own)


def line(one: Repertoire, calls: str, method: str, labels: Sequence[str], best: tuple[float, float]) -> None:
    """Print one line."""
    found = agreement(labels, one.truth)
    distinct = list({c: i for i, c in reversed(list(enumerate(one.cells["sequence_aa"])))}.values())
    on_distinct = agreement([labels[i] for i in distinct], [one.truth[i] for i in distinct])
    low, high = interval(labels, one.truth, np.random.default_rng(one.seed))
    largest = max(np.unique(labels, return_counts=True)[1])
    print(
        f"{one.name}\t{len(labels)}\t{one.seed}\t{calls}\t{method}\t{found.pairwise_f1:.3f}\t[{low:.3f}, "
        f"{high:.3f}]\t{found.pairwise_precision:.3f}\t{found.pairwise_recall:.3f}\t{found.bcubed_f1:.3f}\t"
        f"{len(distinct)}\t{on_distinct.pairwise_f1:.3f}\t{on_distinct.bcubed_f1:.3f}\t{best[0]:.3f}\t"
        f"{best[1]:.3f}\t{largest}",
        flush=True,
    )


def compare(one: Repertoire, folder: Path, cache: Path | None, *, rivals: bool, fixed: bool = True) -> None:
    """Print a line for each method and each rival."""
    for calls, methods in CALLS.items():
        cells = with_calls(one, calls)
        for method in methods:
            vectors = None
            if method == "embedding":
                if cache is None:
                    continue
                vectors = product_vectors(one, cache)
            labels = run(cells, folder, CloneOptions(method), vectors)
            steps = () if method == "auto" or not fixed else DISTANCES if method == "embedding" else SHARES
            tried = []
            for step in steps:
                cut = run(cells, folder, CloneOptions(method, step), vectors)
                tried.append((agreement(cut, one.truth).pairwise_f1, step))
            line(one, calls, method, labels, max(tried, default=(float("nan"), float("nan"))))
    if rivals:
        chains = one.cells["sequence_aa"]
        scores = {"3-mer tf-idf": kmer_tfidf(chains), "MMseqs2 -s 7.5": by_self_score(mmseqs(chains, cache)),
                  "BLASTP": by_self_score(blastp(chains, cache))}  # fmt: skip
        if cache is not None:
            scores["naive embedding"] = naive_scores(one, cache)
        for name, table in scores.items():
            if table is not None:
                f1, step, labels = best_by_scores(np.asarray(table), one.truth)
                line(one, "-", name, labels, (f1, step))


def scale(sizes: Sequence[int], kind_name: str, seed: int) -> None:
    """Print F1 and time of the methods without a model, on one kind at several sizes."""
    (kind,) = (kind for kind in KINDS if kind.name == kind_name)
    for n in sizes:
        chains = repertoire(kind, n, seed)
        truth = [chain.clone for chain in chains]
        rows = read_rearrangements(
            (tuple(getattr(chain, name, "") for name in AIRR_COLUMNS), "") for chain in chains
        )
        for method in ("hybrid", "junction", "cdr3"):
            start = time.perf_counter()
            found = assign_clones(rows, CloneOptions(method))
            seconds = time.perf_counter() - start
            score = agreement(found.clone_id, truth)
            print(
                f"{kind.name}\t{len(rows)}\t{seed}\t{method}\tF1 {score.pairwise_f1:.3f} (precision "
                f"{score.pairwise_precision:.3f}, recall {score.pairwise_recall:.3f})\tB-cubed "
                f"{score.bcubed_f1:.3f}\tlargest {max(found.sizes) / len(rows):.2%}\t{seconds:.1f} s",
                flush=True,
            )


def main() -> None:
    """Run the comparison and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", type=Path, action="append", help="AIRR table with the truth in clone_id")
    parser.add_argument("--n", type=int, default=500)
    parser.add_argument("--seeds", type=int, nargs="*", default=[1])
    parser.add_argument("--kinds", nargs="*", default=[kind.name for kind in KINDS])
    parser.add_argument("--cache", type=Path, help="folder for vectors; without it nothing is embedded")
    parser.add_argument("--no-rivals", action="store_true")
    parser.add_argument("--no-best", action="store_true", help="no fixed thresholds: faster")
    parser.add_argument("--scale", type=int, nargs="*", help="sizes; F1 and time of what needs no model")
    asked = parser.parse_args()
    if asked.scale:
        scale(asked.scale, asked.kinds[0] if len(asked.kinds) == 1 else "memory trees", asked.seeds[0])
        return
    sets = map(given, asked.table) if asked.table else (
        one for seed in asked.seeds for one in simulated(asked.n, seed, asked.kinds))  # fmt: skip
    print("set\tn\tseed\tcalls\tmethod\tF1\t95%\tprecision\trecall\tB-cubed\tdistinct\tF1 distinct\t"
          "B-cubed distinct\tbest F1\tat\tlargest")  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        for one in sets:
            compare(one, Path(folder), asked.cache, rivals=not asked.no_rivals, fixed=not asked.no_best)


if __name__ == "__main__":
    sys.exit(main())
