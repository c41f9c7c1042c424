"""Do the neighbours of an antibody share its group, its V gene, its epitope? Embeddings beside their rivals.

Every method ranks the same chains for the same queries. Groups are made of V gene, J gene and CDR3 identity
(`_labels.groups`): they are no clonal truth, and a ranking by CDR3 identity is near the label itself. The
epitope of the nearest neighbour is asked among chains from another donor and another source only.

    python bench/retrieval.py --vectors /tmp/heavy.npz --rivals /tmp/rivals
    python bench/retrieval.py mine.tsv --seq-col sequence_aa --v-col v_call --j-col j_call
    python bench/retrieval.py --sweep               # layers and weights of the antibody preset

With ``--vectors`` and ``--rivals`` the slow parts are kept for the next run.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import _labels
import _metrics
import _rivals
import numpy as np
from _align import N_CANDIDATES, Reranker
from _rankings import LAST, LAYER, LAYERS, Method, Vectors, load_vectors

from plmsearch.numbering import ImmunumNumberer

BLOCK = 512
MOST_MEMBERS = 11
BASELINES = ("whole, last layer", "3-mer tf-idf", "CDR3 identity", "MMseqs2")


@dataclass(frozen=True)
class Measure:
    """A question asked of some queries; `right` is a bool per target for a block of queries."""

    name: str
    queries: np.ndarray
    right: Callable[[np.ndarray], np.ndarray]
    of: Callable[[np.ndarray, np.ndarray], np.ndarray]
    bootstrap: _metrics.Bootstrap


@dataclass(frozen=True)
class Candidates:
    """Targets that a query may find, and the questions asked of what it finds."""

    allowed: Callable[[np.ndarray], np.ndarray]
    measures: list[Measure] = field(default_factory=list)


class Questions:
    """All measures of one set of chains."""

    def __init__(self, chains: _labels.Chains, classes: Sequence[str], given: argparse.Namespace) -> None:
        self._chains, self._given = chains, given
        n = len(chains)
        genes = (chains.v_gene, chains.j_gene, chains.cdr3)
        self.donor = _labels.one_donor(chains.donors, given.pools)
        self.all_groups = _labels.groups(*genes, ["all"] * n)
        self.donor_groups = _labels.groups(*genes, self.donor)
        self._unit = _labels.units(self.all_groups)
        self.candidates = [self._among_all(), self._within_donor(), self._elsewhere(classes)]

    @property
    def measures(self) -> list[Measure]:
        """Of all candidates, those without a query left out."""
        return [m for c in self.candidates for m in c.measures]

    def _among_all(self) -> Candidates:
        found = Candidates(lambda q: np.ones((len(q), len(self._chains)), bool))
        self._add_groups(found, "groups, all donors", self.all_groups)
        self._add_groups(found, "groups, one donor", self.donor_groups)
        genes = _codes(self._chains.v_gene)
        self._add(found, "V gene @1", np.flatnonzero(genes >= 0), genes, _metrics.precision_at_1)
        return found

    def _within_donor(self) -> Candidates:
        donor = _codes(self.donor)
        found = Candidates(lambda q: donor[q, None] == donor[None, :])
        self._add_groups(found, "groups, one donor, searched in it", self.donor_groups)
        return found

    def _elsewhere(self, classes: Sequence[str]) -> Candidates:
        shared = _labels.share_any(self._chains.donors) | _labels.share_any(self._chains.sources)
        label = _codes([x if x in classes else "" for x in self._chains.label])
        found = Candidates(lambda q: ~shared[q] & (label >= 0))
        queries = np.flatnonzero((label >= 0) & (~shared & (label >= 0)).any(axis=1))
        self._add(found, "epitope @1, macro", queries, label, _metrics.precision_at_1, stratum=label)
        return found

    def _add_groups(self, found: Candidates, name: str, groups: np.ndarray) -> None:
        size = np.bincount(groups[groups >= 0], minlength=1)[groups] * (groups >= 0)
        small = np.flatnonzero((size >= 2) & (size <= MOST_MEMBERS))
        everyone = np.flatnonzero(size >= 2)
        self._add(found, f"{name}: P@1", everyone, groups, _metrics.precision_at_1)
        self._add(found, f"{name}: R-prec, to {MOST_MEMBERS}", small, groups, _metrics.r_precision)
        self._add(found, f"{name}: R-prec, all", everyone, groups, _metrics.r_precision)

    def _add(
        self,
        found: Candidates,
        name: str,
        queries: np.ndarray,
        codes: np.ndarray,
        of: Callable[[np.ndarray, np.ndarray], np.ndarray],
        stratum: np.ndarray | None = None,
    ) -> None:
        if not len(queries):
            return
        strata = np.zeros(len(queries), int) if stratum is None else stratum[queries]
        bootstrap = _metrics.Bootstrap.of(self._unit[queries], strata, self._given.draws, self._given.seed)

        def right(q: np.ndarray) -> np.ndarray:
            same = codes[q, None] == codes[None, :]
            same[np.arange(len(q)), q] = False
            return same

        found.measures.append(Measure(name, queries, right, of, bootstrap))


def _codes(names: Sequence[str]) -> np.ndarray:
    """Number names from 0; -1 for the empty one."""
    known = {name: i for i, name in enumerate(sorted({n for n in names if n}))}
    return np.array([known.get(name, -1) for name in names])


def answers(scores: np.ndarray, candidates: Candidates, reranker: Reranker | None) -> dict[str, np.ndarray]:
    """Return the value of each measure for each of its queries."""
    out = {m.name: np.empty(len(m.queries)) for m in candidates.measures}
    queries = np.unique(np.concatenate([m.queries for m in candidates.measures])) if out else np.empty(0, int)
    for start in range(0, len(queries), BLOCK):
        block = queries[start : start + BLOCK]
        allowed = candidates.allowed(block)
        allowed[np.arange(len(block)), block] = False
        rows = np.where(allowed, scores[block], -np.inf).astype(np.float32)
        if reranker:
            rows = reranker.rows(block, rows)
        for m in candidates.measures:
            places = np.flatnonzero((m.queries >= block[0]) & (m.queries <= block[-1]))
            asked = np.searchsorted(block, m.queries[places])
            out[m.name][places] = m.of(rows[asked], m.right(m.queries[places]))
    return out


def methods(chains: _labels.Chains, vectors: Vectors, cache: Path | None) -> Iterator[Method]:
    """Yield every method, baselines first; scores are computed when asked for."""

    def cosines(regions: Sequence[str], layer: int, kind: str) -> Callable[[], np.ndarray | None]:
        return lambda: vectors.cosines(regions, layer, kind)

    n = len(chains)
    three = _rivals.kmer_tfidf(chains.domain)
    identity = _rivals.cdr3_identity(chains.cdr3)
    yield Method("any order (chance)", lambda: np.zeros((n, n), np.float32))
    yield Method("3-mer tf-idf", lambda: three)
    yield Method("model kmer", lambda: _rivals.kmer_model(chains.domain))
    yield Method("CDR3 identity", lambda: identity)
    # two identities of one length differ by 1 in that length: a cosine / 1000 decides between equals only
    yield Method("CDR3 identity, then 3-mers", lambda: identity + three / 1000)
    genes = [f"{v} {j}" if v and j else "" for v, j in zip(chains.v_gene, chains.j_gene, strict=True)]
    code = _codes(genes)
    same = (code[:, None] == code[None, :]) & (code >= 0)
    yield Method("the label's recipe", lambda: np.where(same, identity, -np.inf))
    yield Method("BLASTP", lambda: _rivals.blastp(chains.domain, cache))
    yield Method("MMseqs2", lambda: _rivals.mmseqs(chains.domain, cache))
    both = ("whole", "cdr3")
    for name, reranked in (("", False), (" + align", True)):
        yield Method(f"whole, last layer{name}", cosines(["whole"], LAST, "none"), reranked)
        yield Method(f"whole, layer {LAYER}{name}", cosines(["whole"], LAYER, "none"), reranked)
        yield Method(f"whole, reference centre{name}", cosines(["whole"], LAYER, "reference"), reranked)
        yield Method(f"CDR3, reference centre{name}", cosines(["cdr3"], LAYER, "reference"), reranked)
        yield Method(f"whole ++ CDR3, reference centre{name}", cosines(both, LAYER, "reference"), reranked)
    for regions, name in ((["whole"], "whole"), (["cdr3"], "CDR3"), (both, "whole ++ CDR3")):
        if name != "whole":
            yield Method(f"{name}, no transform", cosines(regions, LAYER, "none"))
        yield Method(f"{name}, centre fitted here", cosines(regions, LAYER, "centre"))
        yield Method(f"{name}, whitened here", cosines(regions, LAYER, "whiten"))


def sweep(chains: _labels.Chains, vectors: Vectors, cache: Path | None) -> Iterator[Method]:
    """Yield the baselines, then layers and weights of whole domain and CDR3, with the shipped centre."""
    wanted = {"any order (chance)", "BLASTP", *BASELINES}
    yield from (m for m in methods(chains, vectors, cache) if m.name in wanted)
    for layer in LAYERS:
        for tenths in (0, 3, 4, 5, 6, 7, 10):
            weights = (tenths / 10, 1 - tenths / 10)
            name = f"layer {layer}, whole {weights[0]:.1f}, CDR3 {weights[1]:.1f}"

            def scores(layer: int = layer, weights: Sequence[float] = weights) -> np.ndarray | None:
                return vectors.cosines(("whole", "cdr3"), layer, "reference", weights)

            yield Method(name, scores)


def run(
    chains: _labels.Chains, questions: Questions, vectors: Vectors, given: argparse.Namespace
) -> dict[str, dict[str, np.ndarray]]:
    """Ask every method everything: values by measure, then by method."""
    values: dict[str, dict[str, np.ndarray]] = {m.name: {} for m in questions.measures}
    reranker = Reranker(chains.domain)
    for method in (sweep if given.sweep else methods)(chains, vectors, given.rivals):
        started = time.perf_counter()
        scores = method.scores()
        if scores is None:
            print(f"left out: {method.name}: not installed, or no centre is shipped", file=sys.stderr)
            continue
        for candidates in questions.candidates:
            for name, found in answers(scores, candidates, reranker if method.reranked else None).items():
                values[name][method.name] = found
        print(f"{method.name}: {time.perf_counter() - started:.1f} s", file=sys.stderr)
    return values


def print_facts(
    chains: _labels.Chains, questions: Questions, classes: Sequence[str], given: argparse.Namespace
) -> None:
    """Print what was measured on what."""
    packages = " ".join(
        f"{p} {version(p)}" for p in ("plmsearch", "antiberty", "immunum", "numpy", "parasail")
    )
    counts = ", ".join(f"{name.replace('_', ' ')} {n:,}" for name, n in sorted(chains.counts.items()))
    print(f"table: {given.table.name}, locus {given.locus}: {len(chains):,} distinct variable domains")
    print(f"({counts})")
    print(f"of one donor that is named and no pool: {sum(map(bool, questions.donor)):,}")
    for what, known in (("donor", chains.donors), ("source", chains.sources)):
        if not any(known):
            print(
                f"no {what} is known: neighbours of the same {what} are not kept out of the epitope question"
            )
    print("labels: " + ", ".join(f"{c} {n}" for c, n in Counter(chains.label).items() if c in classes))
    print(f"versions: {packages}, blastp {_rivals.version('blastp')}, mmseqs {_rivals.version('mmseqs')}")
    print(f"blastp {' '.join(_rivals.BLASTP)}; mmseqs easy-search {' '.join(_rivals.MMSEQS)}")
    print(f"align: the first {N_CANDIDATES} by embedding, sorted by E-value")
    print(
        f"95% intervals: {given.draws:,} bootstrap draws of whole groups over all donors, seed {given.seed}\n"
    )
    print("| measure | queries | groups drawn |\n|---|---|---|")
    for m in questions.measures:
        print(f"| {m.name} | {len(m.queries):,} | {m.bootstrap.weights.shape[1]:,} |")


def print_tables(questions: Questions, values: dict[str, dict[str, np.ndarray]]) -> None:
    """Print the values, then the paired differences to each baseline."""
    bootstraps = {m.name: m.bootstrap for m in questions.measures}
    found = {name: _metrics.estimates(v, bootstraps[name]) for name, v in values.items()}
    _print_tables("value [95% interval]", {n: {k: str(e) for k, e in v.items()} for n, v in found.items()})
    for baseline in BASELINES:
        if any(baseline not in v for v in values.values()):
            continue
        less = {name: _metrics.differences(v, baseline, bootstraps[name]) for name, v in values.items()}
        _print_tables(f"less {baseline}", {n: {k: e.signed() for k, e in v.items()} for n, v in less.items()})


def _print_tables(title: str, cells: dict[str, dict[str, str]]) -> None:
    """Print the measures within one donor in a table of their own, or a row is too wide to read."""
    for is_donor in (False, True):
        shown = {name: column for name, column in cells.items() if ("one donor" in name) == is_donor}
        if shown:
            print(f"\n| {title} | " + " | ".join(shown) + " |\n|---|" + "---|" * len(shown))
        for method in next(iter(shown.values()), ()):
            print(f"| {method} | " + " | ".join(column[method] for column in shown.values()) + " |")


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    _labels.add_columns(parser)
    parser.add_argument("--seq-col", default="VH")
    parser.add_argument("--pools", default=r"mix|pool|/", help="donors that are several (regular expression)")
    parser.add_argument("--locus", default="IGH")
    parser.add_argument("--vectors", type=Path, help=".npz of vectors: read, or made where it is absent")
    parser.add_argument("--sweep", action="store_true", help="layers and weights of the antibody preset")
    _labels.add_intervals(parser)
    return parser.parse_args()


def main() -> int:
    """Measure and print."""
    given = parse()
    if not given.table.exists():
        print(f"skipped: there is no {given.table}")
        return 0
    columns = _labels.Columns(
        given.seq_col, given.v_col, given.j_col, given.donor_col, given.source_col, given.label_col
    )
    chains = _labels.read_chains(given.table, columns, given.locus, ImmunumNumberer())
    classes = given.labels.split(",")
    questions = Questions(chains, classes, given)
    print_facts(chains, questions, classes, given)
    vectors = load_vectors(chains, given.locus, given.vectors)
    print_tables(questions, run(chains, questions, vectors, given))
    return 0


if __name__ == "__main__":
    sys.exit(main())
