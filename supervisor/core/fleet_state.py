"""What the fleet's controller knows: its policy, the machine that serves now, and those that have served."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any

from supervisor.core import shapes  # noqa: TC001  # the reader of records evaluates the types
from supervisor.core.errors import INTERRUPTED
from supervisor.core.provisioning import Machine, Wanted
from supervisor.core.values import dataclass, replace

if TYPE_CHECKING:
    from collections.abc import Sequence

LEFT = "LEFT"  # the controller goes, the machine goes on
LOST, GIVEN_BACK = "lost", "given back"


class Phase(StrEnum):
    """What the controller is at."""

    LOOKING = "looking"
    WAITING = "waiting"
    BRINGING_UP = "bringing up"
    PREPARING = "preparing"
    STARTING = "starting"
    SERVING = "serving"
    RELEASING = "giving back"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Policy:
    """What a person allows. ``until_wall_s``: by this computer's clock; ``a_day``: machines brought up within 24 hours.

    ``silence_s``: how long a machine's beat may stand still; ``fruitless_max``: machines in a row that bring nothing new
    home; ``billed_s``: how long a machine can cost units at most.
    """

    wanted: Wanted = Wanted()
    machines_max: shapes.Whole = 24
    a_day: shapes.Whole = 12
    units_max: float | None = None
    until_wall_s: float | None = None
    paid: bool = False
    poll_s: float = 5.0
    listings: shapes.Whole = 3
    listings_apart_s: float = 5.0
    silence_s: float = 180.0
    fruitless_max: shapes.Whole = 3
    refusals_max: shapes.Whole = 40
    billed_s: float = 43200.0


@dataclass(frozen=True, slots=True)
class Life:
    """One machine's time with us, by this computer's clock. ``safe_from``, ``safe``: newest step at home at first and at last.

    ``end``: "" while it serves, LOST or GIVEN_BACK. ``asked_wall_s``: the bring-up was asked for; ``prepared_wall_s``: all
    files are there; ``agent_wall_s``: the agent runs; ``heard_wall_s``: its newest status came.
    """

    machine: Machine
    began_wall_s: float
    safe_from: int | None = None
    safe: int | None = None
    step: int | None = None
    first_step_wall_s: float | None = None
    ended_wall_s: float | None = None
    end: str = ""
    asked_wall_s: float | None = None
    prepared_wall_s: float | None = None
    agent_wall_s: float | None = None
    heard_wall_s: float | None = None

    def reached(self, step: int | None, safe: int | None, wall_s: float) -> Life:
        """Return it with what was seen now."""
        first_s = self.first_step_wall_s
        if first_s is None and step is not None and step > (self.safe_from or 0):
            first_s = wall_s
        return replace(
            self,
            step=self.step if step is None else step,
            safe=self.safe if safe is None else safe,
            first_step_wall_s=first_s,
        )

    def reopened(self) -> Life:
        """Return it as one that has not ended after all."""
        return replace(self, ended_wall_s=None, end="")


@dataclass(frozen=True, slots=True)
class Unsaved:
    """A machine that trains without a new checkpoint. ``due_s``: when one was due (monotonic), ``end_s``: when it is given up.

    ``saved``: the newest step that it had saved; ``told``: people know.
    """

    saved: int | None
    due_s: float
    end_s: float
    told: bool = False


@dataclass(frozen=True, slots=True)
class Fleet:
    """``doing``: the call in flight; ``wake_s``: when to go on (monotonic); ``machine``, ``life``: who serves now.

    ``before``: what was listed before the machine in ``name`` was asked for; ``foreign``: what has been reported;
    ``stale``: a poll has shown a beat that stands still for too long; ``deaf``: polls that failed while listings came through;
    ``lives``: those that ended; ``lives_before``: how many of them before this launch.

    ``fresh``: the machine was made just now, and nothing was started on it.
    ``stop_read``: the status was read after the stop was asked for; ``stop_epoch``: the session that the stop names;
    ``stop_before``: a stop of an earlier launch may have reached the machine; ``empty``: by its status nothing was
    trained there. ``stray``: a machine of ours that is given back beside the one that serves; ``lost_looks``,
    ``look_lost_s``: listings for lost machines, and when the next is due. ``closing``: the end (code, state, words, hint)
    that waits for a last listing, in ``closing_tries``. ``told``: troubles that were shown, each with its time.
    ``preparing_s``: since when the agent only prepares. ``word_s``: the last words about waiting; ``heard_s``: the last status.
    ``fetching``: nothing trains any more there, and results are fetched. ``unsaved``: since when nothing new was saved on the machine although it trains, None while it does not.
    """

    prefix: str
    policy: Policy = Policy()
    on: str = ""
    phase: Phase = Phase.LOOKING
    machine: Machine | None = None
    life: Life | None = None
    name: str = ""
    number: int = 0
    lives: Sequence[Life] = ()
    lives_before: int = 0
    before: Sequence[str] = ()
    foreign: Sequence[str] = ()
    doing: str = ""
    wake_s: float | None = None
    look: bool = False
    absent: int = 0
    troubles: int = 0
    refusals: int = 0
    fruitless: int = 0
    restarts: int = 0
    beat: int = -1
    beat_s: float = 0.0
    stale: bool = False
    deaf: int = 0
    safe: int | None = None
    stop: str = ""
    stop_code: int = INTERRUPTED
    stop_passed_on: bool = False
    stop_s: float | None = None
    release_then: str = ""
    exit_code: int | None = None
    units: float | None = None
    units_first: float | None = None
    units_per_hour: float | None = None
    units_wall_s: float = 0.0
    balance_s: float | None = None
    fresh: bool = False
    stop_read: bool = False
    stop_epoch: int | None = None
    stop_before: bool = False
    empty: bool = False
    stray: Machine | None = None
    lost_looks: int = 0
    look_lost_s: float | None = None
    closing: tuple[int, str, str, str] | None = None
    closing_tries: int = 0
    asked_wall_s: float | None = None
    told: Sequence[tuple[str, float]] = ()
    trouble_s: float = 0.0
    news: Sequence[object] = ()
    news_s: float = 0.0
    quiet_s: float | None = None
    word_s: float = 0.0
    heard_s: float = 0.0
    unsaved: Unsaved | None = None
    line: str = ""
    fetching: bool = False
    cause: str = ""
    trouble: str = ""
    preparing_s: float | None = None

    def with_(self, **changes: Any) -> Fleet:
        """Return a copy with these fields changed."""
        return replace(self, **changes)

    def trusted(self, mono_s: float) -> Fleet:
        """Return it with no doubt about the machine: silence counts from now on."""
        return replace(self, beat_s=mono_s, stale=False, deaf=0)

    def calling(self, call: str) -> Fleet:
        """Return it with a call in flight."""
        return replace(self, doing=call, wake_s=None)

    def closed(self, end: str, wall_s: float) -> Fleet:
        """Return it without the machine that served, whose life ends."""
        ended = () if self.life is None else (replace(self.life, end=end, ended_wall_s=wall_s),)
        return replace(self, machine=None, life=None, lives=(*self.lives, *ended), absent=0, troubles=0)

    def lives_without(self, life: Life) -> tuple[Life, ...]:
        """Return the lives but for one."""
        return tuple(each for each in self.lives if each is not life)

    def used(self, wall_s: float) -> float:
        """Return the units used up by now: what was read last, and the rate since then."""
        since_s = max(0.0, wall_s - self.units_wall_s) if self.life is not None else 0.0
        return self.units_used + since_s / 3600 * (self.units_per_hour or 0.0)

    def left(self, wall_s: float) -> float:
        """Return the units that are left by now."""
        return max(0.0, (self.units or 0.0) - (self.used(wall_s) - self.units_used))

    @property
    def lost_ones(self) -> tuple[Life, ...]:
        """The machines of this launch that listings lacked, and that were never proved to be given back."""
        return tuple(life for life in self.lives if life.end == LOST)

    @property
    def units_used(self) -> float:
        """What was used up since this launch began, as far as it is known."""
        return 0.0 if self.units is None or self.units_first is None else max(0.0, self.units_first - self.units)
