"""Says at the start on what a run goes on here: the machine, how long it may live, its accelerators."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.core import events as ev
from supervisor.core.spoken import duration
from supervisor.engine import accelerators, threads

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from supervisor.core.ports import Platform

LOOK_WITHIN_S = 20.0
NONE = "no accelerator found: training runs on the processor"


def tell(platform: Platform, environ: Mapping[str, str], inbox: Callable[[ev.Event], None]) -> None:
    """Put what is seen into the inbox, from a thread of its own: nothing waits for a driver that takes its time."""

    def look() -> None:
        found = accelerators.seen_within(LOOK_WITHIN_S, environ)
        device = "" if found is None else found.words
        words = "the accelerator's driver does not answer" if found is None else device or NONE
        inbox(ev.MachineSeen(device, f"{machine(platform)} · {words}", platform.advice))

    threads.start(look, "equipment")


def machine(platform: Platform) -> str:
    """Return what this machine is, and how old, and how old it may become where that is known."""
    parts = [platform.title or platform.name]
    if platform.lifetime is not None:
        parts.append(f"{duration(platform.age_s)} old")
        life = duration(platform.lifetime.seconds)
        parts.append(f"ends when it is {life} old" if platform.lifetime.hard else f"planned for {life}")
    return ", ".join(parts)
