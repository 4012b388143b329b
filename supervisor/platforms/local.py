"""One's own machine: it lives as long as it likes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from supervisor.core.ports import Platform

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from supervisor.core.instant import Instant


def is_here(_environ: Mapping[str, str]) -> bool:
    """Anything that no other platform recognises is local."""
    return True


def describe(_environ: Mapping[str, str], _now: Instant) -> Platform:
    """Return what is known: no limit, and machines that mostly live for days."""
    return Platform("local", "./runs", 72 * 3600.0, title="this computer", notice="its signals: SIGTERM saves and ends")


def check_store(_where: str, _is_mount: Callable[[str], bool], _environ: Mapping[str, str] = os.environ) -> None:
    """Any folder will do here."""
