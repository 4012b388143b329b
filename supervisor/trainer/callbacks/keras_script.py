"""A script that certainly gives the callback to two calls of fit() is told so before the first one, not hours later.

Certain is only what stands in one block, one after the other, with nothing between them that may end the script or the block.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CALLBACK = "KerasCallback"
_LEAVES = (ast.Return, ast.Raise, ast.Break, ast.Continue, ast.Yield, ast.YieldFrom, ast.Try)
_ENDS = {"exit", "_exit", "quit", "abort"}


def second_fit() -> int | None:
    """Return the line of the second fit() of the running script that is given the callback; None where that is not certain."""
    path = getattr(sys.modules.get("__main__"), "__file__", None)
    try:
        tree = ast.parse(Path(path).read_bytes()) if path else None
    except (OSError, SyntaxError, ValueError):
        return None
    return None if tree is None else second_in(tree)


def second_in(tree: ast.Module) -> int | None:
    """Return the line of the second fit() with the callback in a parsed script."""
    names = _names_of_callbacks(tree)
    for block in _blocks(tree):
        seen = False
        for statement in block:
            call = _fit_in(statement, names)
            if call is not None and seen:
                return call.lineno
            seen = (seen or call is not None) and not _may_leave(statement)
    return None


def _blocks(tree: ast.AST) -> Iterator[Sequence[ast.stmt]]:
    for node in ast.walk(tree):
        for field in ("body", "orelse", "finalbody"):
            block = getattr(node, field, None)
            if isinstance(block, list):
                yield block


def _fit_in(statement: ast.stmt, names: set[str]) -> ast.Call | None:
    """Return the call where it is all of a statement; in a loop or a condition it may be done more than once, or never."""
    value = getattr(statement, "value", None) if isinstance(statement, ast.Expr | ast.Assign | ast.AnnAssign) else None
    if not (isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute) and value.func.attr == "fit"):
        return None
    given = [keyword.value for keyword in value.keywords if keyword.arg == "callbacks"]
    return value if any(_is_callback(each, names) for each in given) else None


def _is_callback(node: ast.AST, names: set[str]) -> bool:
    if isinstance(node, ast.List | ast.Tuple):
        return any(_is_callback(each, names) for each in node.elts)
    if isinstance(node, ast.Call):
        function = node.func
        name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        return name == CALLBACK
    return isinstance(node, ast.Name) and node.id in names


def _names_of_callbacks(tree: ast.Module) -> set[str]:
    """Return the names that are given the callback, or a list with it, and nothing else, anywhere in the script."""
    given: dict[str, list[bool]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                for name in (each.id for each in ast.walk(target) if isinstance(each, ast.Name)):
                    given.setdefault(name, []).append(_is_callback(node.value, set()))
        elif isinstance(node, ast.arg):
            given.setdefault(node.arg, []).append(False)
    return {name for name, values in given.items() if all(values)}


def _may_leave(statement: ast.stmt) -> bool:
    for node in ast.walk(statement):
        if isinstance(node, _LEAVES):
            return True
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in _ENDS:
                return True
    return False
