"""Does the light chain help to find antibodies of the same epitope? Pairs beside heavy chains, and rivals.

Every method ranks the same pairs for the same queries: distinct pairs of a heavy and a light variable domain.
The question is asked of the nearest neighbour from another donor and another source only (a pair that shares
any donor or source with the query is no candidate), macro-averaged over epitopes. Of a heavy chain that came
with several light chains the heavy-only methods cannot tell the pairs apart: their ties count as expected.

    python bench/pairs.py --heavy-vectors /tmp/heavy.npz --light-vectors /tmp/light.npz --rivals /tmp/rivals

With ``--heavy-vectors``, ``--light-vectors`` and ``--rivals`` the slow parts are kept for the next run.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import _labels
import _metrics
import _rivals
import numpy as np
from _rankings import LAST, LAYER, Vectors, load_vectors

from plmsearch.embedding.centres import reference_centres
from plmsearch.embedding.embed import make_specs
from plmsearch.numbering import REGIONS, ImmunumNumberer
from plmsearch.transform import Transform

BLOCK = 512
BOTH = ("whole", "cdr3")
HEAVY_ALONE = "heavy alone: whole ++ CDR3, layer 6, reference centre"
BASELINES = (HEAVY_ALONE, "CDR3 identity, H + L", "MMseqs2, H + L")


@dataclass(frozen=True)
class Side:
    """One chain of the pairs: distinct domains, their loci and vectors, and which of them each pair has."""

    chains: _labels.Chains
    loci: list[str]
    vectors: Vectors
    of_pair: np.ndarray

    def per_pair(self, scores: np.ndarray) -> np.ndarray:
        """Return scores between domains as scores between pairs, shape (p, p)."""
        return scores[np.ix_(self.of_pair, self.of_pair)]

    def cosines(self, regions: Sequence[str], layer: int, kind: str) -> np.ndarray:
        """Return the mean over regions of the cosines of the distinct domains."""
        joined = np.hstack([self._unit(region, layer, kind) for region in regions])
        joined /= np.float32(np.sqrt(len(regions)))
        return joined @ joined.T

    def _unit(self, region: str, layer: int, kind: str) -> np.ndarray:
        (spec,) = make_specs(self.vectors.embedder, [layer])
        if region != "whole":
            spec = replace(spec, region=region, numbering=ImmunumNumberer().describe())
        centres = reference_centres(spec)
        if kind == "reference" and centres is None:
            raise SystemExit(f"no centre is shipped for {spec.name}")
        transform = Transform("reference", centres or {}) if kind == "reference" else Transform()
        return transform.apply(self.vectors.by_space[region, layer], self.loci)


@dataclass(frozen=True)
class Pairs:
    """Distinct pairs and what the table says of them."""

    heavy: Side
    light: Side
    merged: _labels.Chains

    def __len__(self) -> int:
        return len(self.heavy.of_pair)


def read_pairs(given: argparse.Namespace) -> Pairs:
    """Read the table; a pair that came in several rows has every donor and source of them."""
    numberer = ImmunumNumberer()
    sides = {}
    for name, loci in (("heavy", ("IGH",)), ("light", ("IGK", "IGL"))):
        columns = _labels.Columns(
            getattr(given, f"{name}_col"), given.v_col, given.j_col, given.donor_col, given.source_col,
            given.label_col,
        )  # fmt: skip
        parts = [_labels.read_chains(given.table, columns, locus, numberer) for locus in loci]
        sides[name] = (_joined(parts), [x for x, part in zip(loci, parts, strict=True) for _ in part.domain])
    with given.table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="," if given.table.suffix == ".csv" else "\t"))
    by_pair: dict[tuple[int, int], list[dict[str, str]]] = {}
    places = [_places(rows, getattr(given, f"{n}_col"), *sides[n], numberer) for n in ("heavy", "light")]
    for row, heavy, light in zip(rows, *places, strict=True):
        if heavy >= 0 and light >= 0:
            by_pair.setdefault((heavy, light), []).append(row)
    return _with_vectors(by_pair, sides, given)


def _joined(parts: Sequence[_labels.Chains]) -> _labels.Chains:
    """Put the chains of several loci into one list."""
    names = ("given", "domain", "regions", "v_gene", "j_gene", "donors", "sources", "label")
    lists = [[value for part in parts for value in getattr(part, name)] for name in names]
    return _labels.Chains(*lists, sum((part.counts for part in parts), Counter()))


def _places(
    rows: Sequence[dict[str, str]],
    column: str,
    chains: _labels.Chains,
    loci: Sequence[str],
    numberer: ImmunumNumberer,
) -> list[int]:
    """Return which distinct domain the chain of each row has; -1 for none."""
    known = {domain: place for place, domain in enumerate(chains.domain)}
    of_chain: dict[str, int] = {}
    for chain in {_labels.residues(row, column) for row in rows}:
        domains = [d for d in numberer.domains(chain, ("IG",)) if d.locus in loci]
        joined = "".join(domains[0].regions[name] for name in REGIONS) if domains else ""
        of_chain[chain] = known.get(joined, -1)
    return [of_chain[_labels.residues(row, column)] for row in rows]


def _with_vectors(
    by_pair: dict[tuple[int, int], list[dict[str, str]]],
    sides: dict[str, tuple[_labels.Chains, list[str]]],
    given: argparse.Namespace,
) -> Pairs:
    """Load the vectors, and keep the pairs of which both chains have them all."""
    vectors = {n: load_vectors(sides[n][0], "", getattr(given, f"{n}_vectors")) for n in sides}
    whole = {
        n: np.all([np.isfinite(a).all(axis=1) for a in v.by_space.values()], axis=0)
        for n, v in vectors.items()
    }
    kept = [(h, x) for h, x in by_pair if whole["heavy"][h] and whole["light"][x]]
    counts = Counter(
        rows=sum(map(len, by_pair.values())), pairs=len(by_pair), without_vector=len(by_pair) - len(kept)
    )
    heavy = sides["heavy"][0]
    columns = _labels.Columns(
        "", given.v_col, given.j_col, given.donor_col, given.source_col, given.label_col
    )
    merged = [_labels.merged(by_pair[pair], columns, counts) for pair in kept]
    facts = _labels.Chains(
        [heavy.given[h] for h, _ in kept],
        [heavy.domain[h] for h, _ in kept],
        [heavy.regions[h] for h, _ in kept],
        *(list(column) for column in zip(*merged, strict=True)),
        counts,
    )
    of = {"heavy": np.array([h for h, _ in kept]), "light": np.array([x for _, x in kept])}
    made = {n: Side(*sides[n], _finite(vectors[n]), of[n]) for n in sides}
    return Pairs(made["heavy"], made["light"], facts)


def _finite(vectors: Vectors) -> Vectors:
    """Replace vectors that are not there; no pair has them."""
    filled = {name: np.where(np.isfinite(a), a, np.float32(1)) for name, a in vectors.by_space.items()}
    return replace(vectors, by_space=filled)


@dataclass(frozen=True)
class Question:
    """The epitope of the nearest neighbour from another donor and another source."""

    label: np.ndarray
    allowed: np.ndarray
    queries: np.ndarray
    bootstrap: _metrics.Bootstrap

    @classmethod
    def of(cls, pairs: Pairs, classes: Sequence[str], n_draws: int, seed: int) -> Question:
        """Ask it of every labelled pair that has a labelled candidate."""
        facts = pairs.merged
        label = np.array([classes.index(x) if x in classes else -1 for x in facts.label])
        allowed = ~(_labels.share_any(facts.donors) | _labels.share_any(facts.sources)) & (label >= 0)
        queries = np.flatnonzero((label >= 0) & allowed.any(axis=1))
        groups = _labels.groups(facts.v_gene, facts.j_gene, facts.cdr3, ["all"] * len(facts))
        unit = _labels.units(groups)
        bootstrap = _metrics.Bootstrap.of(unit[queries], label[queries], n_draws, seed)
        return cls(label, allowed, queries, bootstrap)

    def answers(self, scores: np.ndarray) -> np.ndarray:
        """Return for each query the chance that its first candidate has its label."""
        out = np.empty(len(self.queries))
        for start in range(0, len(self.queries), BLOCK):
            block = self.queries[start : start + BLOCK]
            rows = np.where(self.allowed[block], scores[block], -np.inf)
            right = self.label[block, None] == self.label[None, :]
            out[start : start + BLOCK] = _metrics.precision_at_1(rows, right)
        return out


def methods(pairs: Pairs, cache: Path | None) -> Iterator[tuple[str, Callable[[], np.ndarray | None]]]:
    """Yield every method; scores between pairs are computed when asked for."""
    heavy, light = pairs.heavy, pairs.light
    locus = np.array(light.loci)[light.of_pair]
    other_locus = locus[:, None] != locus[None, :]

    def both(score: Callable[[Side], np.ndarray | None]) -> Callable[[], np.ndarray | None]:
        return lambda: _mean(heavy, light, score)

    def alone(side: Side, score: Callable[[Side], np.ndarray | None]) -> Callable[[], np.ndarray | None]:
        def scores() -> np.ndarray | None:
            found = score(side)
            return None if found is None else side.per_pair(found)

        return scores

    def product(side: Side) -> np.ndarray:
        return side.cosines(BOTH, LAYER, "reference")

    def within_locus() -> np.ndarray:
        found = _mean(heavy, light, product)
        assert found is not None
        found[other_locus] = -np.inf
        return found

    yield "any order (chance)", lambda: np.zeros((len(pairs), len(pairs)), np.float32)
    yield HEAVY_ALONE, alone(heavy, product)
    yield "light alone: the same", alone(light, product)
    yield "**pairs** (query --pairs): mean of both, light chains of one locus", within_locus
    yield "pairs, --across-loci", both(product)
    yield (
        "pairs of whole domains, layer 6, reference centre",
        both(lambda s: s.cosines(["whole"], LAYER, "reference")),
    )
    yield "naive, heavy alone", alone(heavy, lambda s: s.cosines(["whole"], LAST, "none"))
    yield "naive, H + L", both(lambda s: s.cosines(["whole"], LAST, "none"))
    rivals: dict[str, Callable[[Side], np.ndarray | None]] = {
        "CDR3 identity": lambda s: _or_zero(_rivals.cdr3_identity(s.chains.cdr3)),
        "3-mer tf-idf": lambda s: _rivals.kmer_tfidf(s.chains.domain),
        "MMseqs2": lambda s: _or_zero(_rivals.mmseqs(s.chains.domain, cache)),
        "BLASTP": lambda s: _or_zero(_rivals.blastp(s.chains.domain, cache)),
    }
    for name, score in rivals.items():
        yield f"{name}, heavy alone", alone(heavy, score)
        yield f"{name}, H + L", both(score)


def _mean(heavy: Side, light: Side, score: Callable[[Side], np.ndarray | None]) -> np.ndarray | None:
    """Return the mean of a score of both chains."""
    of_heavy, of_light = score(heavy), score(light)
    if of_heavy is None or of_light is None:
        return None
    found = heavy.per_pair(of_heavy)
    found += light.per_pair(of_light)
    found /= 2
    return found


def _or_zero(scores: np.ndarray | None) -> np.ndarray | None:
    """Let what was not found score 0, so that the other chain still counts."""
    return None if scores is None else np.maximum(scores, 0)


def print_facts(pairs: Pairs, question: Question, classes: Sequence[str], given: argparse.Namespace) -> None:
    """Print what was measured on what."""
    facts = pairs.merged
    packages = " ".join(f"{p} {version(p)}" for p in ("plmsearch", "antiberty", "immunum", "numpy"))
    counts = ", ".join(f"{name.replace('_', ' ')} {n:,}" for name, n in sorted(facts.counts.items()))
    n_heavy, n_light = (len(set(side.of_pair.tolist())) for side in (pairs.heavy, pairs.light))
    of = f"of {n_heavy:,} heavy and {n_light:,} light domains"
    print(f"table: {given.table.name}: {len(pairs):,} distinct pairs {of}")
    print(f"({counts})")
    shown = Counter(facts.label[i] for i in question.queries)
    print(f"queries {len(question.queries):,}: " + ", ".join(f"{c} {shown[c]:,}" for c in classes))
    print(f"versions: {packages}, blastp {_rivals.version('blastp')}, mmseqs {_rivals.version('mmseqs')}")
    groups = f"{question.bootstrap.weights.shape[1]:,} whole groups of heavy chains over all donors"
    print(f"95% intervals: {given.draws:,} bootstrap draws of {groups}, seed {given.seed}\n")


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    _labels.add_columns(parser)
    parser.add_argument("--heavy-col", default="VH")
    parser.add_argument("--light-col", default="VL")
    parser.add_argument(
        "--heavy-vectors", type=Path, help=".npz of vectors: read, or made where it is absent"
    )
    parser.add_argument("--light-vectors", type=Path, help="the same of light chains")
    parser.add_argument(
        "--leave-out", action="append", default=[], help="a ranking that takes long, such as 'BLASTP, H + L'"
    )
    _labels.add_intervals(parser)
    return parser.parse_args()


def main() -> int:
    """Measure and print."""
    given = parse()
    if not given.table.exists():
        print(f"skipped: there is no {given.table}")
        return 0
    pairs, classes = read_pairs(given), given.labels.split(",")
    question = Question.of(pairs, classes, given.draws, given.seed)
    print_facts(pairs, question, classes, given)
    values = {}
    for name, score in methods(pairs, given.rivals):
        if name in given.leave_out:
            print(f"left out: {name}: asked for", file=sys.stderr)
            continue
        started = time.perf_counter()
        scores = score()
        if scores is None:
            print(f"left out: {name}: not installed", file=sys.stderr)
            continue
        values[name] = question.answers(scores)
        print(f"{name}: {time.perf_counter() - started:.1f} s", file=sys.stderr)
    estimates = _metrics.estimates(values, question.bootstrap)
    baselines = [b for b in BASELINES if b in values]
    less = {b: _metrics.differences(values, b, question.bootstrap) for b in baselines}
    heads = " | ".join(f"less {b.partition(':')[0]}" for b in baselines)
    print(f"| ranking | epitope @1, macro | {heads} |\n|---|---|{'---|' * len(baselines)}")
    for name, estimate in estimates.items():
        cells = [less[b][name].signed() if name in less[b] else "" for b in baselines]
        print(f"| {name} | {estimate} | " + " | ".join(cells) + " |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
