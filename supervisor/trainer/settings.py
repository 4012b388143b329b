"""The settings that the supervisor passes in environment variables, and the defaults without a supervisor."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from supervisor.core.errors import UsageError
from supervisor.core.policy.rollback import from_env

if TYPE_CHECKING:
    from collections.abc import Mapping

STANDALONE_SAVE_INTERVAL_S = 600.0
GRACE_S = 30.0


class SaveInterval(NamedTuple):
    """The interval between checkpoints. One of the three is set; none means only on request."""

    steps: int | None = None
    epochs: int | None = None
    seconds: float | None = None


class AnomalyPolicy(NamedTuple):
    """The monitored values, and the requirements of rollbacks.

    ``handled_kinds`` are the kinds of anomaly on which the supervisor acts. ``loss_names`` are the monitored values, () for
    every name with "loss". ``rollbacks`` has for each active rollback the session's name, the skipped indices and the learning
    rate factor. ``allow_skipping_most``: the user allows that most of the run is skipped.
    """

    handled_kinds: frozenset[str] = frozenset()
    loss_names: tuple[str, ...] = ()
    rollbacks: tuple[tuple[str, range, float], ...] = ()
    allow_skipping_most: bool = False


class TrainerSettings(NamedTuple):
    """The settings of one trainer process.

    ``supervised`` is False if the script runs without a supervisor. ``checkpoint`` is None at a first start. ``stop_at``: a
    resume test ends the script at this step. ``packages``: the folder of the supervisor's own packages, "" if unknown.
    ``base_step``: the step of the files that an unmodified script resumes from; ``restored_list`` names a list of these files.
    ``hooks``: the frameworks of such a script are hooked. ``watch_dir``: the script's output folder that is saved, relative to
    ``working``, the folder in which the script was started; "" for none. ``auto_attach``: our callback joins the framework's
    loop. ``module``: the name of the module to run, "" for a script.
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
    """Return the settings. ``script``: the script's path, which names a run without a supervisor.

    Raises:
        UsageError: a variable has a value that the supervisor would not write.
    """
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
        rollbacks=tuple(from_env(environ.get("SUPERVISOR_RUN_ROLLBACKS", ""))),
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
