"""The user's own machine, without a time limit."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from supervisor.core.ports import Platform

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from supervisor.core.clock import Instant


def is_here(_environ: Mapping[str, str]) -> bool:
    """Return True: a machine that no other platform detects is local."""
    return True


def describe(_environ: Mapping[str, str], _now: Instant) -> Platform:
    """Return the known figures: no limit, and a typical lifetime of days."""
    return Platform("local", "./runs", 72 * 3600.0, title="this computer", notice="its signals: SIGTERM saves and ends")


def check_store(_where: str, _is_mount: Callable[[str], bool], _environ: Mapping[str, str] = os.environ) -> None:
    """Accept any folder."""
