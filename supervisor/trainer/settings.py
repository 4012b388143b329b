"""What the supervisor told this process through its environment, and what holds where there is no supervisor."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from supervisor.core.errors import UsageError
from supervisor.core.rollback import of_words

if TYPE_CHECKING:
    from collections.abc import Mapping

ALONE_SAVE_EVERY_S = 600.0
GRACE_S = 30.0


class SaveEvery(NamedTuple):
    """When a checkpoint is due: one of the three is set; none of them means only when asked."""

    steps: int | None = None
    epochs: int | None = None
    seconds: float | None = None


class Troubles(NamedTuple):
    """What to watch for. ``awaited``: the kinds of trouble on which the supervisor acts; ``names``: of values, () for losses.

    ``rolled``: of each rollback that holds the session's name, the indices to pass over, the rate. ``most``: a person says
    that most of the run may be passed over.
    """

    awaited: frozenset[str] = frozenset()
    names: tuple[str, ...] = ()
    rolled: tuple[tuple[str, range, float], ...] = ()
    most: bool = False


class Settings(NamedTuple):
    """``checkpoint`` is None at a first start; ``supervised`` is False where the script runs on its own.

    A rehearsal ends the script at step ``stop_at``, as if its work were done there. ``packages`` is the folder of the
    supervisor's own packages, "" where they are not known. ``base_step``: the step of the files that a script nobody attached
    goes on from, and ``put_back`` the list of them; ``hooks``: such a script's framework is watched; ``folder``: what it
    writes there is kept, "" for none; relative to ``working``, the folder it was started in.
    ``attach``: our callback joins the framework's loop. ``module``: what runs is the module of this name, "" for a script.
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
    base_step: int = 0
    put_back: str = ""
    hooks: bool = True
    folder: str = ""
    working: Path = Path()
    attach: bool = False
    troubles: Troubles = Troubles()
    module: str = ""


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
        base_step=int(environ.get("SUPERVISOR_RUN_BASE_STEP") or 0),
        put_back=environ.get("SUPERVISOR_RUN_PUT_BACK", ""),
        hooks=environ.get("SUPERVISOR_RUN_HOOKS") != "off",
        folder=environ.get("SUPERVISOR_RUN_WATCH") or "",
        working=Path.cwd(),
        attach=environ.get("SUPERVISOR_RUN_ATTACH") == "auto",
        troubles=_troubles(environ) if channel else Troubles(),
        module=environ.get("SUPERVISOR_RUN_MODULE", "") if channel else "",
    )


def _troubles(environ: Mapping[str, str]) -> Troubles:
    acts = {"nan": environ.get("SUPERVISOR_RUN_ON_NAN"), "spike": environ.get("SUPERVISOR_RUN_ON_SPIKE")}
    return Troubles(
        awaited=frozenset(kind for kind, how in acts.items() if how in {"stop", "rollback"}),
        names=tuple(filter(None, environ.get("SUPERVISOR_RUN_NAN_WATCH", "").split(","))),
        rolled=tuple(of_words(environ.get("SUPERVISOR_RUN_ROLLBACKS", ""))),
        most=bool(environ.get("SUPERVISOR_RUN_LEAVE_OUT_MOST")),
    )


def _save_every(text: str) -> SaveEvery:
    if text == "asked":
        return SaveEvery()
    for unit, field in (("steps", "steps"), ("ep", "epochs")):
        number = text.removesuffix(unit)
        if number != text and number.isdecimal() and int(number) > 0:
            return SaveEvery(**{field: int(number)})
    raise UsageError(f"SUPERVISOR_RUN_SAVE_EVERY is {text!r}", 'it must be like "500steps", "2ep" or "asked"')
