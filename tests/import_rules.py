"""Read the imports of a package from its source, without running it, and hold them against rules.

A package is a mapping of module name to source, such as ``{"errors": "", "store.tables": "import x"}``;
names are relative to ``plmsearch``, and the file of a folder ends in ``__init__``. Each check returns
one line per breach, so that an empty list is a pass.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

PACKAGE = "plmsearch"
Rank = tuple[int, int]


@dataclass(frozen=True)
class Import:
    """One imported name: `target` as a full dotted name, `inside` the function it is hidden in."""

    target: str
    line: int
    inside: str = ""
    type_only: bool = False

    @property
    def top(self) -> str:
        """The distribution, more or less: the first part of the name."""
        return self.target.partition(".")[0]

    @property
    def on_load(self) -> bool:
        """Whether importing the module runs this import."""
        return not self.inside and not self.type_only


@dataclass
class Module:
    """A parsed module with its imports; `calls` are (name, line, keywords that are constants)."""

    name: str
    imports: list[Import] = field(default_factory=list)
    calls: list[tuple[str, int, dict[str, object]]] = field(default_factory=list)


# --- Reading -------------------------------------------------------------------------------------


def read_package(root: Path) -> dict[str, str]:
    """Return module name -> source of every module below a folder."""
    paths = sorted(p for p in root.rglob("*.py") if "__pycache__" not in p.parts)
    return {".".join(p.relative_to(root).with_suffix("").parts): p.read_text("utf-8") for p in paths}


def parse(sources: Mapping[str, str]) -> dict[str, Module]:
    """Parse every module and resolve what it imports."""
    modules = {}
    for name, source in sources.items():
        reader = _Reader(Module(name), set(sources))
        reader.visit(ast.parse(source, name))
        modules[name] = reader.module
    return modules


class _Reader(ast.NodeVisitor):
    def __init__(self, module: Module, names: set[str]) -> None:
        self.module, self.names = module, names
        self.functions: list[str] = []
        self.type_only = False

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self.functions.append(node.name)
        self.generic_visit(node)
        self.functions.pop()

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_If(self, node: ast.If) -> None:
        before = self.type_only
        self.type_only = before or ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
        for child in node.body:
            self.visit(child)
        self.type_only = before
        for child in (node.test, *node.orelse):
            self.visit(child)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._add(alias.name, node.lineno)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        base = node.module or ""
        if node.level:
            folder = [PACKAGE, *self.module.name.split(".")][: -node.level]
            base = ".".join([*folder, *([base] if base else [])])
        for alias in node.names:
            self._add(f"{base}.{alias.name}", node.lineno)

    def visit_Call(self, node: ast.Call) -> None:
        name = ast.unparse(node.func)
        constants = {
            k.arg: k.value.value for k in node.keywords if k.arg and isinstance(k.value, ast.Constant)
        }
        self.module.calls.append((name, node.lineno, constants))
        if name in ("importlib.import_module", "import_module", "__import__"):
            first = node.args[0] if node.args else None
            literal = isinstance(first, ast.Constant) and isinstance(first.value, str)
            self._add(first.value if literal else "<computed>", node.lineno)
        self.generic_visit(node)

    def _add(self, target: str, line: int) -> None:
        inside = self.functions[-1] if self.functions else ""
        self.module.imports.append(Import(self._own(target), line, inside, self.type_only))

    def _own(self, target: str) -> str:
        """Shorten the name of an own class or function to the module that holds it."""
        parts = target.split(".")
        if parts[0] != PACKAGE:
            return target
        for end in range(len(parts), 0, -1):
            for name in (".".join(parts[1:end]), ".".join([*parts[1:end], "__init__"])):
                if name in self.names:
                    return f"{PACKAGE}.{name}"
        return target


# --- Rules ---------------------------------------------------------------------------------------


def within(name: str, patterns: tuple[str, ...]) -> bool:
    """Tell whether a module is, or lies in, one of the named modules, folders or patterns."""
    return any(name == p or name.startswith(f"{p}.") or fnmatchcase(name, p) for p in patterns)


def rank(name: str, layers: Mapping[str, Rank]) -> Rank | None:
    """Look up a module, or else the folder that holds it."""
    while name:
        if name in layers:
            return layers[name]
        name = name.rpartition(".")[0]
    return None


def own_imports(module: Module) -> Iterator[tuple[Import, str]]:
    """Yield each import of an own module with that module's name."""
    for imported in module.imports:
        if imported.top == PACKAGE:
            yield imported, imported.target.removeprefix(f"{PACKAGE}.")


def misplaced(modules: Mapping[str, Module], layers: Mapping[str, Rank]) -> list[str]:
    """Modules without a layer, and imports that do not go down or stay in the folder."""
    problems = [f"{name}: has no layer" for name in modules if rank(name, layers) is None]
    for name, module in modules.items():
        here = rank(name, layers)
        for imported, target in own_imports(module):
            there = rank(target, layers)
            if here is not None and there is not None and not _goes_down(name, here, target, there):
                problems.append(f"{name}:{imported.line}: in layer {here} imports {target} of layer {there}")
    return problems


def _goes_down(name: str, here: Rank, target: str, there: Rank) -> bool:
    same_folder = "." in name and name.split(".")[0] == target.split(".")[0]
    return there <= here if same_folder else there < here


def hidden(modules: Mapping[str, Module], allowed: tuple[str, ...]) -> list[str]:
    """Imports of own or computed modules inside functions."""
    return [
        f"{name}:{imported.line}: {imported.inside}() imports {imported.target}"
        for name, module in modules.items()
        for imported in module.imports
        if imported.inside and imported.top in (PACKAGE, "<computed>") and not within(name, allowed)
    ]


def cycles(modules: Mapping[str, Module], *, type_only: bool) -> list[list[str]]:
    """Groups of modules that import each other, each sorted (Tarjan's strongly connected components)."""
    edges = {
        name: {t for i, t in own_imports(m) if t in modules and (i.on_load or (type_only and i.type_only))}
        for name, m in modules.items()
    }
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        order[name] = low[name] = len(order)
        stack.append(name)
        for target in sorted(edges[name]):
            if target not in order:
                visit(target)
                low[name] = min(low[name], low[target])
            elif target in stack:
                low[name] = min(low[name], order[target])
        if low[name] == order[name]:
            group = [stack.pop()]
            while group[-1] != name:
                group.append(stack.pop())
            if len(group) > 1 or name in edges[name]:
                found.append(sorted(group))

    for name in modules:
        if name not in order:
            visit(name)
    return sorted(found)


def foreign(modules: Mapping[str, Module], owners: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Third-party imports outside the modules that own the package, or of a package nobody owns."""
    problems = []
    for name, module in modules.items():
        for imported in module.imports:
            if imported.top in owners:
                if not within(name, owners[imported.top]):
                    problems.append(
                        f"{name}:{imported.line}: imports {imported.target}, owned by {owners[imported.top]}"
                    )
            elif imported.top not in {*sys.stdlib_module_names, PACKAGE, "<computed>"}:
                problems.append(f"{name}:{imported.line}: imports {imported.target}, which nobody owns")
    return problems


def heavy_on_load(modules: Mapping[str, Module], allowed: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Modules that load a heavy package when imported, themselves or through what they import.

    `allowed` names per heavy package the modules that may.
    """
    problems = []
    for package, may in allowed.items():
        loads = {
            name for name, m in modules.items() if any(i.on_load and i.top == package for i in m.imports)
        }
        problems += [f"{name}: loads {package} when imported" for name in loads if not within(name, may)]
        for name, module in modules.items():
            via = {t for i, t in own_imports(module) if i.on_load and t in loads}
            if via and not within(name, may):
                problems.append(f"{name}: loads {package} when imported, through {', '.join(sorted(via))}")
    return sorted(problems)


def forbidden_calls(modules: Mapping[str, Module], printers: tuple[str, ...]) -> list[str]:
    """Calls that run foreign code, read unsafe formats, or write to the terminal outside the CLI."""
    problems = []
    for name, module in modules.items():
        for call, line, constants in module.calls:
            last = call.rpartition(".")[2]
            bad = (
                call in ("eval", "exec", "os.system", "os.popen", "Exception", "BaseException")
                or (call == "print" and not within(name, printers))
                or constants.get("shell") is True
                or constants.get("allow_pickle") is True
                or (
                    last == "load" and call.startswith("torch.") and constants.get("weights_only") is not True
                )
                or constants.get("weights_only", True) is not True
            )
            if bad:
                problems.append(f"{name}:{line}: calls {call}")
    return problems


def forbidden_imports(modules: Mapping[str, Module], banned: frozenset[str]) -> list[str]:
    """Imports of modules that no one may use."""
    return [
        f"{name}:{i.line}: imports {i.target}"
        for name, m in modules.items()
        for i in m.imports
        if i.top in banned
    ]
