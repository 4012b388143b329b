"""Which run a verb without a name is about: the one that is live, else the one that was worked on last."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from supervisor.core import program
from supervisor.core.errors import UsageError, UserError
from supervisor.core.ports import StoreError
from supervisor.views.wrapping import show

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence

    from supervisor.core.instant import Instant
    from supervisor.core.ports import Store
    from supervisor.engine.overview import Overview

AWAY = frozenset({"gone", "hung"})


class SeveralLiveError(UsageError):
    """More than one run is live: ``found`` has what is seen of each."""

    def __init__(self, found: Sequence[Overview]) -> None:
        names = ", ".join(each.run.name for each in found)
        super().__init__(f"{len(found)} runs are live; say which", f"give its name behind the verb: {names}")
        self.found = found


def seen_of(store: Store, name: str, now: Instant) -> Overview | None:
    """Return what is seen of a run. One that cannot be read is said on stderr, and hides no other run."""
    seen = seen_or_why(store, name, now)
    return None if isinstance(seen, str) else seen


def seen_or_why(store: Store, name: str, now: Instant) -> Overview | str | None:
    """Return what is seen of a run, or why it cannot be read, which is said on stderr; None for one that went away."""
    from supervisor.cli.finding import tell_damage
    from supervisor.engine import overview, runs
    from supervisor.engine.place import RunPlace

    place = RunPlace(name)
    try:
        record = runs.read(store, place)
        if record is not None:
            tell_damage(record)
            return overview.look(store, place, record, now)
    except UserError as error:
        why = f"{error.what}; {error.hint}"
        show(f"{name}: {why}", sys.stderr)
    except StoreError as error:
        if error.kind in AWAY:
            raise
        why = f"cannot be read: {error}"
        show(f"{name}: {why}", sys.stderr)
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, MemoryError, RecursionError) as error:
        # one run whose records nobody foresaw must not hide the others
        why = f"cannot be read: its records are damaged ({type(error).__name__}: {error})"
        show(f"{name}: {why}", sys.stderr)
    else:
        return None
    return why


def live(found: Sequence[Overview]) -> list[Overview]:
    """Return the runs that a session serves now, as far as can be told: a silent one on another machine may be gone."""
    return [
        each
        for each in found
        if each.alive or (each.served and (each.silent_s is None or each.silent_s <= each.quiet_s))
    ]


def chosen(store: Store, names: Sequence[str], options: Namespace, *, verb: str) -> str:
    """Return the run that is meant and say on stderr which one it is. Raises UsageError where that is not clear."""
    from supervisor.engine.clock import BootClock

    now = BootClock().now()
    found = [each for name in names if (each := seen_of(store, name, now)) is not None]
    living = live(found)
    if len(living) > 1:
        raise SeveralLiveError(living)
    if verb == "stop" and not living:
        listed = program.command("list", option=program.store_option(options.store))
        raise UsageError("no run is live: there is nothing to stop", f"`{listed}` shows how each ended")
    signs = [each for each in found if each.silent_s is not None]
    if not living and not signs:
        raise UsageError("there are several runs; say which", f"give its name behind the verb; {_the_store_has(names)}")
    one = living[0] if living else min(signs, key=lambda each: each.silent_s or 0.0)
    why = "the live run" if living else "the newest run"
    show(f"this is about {one.run.name}, {why} of {len(names)}; give another's name behind the verb", sys.stderr)
    return one.run.name


def _the_store_has(names: Sequence[str]) -> str:
    from supervisor.cli.finding import the_store_has

    return the_store_has(names)
