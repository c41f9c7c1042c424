"""A walk through the library: does a light chain find its clonal family, and is a language model needed?

    python examples/python_walk.py [DIRECTORY]

One chain of every family is held out, the others are indexed, once with AntiBERTy and once with plain 3-mer
counts. Databases are written to DIRECTORY (a new temporary one if left out).
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

import plmsearch

EXAMPLES = Path(__file__).resolve().parent


def light_chains() -> tuple[list[plmsearch.SequenceRecord], list[plmsearch.SequenceRecord]]:
    """Read the light chains of the AIRR table; hold out the first of each family of two or more."""
    families: dict[object, list[plmsearch.SequenceRecord]] = {}
    for record in plmsearch.open_input(EXAMPLES / "repertoire.tsv"):
        if record.metadata["locus"] in {"IGK", "IGL"}:
            families.setdefault(record.metadata["clone_id"], []).append(record)
    held_out = [members[0] for members in families.values() if len(members) > 1]
    names = {record.record_id for record in held_out}
    return held_out, [r for members in families.values() for r in members if r.record_id not in names]


def share_found(path: Path, model: str) -> float:
    """Index, search, and return the share of held-out chains whose nearest neighbour is a relative."""
    queries, targets = light_chains()
    with plmsearch.open_database(path, create=True) as db:
        report = db.add(targets, model=model)
        print(
            f"{model}: {report.n_added} records, {report.n_embedded} sequences embedded in {report.spaces[0]}"
        )
        hits = [found[0] for found in db.search(queries, k=1)]
        for query, hit in zip(queries[:3], hits[:3], strict=True):
            families = f"family {query.metadata['clone_id']} finds family {hit.metadata['clone_id']}"
            genes = f"{query.metadata['v_call']} and {hit.metadata['v_call']}"
            print(f"  {query.record_id} -> {hit.target}: {families}; {genes}; score {hit.score:.3f}")

        # Vectors of one space can be searched with too; centres are by locus, so they need theirs.
        space = db.spaces()[0].spec.name
        first = db.vectors([hits[0].target], space=space)
        again = db.search(first, k=1, space=space, loci=[hits[0].metadata["locus"]])[0][0]
        assert np.isclose(again.score, 1)

    pairs = zip(queries, hits, strict=True)
    return float(np.mean([query.metadata["clone_id"] == hit.metadata["clone_id"] for query, hit in pairs]))


def main(directory: Path) -> None:
    for model in ("antiberty", "kmer"):
        share = share_found(directory / f"{model}.db", model)
        print(f"{model}: {share:.0%} of the held-out chains have a relative as nearest neighbour")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp()))
