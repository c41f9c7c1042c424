"""The layers of the package as data, held against its imports.

A module imports from below and from its own folder, never upwards; below is a lower layer, or a lower
place in the same layer. Where a folder spans several places, its own modules keep that order too. A
new module gets its place here, in the same change.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

import import_rules as rules
import pytest
from import_rules import Rank

REPO = Path(__file__).resolve().parents[1]

#: Module or folder -> (layer, place within the layer).
LAYERS: dict[str, Rank] = {
    "_version": (0, 0),
    "errors": (0, 0),
    "wording": (0, 0),
    "slices": (0, 0),
    "types": (0, 0),
    "regions": (0, 0),
    "sequences": (1, 0),
    "vectors": (1, 0),
    "transform": (1, 1),
    "transform_fit": (1, 2),
    "genes": (1, 0),
    "metadata": (1, 0),
    "filters": (1, 1),
    "numbering": (1, 0),
    "translation": (1, 0),
    "domains": (1, 1),
    "formats": (1, 1),
    "germlines": (1, 2),
    "embedding.spec": (1, 3),
    "embedding.batching": (1, 1),
    "embedding.pooling": (1, 1),
    "embedding.base": (1, 4),
    "embedding.centres": (1, 4),
    "embedding": (2, 0),
    "index.scaled": (1, 0),
    "index.base": (1, 1),
    "index": (2, 0),
    "store": (2, 0),
    "search": (3, 0),
    "ingest": (4, 0),
    "reader": (4, 1),
    "searched": (4, 2),
    "searcher": (4, 3),
    "all_pairs": (4, 4),
    "cdr3_searcher": (4, 4),
    "pair_searcher": (4, 4),
    "overview": (4, 6),
    "doctor": (4, 4),
    "verify": (4, 4),
    "indexing": (4, 4),
    "nulls": (4, 4),
    "rankings": (4, 4),
    "backup": (4, 4),
    "repair": (4, 6),
    "exchange": (4, 6),
    "optimize": (4, 6),
    "upgrade": (4, 4),
    "database": (4, 5),
    "repertoire": (5, 0),
    "analysis": (5, 1),
    "cli": (6, 0),
    "service": (6, 0),
    "__init__": (7, 0),
    "__main__": (7, 0),
}

#: Package -> the modules that may import it. () means nobody: it costs seconds, or runs foreign code.
OWNERS: dict[str, tuple[str, ...]] = {
    "numpy": ("*",),
    "torch": ("embedding",),
    "safetensors": ("embedding",),
    "esm": ("embedding.esm*",),
    "antiberty": (),
    "transformers": (),
    "faiss": ("index",),
    "immunum": ("numbering",),
    "needletail": ("formats",),
    "polars": ("formats",),
    "h5py": ("formats",),
    "zstandard": ("formats",),
    "lark": ("filters",),
    "rapidfuzz": ("search.cdr3",),
    "parasail": ("search.alignment", "germlines.gapped"),
    "threadpoolctl": ("analysis.clusters",),
    "sqlalchemy": ("store",),
    "alembic": ("store",),
    "pysqlite3": ("store",),
    "sqlite3": ("store",),
    "typer": ("cli",),
    "click": ("cli",),
    "rich": ("cli", "formats.hits"),
}

#: Heavy package -> the modules that may load it when they are imported: those that are themselves
#: imported on first use only. Everyone else imports it inside the function that needs it.
HEAVY: dict[str, tuple[str, ...]] = {
    "torch": (
        "embedding._torch",
        "embedding._bert",
        "embedding.antiberty",
        "embedding.esm*",
        "embedding.hardware",
    ),
    "esm": ("embedding.esm*",),
    "faiss": (),
    "immunum": (),
    "needletail": (),
    "polars": (),
    "h5py": (),
    "zstandard": (),
    "lark": (),
    "parasail": (),
    "rapidfuzz": (),
}

#: Where a module is imported inside a function: commands, so that --help is quick, and the two
#: tables that turn a name into an object on first use, and the doctor, which asks torch.
LATE_IMPORTERS = ("cli", "__init__", "doctor", "embedding.registry")

UNSAFE = frozenset({"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"})

MODULES = rules.parse(rules.read_package(REPO / "plmsearch"))


# --- The package ---------------------------------------------------------------------------------


def assert_none(problems: Sequence[object]) -> None:
    assert not problems, "\n".join(map(str, problems))


def test_every_module_has_a_layer_and_imports_only_from_below_or_its_own_folder():
    assert_none(rules.misplaced(MODULES, LAYERS))


@pytest.mark.parametrize("type_only", [False, True], ids=["when run", "with imports for types"])
def test_no_modules_import_each_other(type_only):
    assert_none(rules.cycles(MODULES, type_only=type_only))


def test_own_modules_are_imported_at_the_top_except_by_commands():
    assert_none(rules.hidden(MODULES, LATE_IMPORTERS))


def test_each_third_party_package_is_imported_only_by_its_owner():
    assert_none(rules.foreign(MODULES, OWNERS))


def test_heavy_packages_are_imported_on_first_use():
    assert_none(rules.heavy_on_load(MODULES, HEAVY))


def test_nothing_runs_foreign_code_or_prints_outside_the_cli():
    assert_none(rules.forbidden_calls(MODULES, printers=("cli",)))
    assert_none(rules.forbidden_imports(MODULES, UNSAFE))


def test_migrations_keep_the_same_rules_of_safety():
    migrations = rules.parse(rules.read_package(REPO / "migrations"))
    assert_none(rules.forbidden_calls(migrations, printers=()))
    assert_none(rules.forbidden_imports(migrations, UNSAFE))


def test_importing_every_light_module_loads_no_heavy_package():
    late = tuple(pattern for patterns in HEAVY.values() for pattern in patterns)
    light = [
        f"plmsearch.{name}".removesuffix(".__init__") for name in MODULES if not rules.within(name, late)
    ]
    script = (
        "import importlib, json, sys\n"
        f"for name in {light!r}: importlib.import_module(name)\n"
        "print(json.dumps(list(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=REPO, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert {*HEAVY, "antiberty", "transformers"}.intersection(json.loads(done.stdout)) == set()


def test_every_core_dependency_has_an_owner():
    project = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
    imported_as = {"fair-esm": "esm", "faiss-cpu": "faiss"}
    for requirement in project["dependencies"]:
        name = requirement.lower().split(";")[0].strip()
        name = name[: next((i for i, c in enumerate(name) if c in "<>=~! ["), len(name))]
        assert imported_as.get(name, name) in OWNERS, f"{name} has no owner in OWNERS"


# --- The rules themselves, on small packages -----------------------------------------------------

SMALL = {
    "__init__": "",
    "errors": "class E(Exception): ...",
    "sequences": "from plmsearch.errors import E",
    "formats.fasta": "def read():\n    import needletail",
    "store.__init__": '"""Docstring."""',
    "store.tables": "from plmsearch.errors import E",
    "store.repository": "from plmsearch.store import tables\nfrom plmsearch.errors import E",
    "embedding.spec": "import json",
    "embedding.base": "from plmsearch.embedding.spec import EmbeddingSpec",
    "embedding._torch": "import torch",
    "embedding.esm2": "import esm, torch\nfrom plmsearch.embedding._torch import device",
    "embedding.registry": "def load(name):\n    import importlib\n    return importlib.import_module(name)",
    "index.faiss_index": "def search():\n    import faiss\n    return faiss.knn()",
    "database": "import plmsearch.store.repository\nfrom plmsearch.embedding import registry",
    "cli.__init__": "from plmsearch.cli.query import query",
    "cli.query": "import typer\ndef query():\n    from plmsearch.database import Database\n    print(1)",
}


def problems_of(extra: dict[str, str]) -> str:
    """Run every rule on the small package with some modules replaced."""
    modules = rules.parse(SMALL | extra)
    found = [
        *rules.misplaced(modules, LAYERS),
        *(f"cycle: {' '.join(group)}" for group in rules.cycles(modules, type_only=False)),
        *(f"type cycle: {' '.join(group)}" for group in rules.cycles(modules, type_only=True)),
        *rules.hidden(modules, LATE_IMPORTERS),
        *rules.foreign(modules, OWNERS),
        *rules.heavy_on_load(modules, HEAVY),
        *rules.forbidden_calls(modules, printers=("cli",)),
        *rules.forbidden_imports(modules, UNSAFE),
    ]
    return "\n".join(found)


def test_a_package_that_keeps_the_rules_passes_them():
    assert problems_of({}) == ""


TYPES = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    "


@pytest.mark.parametrize(
    ("name", "source", "problem"),
    [
        ("novelty", "", "novelty: has no layer"),
        (
            "store.tables",
            "from plmsearch.database import Database",
            "store.tables:1: in layer (2, 0) imports",
        ),
        ("store.tables", "import plmsearch.database", "store.tables:1: in layer (2, 0) imports database"),
        (
            "store.tables",
            "from ..database import Database",
            "store.tables:1: in layer (2, 0) imports database",
        ),
        (
            "store.tables",
            "from plmsearch import errors, database",
            "store.tables:1: in layer (2, 0) imports database",
        ),
        ("store.tables", "from plmsearch import Database", "imports __init__ of layer (7, 0)"),
        (
            "store.tables",
            "from plmsearch.embedding import registry",
            "imports embedding.registry of layer (2, 0)",
        ),
        (
            "store.tables",
            TYPES + "from plmsearch.database import Database",
            "imports database of layer (4, 5)",
        ),
        ("store.tables", "try:\n    import plmsearch.database\nexcept ImportError: ...", "imports database"),
        (
            "store.tables",
            "from plmsearch.errors import E\nimport plmsearch.missing",
            "imports __init__ of layer",
        ),
        (
            "embedding.spec",
            "from plmsearch.embedding.base import Embedder",
            "imports embedding.base of layer (1, 4)",
        ),
        ("sequences", "import plmsearch.formats.fasta", "sequences:1: in layer (1, 0) imports formats.fasta"),
        ("formats.fasta", "import plmsearch.embedding.spec", "imports embedding.spec of layer (1, 3)"),
        (
            "cli.query",
            "def query():\n    from plmsearch import open_database",
            "imports __init__ of layer (7, 0)",
        ),
        ("errors", "import plmsearch.errors", "cycle: errors"),
        ("store.tables", "import plmsearch.store.repository", "cycle: store.repository store.tables"),
        ("store.tables", "from . import repository", "cycle: store.repository store.tables"),
        ("store.tables", "from .repository import x", "cycle: store.repository store.tables"),
        ("store.tables", TYPES + "from .repository import x", "type cycle: store.repository store.tables"),
        ("store.tables", "def f():\n    from plmsearch.errors import E", "f() imports plmsearch.errors"),
        (
            "store.tables",
            "class A:\n    async def f(self):\n        from .. import errors",
            "f() imports plmsearch.errors",
        ),
        ("database", "import importlib\ndef f(n): importlib.import_module(n)", "f() imports <computed>"),
        ("database", "def f(): __import__('plmsearch.errors')", "f() imports plmsearch.errors"),
        ("database", "def f():\n    import faiss", "imports faiss, owned by ('index',)"),
        (
            "database",
            "def f():\n    from sqlalchemy.engine import Engine",
            "imports sqlalchemy.engine.Engine, owned by",
        ),
        ("database", TYPES + "import torch", "imports torch, owned by"),
        ("embedding.spec", "def f():\n    import transformers", "imports transformers, owned by ()"),
        ("embedding.spec", "import requests", "imports requests, which nobody owns"),
        ("embedding.spec", "import torch", "embedding.spec: loads torch when imported"),
        ("embedding.spec", "try:\n    import torch\nexcept ImportError: ...", "embedding.spec: loads torch"),
        ("embedding.registry", "from plmsearch.embedding import esm2", "loads torch when imported, through"),
        ("index.faiss_index", "import faiss", "index.faiss_index: loads faiss when imported"),
        ("index.faiss_index", "class A:\n    import faiss", "index.faiss_index: loads faiss when imported"),
        ("database", "print('x')", "database:1: calls print"),
        ("cli.query", "eval('1')", "cli.query:1: calls eval"),
        ("database", "exec('1')", "calls exec"),
        ("database", "import os\nos.system('ls')", "database:2: calls os.system"),
        ("database", "import subprocess\nsubprocess.run('ls', shell=True)", "calls subprocess.run"),
        ("embedding._torch", "import torch\ntorch.load('x')", "calls torch.load"),
        ("embedding._torch", "import torch\ntorch.load('x', weights_only=False)", "calls torch.load"),
        ("database", "import numpy as np\nnp.load('x', allow_pickle=True)", "calls np.load"),
        ("database", "raise Exception('x')", "calls Exception"),
        ("database", "import pickle", "database:1: imports pickle"),
        ("database", "from joblib import load", "imports joblib.load"),
    ],
)
def test_a_breach_is_found(name, source, problem):
    assert problem in problems_of({name: source})


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("embedding._torch", "import torch\ntorch.load('x', weights_only=True)\nmodel.eval()"),
        ("embedding.base", TYPES + "import torch"),
        ("embedding.base", "def f():\n    import torch"),
        ("formats.fasta", "from plmsearch.sequences import SequenceRecord"),
        ("database", "from .store.tables import x\nfrom . import errors\nimport numpy as np"),
        ("database", "import re\nre.compile('x')\nimport subprocess\nsubprocess.run(['ls'], shell=False)"),
    ],
)
def test_what_is_allowed_is_not_reported(name, source):
    assert problems_of({name: source}) == ""


def test_a_cycle_over_three_modules_is_reported_once_and_whole():
    modules = rules.parse(
        {
            "store.a": "from . import b",
            "store.b": "from . import c",
            "store.c": "from . import a, d",
            "store.d": "",
        }
    )
    assert rules.cycles(modules, type_only=False) == [["store.a", "store.b", "store.c"]]
