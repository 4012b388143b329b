"""*Safe* has one word on screens; values for programs keep theirs. The glossary explains what screens say."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
OTHERS = re.compile(r"\b(not confirmed|unconfirmed|proved whole|not proved|proved safe|gives no proof)\b")
OF_CHECKPOINTS = re.compile(
    r"\bproved (newer|older|checkpoint|step|DURABLE)|\*(saved|confirmed|durable)\* is said|not proved by"
)
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "ARCHITECTURE.md",
    ROOT / "hyperlpr_example" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
SCREENS = [
    path for room in ("cli", "views", "core", "engine") for path in sorted((ROOT / "supervisor" / room).rglob("*.py"))
]


@pytest.mark.parametrize("path", SCREENS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_message_has_another_word_for_safe(path: Path) -> None:
    tree = ast.parse(path.read_text())
    docs = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in docs
            and " " in node.value
        ):
            assert not OTHERS.search(node.value), f"line {node.lineno}: {node.value!r}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_document_has_another_word_for_safe(path: Path) -> None:
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        assert not OTHERS.search(line), f"line {number}: {line}"
        assert not OF_CHECKPOINTS.search(line), f"line {number}: {line}"


@pytest.mark.parametrize(
    "word", ["session", "attempt", "generation", "checkpoint", "safe", "goodput", "settle time", "epoch"]
)
def test_the_glossary_explains_each_word(word: str) -> None:
    assert f"| **{word}** | " in (ROOT / "docs/glossary.md").read_text()


def test_the_readme_leads_to_the_glossary() -> None:
    assert "(docs/glossary.md)" in (ROOT / "README.md").read_text()
