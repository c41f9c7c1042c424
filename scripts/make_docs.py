"""Write the documentation that the code already knows: docs/cli.md and the model tables.

Run by ``make docs``; ``tests/test_docs.py`` fails where a file is not what this would write.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from typer.main import get_command

from plmsearch.cli.app import app
from plmsearch.cli.console import EXIT_ERROR, EXIT_INTERRUPTED, EXIT_LEFT_OUT
from plmsearch.embedding.base import ModelCard
from plmsearch.embedding.cards import CARDS, is_esm, is_generic

REPO = Path(__file__).resolve().parents[1]

_USAGE_ERROR = 2  # click's, and so typer's
#: Letters of a line of text.
_WIDTH = 106

_INTRODUCTION = """\
# Command line

<!-- Written by `make docs` from the commands themselves: edit their help texts, not this file. -->

Data go to standard output, everything else (progress, notes, errors) to standard error. `-` stands for
standard input or output. A terminal gets a table and a progress bar, a pipe gets TSV and no bar. What the
inputs, the policies and the columns of the output mean is told in [formats.md](formats.md), models and layers
in [models.md](models.md).
"""

_EXIT_CODES: Mapping[int, str] = {
    0: "done",
    EXIT_ERROR: "an error: one line on standard error says what, where, and what to do",
    _USAGE_ERROR: "the command line itself is wrong",
    EXIT_LEFT_OUT: "finished, but some input was left out; each row is named with its reason",
    EXIT_INTERRUPTED: "interrupted (Ctrl-C); what was committed is kept, the same command continues",
}

#: Those that stand for an option are added from the commands.
_ENVIRONMENT: Mapping[str, str] = {
    "PLMSEARCH_WEIGHTS": "file or directory of ESM weights; looked at before the cache of torch hub",
    "ANTIBERTY_WEIGHTS_DIR": "directory of AntiBERTy weights, instead of those of the installed package",
    "PLMSEARCH_MODELS_URL": "where `models fetch` gets files from, instead of the publisher's server",
    "PLMSEARCH_CACHE": "where digests of weights are remembered; `~/.cache/plmsearch` by default",
    "TORCH_HOME": "where torch hub keeps its cache; `~/.cache/torch` by default",
    "XDG_CACHE_HOME": "instead of `~/.cache` in the two lines above",
    "TMPDIR": "where standard input is kept while it is read",
}


# --- Commands ------------------------------------------------------------------------------------


def commands(command: Any = None, path: str = "plmsearch") -> Iterator[tuple[str, Any]]:
    """Yield the full name and the object of every command, groups included, in the order of the help."""
    command = command or get_command(app)
    yield path, command
    for name, child in getattr(command, "commands", {}).items():
        yield from commands(child, f"{path} {name}")


def is_option(parameter: Any) -> bool:
    """Tell options from arguments."""
    return str(parameter.param_type_name) == "option"


def parameters(command: Any) -> list[Any]:
    """Return what a command takes, without what its help does not show."""
    return [p for p in command.params if not getattr(p, "hidden", False)]


def example(command: Any) -> str:
    """Return the command line that ends the help of a command; empty where there is none."""
    return str(command.epilog or "").partition("Example: ")[2]


def cli_reference() -> str:
    """Return docs/cli.md."""
    parts = [
        _INTRODUCTION,
        "## Exit codes\n",
        _table(("code", "meaning"), [(str(code), text) for code, text in _EXIT_CODES.items()]),
        "## Environment variables\n",
        _table(("name", "meaning"), [(f"`{name}`", text) for name, text in _variables().items()]),
    ]
    for path, command in commands():
        parts.extend(_command_section(path, command))
    return "\n".join(parts)


def _variables() -> dict[str, str]:
    """Describe each environment variable; those that stand for an option or argument first."""
    users: dict[tuple[str, str], list[str]] = {}
    for path, command in commands():
        for parameter in parameters(command):
            if parameter.envvar:
                shown = max(parameter.opts, key=len) if is_option(parameter) else _value_name(parameter)
                users.setdefault((parameter.envvar, shown), []).append(f"`{path}`")
    stand_for = {name: f"`{shown}` of {', '.join(paths)}" for (name, shown), paths in users.items()}
    return {**stand_for, **_ENVIRONMENT}


def _command_section(path: str, command: Any) -> Iterator[str]:
    yield f"## {path}\n"
    yield f"    {_usage(path, command)}\n"
    yield "\n\n".join(textwrap.fill(text, _WIDTH) for text in (command.help or "").split("\n\n")) + "\n"
    arguments = [p for p in parameters(command) if not is_option(p)]
    if arguments:
        yield _table(("argument", "meaning"), [_argument_row(p) for p in arguments])
    options = [p for p in parameters(command) if is_option(p)]
    if options:
        yield _table(("option", "default", "meaning"), [_option_row(p) for p in options])
    children = getattr(command, "commands", {})
    if children:
        names = [f"[`{path} {name}`](#{f'{path} {name}'.replace(' ', '-')})" for name in children]
        yield f"Commands: {', '.join(names)}\n"
    yield f"Example:\n\n    {example(command)}\n"


def _usage(path: str, command: Any) -> str:
    if getattr(command, "commands", {}):
        return f"{path} [OPTIONS] COMMAND [ARGS]..."
    arguments = (_value_name(p) for p in parameters(command) if not is_option(p))
    return " ".join((path, "[OPTIONS]", *arguments))


def _value_name(parameter: Any) -> str:
    return str(parameter.metavar or str(parameter.name).upper())


def _argument_row(parameter: Any) -> tuple[str, str]:
    return f"`{_value_name(parameter)}`", _with_variable(parameter)


def _option_row(parameter: Any) -> tuple[str, str, str]:
    spelled = ", ".join(sorted(parameter.opts, key=len))
    value = "" if parameter.is_flag else f" {_value_name(parameter)}"
    given = parameter.default
    shown = "" if parameter.is_flag or given is None or callable(given) else f"`{given}`"
    return f"`{spelled}{value}`", shown, _with_variable(parameter)


def _with_variable(parameter: Any) -> str:
    text = str(parameter.help or "")
    return f"{text} Environment: `{parameter.envvar}`." if parameter.envvar else text


# --- Models --------------------------------------------------------------------------------------


def models_short() -> str:
    """Return the table of the README: one row for models that differ in the name only."""
    named = [card for card in CARDS.values() if not is_generic(card)]
    rows = []
    for _, same in groupby(named, key=lambda c: (c.family, c.n_layers, c.dim)):
        cards = list(same)
        names = ", ".join(f"`{card.model_id}`" for card in cards)
        rows.append((names, *_facts(cards[0]), _source(cards[0])))
    return _table(("model", "layers", "dim", "max residues", "licence", "weights"), rows)


def models_long() -> str:
    """Return the table of docs/models.md: every model."""
    rows = [
        (f"`{c.model_id}`", *_facts(c), _layer(c), "yes" if c.has_cls else "no", _size(c), _source(c))
        for c in CARDS.values()
    ]
    heads = ("model", "layers", "dim", "max residues", "licence", "default layer", "cls", "file", "weights")
    return _table(heads, rows)


def _facts(card: ModelCard) -> tuple[str, str, str, str]:
    sizes = ("of the file",) * 2 if is_generic(card) else (str(card.n_layers), f"{card.dim:,}")
    return (*sizes, f"{card.max_residues:,}", card.licence)


def _layer(card: ModelCard) -> str:
    return "last" if card.default_layer in {-1, card.n_layers} else str(card.default_layer)


def _size(card: ModelCard) -> str:
    return f"{card.size_bytes / 1e6:,.0f} MB" if card.size_bytes else ""


def _source(card: ModelCard) -> str:
    if is_esm(card):
        return "any file of the architecture" if is_generic(card) else "`models fetch` or a file"
    return card.weights


# --- Files ---------------------------------------------------------------------------------------


def _table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [heads, ("---",) * len(heads), *rows]
    return "".join(f"| {' | '.join(map(_cell, line))} |\n" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _with_block(text: str, name: str, content: str) -> str:
    """Replace what stands between the two comments of a name."""
    begin, end = f"<!-- {name}: written by make docs -->\n", f"<!-- end of {name} -->"
    head, found_begin, rest = text.partition(begin)
    _, found_end, tail = rest.partition(end)
    if not (found_begin and found_end):
        raise SystemExit(f"the comments around {name!r} are missing")
    return f"{head}{begin}{content}{end}{tail}"


def documents() -> dict[Path, str]:
    """Return every file this script writes, with what should be in it."""
    readme, models = REPO / "README.md", REPO / "docs" / "models.md"
    return {
        REPO / "docs" / "cli.md": cli_reference(),
        readme: _with_block(readme.read_text("utf-8"), "models", models_short()),
        models: _with_block(models.read_text("utf-8"), "models", models_long()),
    }


def main() -> None:
    """Write every file."""
    for path, text in documents().items():
        path.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
