"""The modules of the package and their imports, read from the source: what the tests of the tree have in common."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "supervisor"


@cache
def modules(package: Path = PACKAGE) -> dict[str, Path]:
    """Return each module's dotted name and its file; a package's name stands for its ``__init__``."""
    return {
        ".".join(path.relative_to(package.parent).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sorted(package.rglob("*.py"))
    }


@cache
def tree(path: Path) -> ast.Module:
    """Return the syntax tree of a file."""
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imports(package: Path = PACKAGE) -> dict[str, set[str]]:
    """Return for each module the modules that it imports: at the top, under TYPE_CHECKING and inside functions."""
    known = modules(package)
    return {name: set(_imported(tree(path), known.keys())) - {name} for name, path in known.items()}


def _imported(of: ast.Module, known: set[str]) -> set[str]:
    found = set()
    for node in ast.walk(of):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names} & known
        elif isinstance(node, ast.ImportFrom) and node.module:  # no module here imports by a relative name
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= names & known
            if names - known and node.module in known:
                found.add(node.module)
    return found


def importers(package: Path = PACKAGE) -> dict[str, set[str]]:
    """Return for each module the modules that import it."""
    return {name: {other for other, used in imports(package).items() if name in used} for name in modules(package)}


def package_of(module: str, package: Path = PACKAGE) -> str:
    """Return the package that a module lies in; a package lies in itself."""
    return module if modules(package)[module].name == "__init__.py" else module.rpartition(".")[0]
