"""The Python modules of a repository as syntax trees, and what of them an app imports in the end."""

from __future__ import annotations

import ast
import re
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from slipway.inspect.tree import Tree, joined, parent

_ASIDE = re.compile(
    r"(^|/)(tests?|testing|docs?|examples?|samples|benchmarks?|versions|\.github)/"
    r"|(^|/)(conftest|test_\w+|\w+_test|noxfile|locustfile)\.py$|^(\w+/)?setup\.py$"
)
_MAX_MODULES = 4000
_MAX_SOURCE = 500_000


@dataclass(frozen=True)
class Module:
    name: str  # of the file
    tree: ast.Module

    @cached_property
    def nodes(self) -> list[ast.AST]:
        return list(ast.walk(self.tree))

    def calls(self) -> Iterator[tuple[ast.Call, str]]:
        """Each call, with the dotted name of what is called."""
        for node in self.nodes:
            if isinstance(node, ast.Call):
                yield node, dotted(node.func)


class Code:
    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        names = [name for name in tree.files if name.endswith(".py") and not _ASIDE.search(name)]
        self.modules: dict[str, Module] = {}
        for name in names[:_MAX_MODULES]:
            parsed = parse(tree.text(name, _MAX_SOURCE))
            if parsed is not None:
                self.modules[name] = Module(name, parsed)

    def file_of(self, module: str, root: str) -> str:
        """The file of an absolute module below a root of imports; empty if there is none."""
        path = module.replace(".", "/")
        base = f"{root}/{path}" if root else path
        return next((name for name in (f"{base}.py", f"{base}/__init__.py") if name in self.modules), "")

    def imported(self, module: str, root: str) -> str:
        """The same, also of what lies above the root: some import modules of a src/ with `src.`, and some without."""
        folder = root
        while True:
            if (found := self.file_of(module, folder)) or not folder:
                return found
            folder = parent(folder)

    def imports(self, name: str, root: str) -> Iterator[tuple[str, str, str]]:
        """What a module imports of the tree: the local name, the file, and the name in it (empty for a module)."""
        for node in self.modules[name].nodes:
            if isinstance(node, ast.Import):
                for alias in node.names:
                    if file := self.imported(alias.name, root):
                        yield alias.asname or alias.name, file, ""
            elif isinstance(node, ast.ImportFrom):
                base = node.module or ""
                if node.level:
                    folder = parent(name)
                    for _ in range(node.level - 1):
                        folder = parent(folder)
                    package = folder[len(root) :].strip("/").replace("/", ".") if folder.startswith(root) else ""
                    base = ".".join(part for part in (package, base) if part)
                for alias in node.names:
                    if file := self.imported(f"{base}.{alias.name}" if base else alias.name, root):
                        yield alias.asname or alias.name, file, ""
                    elif file := self.imported(base, root):
                        yield alias.asname or alias.name, file, alias.name

    def reachable(self, start: str, root: str) -> list[Module]:
        """The modules that come in when one is imported, it first."""
        seen, waiting = [start], [start]
        while waiting:
            name = waiting.pop(0)
            files = [file for _, file, _ in self.imports(name, root)]
            package = parent(name)
            while package and package != root:  # importing a module runs the packages above it
                files.append(f"{package}/__init__.py")
                package = parent(package)
            for file in files:
                if file in self.modules and file not in seen:
                    seen.append(file)
                    waiting.append(file)
        return [self.modules[name] for name in seen]

    def local_imports(self, name: str, root: str) -> int:
        """How many imports of a module lead to files below a root, as opposed to the standard library and packages."""
        count = 0
        for node in self.modules[name].nodes:
            modules = []
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                modules = [node.module]
            for module in modules:
                if module.partition(".")[0] in sys.stdlib_module_names:
                    continue
                top = joined(root, module.replace(".", "/"))
                if self.file_of(module, root) or (top and self.tree.has_folder(top)):
                    count += 1
        return count


def parse(text: str) -> ast.Module | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def dotted(node: ast.AST) -> str:
    """`a.b.c` of an expression; what is not a name is left out, so that `x().get` is `.get`."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return ""


def text_of(node: ast.AST | None) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def keyword(call: ast.Call, name: str) -> ast.expr | None:
    return next((word.value for word in call.keywords if word.arg == name), None)


def argument(call: ast.Call, place: int, name: str) -> ast.expr | None:
    found = keyword(call, name)
    if found is None and len(call.args) > place and not any(isinstance(one, ast.Starred) for one in call.args[:place]):
        found = call.args[place]
    return found
