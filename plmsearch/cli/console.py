"""What the user sees besides data: errors, notes, progress, and the exit code."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, ParamSpec

import typer

from plmsearch.errors import PlmsearchError
from plmsearch.ingest.report import Progress
from plmsearch.wording import counted

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

    from plmsearch.ingest.report import AddReport, SkippedRow

__all__ = [
    "EXIT_ERROR",
    "EXIT_INTERRUPTED",
    "EXIT_LEFT_OUT",
    "Shown",
    "be_verbose",
    "handles_errors",
    "note",
    "print_left_out",
    "remarks",
    "shown",
    "shown_bytes",
]

EXIT_ERROR = 1
EXIT_LEFT_OUT = 3
EXIT_INTERRUPTED = 130

P = ParamSpec("P")


def note(text: str) -> None:
    """Print one line to standard error."""
    typer.echo(f"plmsearch: {text}", err=True)


def print_left_out(rows: Sequence[SkippedRow]) -> None:
    """Name every row that was left out, and why."""
    for row in rows:
        place = row.source if row.row is None else f"{row.source}, record {row.row}"
        note(f"left out: record {row.record_id!r} ({place}): {row.reason}")


#: Records that a remark names.
_NAMED = 5


def remarks(report: AddReport) -> list[str]:
    """What happened to sequences and columns on the way, in words."""
    texts = {
        "lowercase": "lower-case letters raised",
        "gaps": "alignment gaps removed",
        "stop": "the final * dropped",
        "whitespace": "white space removed",
        "masked": "invalid letters read as X",
        "without_heavy": "no heavy chain; the light chain is alone",
        "without_light": "no light chain; the heavy chain is alone",
        "not_filtered": "no cell's or of low confidence by 10x (is_cell, high_confidence)",
    }
    remarks = [f"{counted(n, 'row')}: {_source(name)}" for name, n in report.sources.items()]
    remarks += [f"{counted(n, 'row')}: {texts[kind]}" for kind, n in sorted(report.changes.items())]
    if report.n_windowed:
        windowed = counted(report.n_windowed, "sequence")
        remarks.append(f"{windowed} longer than the model reads: overlapping windows")
    if report.n_truncated:
        remarks.append(f"{counted(report.n_truncated, 'sequence')} truncated to what the model reads")
    if report.n_with_unknown:
        remarks.append(
            f"{counted(report.n_unknown_residues, 'residue')} unknown to the model in "
            f"{counted(report.n_with_unknown, 'sequence')}"
        )
    if report.n_incomplete:
        incomplete = counted(report.n_incomplete, "variable domain is", "variable domains are")
        remarks.append(f"{incomplete} not complete from FWR1 to FWR4")
    if report.without_domain:
        stored = counted(len(report.without_domain), "record is", "records are")
        what = f"{stored} stored but cannot be found among variable domains"
        remarks.append(_with_reasons(what, report.without_domain, is_ledgered=True))
    if report.chains_without_domain:
        hold = counted(len(report.chains_without_domain), "record holds", "records hold")
        what = f"{hold} a chain without a variable domain beside one with it"
        remarks.append(_with_reasons(what, report.chains_without_domain, is_ledgered=bool(report.spaces)))
    if report.misplaced:
        listed = ", ".join(report.misplaced[:_NAMED]) + (", ..." if len(report.misplaced) > _NAMED else "")
        all_of_them = (
            "; that is all of them: are the columns exchanged?" if _are_all_misplaced(report) else ""
        )
        records = counted(len(report.misplaced), "record has", "records have")
        what = "a light chain in --heavy-col or a heavy one in --light-col, and count as what it is"
        remarks.append(f"{records} {what}: {listed}{all_of_them}")
    for space, names in report.without_region.items():
        listed = ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
        lacking = counted(len(names), "variable domain has", "variable domains have")
        remarks.append(f"{lacking} no residue in the region of {space}: {listed}")
    remarks.extend(
        f"{counted(n, 'row')}: junction_aa is not the translation of junction; the input's values are kept"
        if column == "junction"
        else f"{counted(n, 'row')}: {column} is not what numbering gives; the input's value is kept"
        for column, n in sorted(report.disagreements.items())
    )
    remarks.extend(
        f"column {name!r} widened from {before} to {after}"
        for name, (before, after) in report.widened.items()
    )
    return remarks


def _with_reasons(what: str, reasons: Mapping[str, str], *, is_ledgered: bool) -> str:
    """Say of how many records, and name the first of them with its reason."""
    named = "; ".join(f"{name}: {why}" for name, why in islice(reasons.items(), _NAMED))
    more = len(reasons) - _NAMED
    where = " (plmsearch info DB --ledger RUN names all)" if is_ledgered else ""
    n_more = f"; and {more} more{where}" if more > 0 else ""
    return f"{what}: {named}{n_more}"


def _are_all_misplaced(report: AddReport) -> bool:
    return len(report.misplaced) == report.n_rows - report.n_skipped - report.n_present > 1


def _source(name: str) -> str:
    from plmsearch.formats.residues import NUCLEOTIDE_COLUMNS, TRANSLATED

    if name == TRANSLATED:
        return "residues by translation"
    return f"residues {'by translation of' if name in NUCLEOTIDE_COLUMNS else 'from'} {name}"


def be_verbose(wanted: bool) -> None:
    """Show the library's log on standard error."""
    if wanted:
        logging.basicConfig(format="plmsearch: %(message)s", stream=sys.stderr)
        logging.getLogger("plmsearch").setLevel(logging.INFO)


def handles_errors(command: Callable[P, None]) -> Callable[P, None]:
    """Turn every way a command can fail into a line and an exit code.

    The command's ``debug`` argument decides whether a traceback is printed.
    """

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except PlmsearchError as error:
            _fail(f"error: {error}", debug=bool(kwargs.get("debug")))
        except KeyboardInterrupt:
            note("interrupted; everything committed so far is kept, the same command continues")
            raise typer.Exit(EXIT_INTERRUPTED) from None
        except BrokenPipeError:
            _stop_writing()
            raise typer.Exit from None
        except (typer.Exit, typer.Abort, typer.BadParameter):
            raise
        except MemoryError:
            _fail("error: out of memory; lower --batch-tokens", debug=bool(kwargs.get("debug")))
        except OSError as error:
            place = error.filename or "standard output"
            _fail(
                f"error: {place}: {(error.strerror or str(error)).lower()}", debug=bool(kwargs.get("debug"))
            )
        except Exception as error:
            text = f"internal error: {type(error).__name__}: {error}; run again with --debug and report it"
            _fail(text, debug=bool(kwargs.get("debug")))

    return run


def _stop_writing() -> None:
    """End quietly when the reader of a pipe has enough (``| head``), as other tools do."""
    # What is still in the buffer would be written, and refused again, when the interpreter ends.
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(text: str, *, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    note(text)
    raise typer.Exit(EXIT_ERROR)


class Shown(Progress):
    """Progress on standard error: a bar on a terminal, plain lines otherwise.

    Parameters
    ----------
    bar : Bar or None
        None: no bar.
    quiet : bool
        Print nothing but errors.
    doing : str
        What the bar shows.
    """

    def __init__(self, bar: Bar | None, *, quiet: bool, doing: str = "embedding") -> None:
        self._bar, self._quiet, self._doing = bar, quiet, doing
        self._task: TaskID | None = None

    def start(self, n_rows: int | None) -> None:
        """Show a bar that ends at `n_rows`."""
        if self._bar is not None:
            self._task = self._bar.add_task(self._doing, total=n_rows)

    def advance(self, n_rows: int) -> None:
        """Move the bar."""
        if self._bar is not None and self._task is not None:
            self._bar.advance(self._task, n_rows)

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        if self._quiet:
            return
        if self._bar is not None:
            self._bar.console.print(f"plmsearch: {text}", markup=False, highlight=False, soft_wrap=True)
        else:
            note(text)


@contextmanager
def shown(*, quiet: bool, doing: str = "embedding") -> Iterator[Shown]:
    """Show progress while the block runs."""
    if quiet or not sys.stderr.isatty():
        yield Shown(None, quiet=quiet)
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Bar
    from rich.text import Text

    class Rate(ProgressColumn):
        """Rows a second."""

        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text("" if speed is None else f"{speed:.1f}/s")

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn()
    )  # fmt: skip
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        yield Shown(bar, quiet=quiet, doing=doing)


@contextmanager
def shown_bytes(name: str) -> Iterator[Callable[[int, int | None], None] | None]:
    """Show a download's progress on a terminal while the block runs.

    Yields
    ------
    callable or None
        Takes the bytes done and the bytes in all; None where there is no terminal.
    """
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Bar(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(name, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
