"""Write the golden databases of the present schema: ``python tests/data/make_golden.py``.

Run once when a migration is added, and commit the result: from then on they stand for every database
that version wrote. What they answer is kept beside them, so that an upgrade can be checked. One that is
there already is left as it is.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from antibodies import CH1, LEADER, NO_DOMAIN, SCFV, VH_2, VH_3, VH_4, antibody_db, domains_of
from support import VH, VL, peptides

from plmsearch.database import open_database
from plmsearch.ingest.report import AddOptions, AddReport
from plmsearch.search.cdr3 import Cdr3Options
from plmsearch.search.hits import Hit, Query, SearchOptions
from plmsearch.sequences import SequenceRecord
from plmsearch.store.rows import StoredDomain
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


def domain_answers(path: Path) -> dict[str, object]:
    """What a database of variable domains says of what it holds; nothing that needs numbering.

    Records, their domains with germline genes, hits of domains, of pairs, by CDR3, by gene. Hits are those
    of all loci: versions of schema 0004 gave no others where a ranking had no centre by locus.
    """
    options = SearchOptions(k=4, significance=False, across_loci=True)
    ids = ["scfv", "h1"]
    with open_database(path) as db:
        stored = [r.record_id for r in db.repository.all_records()]
        ranking = db.ranking()
        by_gene = replace(options, where="v_family = 'IGHV3' and cell_id is not null")
        nearest = Cdr3Options(min_identity=0.9, same=("v", "cdr3_length"))
        found = {
            "records": [[r.record_id, r.residues, r.description, dict(r.metadata)] for r in db.get(stored)],
            "rankings": [[r.name, [[p.space.spec.name, p.weight] for p in r.parts]] for r in db.rankings()],
            "hits": _told(db.search_stored(ids, ranking, options)),
            "by gene": _told(db.search_stored(ids, ranking, by_gene)),
            "pairs": _told(db.search_stored_pairs(ids, [], db.pair_targets(ranking), ranking, options)),
            "by CDR3": _told(db.search_alike_stored(ids, nearest, options, ranking, report=AddReport())),
        }
    domains = {i: [[own, *_facts(d)] for own, d in of] for i, of in domains_of(path).items()}
    return {**found, "domains": domains}


def _facts(domain: StoredDomain) -> list[object]:
    """What this version knows of a domain; a later one may know more."""
    place = [domain.number, domain.locus, domain.start, list(domain.ends), domain.is_complete]
    v_identity = None if domain.v_identity is None else round(domain.v_identity, 4)
    return [*place, domain.v_call, domain.j_call, v_identity, domain.species]


def _told(results: Iterable[tuple[Query, list[Hit]]]) -> list[list[object]]:
    return [
        [query.query_id, [[h.target, h.domain and h.domain.number, round(h.score, 5)] for h in hits]]
        for query, hits in results
    ]


def _of_chains(path: Path) -> None:
    rows = [
        SequenceRecord(f"r{n}", residues, f"record {n}", {"species": "human" if n % 2 else "mouse", "n": n})
        for n, residues in enumerate(peptides(12, seed=3))
    ]
    with open_database(path, create=True) as db:
        db.add(rows, model="kmer")
        db.add([("twin", rows[0].sequence)])
        db.add([SequenceRecord("r1", rows[1].sequence)], options=AddOptions(on_duplicate="replace"))
        db.delete(["r2", "r3"])


def _of_domains(path: Path) -> None:
    """Single-chain Fv, constructs, chains of cells, a record without a domain, a deleted one."""
    cell = {"sample_id": "s", "cell_id": "c1"}
    rows = [
        SequenceRecord("scfv", SCFV, "single chain"),
        SequenceRecord("long", LEADER + VH_2 + CH1, "leader and constant region"),
        SequenceRecord("none", NO_DOMAIN),
        SequenceRecord("two", f"{VL};{VH_3}"),
        SequenceRecord("gone", VH_4),
        SequenceRecord("h1", VH, "", {**cell, "v_call": "IGHV3-66*01", "locus": "IGH"}),
        SequenceRecord("l1", VL, "", {**cell, "locus": "IGK"}),
    ]
    antibody_db(path, rows, chains=True)
    with open_database(path) as db:
        db.delete(["gone"])


def _make(folder: Path, make: Callable[[Path], None], answer: Callable[[Path], dict[str, object]]) -> None:
    """Make a database and note its answers, unless it is there."""
    if folder.exists():
        return
    make(folder / "db")
    for name in ("LOCK", "tmp"):
        path = folder / "db" / name
        (shutil.rmtree if path.is_dir() else Path.unlink)(path)
    shutil.rmtree(folder / "db" / "derived")
    told = json.dumps(answer(folder / "db"), indent=1) + "\n"
    (folder / "answers.json").write_text(told, encoding="utf-8")


def main() -> None:
    """Make the databases of chains and of variable domains."""
    folder = Path(__file__).parent / "golden"
    _make(folder / HEAD, _of_chains, answers)
    _make(folder / f"{HEAD}-domains", _of_domains, domain_answers)


if __name__ == "__main__":
    main()
