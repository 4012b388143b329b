"""Invariants are cited by number from code and tests; each number stands in docs/invariants.md."""

from __future__ import annotations

import io
import re
import tokenize
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
TEXT = {tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.COMMENT)}
DTYPES = {"I8", "I16", "I32", "I64"}  # the safetensors format names integers so
FILES = [
    path
    for folder in ("supervisor", "tests", "benchmarks")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if path != Path(__file__).resolve() and re.search(r"\bI\d", path.read_text())
]


def defined() -> set[str]:
    return set(re.findall(r"^\| (I\d+) \|", (ROOT / "docs" / "invariants.md").read_text(), re.MULTILINE))


def cited(source: str) -> Iterator[str]:
    """Yield each invariant that a comment or a string names; a string that is a dtype names none."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in TEXT and token.string.strip("\"'") not in DTYPES:
            yield from re.findall(r"\bI\d+\b", token.string)


def test_the_list_is_complete() -> None:
    assert defined() == {f"I{number}" for number in range(1, 21)}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_cited_invariant_is_in_the_list(path: Path) -> None:
    assert set(cited(path.read_text())) <= defined()


def test_a_citation_is_found_and_a_dtype_is_none() -> None:
    assert list(cited('"""Uploads (I4), see I21."""\nkind = "I64"  # I9\n')) == ["I4", "I21", "I9"]
