"""Kaggle notebooks: 12 hours, and ``/kaggle/working`` is what is kept of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.core.deadline import Lifetime
from supervisor.core.ports import Platform

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from supervisor.core.instant import Instant

LIFE_S = 12 * 3600.0


def is_here(environ: Mapping[str, str]) -> bool:
    """KAGGLE_KERNEL_RUN_TYPE is set in every Kaggle session."""
    return bool(environ.get("KAGGLE_KERNEL_RUN_TYPE"))


def describe(_environ: Mapping[str, str], now: Instant) -> Platform:
    """Return Kaggle's planning figures."""
    return Platform("kaggle", "/kaggle/working/supervisor", 12 * 3600.0, Lifetime(LIFE_S, hard=False), now.mono_s)


def check_store(_where: str, _is_mount: Callable[[str], bool]) -> None:
    """Any folder will do here."""
