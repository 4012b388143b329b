"""The shipped command line with the waits of its protocol made shorter by a factor, as the trace makes lives shorter.

python -m benchmarks.lives.lapse FACTOR start SCRIPT …

A wait of 60 s for others' names to show is nothing in a life of three hours, and three lives in a life of 16 s. Only waits
and bounds of intervals are divided; no step of the protocol is left out, and what takes work takes as long as it takes.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import ModuleType

    from supervisor.core.session import Config

DIVIDED = ("settle_s", "silence_s", "answer_s", "prior_life_s")  # of the session's configuration
WAIT_S_MIN = 0.05  # because what is done after each wait takes its real time
WORKER = "supervisor.stores.worker"


def main(factor: float, words: list[str]) -> int:
    """Run a verb with its waits divided."""
    from supervisor import cli

    hasten(factor)
    return cli.main(words)


def hasten(factor: float) -> None:
    """Divide the waits of this process and of the workers that it starts."""
    from supervisor import wiring
    from supervisor.core import interval, saving, starting
    from supervisor.stores import workers

    configured, opened = wiring.configure, wiring.open_store

    def hastened(*arguments: Any, **named: Any) -> Any:
        """Divide the distance between two proofs where both the session and the proof read it: in the store's traits."""
        store: Any = opened(*arguments, **named)
        store.traits = replace(store.traits, confirm_every_s=_divided(store.traits.confirm_every_s, factor))
        return store

    def shortened(*arguments: Any) -> Config:
        config = configured(*arguments)
        waits = {name: getattr(config, name) for name in DIVIDED}
        return replace(config, **{name: _divided(value, factor) for name, value in waits.items()})

    wiring.configure, wiring.open_store = shortened, hastened
    _divide(interval, "SAVE_S_MIN", factor)
    _divide(saving, "FIRST_SAVE_S", factor)
    _divide(starting, "LOOK_AGAIN_S", factor)
    workers.os = _Spawning(factor)  # because the processes that touch the drive wait too


def work(factor: float) -> None:
    """Be such a process."""
    from supervisor.stores import drive, worker

    _divide(drive, "LOOK_EVERY_S", factor)
    worker.main()


class _Spawning:
    """The os module as one module sees it: workers are started by way of this file."""

    def __init__(self, factor: float) -> None:
        self._factor = factor

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def posix_spawn(self, path: str, arguments: list[str], environ: dict[str, str], **named: Any) -> int:
        at = arguments.index(WORKER)
        ours = [*arguments[:at], "benchmarks.lives.lapse", f"{self._factor:g}", WORKER]
        return os.posix_spawn(path, ours, environ, **named)


def _divide(module: ModuleType, name: str, factor: float) -> None:
    setattr(module, name, _divided(getattr(module, name), factor))


def _divided(seconds: float, factor: float) -> float:
    return max(seconds / factor, WAIT_S_MIN) if seconds else seconds


if __name__ == "__main__":
    if sys.argv[2:] == [WORKER]:
        work(float(sys.argv[1]))
    else:
        raise SystemExit(main(float(sys.argv[1]), sys.argv[2:]))
