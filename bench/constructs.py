"""Does an antibody find its own variable domain, whatever it is joined to?

Real heavy chains with their light chains are indexed as variable domains; each is searched for as it is,
behind a leader, with CH1, and in a single-chain Fv of either order. Own domain first, at 0.999 or more?

    python bench/constructs.py --table PAIRS.tsv [-n 200] [--seed 0]
"""

from __future__ import annotations

import argparse
import csv
import random
import tempfile
from collections import Counter
from pathlib import Path

from plmsearch.database import open_database
from plmsearch.ingest.report import AddReport
from plmsearch.numbering import ImmunumNumberer
from plmsearch.search.hits import SearchOptions
from plmsearch.sequences import SequenceRecord

#: Human leaders of IGHV1, IGHV3 and IGHV4, and human IgG1 CH1 (P01857, first domain).
LEADERS = ("MDWTWRFLFVVAAATGVQS", "MEFGLSWLFLVAILKGVQC", "MKHLWFFLLLVAAPRWVLS")
CH1 = "ASTKGPSVFPLAPSSKSTSGGTAALGCLVKDYFPEPVTVSWNSGALTSGVHTFPAVLQSSGLYSLSSVVTVPSSSLGTQTYICNVNHKPSNTKVDKKV"
LINKER = "GGGGSGGGGSGGGGS"


def main() -> None:
    """Print a row for each construct."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", type=Path, required=True, help="tab-separated, with columns VH and VL")
    parser.add_argument("-n", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    draw = random.Random(args.seed)
    pairs = _pairs(args.table, args.n, draw)
    with tempfile.TemporaryDirectory() as folder, open_database(Path(folder) / "db", create=True) as db:
        chains = dict.fromkeys(chain for pair in pairs for chain in pair)
        db.add([SequenceRecord(chain, chain) for chain in chains])
        ranking = db.ranking()
        print(f"n={len(pairs)} Fv, seed {args.seed}, ranking {ranking.name}, {len(db)} records")
        for name, made in _constructs(pairs, draw).items():
            report = AddReport()
            queries = [SequenceRecord(str(n), residues) for n, (residues, _) in enumerate(made)]
            own = dict(enumerate(chain for _, chain in made))
            counts: Counter[str] = Counter()
            lowest = 1.0
            for query, hits in db.search_records(queries, ranking, SearchOptions(k=1), report=report):
                first = query.record_id
                if hits[0].target == own[int(first)]:
                    counts["first"] += 1
                    lowest = min(lowest, hits[0].score)
                    counts["0.999"] += hits[0].score >= 0.999
            print(
                f"{name:20} own domain first {counts['first']:4} of {len(made)}, score >= 0.999: "
                f"{counts['0.999']:4}, lowest of the own {lowest:.4f}, left out {report.n_skipped}"
            )


def _pairs(table: Path, n: int, draw: random.Random) -> list[tuple[str, str]]:
    numberer = ImmunumNumberer()
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(dict.fromkeys((r["VH"], r["VL"]) for r in csv.DictReader(file, delimiter="\t")))
    draw.shuffle(rows)
    found = (row for row in rows if all(len(numberer.domains(chain, ("IG",))) == 1 for chain in row))
    return [pair for pair, _ in zip(found, range(n), strict=False)]


def _constructs(pairs: list[tuple[str, str]], draw: random.Random) -> dict[str, list[tuple[str, str]]]:
    """Return by name the construct and the chain it holds."""
    return {
        "VH": [(h, h) for h, _ in pairs],
        "leader + VH": [(draw.choice(LEADERS) + h, h) for h, _ in pairs],
        "VH + CH1": [(h + CH1, h) for h, _ in pairs],
        "leader + VH + CH1": [(draw.choice(LEADERS) + h + CH1, h) for h, _ in pairs],
        "scFv VH-VL": [(h + LINKER + light, h) for h, light in pairs],
        "scFv VL-VH": [(light + LINKER + h, h) for h, light in pairs],
    }


if __name__ == "__main__":
    main()
