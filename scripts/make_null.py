"""Make plmsearch/repertoire/null.json: distances of unrelated SIMULATED human heavy-chain junctions.

    python scripts/make_null.py            # write the file anew: a minute

Rearrangements are GenAIRR's, unmutated: mutation only takes unrelated junctions further apart. Their
distances are measured as those of an input are (plmsearch/repertoire/null.py), and stand in where an
input has too few pairs of its own. No sequence of any person goes in.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import GenAIRR
import numpy as np

from plmsearch.genes import call_genes
from plmsearch.repertoire.clonotype import translate
from plmsearch.repertoire.linkage import NUCLEOTIDES, RESIDUES, encode
from plmsearch.repertoire.null import null_distances, reference_key

FILE = Path(__file__).resolve().parents[1] / "plmsearch" / "repertoire" / "null.json"
GENAIRR_VERSION = "2.3.1"  # another version may draw other rearrangements from the same seed
SEED, N, STEP = 20261124, 40_000, 2000
#: Junctions of a length beyond these are too few to measure.
LENGTHS = range(27, 112, 3)  # nucleotides


def draw() -> list[tuple[str, str]]:
    """Draw distinct J genes and junctions."""
    warnings.simplefilter("ignore")
    experiment = GenAIRR.Experiment.on("human_igh").recombine().productive_only()
    found: dict[tuple[str, str], None] = {}
    for start in range(0, N, STEP):
        for record in experiment.run_records(n=STEP, seed=SEED + start):
            junction = str(record["junction"]).upper()
            if len(junction) in LENGTHS:
                found[min(call_genes(str(record["j_call"]))), junction] = None
    return sorted(found)


def measured(drawn: list[tuple[str, str]], *, nucleotides: bool, same_v: bool) -> dict[str, list[int]]:
    """Return the counts of pairs by mismatches, by junction length."""
    by_length: dict[int, list[tuple[str, str]]] = {}
    for j_gene, junction in drawn:
        letters = junction if nucleotides else translate(junction)
        by_length.setdefault(len(letters), []).append((letters, j_gene if same_v else ""))
    alphabet = NUCLEOTIDES if nucleotides else RESIDUES
    coded = {
        length: (encode([letters for letters, _ in items], alphabet), [group for _, group in items])
        for length, items in by_length.items()
    }
    null = null_distances(coded, 3 if nucleotides else 1, same_v=same_v)
    return {str(length): np.trim_zeros(counts, "b").tolist() for length, counts in null.counts.items()}


def main() -> None:
    """Write the file."""
    if GenAIRR.__version__ != GENAIRR_VERSION:
        sys.exit(f"needs GenAIRR {GENAIRR_VERSION}, this is {GenAIRR.__version__}")
    drawn = draw()
    tables = {
        reference_key(nucleotides=nucleotides, same_v=same_v): measured(
            drawn, nucleotides=nucleotides, same_v=same_v
        )
        for nucleotides in (True, False)
        for same_v in (True, False)
    }
    FILE.write_text(json.dumps(tables, separators=(",", ":")) + "\n")
    sys.stdout.write(f"{len(drawn)} distinct rearrangements, {FILE.stat().st_size} bytes\n")


if __name__ == "__main__":
    main()
