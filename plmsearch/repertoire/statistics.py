"""Repertoire statistics: clone sizes, diversity, usage, mutation, CDR3 length, sharing, convergence.

`summarise_repertoire` reads rearrangement tables and returns all of it; `plmsearch.repertoire.report`
writes it. Words are explained in `plmsearch.repertoire.summary`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from plmsearch.errors import ParameterError
from plmsearch.genes import locus_name
from plmsearch.repertoire.abundance import Abundance
from plmsearch.repertoire.diversity import Diversity, common_depth, diversity
from plmsearch.repertoire.row_reader import NONE, ReadOptions, read_rows
from plmsearch.repertoire.rows import COUNTS, RepertoireRows, counted_rows
from plmsearch.repertoire.sharing import Members, Shared, members_of, shared, tally
from plmsearch.repertoire.summary import (
    CloneSizes,
    Convergence,
    Group,
    LeftOut,
    RepertoireSummary,
    SampleTotals,
    StatisticsOptions,
)
from plmsearch.repertoire.usage import LOCI_WITH_MUTATION, call_is_named, cdr3_lengths, mutation, usage

__all__ = ["summarise_repertoire"]

_HEAVY = "IGH"


def summarise_repertoire(
    paths: Sequence[str | Path], options: StatisticsOptions | None = None
) -> RepertoireSummary:
    """Compute the statistics of rearrangement tables.

    Parameters
    ----------
    paths : sequence of str or Path
        AIRR Rearrangement TSV, packed or not; ``-`` for standard input. With ``clone_id``, as
        `plmsearch clones` writes it, clone sizes, diversity and sharing are computed too.
    options : StatisticsOptions, optional

    Returns
    -------
    RepertoireSummary

    Raises
    ------
    InputNotFoundError, FileFormatError, TableFormatError
        If a table cannot be read, lacks a column that is asked for, or holds a count that is none.
    ParameterError
        If an option is out of range.
    """
    options = options or StatisticsOptions()
    _check(options)
    rows, read = read_rows(
        paths, ReadOptions(options.by, options.count, options.productive, options.filtered)
    )
    rows.weight, uncounted = counted_rows(rows, options.count)
    left_out = [LeftOut("all parts", reason, n) for reason, n in uncounted.items()]
    if read.n_not_productive:
        left_out.insert(0, LeftOut("all parts", "not productive", read.n_not_productive))
    if options.filtered and read.n_not_filtered:
        left_out.insert(0, LeftOut("all parts", "no cell, or of low confidence", read.n_not_filtered))
    groups = [Group(*map(str, value)) for value in rows.samples.numbers]  # type: ignore[call-overload]
    locus = _locus_of_clones(rows, options.locus)
    of_locus = rows.weight * (_codes_are(rows.locus, rows.loci.texts, locus))
    clones = _clones(rows, of_locus, groups) if read.with_clones else []
    depths, compared = _diversity(clones, options)
    sharing, not_shared = _clone_sharing(rows, of_locus, groups, depths["sample"])
    convergence = _convergence(rows, of_locus, groups, options)
    summary = RepertoireSummary(
        options=options, read=read, locus=locus, has_clones=bool(read.with_clones),
        samples=_totals(rows, groups), clones=clones, depths=depths, diversity=compared,
        usage=usage(rows), mutation=mutation(rows), cdr3=cdr3_lengths(rows), clone_sharing=sharing,
        not_shared=not_shared, convergence=convergence, left_out=left_out,
    )  # fmt: skip
    return replace(summary, left_out=[*left_out, *_missing(summary, rows, of_locus)])


def _check(options: StatisticsOptions) -> None:
    if options.count not in COUNTS:
        raise ParameterError("count", options.count, f"one of {', '.join(COUNTS)}")
    if options.min_depth < 1:
        raise ParameterError("min-depth", options.min_depth, "at least 1")
    if options.n_bootstraps < 2:
        raise ParameterError("bootstraps", options.n_bootstraps, "at least 2")
    if options.seed < 0:
        raise ParameterError("seed", options.seed, "at least 0")


def _locus_of_clones(rows: RepertoireRows, wanted: str | None) -> str:
    """Return the wanted locus, else IGH if there is any, else the locus of most rows."""
    texts = rows.loci.texts
    if wanted is not None:
        wanted = locus_name(wanted)
        if wanted not in texts:
            raise ParameterError("locus", wanted, f"one that the input has: {', '.join(sorted(texts))}")
        return wanted
    if _HEAVY in texts:
        return _HEAVY
    return texts[int(np.bincount(rows.locus).argmax())] if len(rows) else ""


def _codes_are(codes: NDArray[np.int32], texts: Sequence[str], wanted: str) -> NDArray[np.int64]:
    number = texts.index(wanted) if wanted in texts else -2
    return np.asarray(codes == number, dtype=np.int64)


# --- Samples and clones ----------------------------------------------------------------------------


def _totals(rows: RepertoireRows, groups: Sequence[Group]) -> list[SampleTotals]:
    n = len(groups)
    records = np.bincount(rows.sample, minlength=n)
    duplicates, umis = (_told_sums(rows.sample, column, n) for column in (rows.duplicates, rows.umis))
    totals = _sums(rows.sample, rows.weight, n)
    cells = np.unique(np.stack([rows.sample, rows.cell], axis=1)[rows.cell >= 0], axis=0)
    n_cells = np.bincount(cells[:, 0], minlength=n)
    return [
        SampleTotals(g, *(int(x[i]) for x in (records, duplicates, umis, n_cells, totals)))
        for i, g in enumerate(groups)
    ]


def _sums(places: NDArray[np.integer], weights: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    sums = np.zeros(n, dtype=np.int64)
    np.add.at(sums, places, weights)
    return sums


def _told_sums(places: NDArray[np.integer], counts: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """Sum counts by group; -1 where none is told."""
    told = counts >= 0
    known = np.bincount(places[told], minlength=n)
    return np.where(known > 0, _sums(places[told], counts[told], n), -1)


def _donor_numbers(groups: Sequence[Group]) -> tuple[list[str], NDArray[np.int64]]:
    """Return donors, and the number of the donor of each sample."""
    donors = list(dict.fromkeys(group.donor for group in groups))
    return donors, np.array([donors.index(group.donor) for group in groups], dtype=np.int64)


def _clones(rows: RepertoireRows, weights: NDArray[np.int64], groups: Sequence[Group]) -> list[CloneSizes]:
    """Gather the clones of samples, then of donors."""
    names = [str(value[2]) for value in rows.clones.numbers]  # type: ignore[index]
    donors, donor_of = _donor_numbers(groups)
    kept = np.flatnonzero((rows.clone >= 0) & (weights > 0))
    found = []
    for of_row, level in (
        (rows.sample[kept].astype(np.int64), groups),
        (donor_of[rows.sample[kept]], [Group(donor) for donor in donors]),
    ):
        keys, places = np.unique(of_row * max(len(names), 1) + rows.clone[kept], return_inverse=True)
        columns = (
            _sums(places, weights[kept], len(keys)),
            np.bincount(places, minlength=len(keys)),
            _told_sums(places, rows.duplicates[kept], len(keys)),
            _told_sums(places, rows.umis[kept], len(keys)),
        )
        which, clone = np.divmod(keys, max(len(names), 1))
        order = np.lexsort((clone, -columns[0], which))
        starts = np.searchsorted(which[order], np.arange(len(level) + 1))
        for i, group in enumerate(level):
            part = order[starts[i] : starts[i + 1]]
            if len(part):
                found.append(CloneSizes(group, [names[c] for c in clone[part]], *(x[part] for x in columns)))
    return found


def _diversity(
    clones: Sequence[CloneSizes], options: StatisticsOptions
) -> tuple[dict[str, int], list[tuple[Group, Diversity]]]:
    """Compare samples with samples and donors with donors, each at their own common depth."""
    depths: dict[str, int] = {}
    found: list[tuple[Group, Diversity]] = []
    for level in ("sample", "donor"):
        of_level = [one for one in clones if one.group.level == level]
        depth = common_depth([one.total for one in of_level], options.min_depth)
        depths[level] = depth
        if level == "donor" and len(of_level) == len(found):  # each donor has one sample
            found += [(one.group, known) for one, (_, known) in zip(of_level, tuple(found), strict=True)]
            continue
        for one in of_level:
            rng = np.random.default_rng((options.seed, len(found)))
            found.append((one.group, diversity(Abundance.of(one.sizes), depth, rng, options.n_bootstraps)))
    return depths, found


# --- Sharing and convergence -----------------------------------------------------------------------


def _clone_sharing(
    rows: RepertoireRows, weights: NDArray[np.int64], groups: Sequence[Group], depth: int
) -> tuple[list[Shared], int]:
    """Compare samples of one donor; count the pairs whose clones are numbered in different tables."""
    table_of = np.array([value[0] for value in rows.clones.numbers], dtype=np.int64)  # type: ignore[index]
    members = dict(_members(rows.sample, rows.clone, weights, len(groups)))
    tables = {i: set(np.unique(table_of[group.codes]).tolist()) for i, group in members.items()}
    found, different = [], 0
    for i, k in combinations(sorted(members), 2):
        if groups[i].donor != groups[k].donor:
            continue
        if tables[i] & tables[k]:
            found += shared([members[i], members[k]], depth, (i, k))
        else:
            different += 1
    return found, different


def _members(
    of_row: NDArray[np.integer], codes: NDArray[np.int32], weights: NDArray[np.int64], n: int
) -> Iterator[tuple[int, Members]]:
    """Yield the members of each group that has some."""
    order = np.argsort(of_row, kind="stable")
    starts = np.searchsorted(of_row[order], np.arange(n + 1))
    for i in range(n):
        part = order[starts[i] : starts[i + 1]]
        group = members_of(codes[part], weights[part])
        if len(group.codes):
            yield i, group


def _convergence(
    rows: RepertoireRows, weights: NDArray[np.int64], groups: Sequence[Group], options: StatisticsOptions
) -> list[Convergence]:
    """Compare donors by clonotypes, and by convergent clusters where the table has some.

    Rows that name no donor are left out: they may be of any.
    """
    donors, donor_of = _donor_numbers(groups)
    if len(set(donors) - {NONE}) < 2:
        return []
    weights = weights * _names_donor(rows, groups)
    found = []
    for kind, codes, values in (
        ("clonotype", rows.clonotype, rows.clonotypes),
        ("convergent_cluster", rows.cluster, rows.clusters),
    ):
        members = dict(_members(donor_of[rows.sample], codes, weights, len(donors)))
        if not members:
            continue
        depth = common_depth([group.n for group in members.values()], options.min_depth)
        pairs = shared(list(members.values()), depth, list(members))
        tallies = tally(list(members.values()))
        tallies = [replace(t, groups=tuple(list(members)[g] for g in t.groups)) for t in tallies]
        texts = values.values
        names = {t.code: _name_of(texts[t.code]) for t in tallies}
        found.append(Convergence(kind, tuple(donors), pairs, depth, tallies, names))
    return found


def _names_donor(rows: RepertoireRows, groups: Sequence[Group]) -> NDArray[np.bool_]:
    """Tell which rows name their donor."""
    return np.array([group.donor != NONE for group in groups], dtype=bool)[rows.sample]


def _name_of(value: object) -> str:
    """Return the text of a clonotype, or the id of a convergent cluster."""
    return str(value[1]) if isinstance(value, tuple) else str(value)


# --- What is missing -------------------------------------------------------------------------------


def _missing(
    summary: RepertoireSummary, rows: RepertoireRows, of_locus: NDArray[np.int64]
) -> Iterator[LeftOut]:
    """Count the rows and groups that single parts do without."""
    counted, here = rows.weight > 0, of_locus > 0
    loci = np.array(rows.loci.texts)[rows.locus]
    heavy, ig = counted & (loci == _HEAVY), counted & np.isin(loci, LOCI_WITH_MUTATION)
    reasons = [
        ("V genes", "no V gene in v_call", counted & ~call_is_named(rows.v_call, rows.v_calls, "v_gene")),
        ("J genes", "no J gene in j_call", counted & ~call_is_named(rows.j_call, rows.j_calls, "j_gene")),
        ("isotypes", "no isotype in c_call", heavy & ~call_is_named(rows.c_call, rows.c_calls, "isotype")),
        ("mutation", "no v_identity, and no alignment with a known V part", ig & np.isnan(rows.mutated)),
        ("CDR3 length", "no junction", counted & (rows.cdr3 < 0)),
    ]
    if summary.has_clones:
        reasons += [
            ("clones", f"of another locus than {summary.locus or 'unknown'}", counted & ~here),
            ("clones", "no clone_id", here & (rows.clone < 0)),
        ]
    if summary.convergence:
        named = _names_donor(rows, [sample.group for sample in summary.samples])
        reasons += [
            ("convergence", "no donor named", here & ~named),
            (
                "convergence",
                "no clonotype: V gene, J gene or junction is missing",
                here & named & (rows.clonotype < 0),
            ),
        ]
    for part, reason, which in reasons:
        if which.any():
            yield LeftOut(part, reason, int(which.sum()))
    for level in ("sample", "donor"):
        n = sum(group.level == level and not one.depth for group, one in summary.diversity)
        if n:
            yield LeftOut("equal depth", f"fewer than {summary.options.min_depth} units", n, f"{level}s")
    if summary.not_shared:
        yield LeftOut(
            "sharing", "clones numbered in different tables", summary.not_shared, "pairs of samples"
        )
