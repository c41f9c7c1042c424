"""The documentation is run: what it shows is what happens."""

from __future__ import annotations

import contextlib
import doctest
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from conftest import ENVIRONMENT
from support import cli

from plmsearch.embedding.spec import LONG_POLICIES
from plmsearch.formats.hits import HIT_FORMATS
from plmsearch.formats.residues import NUCLEOTIDE_COLUMNS, RESIDUE_COLUMNS, SOURCE_COLUMN, TRANSLATED
from plmsearch.formats.tables import ID_COLUMNS, SEQUENCE_COLUMNS
from plmsearch.ingest.report import ON_DUPLICATE, ON_INVALID
from plmsearch.overview import LEDGER_COLUMNS
from plmsearch.search.columns import HIT_COLUMNS
from plmsearch.store import tables

REPO = Path(__file__).resolve().parents[1]
README = REPO / "README.md"
#: In the order in which they are run, all in one directory: the README makes the database others use.
RUN = (README, *sorted((REPO / "docs").glob("*.md")))
#: Everything a reader may follow; what is run is among it.
WRITTEN = (*RUN, REPO / "CONTRIBUTING.md", REPO / "CHANGELOG.md", REPO / "examples" / "README.md",
           *sorted((REPO / "docs" / "decisions").glob("*.md")))  # fmt: skip
GENERATED = REPO / "docs" / "cli.md"

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
#: What differs from run to run: times, dates, and what depends on how many chunks the time allowed.
_VARIES = re.compile(r"in \d+\.\d s\b|\d{4}-\d\d-\d\dT\S+|generation \d+|^size +\S+ MB$")
#: What bash takes as it is, and outside of it, what it may read as more than words.
_QUOTED = re.compile("'[^']*'" + r'|"[^"$`\\!]*"')
_SHELL = re.compile(r"[|&;<>(){}\[\]$*?~`\\#!]")
_SCORE_TOLERANCE = 0.005
_RELATIVE_TOLERANCE = 0.1  # of what is no score, for it is larger than 1: an E-value follows from the scores


def load_generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_docs", REPO / "scripts" / "make_docs.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


make_docs = load_generator()
COMMANDS: dict[str, Any] = dict(make_docs.commands())


@dataclass(frozen=True)
class Block:
    language: str
    line: int
    text: str


@cache
def blocks(path: Path) -> tuple[Block, ...]:
    text = path.read_text("utf-8")
    return tuple(Block(m[1], text[: m.start()].count("\n") + 1, m[2]) for m in _FENCE.finditer(text))


def name_of(path: Path) -> str:
    return str(path.relative_to(REPO))


# --- Sessions ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shown:
    """A command line of a document and what the document says it prints."""

    line: str
    expected: str


def sessions(path: Path) -> list[Shown]:
    text = "\n" + "".join(block.text for block in blocks(path) if block.language == "console")
    parts = (part.partition("\n") for part in text.split("\n$ ")[1:])
    return [Shown(line, expected) for line, _, expected in parts]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("docs")
    shutil.copytree(REPO / "examples", path / "examples")
    return path


@pytest.fixture(scope="module")
def outputs(directory: Path) -> dict[Path, list[str]]:
    """Run every session, documents in order; return what each command printed."""
    with pytest.MonkeyPatch.context() as patch, contextlib.chdir(directory):
        for name in ENVIRONMENT:
            patch.delenv(name, raising=False)
        patch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
        return {path: [run(s.line) for s in sessions(path)] for path in RUN}


def run(line: str) -> str:
    """Run a line as bash does; a command by itself in this process, which has torch loaded."""
    if line.startswith("plmsearch ") and not _SHELL.search(_QUOTED.sub("", line)):
        return cli(*shlex.split(line)[1:]).output
    done = subprocess.run(
        ["bash", "-c", line],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.stdout


def agrees(expected: str, got: str) -> bool:
    """Compare word by word, so that a table equals its TSV; scores to two or three decimals."""
    words = [_VARIES.sub("<varies>", text.strip()).split() for text in (expected, got)]
    return len(words[0]) == len(words[1]) and all(map(same_word, *words))


def same_word(expected: str, got: str) -> bool:
    if expected == got:
        return True
    try:
        wanted = float(expected)
        tolerance = _SCORE_TOLERANCE if abs(wanted) <= 1 else _RELATIVE_TOLERANCE * abs(wanted)
        return "." in expected and abs(wanted - float(got)) <= tolerance
    except ValueError:
        return False


@pytest.mark.parametrize("path", [p for p in RUN if sessions(p)], ids=name_of)
def test_each_session_prints_what_it_shows(path, outputs):
    for shown, got in zip(sessions(path), outputs[path], strict=True):
        expected, printed = shown.expected.splitlines(), got.splitlines()
        assert len(printed) == len(expected), f"$ {shown.line}\n{got}"
        for want, line in zip(expected, printed, strict=True):
            assert agrees(want, line), f"$ {shown.line}\nshown:   {want}\nprinted: {line}"


def test_the_readme_session_finds_the_families_of_the_held_out_queries(outputs):
    (hits,) = (
        got for s, got in zip(sessions(README), outputs[README], strict=True) if "query.fasta -k 1" in s.line
    )
    family = dict(re.findall(r"^(sim_q\d).*family=(\d+)", hits, re.MULTILINE))
    queries = (REPO / "examples" / "query.fasta").read_text("utf-8")
    true = dict(re.findall(r"^>(sim_q\d) .*family=(\d+)", queries, re.MULTILINE))
    assert len(true) == 4
    assert {query: family[query] for query in true} == true


@pytest.mark.parametrize(
    "path", [p for p in RUN if any(b.language == "pycon" for b in blocks(p))], ids=name_of
)
def test_python_examples_print_what_they_show(path, outputs, directory):
    # One doctest a document, at the lines where its blocks stand.
    lines = [""] * path.read_text("utf-8").count("\n")
    for block in blocks(path):
        if block.language == "pycon":
            text = block.text.splitlines()
            lines[block.line : block.line + len(text)] = text
    test = doctest.DocTestParser().get_doctest("\n".join(lines), {}, name_of(path), str(path), 0)
    said: list[str] = []
    with contextlib.chdir(directory):
        failed = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=said.append).failed
    assert test.examples
    assert not failed, "".join(said)


def test_no_python_example_is_left_unrun():
    languages = {block.language for path in WRITTEN for block in blocks(path)}
    assert languages <= {"", "bash", "console", "pycon"}


# --- Commands ------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", make_docs.documents(), ids=name_of)
def test_generated_text_is_up_to_date(path):
    assert path.read_text("utf-8") == make_docs.documents()[path], "run: make docs"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example_that_names_it(name):
    command = COMMANDS[name]
    assert command.help and command.help.strip()
    assert make_docs.example(command).startswith(name)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_argument_and_option_has_help(name):
    assert [p.name for p in COMMANDS[name].params if not p.help] == []


@pytest.mark.parametrize("name", [name for name, c in COMMANDS.items() if not getattr(c, "commands", {})])
def test_every_command_is_told_of_by_hand_too(name):
    assert any(name in path.read_text("utf-8") for path in RUN if path != GENERATED)


def command_lines() -> Iterator[tuple[str, list[str]]]:
    """Yield the words of every ``plmsearch ...`` that a document, a help text or a script shows."""
    for path in WRITTEN:
        for block in blocks(path):
            if block.language in {"bash", "console"}:
                shown = (
                    (s.line for s in sessions(path))
                    if block.language == "console"
                    else block.text.splitlines()
                )
                for line in shown:
                    yield from ((name_of(path), words) for words in invocations(line))
    for name, command in COMMANDS.items():
        yield from ((name, words) for words in invocations(make_docs.example(command)))


def invocations(line: str) -> Iterator[list[str]]:
    """Cut a shell line into commands and yield those of plmsearch."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, ";"]:
        if set(word) <= set(";|&()<>"):
            if words[:1] == ["plmsearch"]:
                yield words
            words = []
        else:
            words.append(word)


def test_every_command_line_shown_uses_options_that_exist():
    lines = list(command_lines())
    assert len(lines) > 20
    for where, words in lines:
        name = "plmsearch"
        while len(words) > 1 and f"{name} {words[1]}" in COMMANDS:
            name, words = f"{name} {words[1]}", words[1:]
        known = {o for p in COMMANDS[name].params for o in (*p.opts, *p.secondary_opts)} | {"-h", "--help"}
        used = {w.partition("=")[0] for w in words if re.fullmatch(r"--?[a-z].*", w)}
        assert name != "plmsearch" or used, f"{where}: no such command: {' '.join(words)}"
        assert used <= known, f"{where}: {name} has no {used - known}"


def test_every_environment_variable_that_is_read_is_documented():
    source = "".join(path.read_text("utf-8") for path in (REPO / "plmsearch").rglob("*.py"))
    read = set(re.findall(r"\b(?:PLMSEARCH|ANTIBERTY|TORCH|XDG)_[A-Z_]*[A-Z]\b", source))
    assert "PLMSEARCH_WEIGHTS" in read
    documented = set(re.findall(r"^\| `([A-Z_]+)` \|", GENERATED.read_text("utf-8"), re.MULTILINE))
    assert read - documented == set()


# --- Other facts ---------------------------------------------------------------------------------


def test_every_table_of_the_catalog_is_described():
    text = (REPO / "docs" / "database.md").read_text("utf-8")
    assert [name for name in tables.metadata.tables if f"`{name}`" not in text] == []


@pytest.mark.parametrize(
    "names",
    [ID_COLUMNS, SEQUENCE_COLUMNS, RESIDUE_COLUMNS, NUCLEOTIDE_COLUMNS, (SOURCE_COLUMN, TRANSLATED),
     tuple(HIT_COLUMNS), tuple(HIT_FORMATS), ON_INVALID, ON_DUPLICATE, LONG_POLICIES, LEDGER_COLUMNS],
    ids=lambda names: names[0],
)  # fmt: skip
def test_every_name_that_the_formats_know_is_described(names):
    text = (REPO / "docs" / "formats.md").read_text("utf-8")
    text += (REPO / "docs" / "database.md").read_text("utf-8")
    assert [name for name in names if f"`{name}`" not in text] == []


def anchors(path: Path) -> set[str]:
    """Anchors of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", _FENCE.sub("", path.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


@pytest.mark.parametrize("path", WRITTEN, ids=name_of)
def test_links_lead_to_files_and_headings_that_exist(path):
    for target in re.findall(r"\]\(([^)\s]+)\)", _FENCE.sub("", path.read_text("utf-8"))):
        if re.match(r"https?://", target):
            continue
        file, _, anchor = target.partition("#")
        linked = (path.parent / file).resolve() if file else path
        assert linked.exists(), f"{target} leads nowhere"
        assert not anchor or anchor in anchors(linked), f"{target}: there is no such heading"
