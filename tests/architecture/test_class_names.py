"""A public class name stands for one class, so that a search for it finds one."""

from __future__ import annotations

import ast
from collections import defaultdict
from typing import TYPE_CHECKING

from tests.architecture.source_tree import PACKAGE, modules, tree

if TYPE_CHECKING:
    from pathlib import Path

ALLOWED: dict[str, str] = {}  # a name that may stand for two classes, and why; at most 5


def repeated(package: Path) -> dict[str, list[str]]:
    """Return each public class name that stands twice, with the modules; classes inside functions count too."""
    found = defaultdict(list)
    for name, path in modules(package).items():
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].append(name)
    return {name: places for name, places in found.items() if len(places) > 1}


def test_no_public_class_name_stands_twice() -> None:
    found = repeated(PACKAGE)
    assert {name: places for name, places in found.items() if name not in ALLOWED} == {}
    assert ALLOWED.keys() <= found.keys(), "a name that stands once needs no exception"
    assert len(ALLOWED) <= 5
    assert all(ALLOWED.values()), "an exception has a reason"


def test_a_name_that_stands_twice_is_found(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text("class Order: ...\nclass _Own: ...\nclass Once: ...\n")
    (tmp_path / "other.py").write_text("def make():\n    class Order: ...\nclass _Own: ...\n")
    assert repeated(tmp_path) == {"Order": [f"{tmp_path.name}.one", f"{tmp_path.name}.other"]}
