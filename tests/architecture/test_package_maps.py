"""Each package's docstring lists its modules, so that a reader finds the file for a change without opening others."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = sorted(path.parent for path in (ROOT / "supervisor").rglob("__init__.py"))
ROW = re.compile(r"^- ``(\w+)``: (\S.*)$", re.MULTILINE)


def modules(folder: Path) -> list[str]:
    """Return the names of the modules and packages in a package, sorted."""
    files = {path.stem for path in folder.glob("*.py")} - {"__init__", "__main__"}
    return sorted(files | {path.name for path in folder.iterdir() if (path / "__init__.py").exists()})


@pytest.mark.parametrize("folder", PACKAGES[1:], ids=lambda folder: str(folder.relative_to(ROOT)))
def test_the_docstring_of_a_package_lists_each_of_its_modules_in_order(folder):
    docstring = ast.get_docstring(ast.parse((folder / "__init__.py").read_text())) or ""
    assert [name for name, _ in ROW.findall(docstring)] == modules(folder)


def test_a_package_outside_of_the_list_of_packages_is_found():
    assert ROOT / "supervisor" in PACKAGES
    assert "state_machine" in modules(ROOT / "supervisor" / "core" / "session")
