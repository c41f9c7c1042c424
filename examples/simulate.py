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
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import GenAIRR
import GenAIRR.data

from plmsearch.numbering import ImmunumNumberer

GENAIRR_VERSION = "2.3.1"  # another version may draw other sequences from the same seed
SEED = 20240607

# Members of each of the 40 families; every second family, from the first, has light chains too.
SIZES = (
    *(15, 15, 14, 14, 13, 12, 12, 11, 10, 10, 9, 9, 8, 8, 8, 7, 7, 6, 6, 6),
    *(5, 5, 5, 4, 4, 4, 3, 3, 3, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1),
)
HELD_OUT_OF = (2, 7, 13, 21)  # families, counted from 1, with one member more, kept for query.fasta
KAPPA_SHARE = 0.6  # of human light chains, roughly

# Six divisions at 0.6% per base: a median of 13 mutations per heavy chain, as in memory B cells.
LINEAGE = {"max_generations": 6, "rate": 0.006, "n_sample": 32, "selection_strength": 5.0}

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


class Simulator:
    """Draws clonal families from GenAIRR, each from a seed of its own."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.numberer = ImmunumNumberer()
        self.seen: set[str] = set()
        self.iuis = {locus: iuis_names(locus) for locus in ("IGH", "IGK", "IGL")}

    def family(self, locus: str, n_members: int) -> list[dict[str, Any]]:
        """Draw lineages until one has enough sound members, all different."""
        while True:
            members: dict[str, dict[str, Any]] = {}
            for record in self._lineage(locus):
                residues = translate(record["sequence"])
                if residues not in self.seen and self.is_sound(record, residues):
                    members.setdefault(residues, record)
            if len(members) >= n_members:
                chosen = self.random.sample(sorted(members), n_members)
                self.seen.update(chosen)
                return [self._with_iuis_names(members[residues], locus) for residues in chosen]

    def _lineage(self, locus: str) -> list[dict[str, Any]]:
        experiment = GenAIRR.Experiment.on(f"human_{locus.lower()}").recombine()
        experiment = experiment.clonal_lineage(n_clones=1, **LINEAGE).productive_only()
        records = list(experiment.run_records(seed=self.random.getrandbits(32)))
        calls = {call for r in records for call in r["v_call"].split(",") + r["j_call"].split(",")}
        return records if calls <= self.iuis[locus].keys() else []

    def is_sound(self, record: Mapping[str, Any], residues: str) -> bool:
        """Keep chains without a stop, whole, and with C23, W41, C104 and W118 or F118 unmutated."""
        domains = self.numberer.domains(residues)
        if "*" in residues or len(domains) != 1:
            return False
        (domain,) = domains
        junction = translate(record["junction"])
        return (
            domain.locus == record["locus"]
            and (domain.start, domain.end) == (0, len(residues))
            and domain.regions["fwr1"][-4:-3] == "C"
            and domain.regions["fwr2"][2:3] == "W"
            and domain.regions["cdr3"] == junction[1:-1]
            and (junction[0], junction[-1]) == ("C", "W" if domain.locus == "IGH" else "F")
        )

    def _with_iuis_names(self, record: Mapping[str, Any], locus: str) -> dict[str, Any]:
        renamed = dict(record)
        for column in ("v_call", "d_call", "j_call"):
            calls = [self.iuis[locus].get(call, call) for call in str(record[column]).split(",")]
            renamed[column] = ",".join(dict.fromkeys(calls))
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
    simulator = Simulator(seed)
    heavy, light, held_out = [], [], []
    for family, size in enumerate(SIZES, start=1):
        paired = family % 2 == 1
        members = simulator.family("IGH", size + (family in HELD_OUT_OF))
        cells = [f"sim_cell{len(heavy) + i + 1:04d}" if paired else "" for i in range(size)]
        heavy += [Chain(family, cell, r) for cell, r in zip(cells, members, strict=False)]
        held_out += [Chain(family, "", r) for r in members[size:]]
        if paired:
            locus = "IGK" if simulator.random.random() < KAPPA_SHARE else "IGL"
            records = simulator.family(locus, size)
            light += [Chain(family, cell, r) for cell, r in zip(cells, records, strict=True)]
    queries = [*held_out, Chain(0, "", simulator.family("IGH", 1)[0])]
    simulator.random.shuffle(heavy)
    simulator.random.shuffle(light)
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
    heavy, light, queries = simulate(SEED)
    write_fasta(directory / "heavy.fasta", heavy)
    write_fasta(directory / "light.fasta", light)
    write_fasta(directory / "query.fasta", queries)
    write_airr(directory / "repertoire.tsv", heavy + light)
    print(f"{len(heavy)} heavy, {len(light)} light, {len(queries)} queries", file=sys.stderr)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
