"""Run of a verb without a name: the live one, else the one that was active last."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from supervisor.core import shell_commands
from supervisor.core.errors import UsageError, UserError
from supervisor.core.ports import StoreError
from supervisor.views.wrapping import show

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence

    from supervisor.core.clock import Instant
    from supervisor.core.ports import Store
    from supervisor.engine.run_catalog.run_status import RunOverview

AWAY = frozenset({"gone", "hung"})


class SeveralLiveError(UsageError):
    """More than one run is live; ``found`` holds their overviews."""

    def __init__(self, found: Sequence[RunOverview]) -> None:
        names = ", ".join(each.run.name for each in found)
        super().__init__(f"{len(found)} runs are live; say which", f"give its name behind the verb: {names}")
        self.found = found


def overview_of(store: Store, name: str, now: Instant) -> RunOverview | None:
    """Return the overview of a run, or None. An unreadable run is reported on stderr and hides no other run."""
    overview = overview_or_error(store, name, now)
    return None if isinstance(overview, str) else overview


def overview_or_error(store: Store, name: str, now: Instant) -> RunOverview | str | None:
    """Return the overview of a run, or the reason why it is unreadable (also on stderr); None if the run disappeared."""
    from supervisor.cli.run_lookup import warn_of_damage
    from supervisor.engine.paths import RunPaths
    from supervisor.engine.run_catalog import run_status, runs

    place = RunPaths(name)
    try:
        record = runs.read(store, place)
        if record is not None:
            warn_of_damage(record)
            return run_status.look(store, place, record, now)
    except UserError as error:
        why = f"{error.what}; {error.hint}"
        show(f"{name}: {why}", sys.stderr)
    except StoreError as error:
        if error.kind in AWAY:
            raise
        why = f"cannot be read: {error}"
        show(f"{name}: {why}", sys.stderr)
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, MemoryError, RecursionError) as error:
        # one run with unexpected records must not hide the others
        why = f"cannot be read: its records are damaged ({type(error).__name__}: {error})"
        show(f"{name}: {why}", sys.stderr)
    else:
        return None
    return why


def live(found: Sequence[RunOverview]) -> list[RunOverview]:
    """Return the runs with a live session, as far as known: a silent one on another machine may be lost."""
    return [
        each
        for each in found
        if each.alive or (each.is_active and (each.silent_s is None or each.silent_s <= each.quiet_s))
    ]


def choose_run(store: Store, names: Sequence[str], options: Namespace, *, verb: str) -> str:
    """Return the selected run and print it on stderr. Raises UsageError if the choice is ambiguous."""
    from supervisor.engine.clock import BootClock

    now = BootClock().now()
    found = [each for name in names if (each := overview_of(store, name, now)) is not None]
    live_runs = live(found)
    if len(live_runs) > 1:
        raise SeveralLiveError(live_runs)
    if verb == "stop" and not live_runs:
        listed = shell_commands.command("list", option=shell_commands.store_option(options.store))
        raise UsageError("no run is live: there is nothing to stop", f"`{listed}` shows how each ended")
    with_heartbeat = [each for each in found if each.silent_s is not None]
    if not live_runs and not with_heartbeat:
        raise UsageError("there are several runs; say which", f"give its name behind the verb; {_list_of_runs(names)}")
    one = live_runs[0] if live_runs else min(with_heartbeat, key=lambda each: each.silent_s or 0.0)
    why = "the live run" if live_runs else "the newest run"
    show(f"this is about {one.run.name}, {why} of {len(names)}; give another's name behind the verb", sys.stderr)
    return one.run.name


def _list_of_runs(names: Sequence[str]) -> str:
    from supervisor.cli.run_lookup import list_of_runs

    return list_of_runs(names)
