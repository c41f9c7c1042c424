"""Germline genes inferred from residues, against calls that were made from nucleotides.

    python bench/germline_genes.py                        # SIMULATED chains only
    python bench/germline_genes.py --data ../shared/data  # and published chains with calls

A call is right if its ties hold a gene of the given call ("holds"), and exact if its genes are those of the
given call and no others; "genes" is how many it lists. The rival is what one would do by hand: the best
local alignment (Smith-Waterman, BLOSUM62, gaps 11/1, parasail) of the whole variable domain against the
same germlines, all of the highest score. 95% intervals by bootstrap over the given genes, for chains of
one gene are right or wrong together. Simulated chains are GenAIRR's, each allele that IMGT lists equally
often, among them many that no donor has been seen to use: genes which the germlines lack count as errors
in the row "all genes", and are left out of the others.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import time
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import parasail
from _labels import SHARED
from _metrics import Bootstrap, estimates
from Bio.Seq import Seq

from plmsearch.genes import call_genes
from plmsearch.germlines.genes import GermlineSet
from plmsearch.germlines.records import natural_order
from plmsearch.numbering import Domain, ImmunumNumberer

#: Seeds lie apart: GenAIRR draws record i of seed s as record i - 1 of seed s + 1.
SEED_STEP = 1_000_003
HEAVY, LIGHT = ("HC", "HeavySequence(ifbispec)"), ("LC", "LightSequence(ifbispec)")
S5F = {"igh": "hh_s5f", "igk": "hkl_s5f", "igl": "hkl_s5f"}
RATES = (0.0, 0.05, 0.1)
AS_SCORED = str.maketrans("UOJ", "CXL")


@dataclass(frozen=True)
class Chain:
    """A variable domain with the calls it was given; an empty one was not given."""

    domain: Domain
    v_call: str
    j_call: str


# --- Chains --------------------------------------------------------------------------------------


def with_domain(rows: Iterable[tuple[str, str, str]], numberer: ImmunumNumberer) -> tuple[list[Chain], int]:
    """Number residues; return chains with one immunoglobulin domain, and how many rows had none."""
    chains, n_without = [], 0
    for residues, v_call, j_call in rows:
        domains = numberer.domains(residues, ("IG",))
        if len(domains) == 1:
            chains.append(Chain(domains[0], v_call, j_call))
        else:
            n_without += 1
    return chains, n_without


def simulated(
    locus: str, rate: float, n: int, seed: int, species: str = "human"
) -> list[tuple[str, str, str]]:
    """Draw SIMULATED productive chains: residues, V call, J call; mutations per base of V, D and J."""
    import GenAIRR

    warnings.simplefilter("ignore")
    experiment = GenAIRR.Experiment.on(f"{species}_{locus}_imgt").recombine()
    if rate:
        experiment = experiment.mutate(rate=rate, s5f_model=S5F[locus])
    records = experiment.productive_only().run_records(n=n, seed=seed, allow_curatable_refdata=True)
    return [(translated(str(r["sequence"])), str(r["v_call"]), str(r["j_call"])) for r in records]


def translated(nucleotides: str) -> str:
    """Translate from the first base."""
    bases = nucleotides.upper().replace(".", "").replace("-", "")
    return str(Seq(bases[: len(bases) // 3 * 3]).translate())


def published(data: Path) -> dict[str, list[tuple[str, str, str]]]:
    """Read published chains with the calls of their authors."""
    with (data / "antibodies" / "sars2_paired.tsv").open() as file:
        paired = list(csv.DictReader(file, delimiter="\t"))
    with gzip.open(data / "clones" / "ExampleDb.tsv.gz", "rt") as file:
        example = list(csv.DictReader(file, delimiter="\t"))
    return {
        "sars2_paired heavy": [(r["VH"], r["v_call_heavy"], r["j_call_heavy"]) for r in paired],
        "sars2_paired light": [(r["VL"], r["v_call_light"], "") for r in paired],
        "ExampleDb": [(translated(r["sequence_alignment"]), r["v_call"], r["j_call"]) for r in example],
    }


# --- Methods -------------------------------------------------------------------------------------


def best_hits(germlines: GermlineSet, domains: Sequence[Domain]) -> list[tuple[str, str]]:
    """Return all V and J germlines of the highest local alignment score: the rival."""
    calls = []
    for domain in domains:
        residues = "".join(domain.regions.values()).translate(AS_SCORED)
        profile = parasail.profile_create_sat(residues, parasail.blosum62)
        pair = []
        for segment in "VJ":
            near = [g for g in germlines.germlines if (g.locus, g.segment) == (domain.locus, segment)]
            scores = [
                parasail.sw_striped_profile_sat(profile, "".join(g.regions.values()), 12, 1).score
                for g in near
            ]
            best = max(scores)
            ties = [name for g, s in zip(near, scores, strict=True) if s == best for name in g.names]
            pair.append(",".join(natural_order(ties)))
        calls.append((pair[0], pair[1]))
    return calls


# --- Report --------------------------------------------------------------------------------------


def row(name: str, given: Sequence[str], calls: Sequence[str], n_draws: int, seed: int) -> str:
    """Compare calls with the given ones, as one row of a table."""
    chosen = [(set(call_genes(a)), set(call_genes(b))) for a, b in zip(given, calls, strict=True)]
    chosen = [(a, b) for a, b in chosen if a]
    values = {
        "holds": np.array([bool(a & b) for a, b in chosen], np.float32),
        "exact": np.array([a == b for a, b in chosen], np.float32),
    }
    unit = np.unique([",".join(sorted(a)) for a, _ in chosen], return_inverse=True)[1]
    found = estimates(values, Bootstrap.of(unit, np.zeros(len(chosen), np.int64), n_draws, seed))
    genes = float(np.mean([len(b) for _, b in chosen]))
    return f"| {name} | {len(chosen):,} | {found['holds']} | {found['exact']} | {genes:.2f} |"


def report(name: str, chains: Sequence[Chain], germlines: GermlineSet, options: argparse.Namespace) -> None:
    """Print the rows of one set of chains, by locus."""
    for locus in sorted({chain.domain.locus for chain in chains}):
        chosen = [chain for chain in chains if chain.domain.locus == locus]
        domains = [chain.domain for chain in chosen]
        germlines.infer_all(domains[:1])
        start = time.perf_counter()
        calls = germlines.infer_all(domains)
        seconds = time.perf_counter() - start
        # The rival is slow: it gets some of the chains, evenly spread.
        some = np.linspace(0, len(chosen) - 1, min(len(chosen), options.rival), dtype=int).tolist()
        start = time.perf_counter()
        rival = best_hits(germlines, [domains[i] for i in some])
        ratio = (time.perf_counter() - start) / len(some) / (seconds / len(chosen))
        for segment, mine, theirs in (
            ("V", [c.v_call for c in calls], [v for v, _ in rival]),
            ("J", [c.j_call for c in calls], [j for _, j in rival]),
        ):
            given = [chain.v_call if segment == "V" else chain.j_call for chain in chosen]
            if any(call_genes(given[i]) for i in some):
                compare(f"{name} | {locus}{segment}", (given, mine), (some, theirs), germlines, options)
        print(
            f"<!-- {name} {locus}: mean v_identity_aa {np.nanmean([c.v_identity_aa for c in calls]):.3f}, "
            f"{sum(not c.v_call for c in calls)} without V call, {len(chosen) / seconds:,.0f} chains/s, "
            f"best hit takes {ratio:.0f} times as long -->",
            flush=True,
        )


def compare(
    title: str,
    mine: tuple[Sequence[str], Sequence[str]],
    rival: tuple[Sequence[int], Sequence[str]],
    germlines: GermlineSet,
    options: argparse.Namespace,
) -> None:
    """Print the rows of one segment: given calls and the library's, places and calls of the rival."""
    known = {gene for one in germlines.germlines for name in one.names for gene in call_genes(name)}
    (given, calls), (places, theirs) = mine, rival
    inside = [i for i, call in enumerate(given) if known.intersection(call_genes(call))]
    tables = [("library, all genes", range(len(given)), calls), ("library", inside, calls)]
    shared = sorted(set(inside).intersection(places))
    tables.append((f"library, {len(shared):,}", shared, calls))
    by_place = dict(zip(places, theirs, strict=True))
    tables.append((f"best hit, {len(shared):,}", shared, by_place))
    for method, rows, answers in tables:
        text = row(
            f"{title} | {method}",
            [given[i] for i in rows],
            [answers[i] for i in rows],
            options.draws,
            options.seed,
        )
        print(text, flush=True)


def therapeutic(data: Path, numberer: ImmunumNumberer) -> None:
    """Print what is inferred for therapeutic antibodies, whose genes nobody gives, by their species."""
    with (data / "antibodies" / "therasabdab.csv").open(encoding="utf-8", errors="replace") as file:
        rows = list(csv.DictReader(file))
    genetics = next(name for name in rows[0] if name.startswith("Genetics"))
    both = GermlineSet.load(None, None)
    for kind in ("Genetically human", "Humanised", "Chimeric", "Murine", "all"):
        chosen = [r for r in rows if kind in ("all", r[genetics].strip())]
        for chain, columns in {"heavy": HEAVY, "light": LIGHT}.items():
            texts = [part for r in chosen for column in columns for part in r[column].split(";")]
            domains = [d for text in texts for d in numberer.domains(text.strip(), ("IG",))]
            evidence = both.infer_species(domains)
            empty = sum(not call.v_call for call in both.of_species(evidence.species).infer_all(domains))
            title = f"therasabdab, {kind}, {chain}"
            print(f"{title}: {evidence.describe()}; {empty} of {len(domains)} without V call")


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, default=SHARED)
    parser.add_argument("-n", type=int, default=1000, help="simulated chains of each locus, rate and seed")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rival", type=int, default=1000, help="chains that the rival is run on")
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--germlines", type=Path, help="default: the germlines that are shipped")
    options = parser.parse_args()
    numberer, germlines = ImmunumNumberer(), GermlineSet.load(options.germlines, "human")
    print(f"seed {options.seed}; parasail {'.'.join(map(str, parasail.version()))}; {numberer.describe()}")
    print("| chains | genes | method | n | holds | exact | genes listed |\n|---|---|---|---|---|---|---|")
    for rate in RATES:
        report_simulated("human", tuple(S5F), rate, germlines, options)
    # GenAIRR refuses its own mouse light chains: allele names are there twice.
    report_simulated("mouse", ("igh",), 0.05, GermlineSet.load(options.germlines, "mouse"), options)
    if not (options.data / "antibodies").is_dir():
        print(f"no published chains: {options.data} is absent")
        return
    for name, rows in published(options.data).items():
        chains, n_without = with_domain(rows, numberer)
        report(name, chains, germlines, options)
        print(f"<!-- {name}: {n_without} of {len(rows)} have no domain -->")
    therapeutic(options.data, numberer)


def report_simulated(
    species: str, loci: Sequence[str], rate: float, germlines: GermlineSet, options: argparse.Namespace
) -> None:
    """Print the rows of simulated chains with one mutation load."""
    seeds = [options.seed + SEED_STEP * i for i in range(options.seeds)]
    drawn = [simulated(locus, rate, options.n, seed, species) for locus in loci for seed in seeds]
    rows = [one for part in drawn for one in part]
    chains, n_without = with_domain(rows, ImmunumNumberer())
    report(f"SIMULATED {species}, {rate:.0%} of bases mutated", chains, germlines, options)
    print(f"<!-- {n_without} of {len(rows)} have no domain -->")


if __name__ == "__main__":
    main()
