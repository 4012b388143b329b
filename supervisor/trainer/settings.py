"""What the supervisor told this process through its environment, and what holds where there is no supervisor."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from supervisor.core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

ALONE_SAVE_EVERY_S = 600.0
GRACE_S = 30.0


class SaveEvery(NamedTuple):
    """When a checkpoint is due: one of the three is set; none of them means only when asked."""

    steps: int | None = None
    epochs: int | None = None
    seconds: float | None = None


class Settings(NamedTuple):
    """``checkpoint`` is None at a first start; ``supervised`` is False where the script runs on its own.

    A rehearsal ends the script at step ``stop_at``, as if its work were done there. ``packages`` is the folder of the
    supervisor's own packages, "" where they are not known.
    """

    supervised: bool
    name: str
    attempt: int
    checkpoint: Path | None
    staging: Path
    scratch: Path
    save_every: SaveEvery
    grace_s: float
    channel: str
    stop_at: int | None = None
    packages: str = ""


def read_settings(environ: Mapping[str, str], script: str) -> Settings:
    """Return the settings; UsageError for a value that the supervisor would not write."""
    name = environ.get("SUPERVISOR_RUN_NAME") or Path(script).stem or "run"
    channel = environ.get("SUPERVISOR_RUN_CHANNEL", "")
    own = Path("checkpoints") / name
    checkpoint = environ.get("SUPERVISOR_RUN_CHECKPOINT", "")
    every = environ.get("SUPERVISOR_RUN_SAVE_EVERY", "")
    return Settings(
        supervised=bool(channel),
        name=name,
        attempt=int(environ.get("SUPERVISOR_RUN_ATTEMPT") or 1),
        checkpoint=Path(checkpoint) if checkpoint else None,
        staging=Path(environ.get("SUPERVISOR_RUN_STAGING") or own).absolute(),
        scratch=Path(environ.get("SUPERVISOR_RUN_SCRATCH") or own / "scratch").absolute(),
        save_every=_save_every(every) if every else SaveEvery(seconds=None if channel else ALONE_SAVE_EVERY_S),
        grace_s=float(environ.get("SUPERVISOR_RUN_GRACE_S") or GRACE_S),
        channel=channel,
        stop_at=int(environ["SUPERVISOR_RUN_STOP_AT"]) if environ.get("SUPERVISOR_RUN_STOP_AT") else None,
        packages=environ.get("SUPERVISOR_RUN_PACKAGES", ""),
    )


def _save_every(text: str) -> SaveEvery:
    if text == "asked":
        return SaveEvery()
    for unit, field in (("steps", "steps"), ("ep", "epochs")):
        number = text.removesuffix(unit)
        if number != text and number.isdecimal() and int(number) > 0:
            return SaveEvery(**{field: int(number)})
    raise UsageError(f"SUPERVISOR_RUN_SAVE_EVERY is {text!r}", 'it must be like "500steps", "2ep" or "asked"')
