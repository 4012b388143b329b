"""What the supervisor told this process through its environment, and what holds where there is no supervisor."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from supervisor.core.errors import UsageError
from supervisor.core.policy.rollback import of_words

if TYPE_CHECKING:
    from collections.abc import Mapping

STANDALONE_SAVE_INTERVAL_S = 600.0
GRACE_S = 30.0


class SaveInterval(NamedTuple):
    """When a checkpoint is due: one of the three is set; none of them means only when asked."""

    steps: int | None = None
    epochs: int | None = None
    seconds: float | None = None


class AnomalyPolicy(NamedTuple):
    """What to watch for. ``handled_kinds``: the kinds of trouble on which the supervisor acts; ``loss_names``: of values, () for losses.

    ``rollbacks``: of each rollback that holds the session's name, the indices to pass over, the rate. ``allow_skipping_most``: a person says
    that most of the run may be passed over.
    """

    handled_kinds: frozenset[str] = frozenset()
    loss_names: tuple[str, ...] = ()
    rollbacks: tuple[tuple[str, range, float], ...] = ()
    allow_skipping_most: bool = False


class TrainerSettings(NamedTuple):
    """``checkpoint`` is None at a first start; ``supervised`` is False where the script runs on its own.

    A rehearsal ends the script at step ``stop_at``, as if its work were done there. ``packages`` is the folder of the
    supervisor's own packages, "" where they are not known. ``base_step``: the step of the files that a script nobody attached
    goes on from, and ``restored_list`` the list of them; ``hooks``: such a script's framework is watched; ``watch_dir``: what it
    writes there is kept, "" for none; relative to ``working``, the folder it was started in.
    ``auto_attach``: our callback joins the framework's loop. ``module``: what runs is the module of this name, "" for a script.
    """

    supervised: bool
    name: str
    attempt: int
    checkpoint: Path | None
    staging: Path
    scratch: Path
    save_interval: SaveInterval
    grace_s: float
    channel: str
    stop_at: int | None = None
    packages: str = ""
    base_step: int = 0
    restored_list: str = ""
    hooks: bool = True
    watch_dir: str = ""
    working: Path = Path()
    auto_attach: bool = False
    anomalies: AnomalyPolicy = AnomalyPolicy()
    module: str = ""


def read_settings(environ: Mapping[str, str], script: str) -> TrainerSettings:
    """Return the settings; UsageError for a value that the supervisor would not write."""
    name = environ.get("SUPERVISOR_RUN_NAME") or Path(script).stem or "run"
    channel = environ.get("SUPERVISOR_RUN_CHANNEL", "")
    default_dir = Path("checkpoints") / name
    checkpoint = environ.get("SUPERVISOR_RUN_CHECKPOINT", "")
    every = environ.get("SUPERVISOR_RUN_SAVE_EVERY", "")
    return TrainerSettings(
        supervised=bool(channel),
        name=name,
        attempt=int(environ.get("SUPERVISOR_RUN_ATTEMPT") or 1),
        checkpoint=Path(checkpoint) if checkpoint else None,
        staging=Path(environ.get("SUPERVISOR_RUN_STAGING") or default_dir).absolute(),
        scratch=Path(environ.get("SUPERVISOR_RUN_SCRATCH") or default_dir / "scratch").absolute(),
        save_interval=_parse_interval(every)
        if every
        else SaveInterval(seconds=None if channel else STANDALONE_SAVE_INTERVAL_S),
        grace_s=float(environ.get("SUPERVISOR_RUN_GRACE_S") or GRACE_S),
        channel=channel,
        stop_at=int(environ["SUPERVISOR_RUN_STOP_AT"]) if environ.get("SUPERVISOR_RUN_STOP_AT") else None,
        packages=environ.get("SUPERVISOR_RUN_PACKAGES", ""),
        base_step=int(environ.get("SUPERVISOR_RUN_BASE_STEP") or 0),
        restored_list=environ.get("SUPERVISOR_RUN_PUT_BACK", ""),
        hooks=environ.get("SUPERVISOR_RUN_HOOKS") != "off",
        watch_dir=environ.get("SUPERVISOR_RUN_WATCH") or "",
        working=Path.cwd(),
        auto_attach=environ.get("SUPERVISOR_RUN_ATTACH") == "auto",
        anomalies=_anomaly_policy(environ) if channel else AnomalyPolicy(),
        module=environ.get("SUPERVISOR_RUN_MODULE", "") if channel else "",
    )


def _anomaly_policy(environ: Mapping[str, str]) -> AnomalyPolicy:
    actions = {"nan": environ.get("SUPERVISOR_RUN_ON_NAN"), "spike": environ.get("SUPERVISOR_RUN_ON_SPIKE")}
    return AnomalyPolicy(
        handled_kinds=frozenset(kind for kind, how in actions.items() if how in {"stop", "rollback"}),
        loss_names=tuple(filter(None, environ.get("SUPERVISOR_RUN_NAN_WATCH", "").split(","))),
        rollbacks=tuple(of_words(environ.get("SUPERVISOR_RUN_ROLLBACKS", ""))),
        allow_skipping_most=bool(environ.get("SUPERVISOR_RUN_LEAVE_OUT_MOST")),
    )


def _parse_interval(text: str) -> SaveInterval:
    if text == "asked":
        return SaveInterval()
    for unit, field in (("steps", "steps"), ("ep", "epochs")):
        number = text.removesuffix(unit)
        if number != text and number.isdecimal() and int(number) > 0:
            return SaveInterval(**{field: int(number)})
    raise UsageError(f"SUPERVISOR_RUN_SAVE_EVERY is {text!r}", 'it must be like "500steps", "2ep" or "asked"')
