"""A start that takes long says every few seconds what it does: while it looks at the store, and while it restores."""

from __future__ import annotations

from threading import Event
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from supervisor.core import commands as do
from supervisor.engine import ticking
from supervisor.engine.executor import Executor

if TYPE_CHECKING:
    from collections.abc import Callable

ENOUGH = 3


class Slow:
    """The parts that an executor works with. What is asked of the store is over once a few lines were said."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self._enough = Event()
        self.storing = SimpleNamespace(
            look=self._slow, read_history=self._slow, restart=lambda: None, restore=lambda **_: self._slow()
        )
        self.files = SimpleNamespace(put_back=lambda ready: ready)

    def _slow(self) -> str:
        assert self._enough.wait(60.0), self.said
        return "done"

    def _say(self, said: do.Say) -> None:
        self.said.append(said.words)
        if len(self.said) >= ENOUGH:
            self._enough.set()

    def _on(self, _lane: str, act: Callable[[], Any], _failed: object) -> None:
        self.done = act()

    def _cannot_start(self, error: Exception) -> None:
        raise error

    def _ticking(self, words: str, act: Callable[[], Any]) -> Callable[[], Any]:
        return Executor._ticking(self, words, act)


@pytest.mark.parametrize(
    ("begin", "words"),
    [
        (lambda slow: Executor._look(slow, do.Look()), "looking at the run in the store"),
        (lambda slow: Executor._read_history(slow, do.ReadHistory()), "reading what earlier machines left"),
        (
            lambda slow: Executor._restore(slow, do.Restore(afresh=True)),
            "fetching the newest checkpoint and verifying it",
        ),
    ],
    ids=["look", "history", "restore"],
)
def test_what_takes_long_on_the_store_has_a_line_every_few_seconds(monkeypatch, begin, words: str) -> None:
    monkeypatch.setattr(ticking, "EVERY_S", 0.01)
    slow = Slow()
    begin(slow)
    assert len(slow.said) >= ENOUGH
    assert all(said.startswith(f"{words}, ") and said.endswith(" so far") for said in slow.said)


def test_silence_is_never_above_five_seconds() -> None:
    assert ticking.EVERY_S < 5


def test_what_is_quick_says_nothing() -> None:
    said: list[str] = []
    with ticking.told_every(said.append, str):
        pass
    assert said == []
