"""Why something died, and whether to try again, after how long, or to give up.

Two budgets: failures of the script without progress, and lost machines. Progress resets the first; what cannot work
is never tried again, and what failed twice in the same place without a step in between is not tried a third time. The waits use tenacity's vocabulary (``wait_exponential``), the counts ``stop_after_attempt``.
"""

from __future__ import annotations

import signal as signals  # names of numbers only
from enum import StrEnum

from supervisor.core import errors
from supervisor.core.values import dataclass


class Cause(StrEnum):
    """Why an attempt or a machine ended."""

    SCRIPT = "script failed"
    SIGNAL = "killed by a signal"
    OUT_OF_MEMORY = "out of memory"
    DEVICE_OUT_OF_MEMORY = "accelerator out of memory"
    HANG = "hung"
    SETUP = "cannot start"
    REFUSED = "state cannot be kept exactly"
    NO_PROGRESS = "no progress"
    CODE = "error in the script"
    UNFINISHED = "ended before its end"


SAME_MAX = 2  # ends in the same place without a step in between: the second one confirms the first
_AT_ONCE = {  # what a restart cannot help, and the exit code that says so
    Cause.SETUP: errors.FAILED_SETUP,
    Cause.REFUSED: errors.FAILED_SETUP,
    Cause.CODE: errors.FAILED,
}
_PASSING = frozenset({Cause.SIGNAL, Cause.OUT_OF_MEMORY, Cause.DEVICE_OUT_OF_MEMORY, Cause.HANG})


@dataclass(frozen=True, slots=True)
class WaitExponential:
    """tenacity.wait_exponential: multiplier * exp_base ** (attempt - 1), within min and max, in seconds."""

    multiplier: float = 0.5
    exp_base: float = 2.0
    min: float = 0.0
    max: float = 60.0

    def __call__(self, attempt: int) -> float:
        """Return the wait before the attempt after failure number ``attempt`` (1 for the first)."""
        try:
            wait_s = self.multiplier * self.exp_base ** (attempt - 1)
        except OverflowError:  # a drive that is full for a day is tried a thousand times
            return self.max
        return max(self.min, min(self.max, wait_s))


@dataclass(frozen=True, slots=True)
class Policy:
    """``max_restarts``: failures of the script in a row without progress. ``max_preemptions``: lost machines, or None."""

    max_restarts: int = 3
    max_preemptions: int | None = None
    wait: WaitExponential = WaitExponential()


@dataclass(frozen=True, slots=True)
class Death:
    """One end of the trainer: the ``cause``, in ``words``, and how it can be told apart.

    ``passing``: it comes from outside the script (a signal, the network, a device) and may not come again.
    ``at_once``: the script ended itself with exit code 0 inside its loop, and would do so again.
    """

    cause: Cause
    words: str
    exit_code: int | None = None
    signal: int | None = None
    passing: bool = False
    at_once: bool = False


@dataclass(frozen=True, slots=True)
class Retry:
    """Start the trainer again after ``wait_s``."""

    wait_s: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Do not start it again: end with this exit code, and say so."""

    exit_code: int
    words: str


def next_move(death: Death, failures: int, policy: Policy, *, same: int = 1, repeats: bool = False) -> Retry | GiveUp:
    """Decide what follows the ``failures``-th death of the script in a row without a new checkpoint in between.

    ``same``: how many ends in a row, this one among them, were in one place without a new step in between.
    ``repeats``: this attempt made as many steps as the one before, and ended in the same way.
    """
    if death.cause in _AT_ONCE:
        return GiveUp(_AT_ONCE[death.cause], f"{death.words}; a restart would not help")
    if death.at_once:
        return GiveUp(errors.FAILED, death.words)
    if policy.max_restarts and same >= SAME_MAX and not death.passing:
        return GiveUp(errors.NO_PROGRESS, f"{death.words}; the same twice, without a new step in between: giving up")
    if failures <= policy.max_restarts:
        return Retry(policy.wait(failures))
    if policy.max_restarts == 0:
        return GiveUp(errors.FAILED, f"{death.words}; restarts are switched off (--max-restarts 0)")
    how = "made as many steps and ended like that" if repeats else "ended without a new checkpoint"
    return GiveUp(errors.NO_PROGRESS, f"{death.words}; {failures} attempts in a row {how}: giving up")


def lost_machines_exceeded(lost_in_a_row: int, policy: Policy) -> bool:
    """Say whether the run used up its budget of machines lost in a row without a new DURABLE checkpoint."""
    return policy.max_preemptions is not None and lost_in_a_row > policy.max_preemptions


def name_death(*, code: int, oom: bool, hung: bool, said: tuple[str, str] | None) -> Death:
    """Tell the cause of an exit apart.

    ``code`` is the exit status as subprocess gives it (negative: a signal). ``oom`` is the kernel's or the cgroup's
    evidence. ``said`` is what the script's own exception report said: (kind, words).
    """
    number = -code if code < 0 else None
    if hung:
        words = "the trainer gave no sign of life for too long and was ended"
        return Death(Cause.HANG, words, signal=number, passing=True)
    if number is not None and oom:
        words = "the kernel killed the trainer because memory ran out"
        return Death(Cause.OUT_OF_MEMORY, words, signal=number, passing=True)
    if number is not None:
        return Death(Cause.SIGNAL, f"the trainer was killed by {signal_name(code)}", signal=number, passing=True)
    kind, words = said or ("script", "")
    cause = _CAUSES.get(kind, Cause.SCRIPT)
    passing = cause in _PASSING or kind == "outage"
    words = words or f"the script ended with exit code {code}"
    return Death(cause, words, exit_code=code, passing=passing, at_once=kind in {"left", "short"})


def signal_name(code: int) -> str:
    """Return the name of the signal that a negative exit status stands for."""
    return signals.Signals(-code).name if -code in set(signals.Signals) else f"signal {-code}"


_CAUSES = {
    "setup": Cause.SETUP,
    "refused": Cause.REFUSED,
    "code": Cause.CODE,
    "device-oom": Cause.DEVICE_OUT_OF_MEMORY,
    "left": Cause.UNFINISHED,
    "short": Cause.UNFINISHED,
    "unfinished": Cause.UNFINISHED,
}
