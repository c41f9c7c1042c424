"""Write the golden database of the present schema: ``python tests/data/make_golden.py``.

Run once when a migration is added, and commit the result: from then on it stands for every database
that version wrote. What it answers is kept beside it, so that an upgrade can be checked.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support import peptides

from plmsearch.database import open_database
from plmsearch.ingest.report import AddOptions
from plmsearch.sequences import SequenceRecord
from plmsearch.store.schema import HEAD

QUERIES = peptides(3, seed=11)


def answers(path: Path) -> dict[str, object]:
    """What a database says: its records, and hits of three queries."""
    with open_database(path) as db:
        stored = [r.record_id for r in db.repository.all_records()]
        return {
            "records": [[r.record_id, r.residues, r.description, dict(r.metadata)] for r in db.get(stored)],
            "hits": [[[h.target, round(h.score, 5)] for h in hits] for hits in db.search(QUERIES, k=5)],
        }


def main() -> None:
    """Make the database and note its answers."""
    target = Path(__file__).parent / "golden" / HEAD
    shutil.rmtree(target, ignore_errors=True)
    rows = [
        SequenceRecord(f"r{n}", residues, f"record {n}", {"species": "human" if n % 2 else "mouse", "n": n})
        for n, residues in enumerate(peptides(12, seed=3))
    ]
    with open_database(target / "db", create=True) as db:
        db.add(rows, model="kmer")
        db.add([("twin", rows[0].sequence)])
        db.add([SequenceRecord("r1", rows[1].sequence)], options=AddOptions(on_duplicate="replace"))
        db.delete(["r2", "r3"])
    for name in ("LOCK", "tmp"):
        path = target / "db" / name
        (shutil.rmtree if path.is_dir() else Path.unlink)(path)
    shutil.rmtree(target / "db" / "derived")
    (target / "answers.json").write_text(
        json.dumps(answers(target / "db"), indent=1) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
