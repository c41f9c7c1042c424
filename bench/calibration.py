"""Calibration of emb_pvalue and emb_evalue on labelled data: the reliability table of docs/significance.md.

Sets (below --data): SCOPe domains (unrelated = another fold), labelled pairs of Pfam proteins (p only), and
antibodies (unrelated = no donor in common, and CDR3s of different length or less than 60% identical). Strata:
V gene, CDR3 length tercile, protein length tercile.

Protocols: ``split``, the null is built on half of the donors or folds, queries and targets are the other
half; ``whole``, as a user has it, null, queries and targets are the same set; ``draw``, as whole, on some
sequences chosen at random. Baseline: one null for all queries, a line through log p and log d between
p = 0.01 and 0.1.

The antibody vectors are read from --vectors, a folder with heavy.npz and light.npz (region -> float32 array
of layers x chains x dim, NaN where a chain has no such region), and for each heavy.seqs.txt (a chain a line)
and heavy.domains.json (locus and IMGT regions). They are centred per locus with --centres, a safetensors file
of reference centres; without it with the mean of a random half of the locus, which the output then says.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from plmsearch.embedding.registry import load_embedder
from plmsearch.search.relatives import Cdr3Relation, HomologyRelation
from plmsearch.search.significance import NoNull, NullDistribution, draw_sample, evalues, fit_null
from plmsearch.vectors import unit_vectors

MIN_QUERIES = 200
SPACES = (("heavy", "IGH", "6", "whole"), ("heavy", "IGH", "6", "whole+cdr3"), ("heavy", "IGH", "6", "cdr3"),
          ("heavy", "IGH", "4", "whole"), ("light", "IGK", "6", "whole"), ("light", "IGL", "6", "whole"),
          ("light", "IGK", "6", "whole+cdr3"), ("light", "IGL", "6", "whole+cdr3"))  # fmt: skip


@dataclass
class Labelled:
    """Vectors with labels: `unrelated(q, t)` is a mask, `relation(q, s)` what the product itself can know."""

    name: str
    vectors: np.ndarray
    groups: list[frozenset[str]]
    strata: dict[str, np.ndarray]
    unrelated: Callable[[np.ndarray, np.ndarray], np.ndarray]
    relation: Callable[[np.ndarray, np.ndarray], Callable[[int, np.ndarray], np.ndarray]]


# --- Data ----------------------------------------------------------------------------------------


def fasta(path: Path) -> dict[str, str]:
    """Read a small FASTA file."""
    entries = [entry.split("\n", 1) for entry in path.read_text().split(">")[1:]]
    return {head.split()[0]: body.replace("\n", "").upper() for head, body in entries}


def table(path: Path) -> list[dict[str, str]]:
    """Read a TSV file."""
    with path.open() as file:
        return list(csv.DictReader(file, delimiter="\t"))


def kmer_vectors(sequences: Sequence[str]) -> np.ndarray:
    """Embed with the k-mer model."""
    model = load_embedder("kmer")
    means = [model.residue_embeddings([s], [1]).layers[1][0].mean(axis=0) for s in sequences]
    return unit_vectors(np.array(means), len(means[0]))


def terciles(lengths: np.ndarray) -> np.ndarray:
    """Name the third of each length."""
    low, high = np.quantile(lengths, [1 / 3, 2 / 3])
    return np.where(lengths <= low, f"<={low:g}", np.where(lengths <= high, f"<={high:g}", f">{high:g}"))


def scope(data: Path) -> Labelled:
    """SCOPe domains, k-mer vectors."""
    sequences = fasta(data / "proteins/scope40_dev_small.fasta")
    sccs = {row["id"]: row["sccs"].split(".") for row in table(data / "proteins/scope40_dev_small.tsv")}
    folds = np.array([".".join(sccs[name][:2]) for name in sequences])
    texts = np.array(list(sequences.values()))
    return Labelled(
        "scope kmer",
        kmer_vectors(texts.tolist()),
        [frozenset([fold]) for fold in folds],
        {"length": terciles(np.char.str_len(texts))},
        lambda q, t: folds[q][:, None] != folds[t],
        lambda q, s: HomologyRelation(texts[q].tolist(), texts[s].tolist()),
    )


def antibodies(data: Path, given: argparse.Namespace, space: tuple[str, str, str, str]) -> Labelled:
    """Antibody chains of one locus, AntiBERTy vectors of one layer, regions joined with equal weights."""
    chain, locus, layer, regions = space
    chains = (given.vectors / f"{chain}.seqs.txt").read_text().split()
    domains = json.loads((given.vectors / f"{chain}.domains.json").read_text())
    donors, genes = annotations(data, chain, chains)
    arrays = np.load(given.vectors / f"{chain}.npz")
    parts = {region: arrays[region][int(layer)] for region in regions.split("+")}
    rows = [
        i
        for i, d in enumerate(domains)
        if d
        and d["locus"] == locus
        and d["regions"]["cdr3"]
        and all(np.isfinite(p[i, 0]) for p in parts.values())
    ]
    joined = [
        unit_vectors(
            part[rows] - centre(part[rows], given, f"antiberty/{layer}/{region}/{locus}"), part.shape[1]
        )
        for region, part in parts.items()
    ]
    cdr3 = np.array([domains[i]["regions"]["cdr3"] for i in rows])
    of_donor = [donors[chains[i]] for i in rows]
    known = {name: i for i, name in enumerate(sorted(frozenset().union(*of_donor)))}
    from_donor = np.zeros((len(rows), len(known)), dtype=np.float32)
    for row, names in enumerate(of_donor):
        from_donor[row, [known[name] for name in names]] = 1

    def unrelated(q: np.ndarray, t: np.ndarray) -> np.ndarray:
        related = Cdr3Relation(cdr3[q].tolist(), cdr3[t].tolist())
        alike = np.array([related(i, np.arange(len(t))) for i in range(len(q))])
        return ~alike & (from_donor[q] @ from_donor[t].T == 0)

    return Labelled(
        name_of(space),
        unit_vectors(np.concatenate(joined, axis=1), sum(p.shape[1] for p in parts.values())),
        of_donor,
        {"V": np.array([genes[chains[i]] for i in rows]), "CDR3": terciles(np.char.str_len(cdr3))},
        unrelated,
        lambda q, s: Cdr3Relation(cdr3[q].tolist(), cdr3[s].tolist()),
    )


def name_of(space: tuple[str, str, str, str]) -> str:
    """Name a space of `SPACES`."""
    _, locus, layer, regions = space
    return f"{locus} antiberty layer {layer} {regions}"


def annotations(
    data: Path, chain: str, chains: Sequence[str]
) -> tuple[dict[str, frozenset[str]], dict[str, str]]:
    """Return the donors and the V gene of each chain."""
    column = {"heavy": "VH", "light": "VL"}[chain]
    donors: dict[str, frozenset[str]] = dict.fromkeys(chains, frozenset())
    genes = dict.fromkeys(chains, "")
    for row in table(data / "antibodies/sars2_paired.tsv"):
        residues = "".join(row[column].split()).upper()
        if residues:
            donors[residues] |= {row["donor"]}
            genes[residues] = genes[residues] or row[f"v_call_{chain}"].split("*")[0].split(",")[0].strip()
    return donors, genes


def centre(vectors: np.ndarray, given: argparse.Namespace, name: str) -> np.ndarray:
    """Return the reference centre, or the mean of a random half."""
    if given.centres is None:
        half = np.random.default_rng(given.seed).permutation(len(vectors))[: len(vectors) // 2]
        return vectors[half].mean(axis=0)
    from safetensors import safe_open

    with safe_open(given.centres, framework="numpy") as file:
        return file.get_tensor(name)


# --- Measurement ---------------------------------------------------------------------------------


def counts(
    labelled: Labelled, null_rows: np.ndarray, rows: np.ndarray, seed: int
) -> dict[str, np.ndarray] | NoNull:
    """Count, for each query, its unrelated targets, and those with a small p or E, by method."""
    sample = draw_sample(null_rows, seed)
    vectors = labelled.vectors[sample]
    null = fit_null(vectors, sample, labelled.relation(sample, sample), seed=seed)
    if isinstance(null, NoNull):
        return null
    line = one_null(labelled, sample)
    blocks = [block(labelled, null, line, rows[at : at + 200], rows) for at in range(0, len(rows), 200)]
    found = {key: np.concatenate([b[key] for b in blocks]) for key in blocks[0]}
    return found | {"exponent": np.array([null.facts.exponent])}


def block(
    labelled: Labelled, null: NullDistribution, line: np.ndarray, queries: np.ndarray, targets: np.ndarray
) -> dict[str, np.ndarray]:
    """Count for some queries."""
    scores = labelled.vectors[queries] @ labelled.vectors[targets].T
    strangers = labelled.unrelated(queries, targets)
    nulls = null.of(
        labelled.vectors[queries], labelled.vectors[null.ids], labelled.relation(queries, null.ids)
    )
    p = nulls.pvalues(scores)
    with np.errstate(divide="ignore"):
        p_line = np.exp(np.minimum(line[1] + line[0] * np.log(np.maximum(1 - scores, 0)), 0))
    out = {"unrelated": strangers.sum(axis=1), "usable": nulls.usable}
    for method, values in (("", p), ("line ", p_line)):
        out[f"{method}p"] = ((values <= 0.01) & strangers).sum(axis=1)
        for level in (0.1, 1, 10):
            out[f"{method}E{level:g}"] = ((evalues(values, len(targets)) <= level) & strangers).sum(axis=1)
    return out


def one_null(labelled: Labelled, sample: np.ndarray) -> np.ndarray:
    """Fit the baseline on the pairs of at most 2,000 sequences: slope and intercept of log p over log d."""
    some = sample[:: -(-len(sample) // 2000)]
    related = labelled.relation(some, some)
    if isinstance(related, HomologyRelation):  # too many alignments; relatives are rare
        keep = ~np.eye(len(some), dtype=bool)
    else:
        keep = ~np.array([related(i, np.arange(len(some))) for i in range(len(some))])
    distances = np.sort((1 - labelled.vectors[some] @ labelled.vectors[some].T)[keep])
    shares = np.geomspace(1e-2, 1e-1, 20)
    return np.polyfit(np.log(distances[(shares * len(distances)).astype(int)]), np.log(shares), 1)


def lines(
    labelled: Labelled, protocol: str, rows: np.ndarray, found: dict[str, np.ndarray], seed: int
) -> Iterator[str]:
    """Write the rows of the table: all queries, the baseline, the strata."""
    head = f"{labelled.name}\t{protocol}\t{len(rows)}"
    usable = found["usable"]
    yield f"{head}\tall\t{usable.sum()}\t{summary(found, usable, '', seed)}\tm={found['exponent'][0]:.1f}"
    yield f"{head}\tall, one null\t{len(rows)}\t{summary(found, np.ones(len(rows), bool), 'line ', seed)}\t"
    for name, values in labelled.strata.items():
        of_rows = values[rows]
        for value in np.unique(of_rows[of_rows != ""]):
            chosen = (of_rows == value) & usable
            if chosen.sum() >= MIN_QUERIES:
                base = (found["line E1"][chosen]).mean()
                stratum = summary(found, chosen, "", seed)
                yield f"{head}\t{name} {value}\t{chosen.sum()}\t{stratum}\tone null: {base:.2f}"


def summary(found: dict[str, np.ndarray], chosen: np.ndarray, method: str, seed: int) -> str:
    """Summarise the queries chosen; the interval is a bootstrap over queries."""
    pairs, hits = found["unrelated"][chosen], found[f"{method}E1"][chosen]
    share = found[f"{method}p"][chosen].sum() / pairs.sum()
    draws = np.random.default_rng(seed).integers(0, len(hits), (400, len(hits)))
    low, high = np.quantile(hits[draws].mean(axis=1), [0.025, 0.975])
    mean, median, q90, q99 = hits.mean(), *np.quantile(hits, [0.5, 0.9, 0.99])
    others = "\t".join(f"{found[f'{method}{key}'][chosen].mean():.3g}" for key in ("E0.1", "E10"))
    held = "ok" if 0.005 <= share <= 0.02 and 0.3 <= mean <= 3 else "FAILS"
    return f"{share:.4f}\t{mean:.2f} [{low:.2f}, {high:.2f}]\t{median:g}\t{q90:g}\t{q99:g}\t{others}\t{held}"


def protocols(labelled: Labelled, given: argparse.Namespace) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield name, rows of the null, rows of queries and targets."""
    rng = np.random.default_rng(given.seed)
    names = rng.permutation(sorted(frozenset().union(*labelled.groups)))
    first = frozenset(names[: len(names) // 2].tolist())
    in_first = np.array([bool(group & first) for group in labelled.groups])
    everything = np.arange(len(in_first))
    yield "split", everything[in_first], everything[~in_first]
    yield "whole", everything, everything
    for size in given.sizes:
        for draw in range(given.draws):
            if size < len(everything):
                some = np.sort(rng.choice(everything, size, replace=False))
                yield f"draw {draw + 1}", some, some


def pfam(data: Path, seed: int) -> str:
    """Return the share of labelled unrelated pairs with p <= 0.01; the null is the whole set."""
    sequences = fasta(data / "proteins/pfam_max50.fasta")
    texts, at = list(sequences.values()), {name: i for i, name in enumerate(sequences)}
    vectors = kmer_vectors(texts)
    sample = draw_sample(np.arange(len(texts)), seed)
    relation = HomologyRelation(texts, texts)
    null = fit_null(vectors, sample, relation, seed=seed)
    if isinstance(null, NoNull):
        return f"pfam kmer: {null.reason}"
    p = null.of(vectors, vectors, relation).pvalues(vectors @ vectors.T)
    pairs = [line.split() for line in (data / "proteins/pfam_max50.pair").read_text().splitlines()[1:]]
    shares = []
    for label in sorted({pair[2] for pair in pairs}):
        values = np.array([p[at[a], at[b]] for a, b, kind in pairs if kind == label])
        shares.append(f"{label} {len(values)} pairs, p <= 0.01: {(values <= 0.01).mean():.4f}")
    return f"pfam kmer, {len(texts)} proteins: " + "; ".join(shares)


def main() -> None:
    """Print the reliability table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--vectors", type=Path, help="folder with heavy.npz, light.npz and their lists")
    parser.add_argument("--centres", type=Path, help="safetensors file of reference centres")
    parser.add_argument("--spaces", default="", help="only sets whose name contains this")
    parser.add_argument("--sizes", type=int, nargs="*", default=[200, 1000])
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    print(f"seed {given.seed}; centres: {given.centres or 'mean of a random half of the locus'}")
    if given.spaces in "pfam kmer":
        print(pfam(given.data, given.seed))
    print("set\tprotocol\tn\tqueries\tn_queries\tp<=.01\tE<=1\tmedian\t90%\t99%\tE<=.1\tE<=10\theld\tnote")
    makers: dict[str, Callable[[], Labelled]] = {"scope kmer": lambda: scope(given.data)}
    if given.vectors is not None:
        makers |= {
            name_of(space): lambda space=space: antibodies(given.data, given, space) for space in SPACES
        }
    for name in makers:
        if given.spaces not in name:
            continue
        labelled = makers[name]()
        for protocol, null_rows, rows in protocols(labelled, given):
            found = counts(labelled, null_rows, rows, given.seed)
            if isinstance(found, NoNull):
                print(f"{labelled.name}\t{protocol}\t{len(rows)}\t{found.reason}", flush=True)
                continue
            print("\n".join(lines(labelled, protocol, rows, found, given.seed)), flush=True)


if __name__ == "__main__":
    main()
