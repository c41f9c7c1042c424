"""What a user is told about clonal families, in words and as a picture of letters."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from plmsearch.repertoire.clone_table import CloneReport
from plmsearch.repertoire.clones import CloneOptions
from plmsearch.repertoire.null import FALSE_LINKS, Null

__all__ = ["report_lines"]

_BIN = 0.02
_N_BINS = 26
_WIDTH = 40


def report_lines(report: CloneReport, options: CloneOptions) -> Iterator[str]:
    """Say what was done, line by line."""
    clones = report.clones
    yield _donors(report)
    yield from _choices(report, options)
    families = clones.families
    shares = np.array([limit.most / limit.length for limit in families.limits])
    if options.threshold is not None:
        yield f"threshold {options.threshold:g}, as given"
    elif len(shares):
        low, mid, high = np.quantile(shares, (0.05, 0.5, 0.95))
        n_pairs = families.null.n_pairs if families.null else 0
        yield (
            f"threshold {mid:.3f} of the junction (median of {len(shares)} blocks; 90% of them {low:.3f} to "
            f"{high:.3f}): at most {FALSE_LINKS} expected links to unrelated sequences, by {n_pairs} "
            "unrelated pairs"
        )
    if len(families.nearest) and families.null is not None:
        yield from _picture(families.nearest, families.null, shares)
    largest = max(clones.sizes, default=0)
    share = largest / max(clones.n_heavy, 1)
    yield (
        f"{report.n_rows} rows, {clones.n_heavy} heavy chains grouped: {len(clones.sizes)} families, "
        f"{clones.sizes.count(1)} of one row, the largest of {largest} ({share:.1%})"
    )
    for status, n in clones.status_counts().items():
        yield f"{n} rows without a family: {status}"
    if report.old is not None:
        old = report.old
        yield (
            f"agreement with the ids that were there, over {old.n} rows: ARI {old.ari:.3f}, pairwise F1 "
            f"{old.pairwise_f1:.3f}, B-cubed {old.bcubed_f1:.3f}"
        )


def _donors(report: CloneReport) -> str:
    if not report.by:
        return (
            "no column subject_id or donor: the whole input is taken for one donor; name the column with --by"
        )
    empty = f"; {report.n_without_donor} rows name none and count as one" if report.n_without_donor else ""
    return f"donors by column {report.by}: {report.clones.n_donors}{empty}"


def _choices(report: CloneReport, options: CloneOptions) -> Iterator[str]:
    clones, rows = report.clones, report.rows
    if options.method == "auto":
        why = (
            "V and J calls are there"
            if clones.method == "junction"
            else "most heavy chains have no V and J call"
        )
        yield f"method {clones.method}: {why}"
    yield f"junctions are compared as {clones.unit}"
    if rows.n_numbered:
        yield (
            f"{rows.n_numbered} rows have no junction: it was found by numbering the chain, in "
            f"{rows.n_nucleotides_found} of them in the nucleotides too"
        )
    if clones.n_assumed_heavy:
        yield f"{clones.n_assumed_heavy} rows say nothing about their locus: taken for heavy chains"


def _picture(nearest: NDArray[np.float64], null: Null, shares: NDArray[np.float64]) -> Iterator[str]:
    """Draw distances to the nearest other junction (#) and those of unrelated pairs (o)."""
    edges = np.arange(_N_BINS + 1) * _BIN
    seen = np.histogram(nearest, edges)[0] / len(nearest)
    places = [np.arange(len(counts)) / length for length, counts in null.counts.items()]
    weights = list(null.counts.values())
    unrelated = np.zeros(_N_BINS)
    if places:
        unrelated = (
            np.histogram(np.concatenate(places), edges, weights=np.concatenate(weights))[0] / null.n_pairs
        )
    top = max(seen.max(), unrelated.max(), 1e-9)
    median = float(np.median(shares)) if len(shares) else 0.0
    yield "distance to the nearest junction (#) and between unrelated ones (o), share of mismatches:"
    for i in range(_N_BINS):
        bar = round(seen[i] / top * _WIDTH)
        null_bar = round(unrelated[i] / top * _WIDTH)
        line = "".join("#" if k < bar else "o" if k < null_bar else " " for k in range(_WIDTH)).rstrip()
        mark = " <- threshold" if edges[i] <= median < edges[i + 1] else ""
        yield f"  {edges[i]:.2f} {line}{mark}".rstrip()
