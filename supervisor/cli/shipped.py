"""Finds the trainers, the documents and the notebook that are distributed with the packages, in a clone and in a wheel."""

from __future__ import annotations

import os
from pathlib import Path

PACKAGE = Path(__file__).absolute().parent.parent
NOTEBOOK = "hyperlpr_example/colab.ipynb"
EXAMPLES = ("trainers/*.py", "docs/*.md", "*.md", "hyperlpr_example/README.md", NOTEBOOK)
_PACKAGES = ("supervisor", "hyperlpr_example")
_FOLDERS = (*_PACKAGES, "trainers", "docs", "requirements")
_BESIDE = ("*.md", "LICENSE", "pyproject.toml", "Makefile")


def is_clone(package: Path = PACKAGE) -> bool:
    """Return True in a clone or a copy of one. Trainers and documents lie beside the package there."""
    return not (package / "examples").is_dir()


def root(package: Path = PACKAGE) -> Path:
    """Return the folder that holds ``trainers/``, ``docs/`` and the README: the clone, or the wheel's own folder of them."""
    return package.parent if is_clone(package) else package / "examples"


def script(text: str, package: Path = PACKAGE) -> Path | None:
    """Return the shipped trainer that a relative path like ``trainers/toy.py`` names; None for any other path."""
    parts = Path(text).parts
    if parts[:1] != ("trainers",) or ".." in parts:
        return None
    found = root(package) / text
    return found if found.is_file() else None


def examples(package: Path = PACKAGE) -> dict[str, Path]:
    """Return what ``examples`` copies: each file by its path from the folder that it is copied into."""
    top = root(package)
    return {path.relative_to(top).as_posix(): path for pattern in EXAMPLES for path in sorted(top.glob(pattern))}


def product(package: Path = PACKAGE) -> dict[str, Path]:
    """Return all files of the product by their paths in a clone, whichever way it was installed."""
    top = package.parent
    if is_clone(package):
        inside = [path for name in _FOLDERS for path in _walk(top / name)]
        beside = [path for pattern in _BESIDE for path in sorted(top.glob(pattern)) if path.is_file()]
        return {path.relative_to(top).as_posix(): path for path in (*inside, *beside)}
    own = _recorded(top) or [path for name in _PACKAGES for path in _walk(top / name)]
    code = {path.relative_to(top).as_posix(): path for path in own if package / "examples" not in path.parents}
    return code | examples(package)


def _recorded(top: Path) -> list[Path]:
    """Return our own files as the installer noted them: another distribution may have files in the same folder."""
    for record in sorted(top.glob("training_supervisor-*.dist-info/RECORD")):
        lines = record.read_text(encoding="utf-8").splitlines()
        names = [line.rsplit(",", 2)[0] for line in lines]
        wanted = [name for name in names if name.startswith(tuple(f"{each}/" for each in _PACKAGES))]
        return [top / name for name in wanted if "__pycache__" not in name and (top / name).is_file()]
    return []


def _walk(folder: Path) -> list[Path]:
    found: list[Path] = []
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__pycache__")))
        found += [Path(place, name) for name in sorted(names) if not name.startswith(".")]
    return found
