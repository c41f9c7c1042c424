"""What a user is told about clonal families, in words and as a picture of letters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from plmsearch.formats.cells import visible
from plmsearch.repertoire.clone_description import CloneReport
from plmsearch.repertoire.clones import CloneOptions, Clones
from plmsearch.repertoire.convergence import IDENTITY
from plmsearch.repertoire.families import Families
from plmsearch.repertoire.missing_calls import FilledCalls
from plmsearch.repertoire.null import FALSE_LINKS
from plmsearch.repertoire.vector_families import VectorFamilies
from plmsearch.wording import counted

__all__ = ["report_lines"]

_WHY = {
    "hybrid": "there are V and J calls and V regions",
    "junction": "there are V and J calls",
    "cdr3": "most heavy chains have no V and J call",
}
_BIN = 0.02
_N_BINS = 26
_WIDTH = 40
_N_NAMED = 5


def report_lines(report: CloneReport, options: CloneOptions) -> Iterator[str]:
    """Say what was done, line by line."""
    clones = report.clones
    yield _donors(report)
    if not options.filtered and (n := report.rows.filtered.count(False)):
        yield (
            f"{counted(n, 'row is', 'rows are')} no cell's or of low confidence by 10x (is_cell, "
            "high_confidence) and not left out: --filtered does that"
        )
    yield from _choices(report, options)
    yield from _cut(clones, options)
    yield from _families(report)
    if clones.convergent is not None:
        clusters = Counter(filter(None, clones.convergent))
        yield (
            f"{counted(len(clusters), 'convergent cluster')} of {counted(clusters.total(), 'row')}, over "
            f"donors (same V gene, J gene and junction length, {IDENTITY:.0%} of residues equal): likeness, "
            "not descent"
        )
    for status, n in clones.status_counts().items():
        which = _other_loci(report) if status == "other_locus" else ""
        yield f"{counted(n, 'row')} without a family: {status}{which}"
    if report.old is not None:
        old = report.old
        yield (
            f"agreement with the ids that were there, over {counted(old.n, 'row')}: ARI {old.ari:.3f}, "
            f"pairwise F1 {old.pairwise_f1:.3f}, B-cubed {old.bcubed_f1:.3f}"
        )


def _families(report: CloneReport) -> Iterator[str]:
    """Say how many families there are, each locus by itself: chains of a cell are no members more."""
    clones = report.clones
    sizes, receptors = clones.sizes, clones.receptor_sizes
    if sizes:
        yield (
            f"{counted(report.n_rows, 'row')}, {counted(clones.n_heavy, 'heavy chain')} grouped: "
            f"{counted(len(sizes), 'family', 'families')}, {sizes.count(1)} of one chain, "
            f"the largest of {_share(sizes)}"
        )
    else:
        yield f"{counted(report.n_rows, 'row')}, no heavy chain in a family"
    if clones.n_light:
        yield f"{counted(clones.n_light, 'light chain has', 'light chains have')} the family of their cell"
    if receptors:
        yield (
            f"{counted(sum(receptors), 'T-cell receptor chain')} in {counted(len(receptors), 'clonotype')}, "
            f"the largest of {_share(receptors)}"
        )


def _numbers(rows: Sequence[int]) -> str:
    """Name the first rows by their place in the table."""
    named = ", ".join(map(str, rows[:_N_NAMED]))
    return f"row{'s' if len(rows) > 1 else ''} {named}{', ...' if len(rows) > _N_NAMED else ''}"


def _share(sizes: Sequence[int]) -> str:
    return f"{sizes[0]} ({sizes[0] / sum(sizes):.1%})"


def _other_loci(report: CloneReport) -> str:
    """Name the loci that are none, the most frequent first."""
    rows = zip(report.rows.locus, report.clones.status, strict=True)
    loci = Counter(locus for locus, status in rows if status == "other_locus")
    named = ", ".join(visible(locus) for locus, _ in loci.most_common(3))
    return f" ({named}{', ...' if len(loci) > 3 else ''})"


def _made(facts: Mapping[str, Any]) -> str:
    regions = ", ".join(f"{name} {weight:g}" for name, weight in facts["regions"].items())
    digest = facts["weights_digest"][:12]
    return f"{facts['model']}, layer {facts['layer']}, {regions}, centred; weights {digest}"


def _donors(report: CloneReport) -> str:
    if not report.by:
        return (
            "no column subject_id or donor: the whole input is taken for one donor; name the column with --by"
        )
    unnamed = counted(report.n_without_donor, "row names none and counts", "rows name none and count")
    empty = f"; {unnamed} as one" if report.n_without_donor else ""
    return f"donors by column {report.by}: {report.clones.n_donors}{empty}"


def _choices(report: CloneReport, options: CloneOptions) -> Iterator[str]:
    clones, rows = report.clones, report.rows
    if not clones.n_heavy:
        return
    yield from _missing_calls(report.calls)
    if options.method == "auto":
        yield f"method {clones.method}: {_WHY[clones.method]}"
    if clones.vectors is not None:
        facts = clones.vectors.facts
        yield f"vectors: {facts.get('vectors') or _made(facts)}"
    else:
        yield f"junctions are compared as {clones.unit}"
    if clones.method == "hybrid" and isinstance(clones.families, Families):
        yield f"V regions are compared too: {clones.families.n_with_v} of {clones.n_heavy} chains have one"
    if rows.n_numbered:
        lacking = counted(rows.n_numbered, "row has", "rows have")
        yield (
            f"{lacking} no junction: it was found by numbering the chain, in "
            f"{rows.n_nucleotides_found} of them in the nucleotides too"
        )
    if rows.disagreeing:
        disagreeing = counted(len(rows.disagreeing), "row has", "rows have")
        yield (
            f"{disagreeing} a junction_aa that is not the translation of junction, both are taken as given: "
            f"{_numbers(rows.disagreeing)}"
        )
    if clones.n_assumed_heavy:
        silent = counted(clones.n_assumed_heavy, "row says", "rows say")
        yield f"{silent} nothing about their locus: taken for heavy chains"


def _missing_calls(calls: FilledCalls) -> Iterator[str]:
    """Say what became of heavy chains without calls."""
    if calls.n_taken:
        taken = "without a V or J call"
        chains = counted(calls.n_taken, f"heavy chain {taken} has", f"heavy chains {taken} have")
        yield f"{chains} that of v_call_inferred or j_call_inferred"
    if calls.inferred is not None:
        if calls.is_everywhere:
            yield f"most heavy chains have no V and J call: inferred from {calls.inferred.source}"
        else:
            yield (
                f"{_asked(calls)} no V or J call: inferred from {calls.inferred.source}, "
                f"{calls.n_found} of them have both now"
            )
        yield calls.inferred.told
    elif calls.is_told:
        yield f"--germlines and --species are not used: {calls.why_not}"
    elif calls.n_asked:
        yield f"{_asked(calls)} no V or J call, and none are inferred: {calls.why_not}"


def _asked(calls: FilledCalls) -> str:
    return counted(calls.n_asked, "heavy chain has", "heavy chains have")


def _cut(clones: Clones, options: CloneOptions) -> Iterator[str]:
    """Say where families were cut, with a picture."""
    families = clones.families
    shares = families.thresholds
    of = "cosine distance" if clones.method == "embedding" else "of the junction"
    if not clones.n_heavy:
        return
    if options.threshold is not None:
        yield f"threshold {options.threshold:g}, as given"
        return
    if len(shares):
        low, mid, high = np.quantile(shares, (0.05, 0.5, 0.95))
        yield (
            f"threshold {mid:.3f} {of} (median of {counted(len(shares), 'block')}; 90% of them {low:.3f} to "
            f"{high:.3f}): at most {FALSE_LINKS} expected links to unrelated sequences, by "
            f"{counted(families.n_null_pairs, 'unrelated pair')}"
        )
    if len(families.nearest):
        width = 2 * _BIN if clones.method == "embedding" else _BIN
        what = "vector" if clones.method == "embedding" else "junction"
        unit = "cosine distance" if clones.method == "embedding" else "share of mismatches"
        yield f"distance to the nearest {what} (#) and between unrelated ones (o), {unit}:"
        yield from _picture(clones.families, float(np.median(shares)) if len(shares) else 0.0, width)


def _picture(families: Families | VectorFamilies, threshold: float, width: float) -> Iterator[str]:
    """Draw distances to the nearest other (#) and those of unrelated pairs (o)."""
    edges = np.linspace(0.0, _N_BINS * width, _N_BINS + 1)
    seen = np.histogram(families.nearest, edges)[0] / len(families.nearest)
    unrelated = families.unrelated(edges)
    top = max(seen.max(), unrelated.max(), 1e-9)
    for i in range(_N_BINS):
        bar = round(seen[i] / top * _WIDTH)
        null_bar = round(unrelated[i] / top * _WIDTH)
        line = "".join("#" if k < bar else "o" if k < null_bar else " " for k in range(_WIDTH)).rstrip()
        mark = " <- threshold" if edges[i] <= threshold < edges[i + 1] else ""
        yield f"  {edges[i]:.2f} {line}{mark}".rstrip()
