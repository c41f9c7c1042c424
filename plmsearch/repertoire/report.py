"""One self-contained HTML page of repertoire statistics, and the folder it stands in with its tables.

The page has its style and its pictures in it and no script: it opens offline, on a phone, in print. A
policy in its head keeps a browser from loading anything.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path

from plmsearch._version import __version__
from plmsearch.errors import StorageError
from plmsearch.formats.output import STDOUT, open_output
from plmsearch.repertoire import report_parts as parts
from plmsearch.repertoire.axes import as_percent
from plmsearch.repertoire.markup import Markup, join, tag
from plmsearch.repertoire.report_notes import METHODS, REFERENCES, notes, unit_note
from plmsearch.repertoire.report_parts import View, paragraph, table
from plmsearch.repertoire.sharing import Shared
from plmsearch.repertoire.summary import Convergence, RepertoireSummary
from plmsearch.repertoire.summary_tables import TABLES, write_table

__all__ = ["PAGE", "check_folder", "report_page", "write_report"]

#: File name of the page.
PAGE = "report.html"
#: Nothing is loaded: no script, no picture, no font, from nowhere.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_MAX_ROWS = 60
#: A matrix says little that a table of so many pairs does not.
_MAX_PAIRS_AS_TABLE = 3


def write_report(summary: RepertoireSummary, folder: str | Path, *, overwrite: bool = False) -> list[Path]:
    """Write the page and every table into a folder.

    Parameters
    ----------
    summary : RepertoireSummary
    folder : str or Path
        Made if it is not there. All files are made beside it first: it has all of them or none.
    overwrite : bool
        Write into a folder that is not empty; files of the same names are replaced.

    Returns
    -------
    list of Path
        What was written, the page first.

    Raises
    ------
    StorageError
        If the folder is not empty, is a file, or cannot be written.
    """
    target = Path(folder)
    check_folder(target, overwrite=overwrite)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".plmsearch-") as made:
            names = _write_files(summary, Path(made))
            target.mkdir(exist_ok=True)
            for name in names:
                os.replace(Path(made) / name, target / name)  # noqa: PTH105
    except OSError as exc:
        raise StorageError(folder, f"cannot be written: {(exc.strerror or str(exc)).lower()}") from exc
    return [target / name for name in names]


def check_folder(folder: Path, *, overwrite: bool) -> None:
    """Refuse a folder that is not free.

    Raises
    ------
    StorageError
        If it is a file, standard output, or not empty and not to be overwritten.
    """
    if str(folder) == STDOUT:
        raise StorageError("standard output", "is no folder", hint="name one: several files are written")
    try:
        if folder.exists() and not folder.is_dir():
            raise StorageError(folder, "is a file", hint="name a folder")
        if folder.is_dir() and any(folder.iterdir()) and not overwrite:
            raise StorageError(
                folder, "is there already and not empty", hint="name another folder, or pass --overwrite"
            )
    except OSError as exc:
        raise StorageError(folder, f"cannot be read: {(exc.strerror or str(exc)).lower()}") from exc


def _write_files(summary: RepertoireSummary, folder: Path) -> list[str]:
    names = [PAGE]
    with open_output(folder / PAGE) as out:
        out.write(report_page(summary))
    for name in TABLES:
        names.append(f"{name}.tsv")
        with open_output(folder / names[-1]) as out:
            write_table(summary, name, out)
    return names


# --- The page --------------------------------------------------------------------------------------


def report_page(summary: RepertoireSummary) -> str:
    """Return the page.

    Parameters
    ----------
    summary : RepertoireSummary

    Returns
    -------
    str
        HTML, complete; every text of a table escaped.
    """
    view = View(summary)
    title = f"Repertoire report: {', '.join(_file_names(summary))}"
    sections = [(name, heading, join(*body(view))) for name, heading, body in _SECTIONS]
    style = files("plmsearch.repertoire").joinpath("report.css").read_text("utf-8")
    head = tag(
        "head", tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("meta", name="color-scheme", content="light"),
        tag("title", title), tag("style", Markup(style)),
    )  # fmt: skip
    links = tag("ul", *(tag("li", tag("a", heading, href=f"#{name}")) for name, heading, _ in sections))
    body = tag(
        "body", _header(view), tag("nav", links, aria_label="Parts of the report"),
        tag("main", *(
            tag("section", tag("h2", heading, id=name), content, aria_labelledby=name)
            for name, heading, content in sections
        )),
        tag("footer", f"plmsearch {__version__}. Tables with every figure stand beside this page as TSV."),
    )  # fmt: skip
    return "<!DOCTYPE html>\n" + tag("html", head, body, lang="en") + "\n"


def _file_names(summary: RepertoireSummary) -> list[str]:
    names = [Path(source).name for source in summary.read.sources]
    return names if len(names) <= 3 else [*names[:3], f"{len(names) - 3} more"]


def _header(view: View) -> Markup:
    summary = view.summary
    total = sum(one.total for one in summary.samples)
    counted = "chains counted" if summary.options.count == "cells" else f"{view.unit} counted"
    tiles = [("rows read", f"{summary.read.n_rows:,}"), (counted, f"{total:,}"),
             ("donors", f"{len(summary.donors):,}"), ("samples", f"{len(summary.samples):,}")]  # fmt: skip
    donors = [one for one in summary.clones if one.group.level == "donor"]
    if donors:
        tiles.append(
            (f"clones ({summary.locus or 'unknown locus'})", f"{sum(len(c.sizes) for c in donors):,}")
        )
        tiles.append(("largest clone", as_percent(max(c.top_share(1) for c in donors))))
    cells = (tag("div", tag("dt", name), tag("dd", value)) for name, value in tiles)
    return tag(
        "header", tag("h1", "Antibody repertoire report"),
        tag("p", ", ".join(_file_names(summary)), class_="sub"),
        tag("p", unit_note(summary), class_="unit"), tag("dl", *cells, class_="tiles"),
    )  # fmt: skip


def _grid(figures: Iterator[Markup]) -> Markup:
    return tag("div", *figures, class_="figures")


# --- Sections --------------------------------------------------------------------------------------


def _counted(view: View) -> Iterator[Markup]:
    summary = view.summary
    yield parts.listed(notes(summary))
    if summary.left_out:
        rows = [(one.part, one.reason, f"{one.n:,} {one.unit}") for one in summary.left_out]
        yield table(("part", "left out because", "how many"), rows, "What is left out, and why", n_text=2)
    else:
        yield paragraph("No row is left out of any part.")
    yield _samples(view)


def _samples(view: View) -> Markup:
    known = dict(view.summary.diversity)
    sizes = {one.group: one for one in view.summary.clones}
    rows = []
    for i, sample in enumerate(view.summary.samples[:_MAX_ROWS]):
        diversity, clones = known.get(sample.group), sizes.get(sample.group)
        told = (f"{n:,}" if n >= 0 else "–" for n in (sample.duplicates, sample.umis))
        rows.append((
            view.number(i), sample.group.donor, sample.group.sample or "", f"{sample.n_records:,}", *told,
            f"{sample.n_cells:,}" if sample.n_cells else "–", f"{sample.total:,}",
            f"{len(clones.sizes):,}" if clones else "–",
            as_percent(clones.top_share(1)) if clones else "–",
            f"{diversity.coverage:.2f}" if diversity else "–",
        ))  # fmt: skip
    more = len(view.summary.samples) - len(rows)
    caption = "Samples, in every unit" + (f"; {more} more are in samples.tsv" if more else "")
    columns = ("no.", "donor", "sample", "n_records", "duplicate_count", "umi_count", "cells", "counted",
               "clones", "largest", "coverage")  # fmt: skip
    return table(columns, rows, caption, n_text=3)


def _no_clones(view: View) -> Markup | None:
    if view.summary.clones:
        return None
    text = (
        "No row has a clone_id. " if view.summary.has_clones else "The input has no column clone_id. "
    ) + "Find the clones first: plmsearch clones IN.tsv -o OUT.tsv"
    return tag("p", text, class_="none")


def _clones(view: View) -> Iterator[Markup]:
    missing = _no_clones(view)
    yield missing or _grid(parts.clone_figures(view))


def _diversity(view: View) -> Iterator[Markup]:
    if missing := _no_clones(view):
        yield missing
        return
    depth, least = view.summary.depths["sample"], view.summary.options.min_depth
    if sum(group.level == "sample" for group, _ in view.summary.diversity) == 1:
        yield paragraph(f"One sample: its profile is that of all its {view.unit}. Bands are 95% intervals.")
        yield _at_depth(view) if depth else Markup("")
    elif depth:
        yield paragraph(
            f"Samples are compared at {depth:,} {view.unit} each, the size of the smallest one of at least "
            f"{least}. Bands are 95% intervals."
        )
        yield _at_depth(view)
    else:
        yield tag("p", f"No sample has {least} {view.unit}: none is compared.", class_="none")
    yield _grid(parts.diversity_figures(view))


def _at_depth(view: View) -> Markup:
    rows: list[tuple[str, ...]] = []
    for group, one in view.summary.diversity:
        if group.level == "sample" and one.profile is not None and len(rows) < _MAX_ROWS:
            cells = []
            for q in (0, 1, 2):
                i = round(q * 10)
                cells.append(
                    f"{one.profile.estimate[i]:.4g} ({one.profile.low[i]:.4g}–{one.profile.high[i]:.4g})"
                )
            rows.append((view.label(group), *cells, f"{one.estimated[0]:,.0f}"))
    columns = (
        "sample",
        "clones (q = 0)",
        "exp. Shannon (q = 1)",
        "inv. Simpson (q = 2)",
        "Chao1 of the whole",
    )
    return table(columns, rows, f"Hill numbers at {view.summary.depths['sample']:,} units, with intervals")


def _genes(view: View) -> Iterator[Markup]:
    yield paragraph("A call that lists several genes is divided equally among them.")
    yield _grid(parts.usage_figures(view, ("v_family", "v_gene", "j_gene")))


def _mutation(view: View) -> Iterator[Markup]:
    isotypes = list(parts.usage_figures(view, ("isotype", "c_gene")))
    mutations = list(parts.mutation_figures(view))
    if not isotypes:
        yield tag("p", "No isotype: c_call is missing or empty.", class_="none")
    if not mutations:
        yield tag("p", "No mutation: neither v_identity nor alignments with a known V part.", class_="none")
    yield _grid(iter([*isotypes, *mutations]))


def _cdr3(view: View) -> Iterator[Markup]:
    if view.summary.cdr3:
        yield _grid(parts.cdr3_figures(view))
    else:
        yield tag("p", "No row has a junction.", class_="none")


def _sharing(view: View) -> Iterator[Markup]:
    summary = view.summary
    if not summary.clone_sharing:
        text = "No donor has two samples whose clones were found together: there is nothing to compare."
        yield _no_clones(view) or tag("p", text, class_="none")
        return
    yield paragraph(
        "Clones of one donor that are in two of its samples. Nothing is compared across donors here."
    )
    labels = [sample.group.sample or "" for sample in summary.samples]
    for donor in summary.donors:
        numbers = [i for i in view.drawn if summary.samples[i].group.donor == donor]
        pairs = [pair for pair in summary.clone_sharing if pair.first in numbers and pair.second in numbers]
        if pairs:
            yield tag("h3", f"Donor {donor}")
            yield from _shared(view, pairs, numbers, labels, "clones", summary.depths["sample"])


def _shared(
    view: View,
    pairs: Sequence[Shared],
    numbers: Sequence[int],
    names: Sequence[str],
    what: str,
    depth: int,
) -> Iterator[Markup]:
    if len(numbers) > 2:
        yield _grid(parts.sharing_figures(pairs, numbers, names, what, depth))
    if len(pairs) > _MAX_PAIRS_AS_TABLE:
        return
    rows = [
        (f"{names[pair.first]} and {names[pair.second]}", f"{pair.n_first:,}", f"{pair.n_second:,}",
         f"{pair.n_shared:,}", f"{pair.jaccard:.4f}",
         f"{pair.jaccard_at_depth:.4f}" if pair.depth else "–", f"{pair.morisita_horn:.4f}")
        for pair in pairs
    ]  # fmt: skip
    columns = ("pair", f"{what} of the first", "of the second", "of both", "Jaccard",
               f"at {depth:,} {view.unit}" if depth else "at equal depth", "Morisita-Horn")  # fmt: skip
    yield table(columns, rows, f"Shared {what}")


def _convergence(view: View) -> Iterator[Markup]:
    if not view.summary.convergence:
        text = (
            "One donor: there is nothing to compare."
            if len(view.summary.donors) < 2
            else "No clonotypes: V gene, J gene or junction is missing everywhere."
        )
        yield tag("p", text, class_="none")
        return
    yield paragraph(
        "Clonotypes (V gene, J gene and junction_aa) that several donors have come to. They are no clones: "
        "nobody inherited them from another donor."
    )
    for part in view.summary.convergence:
        yield from _of_kind(view, part)


def _of_kind(view: View, part: Convergence) -> Iterator[Markup]:
    what = "clonotypes" if part.kind == "clonotype" else "convergent clusters"
    yield tag("h3", what.capitalize())
    numbers = sorted({i for pair in part.pairs for i in (pair.first, pair.second)})[: parts.MAX_DRAWN]
    yield from _shared(view, part.pairs, numbers, part.donors, what, part.depth)
    rows = [
        (part.names[one.code].replace("\t", " "), f"{len(one.groups)}", f"{one.total:,}")
        for one in part.tallies[:15]
    ]
    caption = f"In most donors: {len(rows)} of {len(part.tallies):,} that are in two or more"
    yield table(("name", "donors", view.unit), rows, caption)


def _methods(_view: View) -> Iterator[Markup]:
    yield tag(
        "div", parts.listed(METHODS), tag("h3", "References"), parts.listed(REFERENCES), class_="methods"
    )


_SECTIONS = (
    ("counted", "What was counted", _counted),
    ("clones", "Clone sizes", _clones),
    ("diversity", "Diversity at equal depth", _diversity),
    ("genes", "V and J genes", _genes),
    ("mutation", "Isotypes and somatic mutation", _mutation),
    ("cdr3", "CDR3 length", _cdr3),
    ("sharing", "Within a donor: clones shared by its samples", _sharing),
    ("convergence", "Across donors: convergence", _convergence),
    ("methods", "Methods", _methods),
)
