from __future__ import annotations

import ast
import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest

import plmsearch

REPO = Path(__file__).resolve().parents[1]


def names_in_the_source() -> set[str]:
    """What a type checker sees in the door: names it binds or imports, without running anything."""
    bound: set[str] = set()
    for node in ast.walk(ast.parse((REPO / "plmsearch" / "__init__.py").read_text("utf-8"))):
        if isinstance(node, ast.Import | ast.ImportFrom):
            bound |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            bound.add(node.id)
    return bound


def modules_after(statement: str) -> set[str]:
    """Run a statement in a new process; return the top-level packages that it loaded."""
    script = (
        f"import json, sys\nbefore = set(sys.modules)\n{statement}\n"
        "print(json.dumps([m.partition('.')[0] for m in set(sys.modules) - before]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=REPO, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


def test_the_public_names_are_sorted_few_and_distinct():
    assert plmsearch.__all__ == sorted(set(plmsearch.__all__))
    assert 1 <= len(plmsearch.__all__) <= 20


@pytest.mark.parametrize("name", getattr(plmsearch, "__all__", ()))
def test_a_public_name_is_there_and_stays_the_same_object(name):
    value = getattr(plmsearch, name)
    assert value is getattr(plmsearch, name)
    if inspect.isclass(value) or inspect.isroutine(value):
        assert value.__module__.startswith("plmsearch.")
        assert inspect.getdoc(value), f"{name} has no docstring"


def test_every_public_name_is_seen_by_type_checkers():
    assert set(plmsearch.__all__) - names_in_the_source() == set()


def test_dir_lists_the_public_names():
    assert set(plmsearch.__all__) <= set(dir(plmsearch))


def test_a_star_import_brings_the_public_names():
    namespace: dict[str, object] = {}
    exec("from plmsearch import *", namespace)
    assert set(namespace) - {"__builtins__"} == set(plmsearch.__all__)


@pytest.mark.parametrize("name", ["no_such_name", "Databse", "__wrapped__"])
def test_a_name_that_does_not_exist_is_an_attribute_error_that_names_it(name):
    with pytest.raises(AttributeError, match=name):
        getattr(plmsearch, name)


def test_a_name_that_does_not_exist_cannot_be_imported():
    with pytest.raises(ImportError, match="no_such_name"):
        exec("from plmsearch import no_such_name")


def test_importing_the_package_loads_nothing_from_third_parties():
    loaded = modules_after("import plmsearch; plmsearch.__version__; dir(plmsearch)")
    assert loaded - set(sys.stdlib_module_names) == {"plmsearch"}


def test_the_errors_can_be_caught_without_loading_third_parties():
    loaded = modules_after("from plmsearch.errors import PlmsearchError")
    assert loaded - set(sys.stdlib_module_names) == {"plmsearch"}


def test_the_version_is_public():
    assert plmsearch.__version__.count(".") >= 2
