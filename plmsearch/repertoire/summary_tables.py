"""Repertoire statistics as tables: one TSV file for each question."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from typing import TextIO

import numpy as np

from plmsearch.repertoire.diversity import Curve, Diversity
from plmsearch.repertoire.sharing import Shared
from plmsearch.repertoire.summary import Group, RepertoireSummary
from plmsearch.repertoire.usage import QUANTILES

__all__ = ["TABLES", "write_table"]

#: Columns by table; `plmsearch.repertoire.report.write_report` writes ``<name>.tsv``. ``count`` is in the
#: unit that ``count_unit`` names.
TABLES: dict[str, tuple[str, ...]] = {
    "samples": ("number", "donor", "sample", "n_records", "duplicate_count", "umi_count", "n_cells",
                "count_unit", "count"),
    "left_out": ("part", "reason", "n", "of"),
    "clone_sizes": ("level", "donor", "sample", "count_unit", "count", "n_clones", "n_single",
                    "largest_share", "top10_share", "top100_share"),
    "clones": ("level", "donor", "sample", "rank", "clone_id", "count_unit", "count", "share", "n_records",
               "duplicate_count", "umi_count"),
    "diversity": ("level", "donor", "sample", "count_unit", "count", "n_clones", "coverage", "q", "observed",
                  "estimated", "depth", "at_depth", "low", "high"),
    "hill_profile": ("level", "donor", "sample", "count_unit", "depth", "q", "estimate", "low", "high"),
    "rarefaction": ("level", "donor", "sample", "count_unit", "depth", "kind", "coverage", "q", "estimate",
                    "low", "high"),
    "usage": ("donor", "sample", "locus", "kind", "name", "count_unit", "count", "share"),
    "mutation": ("donor", "sample", "locus", "isotype", "count_unit", "count", "mean", "unmutated_share",
                 *(f"q{round(100 * q):02d}" for q in QUANTILES)),
    "cdr3_length": ("donor", "sample", "locus", "count_unit", "length", "count", "share"),
    "clone_sharing": ("donor", "sample_1", "sample_2", "n_clones_1", "n_clones_2", "n_shared", "jaccard",
                      "depth", "jaccard_at_depth", "morisita_horn", "count_unit"),
    "convergence": ("kind", "donor_1", "donor_2", "n_1", "n_2", "n_shared", "jaccard", "depth",
                    "jaccard_at_depth", "morisita_horn", "count_unit"),
    "convergent": ("kind", "name", "v_gene", "j_gene", "junction_aa", "n_donors", "donors", "count_unit",
                   "count"),
}  # fmt: skip

Cell = str | int | float


def write_table(summary: RepertoireSummary, name: str, out: TextIO) -> None:
    """Write one of `TABLES`, with its header.

    Parameters
    ----------
    summary : RepertoireSummary
    name : str
    out : TextIO
        Cells that hold tabs, quotes or line ends are quoted as in RFC 4180; NaN is an empty cell.
    """
    writer = csv.writer(out, delimiter="\t", lineterminator="\n")
    writer.writerow(TABLES[name])
    rows = {
        "samples": _samples, "left_out": _left_out, "clone_sizes": _clone_sizes, "clones": _clones,
        "diversity": _diversity, "hill_profile": _hill_profile, "rarefaction": _rarefaction, "usage": _usage,
        "mutation": _mutation, "cdr3_length": _cdr3_length, "clone_sharing": _clone_sharing,
        "convergence": _convergence, "convergent": _convergent,
    }[name](summary)  # fmt: skip
    writer.writerows(map(_texts, rows))


def _texts(cells: Iterable[Cell]) -> list[str]:
    return [_text(cell) for cell in cells]


def _text(cell: Cell) -> str:
    if isinstance(cell, float):
        return "" if np.isnan(cell) else f"{cell:.6g}" if abs(cell) < 1e6 else f"{cell:.1f}"
    return str(cell)


def _known(count: int) -> str | int:
    return "" if count < 0 else count


def _names(group: Group) -> tuple[str, str, str]:
    return group.level, group.donor, group.sample or ""


def _samples(summary: RepertoireSummary) -> Iterator[Sequence[Cell]]:
    for number, one in enumerate(summary.samples, 1):
        _, donor, sample = _names(one.group)
        yield (number, donor, sample, one.n_records, _known(one.duplicates), _known(one.umis), one.n_cells,
               summary.options.count, one.total)  # fmt: skip


def _left_out(summary: RepertoireSummary) -> Iterator[Sequence[Cell]]:
    for one in summary.left_out:
        yield one.part, one.reason, one.n, one.unit


def _clone_sizes(summary: RepertoireSummary) -> Iterator[Sequence[Cell]]:
    for one in summary.clones:
        yield (*_names(one.group), summary.options.count, one.total, len(one.sizes),
               int((one.sizes == 1).sum()), *(one.top_share(n) for n in (1, 10, 100)))  # fmt: skip


def _clones(summary: RepertoireSummary) -> Iterator[Sequence[Cell]]:
    for one in summary.clones:
        total = one.total
        columns = (one.sizes, one.n_records, one.duplicates, one.umis)
        names = _names(one.group)
        for rank, (clone, size, n, duplicates, umis) in enumerate(
            zip(one.names, *(column.tolist() for column in columns), strict=True), 1
        ):
            yield (*names, rank, clone, summary.options.count, size, size / total, n, _known(duplicates),
                   _known(umis))  # fmt: skip


def _diversity(summary: RepertoireSummary) -> Iterator[Sequence[Cell]]:
    for group, one in summary.diversity:
        for q in (0, 1, 2):
            at_depth = _at_order(one, q)
            yield (*_names(group), summary.options.count, one.n, one.n_clones, one.coverage, q,
                   float(one.observed[q]), float(one.estimated[q]), one.depth or "", *at_depth)  # fmt: skip


def _at_order(one: Diversity, q: int) -> tuple[float, float, float]:
    if one.profile is None:
        return (np.nan, np.nan, np.nan)
    i = int(np.argmin(np.abs(one.profile.at - q)))
    return tuple(float(x[i]) for x in (one.profile.estimate, one.profile.low, one.profile.high))  # type: ignore[return-value]


def _hill_profile(summary: RepertoireSummary) -> Iterator[Sequence[Cell]]:
    for group, one in summary.diversity:
        if one.profile is not None:
            for q, *estimates in _points(one.profile):
                yield (*_names(group), summary.options.count, one.depth, q, *estimates)


def _points(curve: Curve) -> Iterator[tuple[float, ...]]:
    columns = (curve.at, curve.estimate, curve.low, curve.high)
    return zip(*(column.tolist() for column in columns), strict=True)


def _rarefaction(summary: RepertoireSummary) -> Iterator[Sequence[Cell]]:
    for group, one in summary.diversity:
        curve = one.rarefaction
        for i, depth in enumerate(curve.at.astype(np.int64).tolist()):
            kind = "rarefied" if depth < one.n else "extrapolated" if depth > one.n else "observed"
            for q in (0, 1, 2):
                estimates = (float(x[i, q]) for x in (curve.estimate, curve.low, curve.high))
                yield (*_names(group), summary.options.count, depth, kind, float(one.curve_coverage[i]), q,
                       *estimates)  # fmt: skip


def _usage(summary: RepertoireSummary) -> Iterator[Sequence[Cell]]:
    for one in summary.usage:
        _, donor, sample = _names(summary.samples[one.sample].group)
        yield donor, sample, one.locus, one.kind, one.name, summary.options.count, one.count, one.share


def _mutation(summary: RepertoireSummary) -> Iterator[Sequence[Cell]]:
    for one in summary.mutation:
        _, donor, sample = _names(summary.samples[one.sample].group)
        yield (donor, sample, one.locus, one.isotype, summary.options.count, one.total, one.mean,
               one.unmutated, *one.quantiles)  # fmt: skip


def _cdr3_length(summary: RepertoireSummary) -> Iterator[Sequence[Cell]]:
    for one in summary.cdr3:
        _, donor, sample = _names(summary.samples[one.sample].group)
        for length in np.flatnonzero(one.counts).tolist():
            count = int(one.counts[length])
            yield donor, sample, one.locus, summary.options.count, length, count, count / one.total


def _measures(pair: Shared, unit: str) -> tuple[Cell, ...]:
    return (pair.n_first, pair.n_second, pair.n_shared, pair.jaccard, pair.depth or "", pair.jaccard_at_depth,
            pair.morisita_horn, unit)  # fmt: skip


def _clone_sharing(summary: RepertoireSummary) -> Iterator[Sequence[Cell]]:
    for pair in summary.clone_sharing:
        first, second = (summary.samples[i].group for i in (pair.first, pair.second))
        yield (first.donor, first.sample or "", second.sample or "", *_measures(pair, summary.options.count))


def _convergence(summary: RepertoireSummary) -> Iterator[Sequence[Cell]]:
    for part in summary.convergence:
        for pair in part.pairs:
            donors = part.donors[pair.first], part.donors[pair.second]
            yield part.kind, *donors, *_measures(pair, summary.options.count)


def _convergent(summary: RepertoireSummary) -> Iterator[Sequence[Cell]]:
    for part in summary.convergence:
        for one in part.tallies:
            name = part.names[one.code]
            keys = name.split("\t") if part.kind == "clonotype" else ("", "", "")
            donors = ",".join(part.donors[i] for i in one.groups)
            yield (part.kind, name.replace("\t", " "), *keys, len(one.groups), donors, summary.options.count,
                   one.total)  # fmt: skip
