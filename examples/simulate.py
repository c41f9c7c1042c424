"""Make the example data: a small SIMULATED human antibody repertoire with known clonal families.

    python examples/simulate.py [DIRECTORY]

writes heavy.fasta, light.fasta, repertoire.tsv and query.fasta, the same bytes on every run with the
same GenAIRR. No real sequence of any person goes in: V(D)J recombination and somatic hypermutation
(S5F, along lineage trees) are GenAIRR's. See README.md for what the files hold and for licences.
"""

from __future__ import annotations

import csv
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import GenAIRR
import GenAIRR.data

from plmsearch.numbering import Domain, ImmunumNumberer

GENAIRR_VERSION = "2.3.1"  # another version may draw other sequences from the same seed
SEED = 20240607

# Members of each of the 40 families.
SIZES = (
    *(15, 15, 14, 14, 13, 12, 12, 11, 10, 10, 9, 9, 8, 8, 8, 7, 7, 6, 6, 6),
    *(5, 5, 5, 4, 4, 4, 3, 3, 3, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1),
)
HELD_OUT_OF = (2, 7, 13, 21)  # families, counted from 1, with one member more, kept for query.fasta
# Families whose cells have a light chain too: every second one, 3 in 5 of them kappa, as in man.
PAIRED = range(1, 41, 2)
LIGHT = {
    "IGK": [family for family in PAIRED if family % 10 in (1, 5, 9)],
    "IGL": [family for family in PAIRED if family % 10 in (3, 7)],
}

# Six divisions at 0.6% per base: a median of 11 mutations per heavy chain outside the N regions.
LINEAGE = {"max_generations": 6, "rate": 0.006, "lambda_base": 2.0, "n_max": 200, "n_sample": 40}

COLUMNS = (
    *("sequence_id", "sequence", "rev_comp", "productive", "v_call", "d_call", "j_call"),
    *("sequence_alignment", "germline_alignment", "junction", "junction_aa"),
    *("v_cigar", "d_cigar", "j_cigar", "locus", "sequence_aa", "clone_id", "cell_id", "repertoire_id"),
)
_CODONS = dict(
    zip(
        (a + b + c for a in "TCAG" for b in "TCAG" for c in "TCAG"),
        "FFLLSSSSYY**CC*WLLLLPPPPHHQQRRRRIIIMTTTTNNKKSSRRVVVVAAAADDEEGGGG",
        strict=True,
    )
)


@dataclass(frozen=True)
class Chain:
    """One simulated chain; `family` 0 is none of the database."""

    family: int
    cell: str
    record: Mapping[str, Any] = field(repr=False)
    name: str = ""

    @property
    def locus(self) -> str:
        return str(self.record["locus"])

    @property
    def residues(self) -> str:
        return translate(str(self.record["sequence"]))


def translate(nucleotides: str) -> str:
    """Translate in frame 1; an incomplete codon at the end is left out."""
    text = nucleotides.upper()
    return "".join(_CODONS[text[i : i + 3]] for i in range(0, len(text) - 2, 3))


# --- Drawing chains ------------------------------------------------------------------------------


def families(locus: str, sizes: Sequence[int], rng: random.Random) -> list[list[dict[str, Any]]]:
    """Draw clonal families of the sizes asked for, from the largest to the smallest."""
    names, numberer = iuis_names(locus), ImmunumNumberer()
    clones: dict[int, dict[str, dict[str, Any]]] = {}
    for record in lineages(locus, names, 2 * len(sizes), rng):
        residues = translate(record["sequence"])
        renamed = with_iuis_names(record, names)
        if renamed["v_call"] and renamed["j_call"] and is_sound(record, numberer.domains(residues)):
            clones.setdefault(record["clone_id"], {}).setdefault(residues, renamed)
    drawn: list[list[dict[str, Any]]] = []
    for size in sizes:
        clone = next((clone for clone, members in clones.items() if len(members) >= size), None)
        if clone is None:
            raise SystemExit(f"no {locus} lineage left with {size} sound members: draw more of them")
        members = clones.pop(clone)
        drawn.append([members[residues] for residues in rng.sample(sorted(members), size)])
    return drawn


def lineages(locus: str, names: Mapping[str, str], n_clones: int, rng: random.Random) -> list[dict[str, Any]]:
    """Draw lineage trees from alleles that have an IUIS name, and sample their last generation."""
    experiment = GenAIRR.Experiment.on(f"human_{locus.lower()}").restrict_alleles(
        v=[name for name in names if name.startswith(f"{locus}V")],
        j=[name for name in names if name.startswith(f"{locus}J")],
    )
    experiment = experiment.recombine().clonal_lineage(n_clones=n_clones, **LINEAGE).productive_only()
    return list(experiment.run_records(seed=rng.getrandbits(32)))


def is_sound(record: Mapping[str, Any], domains: Sequence[Domain]) -> bool:
    """Keep whole domains without a stop, with C23, W41, C104 and W118 or F118 unmutated."""
    residues, junction = translate(record["sequence"]), translate(record["junction"])
    if "*" in residues or len(domains) != 1:
        return False
    (domain,) = domains
    return (
        domain.locus == record["locus"]
        and (domain.start, domain.end) == (0, len(residues))
        and domain.regions["fwr1"][-4:-3] == "C"
        and domain.regions["fwr2"][2:3] == "W"
        and domain.regions["cdr3"] == junction[1:-1]
        and junction[0] + junction[-1] == ("CW" if domain.locus == "IGH" else "CF")
    )


def with_iuis_names(record: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Rename the calls; of a tie, keep those that have a name."""
    renamed = dict(record)
    for column in ("v_call", "d_call", "j_call"):
        calls = ",".join(names[call] for call in record[column].split(",") if call in names)
        renamed[column] = ",".join(sorted(set(calls.split(","))))
    return renamed


def iuis_names(locus: str) -> dict[str, str]:
    """Map GenAIRR's names of OGRDB alleles to the IUIS names of the same nucleotides, where there is one."""
    ogrdb = getattr(GenAIRR.data, f"HUMAN_{locus}_OGRDB")
    named = getattr(GenAIRR.data, f"HUMAN_{locus}_IMGT")
    names: dict[str, str] = {}
    for segment in ("v_alleles", "d_alleles", "j_alleles"):
        by_sequence: dict[str, list[str]] = {}
        for allele in _alleles(named, segment):
            by_sequence.setdefault(allele.ungapped_seq, []).append(allele.name)
        for allele in _alleles(ogrdb, segment):
            if allele.ungapped_seq in by_sequence:
                names[allele.name] = ",".join(sorted(by_sequence[allele.ungapped_seq]))
    return names


def _alleles(config: Any, segment: str) -> Iterator[Any]:
    for alleles in (getattr(config, segment) or {}).values():
        yield from alleles


def simulate(seed: int) -> tuple[list[Chain], list[Chain], list[Chain]]:
    """Draw heavy chains, light chains and queries, named and in shuffled order."""
    rng = random.Random(seed)
    sizes = [size + (family in HELD_OUT_OF) for family, size in enumerate(SIZES, start=1)]
    drawn = families("IGH", [*sizes, 1], rng)
    queries = [Chain(family, "", drawn[family - 1].pop()) for family in HELD_OUT_OF]
    queries.append(Chain(0, "", drawn.pop()[0]))
    heavy = [
        Chain(family, f"sim_cell{family:02d}_{i:02d}" if family in PAIRED else "", record)
        for family, members in enumerate(drawn, start=1)
        for i, record in enumerate(members, start=1)
    ]
    light = [
        Chain(family, f"sim_cell{family:02d}_{i:02d}", record)
        for locus, paired in LIGHT.items()
        for family, members in zip(paired, families(locus, [SIZES[f - 1] for f in paired], rng), strict=True)
        for i, record in enumerate(members, start=1)
    ]
    rng.shuffle(heavy)
    rng.shuffle(light)
    return _named(heavy, "sim_h{:04d}"), _named(light, "sim_l{:04d}"), _named(queries, "sim_q{:d}")


def _named(chains: list[Chain], pattern: str) -> list[Chain]:
    return [replace(chain, name=pattern.format(i)) for i, chain in enumerate(chains, start=1)]


# --- Writing files -------------------------------------------------------------------------------


def write_fasta(path: Path, chains: list[Chain]) -> None:
    """Write amino acids, one line each."""
    with path.open("w", encoding="utf-8", newline="\n") as out:
        for chain in chains:
            out.write(f">{chain.name} {describe(chain)}\n{chain.residues}\n")


def describe(chain: Chain) -> str:
    words = ["simulated", chain.locus, f"family={chain.family or 'none'}"]
    if chain.name.startswith("sim_q"):
        words.append("held out" if chain.family else "unrelated")
    if chain.cell:
        words.append(f"cell={chain.cell}")
    return " ".join(words)


def write_airr(path: Path, chains: list[Chain]) -> None:
    """Write an AIRR Rearrangement table, schema 1.6."""
    with path.open("w", encoding="utf-8", newline="") as out:
        writer = csv.DictWriter(out, COLUMNS, delimiter="\t", lineterminator="\n")
        writer.writeheader()
        for chain in chains:
            writer.writerow(airr_row(chain))


def airr_row(chain: Chain) -> dict[str, str]:
    record = chain.record
    copied = ("v_call", "d_call", "j_call", "sequence_alignment", "germline_alignment", "locus")
    return {
        **{column: str(record[column]) for column in copied},
        "sequence_id": chain.name,
        "sequence": str(record["sequence"]).upper(),
        "sequence_aa": chain.residues,
        "rev_comp": "F",
        "productive": "T",
        "junction": str(record["junction"]).upper(),
        "junction_aa": translate(str(record["junction"])),
        **{f"{segment}_cigar": cigar(record, segment) for segment in "vdj"},
        "clone_id": str(chain.family),
        "cell_id": chain.cell,
        "repertoire_id": "simulated",
    }


def cigar(record: Mapping[str, Any], segment: str) -> str:
    """Whole-sequence CIGAR as AIRR asks for: S skips query, N germline. GenAIRR's is the M alone."""
    matched = str(record[f"{segment}_cigar"])
    if not matched:
        return ""
    start, end = int(record[f"{segment}_sequence_start"]), int(record[f"{segment}_sequence_end"])
    steps = ((start, "S"), (int(record[f"{segment}_germline_start"]), "N"))
    head = "".join(f"{n}{op}" for n, op in steps if n)
    rest = len(str(record["sequence"])) - end
    return head + matched + (f"{rest}S" if rest else "")


def main(directory: Path) -> None:
    if GenAIRR.__version__ != GENAIRR_VERSION:
        print(
            f"GenAIRR is {GenAIRR.__version__}, the committed files are of {GENAIRR_VERSION}", file=sys.stderr
        )
    heavy, light, queries = simulate(SEED)
    write_fasta(directory / "heavy.fasta", heavy)
    write_fasta(directory / "light.fasta", light)
    write_fasta(directory / "query.fasta", queries)
    write_airr(directory / "repertoire.tsv", heavy + light)
    print(f"{len(heavy)} heavy, {len(light)} light, {len(queries)} queries", file=sys.stderr)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
