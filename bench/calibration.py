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

With --database the same is measured through the product, as users get it: records are stored (SCOPe with
``kmer``; of the antibodies the vectors of whole chains are imported), `Database.search_all` is asked, and the
p-values and E-values of its hits are counted. ``whole``: a database is searched with its own records;
``new``: it holds half of the donors or folds, and is searched with a database of the others.
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import plmsearch
from plmsearch.embedding.centres import reference_centres
from plmsearch.embedding.registry import load_embedder
from plmsearch.embedding.spec import SpaceRequest
from plmsearch.exchange.importing import ImportOptions, import_vectors
from plmsearch.formats.vectors import open_vectors
from plmsearch.overview import overview
from plmsearch.search.hits import SearchOptions
from plmsearch.search.relatives import Cdr3Relation, HomologyRelation
from plmsearch.search.significance import NoNull, NullDistribution, draw_sample, evalues, fit_null
from plmsearch.vectors import unit_vectors

MIN_QUERIES = 200
MOST_HITS = 400  # of a query, with p <= 0.01; queries that have as many are counted
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
    residues: list[str]
    #: As pooled, to be imported under a model and layer; empty: the model is run.
    pooled: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.float32))
    model: str = "kmer"
    layer: str | None = None


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
        texts.tolist(),
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
        [chains[i] for i in rows],
        np.concatenate([part[rows] for part in parts.values()], axis=1),
        "antiberty",
        layer,
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


# --- Through the product -------------------------------------------------------------------------


def through_database(labelled: Labelled, given: argparse.Namespace) -> Iterator[str]:
    """Store, search, and write the rows of the table."""
    name = f"{labelled.name}, database"
    for protocol, stored, asked in protocols(labelled, given):
        if protocol.startswith("draw"):
            continue
        with tempfile.TemporaryDirectory() as folder:
            started = time.monotonic()
            searched = store(labelled, stored, Path(folder) / "db")
            queries = searched
            if protocol == "split":
                queries = store(labelled, asked, Path(folder) / "queries")
            built = time.monotonic() - started
            with plmsearch.open_database(searched) as db, plmsearch.open_database(queries) as other:
                found, said = count_hits(labelled, db, other, stored, asked)
        print(
            f"{name}\t{said}; stored in {built:.0f} s, searched in {time.monotonic() - started - built:.0f} s"
        )
        shown = {"split": "new"}.get(protocol, protocol)
        for line in lines(labelled, shown, asked, found, given.seed):
            if "one null\t" not in line:
                yield line.replace(labelled.name, name, 1).partition("\tone null:")[0]


def store(labelled: Labelled, rows: np.ndarray, path: Path) -> Path:
    """Make a database of some sequences; their ids are their rows."""
    records = [(str(row), labelled.residues[row]) for row in rows]
    with plmsearch.open_database(path, create=True) as db:
        if not len(labelled.pooled):
            db.add(records, model=labelled.model)
            return path
        vectors, table = path.with_suffix(".npy"), path.with_suffix(".tsv")
        np.save(vectors, labelled.pooled[rows])
        table.write_text("id\tsequence\n" + "".join(f"{name}\t{residues}\n" for name, residues in records))
        file = open_vectors(vectors, records=table, id_col="id", seq_col="sequence")
        import_vectors(db, file, ImportOptions(request=SpaceRequest(labelled.model, labelled.layer)))
        if reference_centres(db.space().spec) is None:
            raise SystemExit(f"no reference centre for {db.space().spec.name}")
    return path


def count_hits(
    labelled: Labelled,
    db: plmsearch.Database,
    other: plmsearch.Database,
    stored: np.ndarray,
    asked: np.ndarray,
) -> tuple[dict[str, np.ndarray], str]:
    """Count, for each query, its unrelated hits with a small p or E, as `counts` does."""
    targets, at = set(stored.tolist()), {row: i for i, row in enumerate(asked.tolist())}
    keys = ("p", "E0.1", "E1", "E10", "unrelated", "line E1", "line E0.1", "line E10", "line p")
    found = {key: np.zeros(len(asked), dtype=np.int64) for key in keys}
    found["usable"] = np.zeros(len(asked), dtype=bool)
    n_full = 0
    everything = SearchOptions(max_emb_evalue=max(10.0, 0.01 * len(stored)))
    for query, hits in db.search_all(other, MOST_HITS, options=everything):
        place, row = at[int(query.query_id)], int(query.query_id)
        found["usable"][place] = bool(hits)
        n_full += len(hits) == MOST_HITS
        near = np.array([int(hit.target) for hit in hits], dtype=np.int64)
        assert targets.issuperset(near.tolist())
        if not len(near):
            continue
        strangers = labelled.unrelated(np.array([row]), near)[0]
        p, e = (np.array([getattr(hit, name) for hit in hits]) for name in ("emb_pvalue", "emb_evalue"))
        found["p"][place] = ((p <= 0.01) & strangers).sum()
        for level in (0.1, 1, 10):
            found[f"E{level:g}"][place] = ((e <= level) & strangers).sum()
    for start in range(0, len(asked), 200):
        rows = slice(start, start + 200)
        found["unrelated"][rows] = labelled.unrelated(asked[rows], stored).sum(axis=1)
    (ranking,) = overview(db).rankings
    nulls = {null.locus: null for null in ranking.nulls}
    one = max(nulls.values(), key=lambda null: null.n_sequences)
    found["exponent"] = np.array([one.exponent or np.nan])
    return found, f"{ranking.name}: {one.description}; {n_full} queries have more hits than were counted"


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
    parser.add_argument("--database", action="store_true", help="through Database.search_all")
    parser.add_argument("--spaces", default="", help="only sets whose name contains this")
    parser.add_argument("--sizes", type=int, nargs="*", default=[200, 1000])
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    print(f"seed {given.seed}; centres: {given.centres or 'mean of a random half of the locus'}")
    if given.spaces in "pfam kmer" and not given.database:
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
        if given.database:
            if "+" not in name and "cdr3" not in name:
                print("\n".join(through_database(makers[name](), given)), flush=True)
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
