"""Is the score of a pair of chains the same in a database of two and in one of thousands?

Real chains are indexed together, and pairs of them, drawn at random, in databases of their own; no flags. The
scores that a pair has in the two are compared.

    python bench/pair_scores.py [--table PAIRS.tsv] [-n 1000] [--pairs 20] [--seed 0]
"""

from __future__ import annotations

import csv
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path

import _labels

from plmsearch.database import Database, open_database
from plmsearch.numbering import chain_locus
from plmsearch.search.hits import SearchOptions
from plmsearch.sequences import SequenceRecord


def main() -> None:
    """Print the largest difference of two scores of one pair."""
    parser = _labels.pairs_parser(__doc__)
    parser.add_argument("-n", type=int, default=1000, help="chains of the large database")
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if not args.table.exists():
        print(f"skipped: there is no {args.table}")
        return
    draw = random.Random(args.seed)
    chains = _chains(args.table, args.n, draw)
    pairs = _pairs(chains, args.pairs, draw)
    with tempfile.TemporaryDirectory() as folder:
        with _made(Path(folder) / "large", chains) as large:
            of_many = [_score(large, a, b) for a, b in pairs]
            print(f"seed {args.seed}, ranking {large.ranking().name}, {len(large):,} records and 2")
        of_two = []
        for number, pair in enumerate(pairs):
            with _made(Path(folder) / str(number), pair) as small:
                of_two.append(_score(small, *pair))
    differences = [abs(many - two) for many, two in zip(of_many, of_two, strict=True)]
    print(f"{len(pairs)} pairs of one locus, scores {min(of_two):.3f} to {max(of_two):.3f}")
    print(f"largest difference of the two scores of a pair: {max(differences):.1e}")


def _made(path: Path, records: Sequence[SequenceRecord]) -> Database:
    db = open_database(path, create=True)
    db.add(records)
    return db


def _score(db: Database, query: SequenceRecord, target: SequenceRecord) -> float:
    ((_, hits),) = db.search_stored([query.record_id], db.ranking(), SearchOptions(k=len(db)))
    (score,) = (hit.score for hit in hits if hit.target == target.record_id)
    return score


def _chains(table: Path, n: int, draw: random.Random) -> list[SequenceRecord]:
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    distinct = sorted({row[column] for column in ("VH", "VL") for row in rows})
    chosen = draw.sample(distinct, min(n, len(distinct)))
    return [SequenceRecord(f"chain{i}", residues) for i, residues in enumerate(chosen)]


def _pairs(
    chains: Sequence[SequenceRecord], n: int, draw: random.Random
) -> list[tuple[SequenceRecord, SequenceRecord]]:
    """Draw pairs of one locus, as many of each of the three as of another."""
    by_locus: dict[str, list[SequenceRecord]] = {}
    for record in chains:
        by_locus.setdefault(chain_locus(record.sequence), []).append(record)
    loci = [locus for locus in sorted(by_locus) if locus and len(by_locus[locus]) > 1]
    drawn = (draw.sample(by_locus[loci[i % len(loci)]], 2) for i in range(n))
    return [(a, b) for a, b in drawn]


if __name__ == "__main__":
    main()
