"""The parts of a repertoire report: what each figure and table shows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from plmsearch.repertoire.axes import as_percent, thousands
from plmsearch.repertoire.charts import (
    COLOURS,
    STACK_COLOURS,
    Axis,
    Bars,
    Series,
    bars,
    heatmap,
    intervals,
    lines,
    marker,
    panels,
    stacks,
)
from plmsearch.repertoire.diversity import Curve, Diversity
from plmsearch.repertoire.markup import Markup, join, tag
from plmsearch.repertoire.row_reader import ALL
from plmsearch.repertoire.sharing import Shared
from plmsearch.repertoire.summary import CloneSizes, Group, RepertoireSummary

__all__ = [
    "MAX_DRAWN",
    "View",
    "cdr3_figures",
    "clone_figures",
    "diversity_figures",
    "listed",
    "mutation_figures",
    "paragraph",
    "sharing_figures",
    "table",
    "usage_figures",
]

#: Samples that are drawn; the tables have all. Keeps a report of hundreds of samples below 3 MB.
MAX_DRAWN = 48
_MAX_BARS, _MAX_STACKS, _MAX_NAMES, _LONG_NAME = 4, 10, 25, 24
#: Ranks up to which clones are one class.
_CLASSES = ((0, 1, "largest clone"), (1, 10, "2nd to 10th"), (10, 100, "11th to 100th"),
            (100, 1000, "101st to 1,000th"), (1000, None, "smaller"))  # fmt: skip
_ISOTYPES = ("IgM", "IgD", "IgG", "IgA", "IgE")


class View:
    """What is drawn of a summary: its largest samples, and how they are called.

    Parameters
    ----------
    summary : RepertoireSummary
    """

    def __init__(self, summary: RepertoireSummary) -> None:
        self.summary = summary
        order = sorted(range(len(summary.samples)), key=lambda i: -summary.samples[i].total)
        self.drawn = sorted(i for i in order[:MAX_DRAWN] if summary.samples[i].total)
        names = [self._name(sample.group) for sample in summary.samples]
        if len(names) > _MAX_BARS or max(map(len, names)) > _LONG_NAME:
            names = [f"{number} · {name}" for number, name in enumerate(names, 1)]
        self.labels = names
        self._label_of = dict(zip((sample.group for sample in summary.samples), names, strict=True))

    def label(self, group: Group) -> str:
        """Name a sample; with its number where there are many, or a figure may have to cut names."""
        return self._label_of[group]

    def _name(self, group: Group) -> str:
        """Name a sample, no longer than needed to tell it from others."""
        donors, sample = self.summary.donors, "" if group.sample in (None, ALL) else str(group.sample)
        of_donor = sum(one.group.donor == group.donor for one in self.summary.samples)
        if len(donors) == 1:
            return sample or group.donor
        return f"{group.donor}, {sample or ALL}" if of_donor > 1 else group.donor

    @property
    def unit(self) -> str:
        """What is counted, in words."""
        count = self.summary.options.count
        return {"duplicate_count": "reads (duplicate_count)", "umi_count": "molecules (umi_count)"}.get(
            count, count
        )

    def number(self, sample: int) -> str:
        """Return the number by which figures name a sample."""
        return str(sample + 1)


# --- Figures and tables ----------------------------------------------------------------------------


def figure(chart: Markup, heading: str, note: str, key: Markup | None = None) -> Markup:
    """Put a chart, its heading, its key and a note together."""
    return tag(
        "figure", tag("h4", heading), chart, key or Markup(""), tag("figcaption", note), class_="chart"
    )


def panel_figure(charts: Sequence[Markup], heading: str, note: str) -> Markup:
    """Put small panels together."""
    return tag(
        "figure", tag("h4", heading), tag("div", *charts, class_="panels"), tag("figcaption", note),
        class_="wide",
    )  # fmt: skip


def key_of(names: Sequence[str], colours: Sequence[str], *, marks: bool = True) -> Markup:
    """Explain colours and marks; long names wrap."""
    items = []
    for i, (name, colour) in enumerate(zip(names, colours, strict=False)):
        mark = marker(6, 6, i, colour) if marks else tag("rect", x=1, y=1, width=10, height=10, fill=colour)
        icon = tag("svg", mark, viewBox="0 0 12 12", aria_hidden="true", class_="icon")
        items.append(tag("li", icon, tag("span", name)))
    return tag("ul", *items, class_="key")


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], caption: str, n_text: int = 1) -> Markup:
    """Write a table that scrolls sideways where it does not fit; the first columns are text."""
    head = tag(
        "tr",
        *(tag("th", c, scope="col", class_=None if i < n_text else "num") for i, c in enumerate(columns)),
    )
    body = [
        tag("tr", *(tag("td", c, class_=_cell_class(c, i < n_text)) for i, c in enumerate(row)))
        for row in rows
    ]
    inner = tag("table", tag("caption", caption), tag("thead", head), tag("tbody", *body))
    return tag("div", inner, class_="scroll", tabindex="0", role="region", aria_label=caption)


def _cell_class(text: str, is_text: bool) -> str:
    """Keep a long name from being broken into a column of letters."""
    return "num" if not is_text else "text long" if len(text) > _LONG_NAME else "text"


def _curves(heading: str, note: str, series: Sequence[Series], x: Axis, y: Axis) -> Markup:
    """Draw series together if there are colours enough, else in panels."""
    if not series:
        return Markup("")
    if len(series) <= len(COLOURS):
        chart = lines(heading, note, series, x, y)
        key = key_of([one.name for one in series], COLOURS) if len(series) > 1 else None
        return figure(chart, heading, note, key)
    drawn = panels(heading, note, series, x, y)
    return panel_figure(
        drawn, heading, f"{note} Blue: the sample; grey: from the lowest to the highest of all."
    )


# --- Clones ----------------------------------------------------------------------------------------


def clone_figures(view: View) -> Iterator[Markup]:
    """Show how large clones are."""
    drawn = {view.summary.samples[i].group for i in view.drawn}
    clones = [one for one in view.summary.clones if one.group in drawn]
    names = [view.label(one.group) for one in clones]
    parts = np.array([[_class_share(one, a, b) for a, b, _ in _CLASSES] for one in clones])
    classes = [name for _, _, name in _CLASSES]
    used = classes[: int(np.flatnonzero(parts.any(axis=0)).max(initial=0)) + 1]
    note = f"Share of {view.unit} in clones by their rank within the sample."
    heading = "Share held by the largest clones"
    for start in range(0, len(names), _MAX_STACKS):
        some = slice(start, start + _MAX_STACKS)
        chart = stacks(heading, note, Bars(names[some], classes, parts[some]))
        yield figure(chart, heading, note, key_of(used, STACK_COLOURS, marks=False))
    series = [_rank_series(name, one) for name, one in zip(names, clones, strict=True)]
    yield _curves(
        "Rank and abundance",
        f"Share of {view.unit} of each clone, by rank; both axes are logarithmic.",
        series, Axis("rank of the clone", log=True), Axis("share of the sample", log=True, text=as_percent),
    )  # fmt: skip


def _class_share(clones: CloneSizes, first: int, last: int | None) -> float:
    return float(clones.sizes[first:last].sum() / clones.total)


def _rank_series(name: str, clones: CloneSizes) -> Series:
    """Thin ranks out: a line of a thousand points looks like one of a hundred."""
    n = len(clones.sizes)
    ranks = np.unique(np.rint(np.geomspace(1, n, 80)).astype(np.int64))
    return Series(name, ranks.astype(np.float64), clones.sizes[ranks - 1] / clones.total)


# --- Diversity -------------------------------------------------------------------------------------

_ORDER_NAMES = ("clones (q = 0)", "exp. Shannon (q = 1)", "inverse Simpson (q = 2)")


def diversity_figures(view: View) -> Iterator[Markup]:
    """Show diversity at equal depth, and how it grows with depth."""
    drawn = {view.summary.samples[i].group for i in view.drawn}
    found = [(view.label(group), one) for group, one in view.summary.diversity if group in drawn]
    depth = view.summary.depths["sample"]
    compared = [(name, one) for name, one in found if one.profile is not None]
    series = [_profile_series(name, one.profile) for name, one in compared if one.profile is not None]
    yield _curves(
        "Hill profile at equal depth",
        f"Effective number of clones among {depth:,} {view.unit} of each sample, with 95% bands. Small q "
        "counts rare clones, large q the dominant ones.",
        series, Axis("order q"), Axis("effective number of clones", log=True),
    )  # fmt: skip
    for order, text in enumerate(_ORDER_NAMES):
        curves = [_rarefaction_series(name, one, order) for name, one in found]
        yield _curves(
            f"Rarefaction: {text}",
            f"Expected at fewer {view.unit}, and predicted (dashed) to twice the sample, with 95% bands; the "
            "mark is the sample.",
            curves, Axis(view.unit, low=0.0), Axis("effective number of clones", low=0.0),
        )  # fmt: skip


def _profile_series(name: str, profile: Curve) -> Series:
    return Series(name, profile.at, profile.estimate, profile.low, profile.high)


def _rarefaction_series(name: str, one: Diversity, order: int) -> Series:
    curve = one.rarefaction
    solid = int(np.searchsorted(curve.at, one.n, side="right"))
    return Series(
        name, curve.at, curve.estimate[:, order], curve.low[:, order], curve.high[:, order], solid=solid
    )


# --- Genes -----------------------------------------------------------------------------------------

_KIND_NAMES = {
    "v_family": "V families", "v_gene": "V genes", "j_gene": "J genes", "isotype": "Isotypes",
    "c_gene": "Constant genes",
}  # fmt: skip


def usage_figures(view: View, kinds: Sequence[str]) -> Iterator[Markup]:
    """Show the use of genes, by locus."""
    for locus in sorted({one.locus for one in view.summary.usage}):
        for kind in kinds:
            data, n_names = _usage_of(view, locus, kind)
            if not n_names or (kind == "c_gene" and set(map(len, data.names)) == {len("IGHM")}):
                continue  # no subclass is told: the same as the isotypes
            heading = f"{_KIND_NAMES[kind]}, {locus or 'unknown locus'}"
            more = f" The {len(data.names)} most used of {n_names}." if n_names > len(data.names) else ""
            yield _shares(view, data, heading, f"Share of {view.unit} with a call.{more}")


def _shares(view: View, data: Bars, heading: str, note: str) -> Markup:
    if len(data.series) <= _MAX_BARS:
        key = key_of(data.series, COLOURS, marks=False) if len(data.series) > 1 else None
        return figure(bars(heading, note, data), heading, note, key)
    numbered = Bars(data.names, [view.number(i) for i in view.drawn], data.values)
    note = f"{note} Columns are samples by number; the darkest is {as_percent(float(data.values.max()))}."
    return figure(heatmap(heading, note, numbered), heading, note)


def _usage_of(view: View, locus: str, kind: str) -> tuple[Bars, int]:
    """Return shares of the most used names, and how many names there are."""
    place = {sample: k for k, sample in enumerate(view.drawn)}
    found = [u for u in view.summary.usage if u.locus == locus and u.kind == kind and u.sample in place]
    names = list(dict.fromkeys(u.name for u in found))
    values = np.zeros((len(names), len(place)))
    row = {name: i for i, name in enumerate(names)}
    for one in found:
        values[row[one.name], place[one.sample]] = one.share
    chosen: list[int] = np.argsort(-values.sum(axis=1), kind="stable")[:_MAX_NAMES].tolist()
    if kind == "isotype":
        chosen.sort(key=lambda i: _ISOTYPES.index(names[i]))
    series = [view.labels[sample] for sample in view.drawn]
    return Bars([names[i] for i in chosen], series, values[chosen]), len(names)


# --- Mutation and CDR3 -----------------------------------------------------------------------------


def mutation_figures(view: View) -> Iterator[Markup]:
    """Show how mutated V genes are, by locus and isotype."""
    drawn = set(view.drawn)
    found = [one for one in view.summary.mutation if one.sample in drawn]
    groups = list(dict.fromkeys((one.locus, one.isotype) for one in found))
    for locus, isotype in sorted(groups, key=_mutation_place):
        if isotype == "not called" and all(i in ("all", "not called") for x, i in groups if x == locus):
            continue  # nothing is called: the same as all
        rows = [one for one in found if (one.locus, one.isotype) == (locus, isotype)]
        heading = f"{locus}, {'all' if isotype == 'all' else isotype}"
        total = sum(one.total for one in rows)
        note = f"{total:,} {view.unit}. Dot: median; thick: middle half; thin: 5 to 95%."
        chart = intervals(
            f"Mutated share of V nucleotides: {heading}", note,
            [view.labels[one.sample] for one in rows], np.array([one.quantiles for one in rows]),
            Axis("mutated V nucleotides", text=as_percent, low=0.0),
        )  # fmt: skip
        yield figure(chart, f"Mutation: {heading}", note)


def _mutation_place(group: tuple[str, str]) -> tuple[str, int]:
    order = ("all", *_ISOTYPES, "ambiguous", "not called")
    return group[0], order.index(group[1])


def cdr3_figures(view: View) -> Iterator[Markup]:
    """Show the lengths of CDR3, by locus."""
    drawn = set(view.drawn)
    for locus in sorted({one.locus for one in view.summary.cdr3}):
        found = [one for one in view.summary.cdr3 if one.locus == locus and one.sample in drawn]
        longest = max(len(one.counts) for one in found)
        first = min(int(np.flatnonzero(one.counts)[0]) for one in found)
        x = np.arange(max(first - 1, 0), longest + 1, dtype=np.float64)
        series = []
        for one in found:
            shares = np.zeros(longest + 1)
            shares[: len(one.counts)] = one.counts / one.total
            series.append(Series(view.labels[one.sample], x, shares[int(x[0]) :]))
        note = f"Share of {view.unit} by length; the conserved C and W or F are not counted."
        yield _curves(
            f"CDR3 length, {locus or 'unknown locus'}", note, series, Axis("residues of CDR3"),
            Axis("share", text=as_percent, low=0.0),
        )  # fmt: skip


# --- Sharing ---------------------------------------------------------------------------------------


def sharing_figures(
    pairs: Sequence[Shared], numbers: Sequence[int], names: Sequence[str], what: str, depth: int
) -> Iterator[Markup]:
    """Show two measures of what groups have in common, as matrices.

    Parameters
    ----------
    pairs : sequence of Shared
    numbers : sequence of int
        Groups that are drawn.
    names : sequence of str
        Of all groups.
    what : str
        ``clones`` or ``clonotypes``.
    depth : int
        Of the Jaccard index; 0: observed.
    """
    of_all = f"{what.capitalize()} of both over those of either, at unequal depth."
    expected = (
        f"{what.capitalize()} expected in both of two samples of {depth:,} units, over those in either."
    )
    by_size = f"Overlap of {what} weighed by their size: 1 is the same composition."
    measures: list[tuple[str, str, Callable[[Shared], float]]] = [
        (f"Jaccard at {thousands(depth)} units", expected, lambda pair: pair.jaccard_at_depth)
        if depth
        else ("Jaccard", of_all, lambda pair: pair.jaccard),
        ("Morisita-Horn", by_size, lambda pair: pair.morisita_horn),
    ]
    labels = [str(number + 1) for number in numbers]
    for heading, note, measure in measures:
        values = _matrix(pairs, numbers, measure)
        rows = [f"{label} · {names[number]}" for label, number in zip(labels, numbers, strict=True)]
        text = f"{note} 1 would be darkest; empty: one with itself, or too few units."
        yield figure(heatmap(heading, text, Bars(rows, labels, values), top=1.0), heading, text)


def _matrix(
    pairs: Sequence[Shared], numbers: Sequence[int], measure: Callable[[Shared], float]
) -> NDArray[np.float64]:
    place = {number: i for i, number in enumerate(numbers)}
    values = np.full((len(place), len(place)), np.nan)
    for pair in pairs:
        if pair.first in place and pair.second in place:
            i, k = place[pair.first], place[pair.second]
            values[i, k] = values[k, i] = measure(pair)
    return values


def listed(items: Sequence[str]) -> Markup:
    """Write a list."""
    return tag("ul", *(tag("li", item) for item in items))


def paragraph(*parts: str) -> Markup:
    """Write a paragraph."""
    return tag("p", join(*parts))
