"""Does an antibody find its own variable domain, whatever it is joined to?

Real heavy chains with their light chains are indexed as variable domains; each is searched for as it is,
behind a leader, with CH1, and in a single-chain Fv of either order. Own domain first, at 0.999 or more?

    python bench/constructs.py [--table PAIRS.tsv] [-n 200] [--seed 0]
"""

from __future__ import annotations

import csv
import random
import tempfile
from pathlib import Path

import _labels

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
    parser = _labels.pairs_parser(__doc__)
    parser.add_argument("-n", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if not args.table.exists():
        print(f"skipped: there is no {args.table}")
        return
    draw = random.Random(args.seed)
    pairs = _pairs(args.table, args.n, draw)
    with tempfile.TemporaryDirectory() as folder, open_database(Path(folder) / "db", create=True) as db:
        chains = dict.fromkeys(chain for pair in pairs for chain in pair)
        db.add([SequenceRecord(chain, chain) for chain in chains])
        ranking = db.ranking()
        print(f"n={len(pairs)} Fv, seed {args.seed}, ranking {ranking.name}, {len(db)} records")
        print(
            "| construct | domain | own domain first | score >= 0.999 | lowest | left out |\n"
            + "|---" * 6
            + "|"
        )
        for name, made in _constructs(pairs, draw).items():
            report = AddReport()
            queries = [SequenceRecord(str(n), residues) for n, residues in enumerate(made)]
            scores: dict[bool, list[float]] = {True: [], False: []}  # by whether it is the heavy domain
            for query, hits in db.search_records(queries, ranking, SearchOptions(k=1), report=report):
                is_heavy = query.domain is not None and query.domain.locus == "IGH"
                own = pairs[int(query.query_id.partition("#")[0])][0 if is_heavy else 1]
                if hits and hits[0].target == own:
                    scores[is_heavy].append(hits[0].score)
            for is_heavy in (True, False) if "scFv" in name else (True,):
                print(_row(name, "VH" if is_heavy else "VL", len(made), scores[is_heavy], report.n_skipped))


def _row(name: str, domain: str, n: int, scores: list[float], n_skipped: int) -> str:
    high = sum(score >= 0.999 for score in scores)
    cells = (name, domain, f"{len(scores)} of {n}", high, f"{min(scores, default=0):.4f}", n_skipped)
    return f"| {' | '.join(map(str, cells))} |"


def _pairs(table: Path, n: int, draw: random.Random) -> list[tuple[str, str]]:
    numberer = ImmunumNumberer()
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(dict.fromkeys((r["VH"], r["VL"]) for r in csv.DictReader(file, delimiter="\t")))
    draw.shuffle(rows)
    found = (row for row in rows if all(len(numberer.domains(chain, ("IG",))) == 1 for chain in row))
    return [pair for pair, _ in zip(found, range(n), strict=False)]


def _constructs(pairs: list[tuple[str, str]], draw: random.Random) -> dict[str, list[str]]:
    """Return the constructs of all pairs by their name."""
    return {
        "VH": [heavy for heavy, _ in pairs],
        "leader + VH": [draw.choice(LEADERS) + heavy for heavy, _ in pairs],
        "VH + CH1": [heavy + CH1 for heavy, _ in pairs],
        "leader + VH + CH1": [draw.choice(LEADERS) + heavy + CH1 for heavy, _ in pairs],
        "scFv VH-VL": [heavy + LINKER + light for heavy, light in pairs],
        "scFv VL-VH": [light + LINKER + heavy for heavy, light in pairs],
    }


if __name__ == "__main__":
    main()
