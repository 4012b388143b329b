"""Command lines that people paste are built in one place, so that they name the program as it was called."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
ONE_PLACE = ROOT / "supervisor" / "core" / "program.py"
SOURCES = [
    path
    for folder in ("supervisor", "hyperlpr_example", "trainers")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if path != ONE_PLACE
]
WRITTEN = re.compile(
    r"python3? -m supervisor(?![.\w])|training-supervisor (?:start|resume|status|logs|stop|checkpoints|launch)\b"
)


def written_out(source: str) -> Iterator[str]:
    """Yield each literal that writes the program's command line out; docstrings are for readers of the source."""
    tree = ast.parse(source)
    docs = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            yield from (f"line {node.lineno}: {node.value!r}" for _ in [0] if WRITTEN.search(node.value))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_file_writes_the_programs_command_line_out(path: Path) -> None:
    assert not list(written_out(path.read_text())), "build it with supervisor.core.program"


@pytest.mark.parametrize(
    "source",
    [
        'print("python -m supervisor status")',
        'hint = f"try python3 -m supervisor {verb}"',
        'x = "training-supervisor start"',
    ],
)
def test_a_command_line_that_is_written_out_is_found(source: str) -> None:
    assert list(written_out(source))


@pytest.mark.parametrize(
    "source", ['"""python3 -m supervisor"""', 'x = ["-m", "supervisor.trainer"]', 'x = "update training-supervisor"']
)
def test_nothing_else_is_taken_for_one(source: str) -> None:
    assert not list(written_out(source))
