"""Reports the machine at the start of a run: its kind, its time limit and its accelerators."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.core.humanize import duration
from supervisor.core.session import events as ev
from supervisor.engine import threads
from supervisor.engine.host import accelerators

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from supervisor.core.ports import Platform

DETECT_WITHIN_S = 20.0
NONE = "no accelerator found: training runs on the processor"


def report_machine(platform: Platform, environ: Mapping[str, str], inbox: Callable[[ev.Event], None]) -> None:
    """Put the detected machine into the inbox, on a separate thread: a slow driver delays nothing."""

    def look() -> None:
        found = accelerators.detect_within(DETECT_WITHIN_S, environ)
        device = "" if found is None else found.words
        words = "the accelerator's driver does not answer" if found is None else device or NONE
        inbox(ev.MachineDetected(device, f"{machine(platform)} · {words}", platform.advice))

    threads.start(look, "equipment")


def machine(platform: Platform) -> str:
    """Return the machine's kind, its age and its time limit, if known."""
    parts = [platform.title or platform.name]
    if platform.lifetime is not None:
        parts.append(f"{duration(platform.age_s)} old")
        life = duration(platform.lifetime.seconds)
        parts.append(f"ends when it is {life} old" if platform.lifetime.hard else f"planned for {life}")
    return ", ".join(parts)
