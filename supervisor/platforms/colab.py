"""Google Colab: machines of at most about 12 hours, that end without a signal. Recognised by its variables alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.core.deadline import Lifetime
from supervisor.core.errors import FAILED_PRECHECKS, UserError
from supervisor.core.ports import Platform

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from supervisor.core.instant import Instant

MOUNT = "/content/drive"
DRIVE = f"{MOUNT}/MyDrive"
LIFE_S = 12 * 3600.0


def is_here(environ: Mapping[str, str]) -> bool:
    """COLAB_RELEASE_TAG is set on Colab's own machines and inherited by what a notebook starts."""
    return bool(environ.get("COLAB_RELEASE_TAG"))


def describe(_environ: Mapping[str, str], now: Instant) -> Platform:
    """Return Colab's planning figures. The boot clock is an upper bound of the age, as machines may be pre-warmed."""
    return Platform("colab", f"{DRIVE}/supervisor", 6 * 3600.0, Lifetime(LIFE_S, hard=False), now.mono_s)


def check_store(where: str, is_mount: Callable[[str], bool]) -> None:
    """Refuse a place on Drive while Drive is not mounted: a plain folder of that name would die with the machine."""
    if f"{where}/".startswith(f"{MOUNT}/") and not is_mount(MOUNT):
        raise UserError(
            f"{where} is on Google Drive, and Drive is not mounted here",
            f'run this cell, then start again: from google.colab import drive; drive.mount("{MOUNT}")',
            FAILED_PRECHECKS,
        )
