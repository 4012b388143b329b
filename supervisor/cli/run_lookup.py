"""Store and run of a command, or two lines that say why one of them is unavailable."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from supervisor.bootstrap import ensure
from supervisor.cli.default_run import AWAY, choose_run
from supervisor.cli.invocation import example_script
from supervisor.core import shell_commands
from supervisor.core.errors import UsageError, UserError
from supervisor.core.ports import Store, StoreError
from supervisor.core.suggestion import meant
from supervisor.views.wrapping import show

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Iterator, Sequence

    from supervisor.engine.paths import RunPaths
    from supervisor.engine.run_catalog.local_sessions import LocalSession
    from supervisor.engine.run_catalog.runs import RunRecord

    ByMachine = Callable[[Namespace, "StoreAwayError | NoSuchRunError"], int]

SHOWN_MAX = 8


class StoreAwayError(UserError):
    """The store is absent or does not answer. A local session may still give its status."""


class NoSuchRunError(UsageError):
    """The store answers and has no such run."""


@contextmanager
def opened(options: Namespace) -> Iterator[Store]:
    """Yield the store. A StoreError within the block becomes two lines, StoreAwayError if the store is absent."""
    ensure()
    shell_commands.set_about(option=option(options))
    from supervisor import composition
    from supervisor.engine.run_catalog.runs import describe_left_out, unusable_store

    try:
        store = composition.open_store(where(options))
    except UserError as error:
        raise StoreAwayError(error.what, error.hint, error.exit_code) from error
    try:
        yield store
        if words := describe_left_out(store):
            show(words, sys.stderr)
    except StoreError as error:
        two = unusable_store(store, error)
        if error.kind in AWAY:
            raise StoreAwayError(two.what, two.hint, two.exit_code) from error
        raise two from error


def answer(options: Namespace, by_store: Callable[[Namespace], int], by_machine: ByMachine) -> int:
    """Answer from the store; if it does not answer or has no such run, from the session on this machine."""
    try:
        return by_store(options)
    except (StoreAwayError, NoSuchRunError) as error:
        return by_machine(options, error)


def local_session(options: Namespace, name: str | None, error: StoreAwayError | NoSuchRunError) -> LocalSession:
    """Return the live local session of the run, or of the store's only run. Raises ``error`` if there is none.

    The session must belong to this very store: another store may have a run of the same name.
    """
    from supervisor import composition
    from supervisor.engine.run_catalog import local_sessions

    place = os.path.abspath(where(options))  # noqa: PTH100, because resolve() asks the mount, which may hang
    found = [each for each in local_sessions.alive_sessions(composition.local_root(os.environ)) if each.store == place]
    named = [each for each in found if name in {None, each.run}]
    if len({each.run for each in named}) != 1:
        raise error
    return max(named, key=lambda each: each.rank)


def where(options: Namespace) -> str:
    """Return the store's place as the user writes it."""
    from supervisor import composition

    return str(options.store or composition.default_store(os.environ))


def option(options: Namespace) -> str:
    """Return `` --store DIR`` for shown commands, or "" for the default store."""
    return shell_commands.store_option(options.store)


def select_run(store: Store, options: Namespace, name: str | None, verb: str) -> tuple[RunPaths, RunRecord]:
    """Return the named run, else the only one, else the live or newest one. Raises UsageError with the list."""
    from supervisor.engine.paths import RunPaths
    from supervisor.engine.run_catalog import runs

    if name is not None:
        place = RunPaths(name)
        record = runs.read(store, place) if runs.NAME.fullmatch(name) else None
        if record is None:
            if found := _local_leftovers(name, store):
                raise NoSuchRunError(*found)
            hint = _suggestion(runs.names(store), options, name, verb)
            raise NoSuchRunError(f"there is no run {name!r} in {where(options)}", hint)
        warn_of_damage(record)
        shell_commands.set_about(name, option(options))
        return place, record
    names = runs.names(store)
    if not names:
        raise NoSuchRunError(no_runs_message(options), start_hint(options))
    one = names[0] if len(names) == 1 else choose_run(store, names, options, verb=verb)
    record = runs.read(store, RunPaths(one))
    if record is None:
        raise StoreError(f"the record of {one} is gone")
    if len(names) == 1:
        warn_of_damage(record)
    shell_commands.set_about(one, option(options))
    return RunPaths(one), record


def warn_of_damage(record: RunRecord) -> None:
    """Report on stderr, in one line, that a run's record is damaged or missing."""
    if record.damaged:
        show(f"{record.damaged}: what its sessions say is shown; the next start writes a new record", sys.stderr)


def _local_leftovers(name: str, store: Store) -> tuple[str, str] | None:
    from supervisor import composition
    from supervisor.engine.run_catalog import local_leftovers

    return local_leftovers.words(composition.local_root(os.environ), store.traits.where, name)


def no_runs_message(options: Namespace) -> str:
    """Return the message for a store that is empty or absent."""
    return f"no runs in {where(options)} yet"


def start_hint(options: Namespace) -> str:
    """Return the hint for an empty store."""
    start = shell_commands.command("start", example_script(), option=option(options))
    return f"start one: `{start}`; or name another --store DIR"


def _suggestion(names: list[str], options: Namespace, name: str, verb: str) -> str:
    from supervisor.cli.verbs import checkpoints

    actions = checkpoints.WORDS if verb == "checkpoints" else ()
    return f"{meant(name, [*names, *actions])}{list_of_runs(names)}" if names else start_hint(options)


def list_of_runs(names: Sequence[str]) -> str:
    """Return a list of the runs of limited length."""
    more = f" and {len(names) - SHOWN_MAX} more" if len(names) > SHOWN_MAX else ""
    return f"the store has {', '.join(names[:SHOWN_MAX])}{more}"
