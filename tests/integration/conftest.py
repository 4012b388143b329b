"""Blank machines for the tests, and the certainty that nothing of them lives on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks.machines import Machine, Turn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture
def fresh_machine(tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Machine]]:
    """Each call is another blank machine that sees the same store."""
    turns: list[Turn] = []
    whole = Machine.start

    def start(self: Machine, *words: object, **more: object) -> Turn:
        turns.append(whole(self, *words, **more))
        return turns[-1]

    monkeypatch.setattr(Machine, "start", start)
    made: list[Machine] = []

    def make() -> Machine:
        made.append(Machine(tmp_path / f"machine-{len(made) + 1}", store))
        return made[-1]

    yield make
    for turn in turns:
        turn.end()


@pytest.fixture
def machine(fresh_machine: Callable[[], Machine]) -> Machine:
    return fresh_machine()
