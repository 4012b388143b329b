"""Files that implement a protocol explain it at the top, so that a reader understands the code without the other files."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

SUPERVISOR = Path(__file__).resolve().parents[2] / "supervisor"
LINES_MIN, WORDS_MAX = 20, 25
EXPLAINED = (
    "core/policy/rollback.py",
    "core/session/state_machine.py",
    "engine/upload/fenced_store.py",
    "engine/upload/step_log.py",
    "engine/upload/uploader.py",
    "fleet/transfer/__init__.py",
    "stores/mounted/store.py",
    "stores/relay.py",
)


def docstring(file: str) -> str:
    return ast.get_docstring(ast.parse((SUPERVISOR / file).read_text())) or ""


def sentences(text: str) -> list[str]:
    """Return the sentences of a docstring: list marks and line breaks do not end one."""
    parts = re.split(r"\n\s*(?:\n|- |\d+\. |[a-z][.,] )", text)
    return [each for part in parts for each in re.split(r"(?<=[.:;])\s+", " ".join(part.split()))]


@pytest.mark.parametrize("file", EXPLAINED)
def test_a_protocol_is_explained_where_it_is_implemented(file):
    text = docstring(file)
    assert "Theory of operation" in text
    assert len(text.splitlines()) >= LINES_MIN


@pytest.mark.parametrize("file", EXPLAINED)
def test_its_rules_are_numbered_from_one_and_precede_the_cases(file):
    text = docstring(file)
    rules, _, cases = text.partition("\nCases")
    numbers = [int(each) for each in re.findall(r"^(\d+)\. ", rules, re.MULTILINE)]
    assert len(numbers) >= 4
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(re.findall(r"^- ", cases, re.MULTILINE)) >= 3


@pytest.mark.parametrize("file", EXPLAINED)
def test_its_sentences_are_short(file):
    long = [each for each in sentences(docstring(file)) if len(each.split()) > WORDS_MAX]
    assert not long


def test_a_long_sentence_in_a_list_is_found():
    text = f"A rule.\n\n1. {'word ' * 40}end.\n2. Short.\n"
    assert [len(each.split()) > WORDS_MAX for each in sentences(text)] == [False, True, False]
