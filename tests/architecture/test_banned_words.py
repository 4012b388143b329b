"""Identifiers use the words of the field: a list of words that are not, each with the word to use.

Names of modules, classes, functions, fields and attributes count, cut at underscores and capitals. A word that is still
there has a number: how many names of the package hold it today. The number goes down only.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections import defaultdict
from typing import TYPE_CHECKING

import pytest

from tests.architecture.source_tree import PACKAGE, modules, tree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# word -> how many identifiers may hold it, and what to use for it
BANNED = {
    "afresh": (1, "fresh"),
    "anew": (5, "fresh"),
    "bring": (4, "fetch, create or start"),
    "brought": (2, "fetched, created or started"),
    "dark": (2, "unreachable"),
    "deaf": (2, "unresponsive, or a list of ignored events"),
    "door": (0, "router or entry point"),
    "fallen": (0, "superseded"),
    "fate": (0, "outcome"),
    "fruitless": (0, "without progress"),
    "hands": (0, "executor"),
    "heard": (4, "received"),
    "heeded": (0, "handled"),
    "hopeless": (1, "permanent"),
    "keeps": (2, "stores or retains"),
    "kept": (21, "stored, retained or known"),
    "knock": (1, "probe"),
    "knocked": (1, "probed"),
    "lane": (0, "queue"),
    "lanes": (0, "queues"),
    "letter": (1, "acknowledgement"),
    "life": (11, "lifetime, session or context"),
    "lives": (4, "lifetimes or sessions"),
    "look": (16, "inspect, read or list"),
    "looked": (2, "inspected, read or listed"),
    "mail": (0, "acknowledgements"),
    "mended": (0, "repaired"),
    "met": (1, "detected"),
    "notes": (9, "records"),
    "outranked": (0, "superseded"),
    "parcel": (2, "part"),
    "passing": (2, "transient, or skipping"),
    "poisoned": (0, "anomaly detected"),
    "proved": (6, "verified or confirmed"),
    "said": (6, "reported, printed or received"),
    "say": (17, "notify, print or report"),
    "seen": (23, "observed, read or known"),
    "served": (0, "active"),
    "shown": (27, "displayed or escaped"),
    "sighting": (0, "observation"),
    "stillness": (0, "quiescence or frozen"),
    "tell": (5, "send, notify or describe"),
    "told": (17, "sent, reported or described"),
    "trouble": (9, "anomaly or error"),
    "troubled": (0, "anomalous"),
    "untold": (0, "unreported"),
    "whole": (18, "valid or complete"),
    "wish": (0, "request"),
    "withdrawn": (4, "rolled back"),
}
WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


def words(identifier: str) -> set[str]:
    """Return the words of an identifier: `has_seenIt` is has, seen, it."""
    return {word.lower() for word in WORD.findall(identifier)}


def identifiers(path: Path) -> set[str]:
    """Return the names that a module defines; its own name is one."""
    return {path.stem, *(name for node in ast.walk(tree(path)) for name in _defined(node))}


def _defined(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        yield node.name
    if isinstance(node, ast.ClassDef | ast.Module):
        for line in node.body:
            yield from (each.id for each in _targets(line) if isinstance(each, ast.Name))
    for each in _targets(node):
        if isinstance(each, ast.Attribute) and isinstance(each.value, ast.Name) and each.value.id == "self":
            yield each.attr


def _targets(node: ast.AST) -> list[ast.expr]:
    if isinstance(node, ast.Assign):
        return node.targets
    return [node.target] if isinstance(node, ast.AnnAssign) else []


def found(package: Path) -> dict[str, list[str]]:
    """Return for each banned word the identifiers that hold it, with their modules."""
    there = defaultdict(list)
    for module, path in modules(package).items():
        for name in sorted(identifiers(path)):
            for word in words(name) & BANNED.keys():
                there[word].append(f"{module}.{name}")
    return there


FOUND = found(PACKAGE)


@pytest.mark.filterwarnings("default:lower the number")  # a rename must not fail for a number in another file
@pytest.mark.parametrize("word", BANNED)
def test_a_banned_word_does_not_spread(word: str) -> None:
    most, instead = BANNED[word]
    assert len(FOUND[word]) <= most, f"use {instead}; `{word}` stands in {FOUND[word]}"
    if len(FOUND[word]) < most:
        warnings.warn(f"lower the number of `{word}` in {__name__} from {most} to {len(FOUND[word])}", stacklevel=1)


def test_each_word_has_another_to_use() -> None:
    assert all(instead for _, instead in BANNED.values())
    assert list(BANNED) == sorted(BANNED)


def test_a_word_is_found_wherever_a_name_is_defined(tmp_path: Path) -> None:
    (tmp_path / "wish.py").write_text(
        "FATE_MAX = 1\nclass MailBox:\n    lane: int\n    def heeded(self):\n        self._anew = 1\n        told = 2\n"
    )
    assert found(tmp_path) == {
        "wish": [f"{tmp_path.name}.wish.wish"],
        "fate": [f"{tmp_path.name}.wish.FATE_MAX"],
        "mail": [f"{tmp_path.name}.wish.MailBox"],
        "lane": [f"{tmp_path.name}.wish.lane"],
        "heeded": [f"{tmp_path.name}.wish.heeded"],
        "anew": [f"{tmp_path.name}.wish._anew"],
    }
    assert words("HTTPSeen_andTold") == {"http", "seen", "and", "told"}
