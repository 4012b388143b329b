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
FLUSH_HINT = "keep this machine until Drive shows the checkpoint; it uploads by itself"


def is_here(environ: Mapping[str, str]) -> bool:
    """COLAB_RELEASE_TAG is set on Colab's own machines and inherited by what a notebook starts."""
    return bool(environ.get("COLAB_RELEASE_TAG"))


def describe(_environ: Mapping[str, str], now: Instant) -> Platform:
    """Return Colab's planning figures. The boot clock is an upper bound of the age, as machines may be pre-warmed."""
    life = Lifetime(LIFE_S, hard=False)
    return Platform("colab", f"{DRIVE}/supervisor", 6 * 3600.0, life, now.mono_s, flush)


def flush(within_s: float) -> None:
    """Let Drive upload all it holds and unmount it (google.colab.drive.flush_and_unmount). Raises UserError.

    In a process of its own, because it may hang longer than it promises; it needs no notebook kernel.
    """
    import subprocess
    import sys

    said = f"from google.colab import drive; drive.flush_and_unmount(timeout_ms={within_s * 1000:.0f})"
    try:
        done = subprocess.run(
            [sys.executable, "-c", said], check=False, capture_output=True, text=True, timeout=within_s + 5
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UserError(f"Drive was not flushed: {error}", FLUSH_HINT) from error
    if done.returncode != 0:
        last = done.stderr.strip().rpartition("\n")[2]
        raise UserError(f"Drive was not flushed: {last}", FLUSH_HINT)


def check_store(where: str, is_mount: Callable[[str], bool]) -> None:
    """Refuse a place on Drive while Drive is not mounted: a plain folder of that name would die with the machine."""
    if f"{where}/".startswith(f"{MOUNT}/") and not is_mount(MOUNT):
        raise UserError(
            f"{where} is on Google Drive, and Drive is not mounted here",
            f'run this cell, then start again: from google.colab import drive; drive.mount("{MOUNT}")',
            FAILED_PRECHECKS,
        )
