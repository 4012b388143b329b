"""Which store and which run a command is about; where either cannot be had, two lines say why."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from supervisor.bootstrap import ensure
from supervisor.cli.calling import example_script
from supervisor.cli.which import AWAY, chosen
from supervisor.core import program
from supervisor.core.errors import UsageError, UserError
from supervisor.core.ports import Store, StoreError
from supervisor.core.spelling import meant
from supervisor.views.wrapping import show

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Iterator, Sequence

    from supervisor.engine.here import Here
    from supervisor.engine.place import RunPlace
    from supervisor.engine.runs import Run

    ByMachine = Callable[[Namespace, "StoreAwayError | NoSuchRunError"], int]

SHOWN_MAX = 8


class StoreAwayError(UserError):
    """The store is not there or does not answer. A session on this machine may still tell of itself."""


class NoSuchRunError(UsageError):
    """The store answers and shows no such run."""


@contextmanager
def opened(options: Namespace) -> Iterator[Store]:
    """Yield the store; every StoreError that leaves the block becomes two lines, StoreAwayError where it is not there."""
    ensure()
    program.set_about(option=option(options))
    from supervisor import wiring
    from supervisor.engine.runs import cannot_use, left_out

    try:
        store = wiring.open_store(where(options))
    except UserError as error:
        raise StoreAwayError(error.what, error.hint, error.exit_code) from error
    try:
        yield store
        if words := left_out(store):
            show(words, sys.stderr)
    except StoreError as error:
        two = cannot_use(store, error)
        if error.kind in AWAY:
            raise StoreAwayError(two.what, two.hint, two.exit_code) from error
        raise two from error


def told(options: Namespace, by_store: Callable[[Namespace], int], by_machine: ByMachine) -> int:
    """Answer from the store, or, where it does not answer or shows no such run, from the session on this machine."""
    try:
        return by_store(options)
    except (StoreAwayError, NoSuchRunError) as error:
        return by_machine(options, error)


def living_here(options: Namespace, name: str | None, error: StoreAwayError | NoSuchRunError) -> Here:
    """Return the session of the run, or of the store's only one, that lives on this machine; none: raise the ``error``.

    Only one of this very store will do, because another store may have a run of the same name.
    """
    from supervisor import wiring
    from supervisor.engine import here

    place = os.path.abspath(where(options))  # noqa: PTH100, because resolve() asks the mount, which may hang
    found = [each for each in here.living(wiring.local_root(os.environ)) if each.store == place]
    named = [each for each in found if name in {None, each.run}]
    if len({each.run for each in named}) != 1:
        raise error
    return max(named, key=lambda each: each.rank)


def where(options: Namespace) -> str:
    """Return the store's place as a person writes it."""
    from supervisor import wiring

    return str(options.store or wiring.default_store(os.environ))


def option(options: Namespace) -> str:
    """Return `` --store DIR`` for the commands that are shown, or "" where the default is meant."""
    return program.store_option(options.store)


def one_run(store: Store, options: Namespace, name: str | None, verb: str) -> tuple[RunPlace, Run]:
    """Return the run that is named, or the only one there is, or the live or newest one; UsageError lists them otherwise."""
    from supervisor.engine import runs
    from supervisor.engine.place import RunPlace

    if name is not None:
        place = RunPlace(name)
        record = runs.read(store, place) if runs.NAME.fullmatch(name) else None
        if record is None:
            if found := _left_here(name, store):
                raise NoSuchRunError(*found)
            hint = _instead(runs.names(store), options, name, verb)
            raise NoSuchRunError(f"there is no run {name!r} in {where(options)}", hint)
        tell_damage(record)
        program.set_about(name, option(options))
        return place, record
    names = runs.names(store)
    if not names:
        raise NoSuchRunError(none_yet(options), how_to_start(options))
    one = names[0] if len(names) == 1 else chosen(store, names, options, verb=verb)
    record = runs.read(store, RunPlace(one))
    if record is None:
        raise StoreError(f"the record of {one} is gone")
    if len(names) == 1:
        tell_damage(record)
    program.set_about(one, option(options))
    return RunPlace(one), record


def tell_damage(record: Run) -> None:
    """Say on stderr that a run's record is damaged or missing, in one line."""
    if record.damaged:
        show(f"{record.damaged}: what its sessions say is shown; the next start writes a new record", sys.stderr)


def _left_here(name: str, store: Store) -> tuple[str, str] | None:
    from supervisor import wiring
    from supervisor.engine import left_here

    return left_here.words(wiring.local_root(os.environ), store.traits.where, name)


def none_yet(options: Namespace) -> str:
    """Say that a store is empty or absent."""
    return f"no runs in {where(options)} yet"


def how_to_start(options: Namespace) -> str:
    """Say what to do about an empty store."""
    start = program.command("start", example_script(), option=option(options))
    return f"start one: `{start}`; or name another --store DIR"


def _instead(names: list[str], options: Namespace, name: str, verb: str) -> str:
    from supervisor.cli import checkpoints

    actions = checkpoints.WORDS if verb == "checkpoints" else ()
    return f"{meant(name, [*names, *actions])}{the_store_has(names)}" if names else how_to_start(options)


def the_store_has(names: Sequence[str]) -> str:
    """List the runs, not more than a person reads."""
    more = f" and {len(names) - SHOWN_MAX} more" if len(names) > SHOWN_MAX else ""
    return f"the store has {', '.join(names[:SHOWN_MAX])}{more}"
