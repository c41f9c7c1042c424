"""What a report says in words: what was counted, what was assumed, and by which methods."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from plmsearch.repertoire.row_reader import SAMPLE_COLUMNS
from plmsearch.repertoire.summary import RepertoireSummary
from plmsearch.wording import counted

__all__ = ["METHODS", "REFERENCES", "notes", "report_lines", "unit_note"]

#: How things are computed, for the page.
METHODS = (
    "Hill numbers: effective number of clones of order q, (sum p^q)^(1/(1-q)) [1]. At equal depth: "
    "expected over all samples of that many units drawn without replacement [3]. alakazam's "
    "alphaDiversity averages over random samples instead.",
    "Rarefaction below the sample, extrapolation above it to twice its size; coverage is the share of the"
    " repertoire that the clones of the sample make up [2, 3]. Estimates for the whole: Chao1 [2], "
    "Chao-Wang-Jost entropy [4], unbiased Simpson.",
    "Bands: normal 95% intervals with the standard deviation over samples redrawn from an estimated "
    "assemblage that has a share for unseen clones [3]. They cover sampling, not errors of sequencing or "
    "of finding clones. Where units are copies of one molecule (duplicate_count), units are not "
    "independent and bands are too narrow.",
    "Mutation: 1 - v_identity, else differences between sequence_alignment and germline_alignment in the "
    "V gene; gaps, N and other letters never count. In IMGT-gapped alignments positions 1 to 312.",
    "CDR3 length: residues of junction_aa without the conserved first and last one.",
    "Clonotype: V gene and J gene (the first one listed) and junction_aa.",
    "Jaccard: in both over in either; at a depth: expected in samples of so many units. Morisita-Horn: 2 "
    "sum(a b) / (sum(a^2) + sum(b^2)) of shares a and b [5].",
)

#: Works that are cited.
REFERENCES = (
    "[1] Hill 1973, Ecology 54:427, doi:10.2307/1934352",
    "[2] Chao & Jost 2012, Ecology 93:2533, doi:10.1890/11-1952.1",
    "[3] Chao et al. 2014, Ecological Monographs 84:45, doi:10.1890/13-0133.1; profiles: Chao & Jost "
    "2015, Methods in Ecology and Evolution 6:873, doi:10.1111/2041-210X.12349",
    "[4] Chao, Wang & Jost 2013, Methods in Ecology and Evolution 4:1091, doi:10.1111/2041-210X.12108",
    "[5] Horn 1966, American Naturalist 100:419, doi:10.1086/282436",
)

_UNITS = {
    "rows": "one row is one unit",
    "duplicate_count": "each row counts its duplicate_count: copies, those of amplification among them",
    "umi_count": "each row counts its umi_count: molecules",
    "cells": "one cell counts once in each locus, by one chain",
}


def unit_note(summary: RepertoireSummary) -> str:
    """Say what is counted, in one phrase."""
    return f"Counted by {summary.options.count}: {_UNITS[summary.options.count]}"


def notes(summary: RepertoireSummary) -> list[str]:
    """Say what was assumed: who is a donor, what is a sample, whose clones these are."""
    return [*_groups(summary), *_clones(summary), *_calls(summary)]


def _groups(summary: RepertoireSummary) -> Iterator[str]:
    columns = summary.read.donor_columns
    without = [source for source, column in columns.items() if not column]
    for column in dict.fromkeys(filter(None, columns.values())):
        yield f"Donors by column {column}: {len(summary.donors)}"
    if without and len(columns) == 1:
        yield (
            "No column subject_id or donor: the whole table is taken for one donor; name the column with --by"
        )
    elif without:
        lacking = counted(len(without), "table has", "tables have")
        yield (
            f"{lacking} no column subject_id or donor: each is taken for one donor; name the column with --by"
        )
    if any(one.group.sample == "all" for one in summary.samples):
        yield f"No column {' or '.join(SAMPLE_COLUMNS)}: all rows of a donor are taken for one sample"
    else:
        yield f"Samples by {', else '.join(SAMPLE_COLUMNS)}: {len(summary.samples)}"


def _clones(summary: RepertoireSummary) -> Iterator[str]:
    tables = len(summary.read.sources)
    if not summary.has_clones:
        yield (
            "No column clone_id: clone sizes, diversity and sharing are left out; plmsearch clones IN.tsv -o "
            "OUT.tsv writes one"
        )
        return
    locus = summary.locus or "unknown"
    yield f"Clones by clone_id, of locus {locus} only: other chains carry the id of their cell"
    if len(summary.read.with_clones) < tables:
        yield f"{tables - len(summary.read.with_clones)} of {tables} tables have no column clone_id"
    if tables > 1:
        yield "Ids are numbered anew in each table: the same id in two tables is two clones"
    if summary.read.clone_status:
        why = ", ".join(f"{n} {status}" for status, n in summary.read.clone_status.most_common())
        yield f"Rows of all loci without a clone, by clone_status: {why}"


def _calls(summary: RepertoireSummary) -> Iterator[str]:
    read = summary.read
    if read.n_not_filtered and not summary.options.filtered:
        others = counted(read.n_not_filtered, "row is", "rows are", style=",")
        yield (
            f"{others} no cell's or of low confidence by 10x (is_cell, high_confidence) and not left out: "
            "--filtered does that"
        )
    for kind in dict.fromkeys(read.identity.values()):
        yield f"v_identity is read as {'a fraction' if kind == 'fraction' else 'percent'}"
    for name, n in read.n_inferred.items():
        yield f"{name} of {counted(n, 'row', style=',')} is empty: {name}_inferred is taken"
    if read.n_identity:
        yield f"Mutation of {counted(read.n_identity, 'row', style=',')} from v_identity"
    if read.n_aligned:
        yield f"Mutation of {counted(read.n_aligned, 'row', style=',')} counted in their alignments"


def report_lines(summary: RepertoireSummary, written: Sequence[Path]) -> Iterator[str]:
    """Say on a terminal what was done, line by line."""
    yield unit_note(summary).lower()
    for text in notes(summary):
        yield text[0].lower() + text[1:]
    for one in summary.left_out:
        yield f"left out of {one.part}: {counted(one.n, one.unit.removesuffix('s'))}: {one.reason}"
    for level, depth in summary.depths.items():
        n = sum(group.level == level and one.depth > 0 for group, one in summary.diversity)
        if n > 1:
            yield f"diversity of {n} {level}s compared at {depth} units each"
    total = sum(one.total for one in summary.samples)
    unit = ("chain of cells", "chains of cells") if summary.options.count == "cells" else ("unit", "units")
    yield f"{counted(summary.read.n_rows, 'row')}, {counted(total, *unit)} counted"
    yield f"{len(written)} files in {written[0].parent}, the page is {written[0].name}"
