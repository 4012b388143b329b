"""Attempts of one run in this process: each begins as a fresh process would, and what they leave is compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from supervisor.core.messages import Note
from supervisor.trainer import attach, compare, life
from supervisor.trainer.folder import open_folder
from supervisor.trainer.life import Life
from supervisor.trainer.settings import read_settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest


class Attempts:
    """Without a supervisor: a run's checkpoints lie in a folder of its own, and it is ended at a step by a setting."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.said: list[str] = []
        self._folder, self._patch = folder, monkeypatch
        monkeypatch.chdir(folder)
        monkeypatch.setattr(attach.signals, "listen", lambda *_arguments: None)
        monkeypatch.setattr(attach.atexit, "register", lambda *_arguments: None)

    def attempt(self, script: Callable[[], Any], name: str, stop_at: int | None = None) -> Any:
        """Call ``script`` as the run ``name``; return what it returns, or None if it was ended at ``stop_at``."""
        environ = {"SUPERVISOR_RUN_STAGING": str(self._folder / name), "SUPERVISOR_RUN_SAVE_EVERY": "1000000steps"}
        if stop_at is not None:
            environ["SUPERVISOR_RUN_STOP_AT"] = str(stop_at)
        here = Life(read_settings(environ, "train.py"))
        say = here.say
        here.say = lambda message: (  # type: ignore[method-assign]
            self.said.append(message.text) if isinstance(message, Note) else say(message)
        )
        self._patch.setattr(life, "_here", [here])
        try:
            return script()
        except SystemExit as end:
            if end.code != 0:
                raise
            return None

    def differences(self, one: str, other: str) -> list[str]:
        """Return where the newest checkpoints of two runs differ."""
        left, right = (open_folder(self._newest(name)) for name in (one, other))
        steps = [] if left.step == right.step else [f"steps {left.step} and {right.step}"]
        return [*steps, *compare.differing(left, right), *compare.differing_generators(left.rng, right.rng)]

    def step(self, name: str) -> int:
        """Return the step of a run's newest checkpoint."""
        return open_folder(self._newest(name)).step

    def _newest(self, name: str) -> Path:
        return max(self._folder.joinpath(name).glob("step-*"))
