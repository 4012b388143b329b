"""Slurm: a job with an end that is known; it hands over in time and is put back into the queue."""

from __future__ import annotations

import os
import re
from functools import partial
from typing import TYPE_CHECKING

from supervisor.core.deadline import Lifetime
from supervisor.core.errors import UserError
from supervisor.core.ports import Platform

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from supervisor.core.instant import Instant

ANSWER_S = 20.0
# Slurm's own defaults: what `--signal=B:USR1@300` leaves, and KillWait, which follows SIGTERM.
LEFT_S, KILL_WAIT_S = 300.0, 30.0
PRIOR_LIFE_S = 12 * 3600.0
NOTICE = "SIGUSR1 from `#SBATCH --signal=B:USR1@300`, with `exec` before python; else SIGTERM, 30 s before its end"
_LEFT = re.compile(r"(?:(\d+)-)?(?:(?:(\d+):)?(\d+):)?(\d+)$")
_ENDED_BY_A_PERSON = "CANCELLED"


def is_here(environ: Mapping[str, str]) -> bool:
    """SLURM_JOB_ID is set in every job."""
    return bool(environ.get("SLURM_JOB_ID"))


def describe(environ: Mapping[str, str], now: Instant) -> Platform:
    """Return the job's own figures, as its variables say; its end is certain, so a run leaves in time."""
    job = environ["SLURM_JOB_ID"]
    began_s, end_s = (_number(environ.get(f"SLURM_JOB_{name}_TIME")) for name in ("START", "END"))
    lifetime, age_s = None, 0.0
    if end_s is not None:
        began_s = min(now.wall_s, end_s if began_s is None else began_s)
        lifetime, age_s = Lifetime(max(1.0, end_s - began_s), hard=True), now.wall_s - began_s
    restarts = _number(environ.get("SLURM_RESTART_COUNT")) or 0
    again = f", start {restarts + 1:.0f} of it" if restarts else ""
    return Platform(
        name="slurm",
        store="./runs",
        prior_life_s=PRIOR_LIFE_S,
        lifetime=lifetime,
        age_s=age_s,
        title=f"Slurm job {job}{again}",
        notice=NOTICE,
        asked=None if lifetime else partial(left, job),
        signals={"SIGUSR1": LEFT_S, "SIGTERM": KILL_WAIT_S},
        again=partial(requeue, job),
    )


def check_store(_where: str, _is_mount: Callable[[str], bool], _environ: Mapping[str, str] = os.environ) -> None:
    """Any folder that the next node sees will do; which those are only the cluster's people know."""


def left(job: str) -> Lifetime | None:
    """Ask Slurm how long the job may still run: "1-02:03:04", "UNLIMITED"; None where it has no limit or no answer."""
    try:
        said = _LEFT.match(_ask("squeue", "-h", "-j", job, "-o", "%L").strip())
    except UserError:
        return None  # the run goes on without: the signals come all the same
    if said is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in said.groups())
    return Lifetime(max(1.0, ((days * 24 + hours) * 60 + minutes) * 60.0 + seconds), hard=True)


def requeue(job: str) -> str:
    """Put the job back into the queue unless that is forbidden or a person ended it. Raises UserError."""
    told = dict(re.findall(r"(\w+)=(\S*)", _ask("scontrol", "show", "job", job)))
    if told.get("JobState", "").startswith(_ENDED_BY_A_PERSON):
        return f"Slurm job {job} was cancelled, so it is not put back into the queue"
    if told.get("Requeue") != "1":
        return f"Slurm job {job} may not be requeued (sbatch --requeue allows it): submit it again to go on"
    _ask("scontrol", "requeue", job)
    return f"Slurm job {job} is back in the queue and goes on when it gets a node (sbatch --no-requeue keeps it out)"


def _ask(*words: str) -> str:
    import subprocess

    hint = "submit the job again by hand: the same script goes on from what is safe"
    try:
        done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=ANSWER_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UserError(f"Slurm was not reached: {error}", hint) from error
    if done.returncode != 0:
        last = done.stderr.strip().rpartition("\n")[2]
        raise UserError(f"{' '.join(words)} failed: {last or f'exit code {done.returncode}'}", hint)
    return done.stdout


def _number(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:
        return None
