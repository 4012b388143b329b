"""Reads the source of a script and of the modules of its own folder that it imports: some dozen files, never run."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from supervisor.core import resume_options

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from supervisor.core.resume_options import Convention

FILES_MAX, FILE_BYTES_MAX = 24, 200_000


def convention(script: Path) -> Convention:
    """Return how this script is told to resume, as far as its source says it."""
    return resume_options.convention(read(script))


def read(script: Path) -> tuple[str, ...]:
    """Return the source of the script, then of what it imports from its own folder, nearest first."""
    waiting, known = [script], {script}
    sources: list[str] = []
    while waiting and len(sources) < FILES_MAX:
        path = waiting.pop(0)
        try:
            if path.stat().st_size > FILE_BYTES_MAX:
                continue
            source = path.read_text(encoding="utf-8", errors="replace")
            imported = list(_imported(source, path.parent, script.parent))
        except (OSError, SyntaxError, ValueError, RecursionError):
            continue
        sources.append(source)
        for each in imported:
            if each not in known:
                known.add(each)
                waiting.append(each)
    return tuple(sources)


def _imported(source: str, here: Path, top: Path) -> Iterator[Path]:
    """Yield the files under ``top`` that a module in ``here`` imports."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for each in node.names:
                yield from _files(top, each.name.split("."))
        elif isinstance(node, ast.ImportFrom):
            folder = here
            for _ in range(node.level - 1):
                folder = folder.parent
            parts = node.module.split(".") if node.module else []
            above = folder if node.level else top
            yield from _files(above, parts)
            for each in node.names:
                yield from _files(above, [*parts, each.name])


def _files(above: Path, parts: list[str]) -> Iterator[Path]:
    """Yield the module of this dotted name, where it lies in the folder."""
    if not parts:
        return
    path = above.joinpath(*parts)
    for file in (path.with_name(f"{path.name}.py"), path / "__init__.py"):
        if file.is_file():
            yield file
