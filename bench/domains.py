"""Are variable domains found where they are, with the right CDR3, and how fast?

Proteins of other kinds must not be called antibodies, therapeutic antibodies must; the CDR3 of real chains is
compared with ANARCI's, chain by chain; and chains are numbered for speed, beside bare calls of immunum.

    python bench/domains.py                 # what is absent (data, ANARCI) is left out and said so
    python bench/domains.py --anarci /path/to/ANARCI -n 2000

ANARCI (package anarci, with hmmscan of HMMER) is used here only.
"""

from __future__ import annotations

import argparse
import csv
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import immunum
from _labels import SHARED

from plmsearch.formats.fasta import read_fasta
from plmsearch.numbering import ImmunumNumberer

#: Columns of Thera-SAbDab that hold chains.
THERAPEUTIC = ("HC", "LC", "HeavySequence(ifbispec)", "LightSequence(ifbispec)")
#: Beta chain of the receptor JM22 (PDB 1OGA) and alpha chain of A6 (1AO7), variable domains.
TCR = (
    "DGGITQSPKYLFRKEGQNVTLSCEQNLNHDAMYWYRQDPGQGLRLIYYSQIVNDFQKGDIAEGYSVSREKKESFPLTVTSAQKNPTAFYLC"
    "ASSIRSSYEQYFGPGTRLTVT",
    "KEVEQNSGPLSVPEGAIASLNCTYSDRGSQSFFWYRQYSGKSPELIMSIYSNGDKEDGRFTAQLNKASQYVSLLIRDSQPSDSATYLC"
    "AVTTDSWGKLQFGAGTQVVVTP",
)
BATCH = 500
MOST_SHOWN = 5


def main() -> int:
    """Print what was found, then how fast."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=SHARED, help="folder with proteins/ and antibodies/")
    parser.add_argument("--anarci", default="ANARCI", help="the program")
    parser.add_argument("-n", type=int, default=2000, help="chains to compare with ANARCI")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    table, therapeutic = given.data / "antibodies/sars2_paired.tsv", given.data / "antibodies/therasabdab.csv"
    if not table.exists() or not therapeutic.exists():
        print(f"skipped: there is no {table} or {therapeutic}", file=sys.stderr)
        return 0
    numberer = ImmunumNumberer()
    print(f"{numberer.describe()}, seed {given.seed}")
    for name in ("scope40_dev_small.fasta", "pfam_max50.fasta"):
        proteins = [record.sequence for record in read_fasta(given.data / "proteins" / name, name)]
        called = sum(bool(numberer.domains(residues, ("IG",))) for residues in proteins)
        print(f"{name}: {called} of {len(proteins):,} called antibody")
    chains = dict(_therapeutic(therapeutic))
    missed = [name for residues, name in chains.items() if not numberer.domains(residues, ("IG",))]
    print(f"{therapeutic.name}: {len(chains) - len(missed):,} of {len(chains):,} chains found; not: {missed}")
    real = {"heavy": _column(table, "VH"), "light": _column(table, "VL"), "therapeutic": list(chains)}
    _compare(numberer, real, given)
    _time(numberer, {**real, "TCR": list(TCR) * 1000}, random.Random(given.seed))
    return 0


def _column(path: Path, name: str) -> list[str]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(dict.fromkeys(row[name].strip().upper() for row in csv.DictReader(file, delimiter="\t")))


def _therapeutic(path: Path) -> Iterator[tuple[str, str]]:
    """Yield each chain with the name of its antibody; several chains of a cell have `;` between them."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        for row in csv.DictReader(file):
            missing = [name for name in THERAPEUTIC if name not in row]
            if missing:
                raise SystemExit(f"{path} has no column {missing[0]!r}; it has: {', '.join(row)}")
            for name in THERAPEUTIC:
                for chain in filter(None, map(str.strip, row[name].split(";"))):
                    if chain.lower() != "na":
                        yield chain.upper(), row["Therapeutic"]


# --- ANARCI --------------------------------------------------------------------------------------


def _compare(numberer: ImmunumNumberer, real: dict[str, list[str]], given: argparse.Namespace) -> None:
    """Print how many chains have the CDR3s that ANARCI gives them, and how the others differ."""
    draw = random.Random(given.seed)
    heads = ("chains", "drawn", "same CDR3s", "of those with W118 or F118", *KINDS)
    print("\n| " + " | ".join(heads) + " |\n" + "|---" * len(heads) + "|")
    shown: dict[str, list[str]] = {kind: [] for kind in KINDS}
    total: Counter[str] = Counter()
    share = {"heavy": 0.4, "light": 0.3, "therapeutic": 0.3}
    for name, chains in real.items():
        drawn = draw.sample(sorted(chains), min(len(chains), round(given.n * share[name])))
        theirs = _anarci(given.anarci, drawn)
        if theirs is None:
            print(f"left out: {given.anarci} is not installed", file=sys.stderr)
            return
        counts: Counter[str] = Counter()
        for residues, their in zip(drawn, theirs, strict=True):
            ours = [domain.regions["cdr3"] for domain in numberer.domains(residues, ("IG",))]
            kind = _kind(ours, their)
            counts[kind] += 1
            if kind:
                shown[kind].append(f"{name}: {ours} {their} ...{residues[-40:]}")
        _row(name, counts)
        total += counts
    _row("all", total)
    for kind, examples in shown.items():
        if examples:
            print(f"\n{kind} (ours, ANARCI's, the end of the chain):", *examples[:MOST_SHOWN], sep="\n")


#: How two lists of CDR3s of a chain differ.
NO_END = "only ANARCI's, without W118 or F118"
KINDS = (NO_END, "only ANARCI's", "only plmsearch's", "another number of domains", "another CDR3")
_OPEN = "|"  # after a CDR3 that no W or F follows


def _kind(ours: Sequence[str], theirs: Sequence[str]) -> str:
    if list(ours) == [cdr3.rstrip(_OPEN) for cdr3 in theirs]:
        return ""
    if not ours:
        return KINDS[0 if all(cdr3.endswith(_OPEN) for cdr3 in theirs) else 1]
    if not theirs:
        return KINDS[2]
    return KINDS[3 if len(ours) != len(theirs) else 4]


def _row(name: str, counts: Counter[str]) -> None:
    n = counts.total()
    kinds = " | ".join(str(counts[kind]) for kind in KINDS)
    same = f"{counts['']:,} ({counts[''] / n:.2%}) | {counts[''] / (n - counts[NO_END]):.2%}"
    print(f"| {name} | {n:,} | {same} | {kinds} |")


def _anarci(program: str, chains: Sequence[str]) -> list[list[str]] | None:
    """Return the CDR3s that ANARCI finds in each chain, in order of place; IMGT, immunoglobulins only.

    One without W118 or F118 behind it ends with `_OPEN`.
    """
    found: dict[int, list[tuple[int, str]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for start in range(0, len(chains), BATCH):
            fasta, out = Path(folder) / "in.fasta", Path(folder) / f"out{start}"
            numbered = enumerate(chains[start : start + BATCH], start)
            fasta.write_text("".join(f">{i}\n{residues}\n" for i, residues in numbered))
            command = [program, "-i", str(fasta), "-o", str(out), "--csv", "-s", "imgt", "-r", "ig"]
            try:
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            except FileNotFoundError:
                return None
        for table in Path(folder).glob("out*.csv"):
            with table.open(newline="") as file:
                for row in csv.DictReader(file):
                    cdr3 = "".join(v for k, v in row.items() if _is_cdr3(k)).replace("-", "")
                    cdr3 += "" if row.get("118") in ("W", "F") else _OPEN
                    found.setdefault(int(row["Id"]), []).append((int(row["seqstart_index"]), cdr3))
    return [[cdr3 for _, cdr3 in sorted(found.get(i, []))] for i in range(len(chains))]


def _is_cdr3(column: str) -> bool:
    digits = column.rstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    return digits.isdigit() and 105 <= int(digits) <= 117


# --- Speed ---------------------------------------------------------------------------------------


def _time(numberer: ImmunumNumberer, real: dict[str, list[str]], draw: random.Random) -> None:
    """Print chains per second and core; each kind of chain is timed in turn with each call."""
    ig = immunum.Annotator(["ig"], "imgt")
    every = immunum.Annotator(["ig", "tcr"], "imgt")
    calls: dict[str, Callable[[str], object]] = {
        "plmsearch, IG then TCR": numberer.domains,
        "immunum `number`, IG": ig.number,
        "immunum `number_domains`, IG": ig.number_domains,
        "immunum `number_domains`, IG and TCR": every.number_domains,
    }
    print("\n| chains per second of CPU time | " + " | ".join(calls) + " |\n|---|" + "---|" * len(calls))
    for name, chains in real.items():
        chosen = draw.sample(chains, min(2000, len(chains)))
        seconds = dict.fromkeys(calls, float("inf"))
        for _ in range(3):
            for call_name, call in calls.items():
                seconds[call_name] = min(seconds[call_name], _seconds(call, chosen))
        print(
            f"| {name}, {len(chosen):,} | "
            + " | ".join(f"{len(chosen) / s:,.0f}" for s in seconds.values())
            + " |"
        )


def _seconds(call: Callable[[str], object], chains: Sequence[str]) -> float:
    started = time.process_time()
    for chain in chains:
        call(chain)
    return time.process_time() - started


if __name__ == "__main__":
    sys.exit(main())
