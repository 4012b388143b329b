"""Runs in a store: enter one (making its record the first time), list them, read what was last known of one."""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from dataclasses import field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from supervisor.core.digest import SHA256, digest_of
from supervisor.core.errors import FAILED_PRECHECKS, UsageError, UserError
from supervisor.core.ports import Missing, Store, StoreError, Taken
from supervisor.core.values import dataclass
from supervisor.engine.journal import newest_status

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from supervisor.core.claim import Rank
    from supervisor.core.status import RunStatus
    from supervisor.engine.place import RunPlace

SCHEMA = 1
RECORD = re.compile(r"run( \((\d+)\))?\.json")
NAME = re.compile(r"[^\s/\\.][^/\\\x00-\x1f]{0,99}")


@dataclass(frozen=True, slots=True)
class Run:
    """A run's record, written once: its random id, its script, and how it was first started."""

    id: str
    script: str
    digest: str = ""
    arguments: Sequence[str] = ()
    options: Mapping[str, Any] = field(default_factory=dict)


class DamagedRecord(UserError):  # noqa: N818, because it is what is found
    """The run's record can be read, and is none."""


def enter(store: Store, run: RunPlace, script: Path, arguments: Sequence[str], options: Mapping[str, Any]) -> Run:
    """Return the run's record, making it if the run is new. Raises UserError where the run is another script's."""
    if not NAME.fullmatch(run.name):
        raise UsageError(f"{run.name!r} cannot be the name of a run", "choose --name with letters, digits, - and _")
    hashed = digest_of((script.read_bytes(),), SHA256)
    try:
        made = Run(os.urandom(8).hex(), _shown(script), hashed, arguments, options)
        known = _known(store, run, made) or _create(store, run, made, run.record)
    except StoreError as error:
        raise cannot_use(store, error) from error
    if known.digest != hashed and not _same_script(known.script, script):
        raise UserError(
            f"the run {run.name!r} in this store is of another script: {known.script}",
            "give this one a name of its own: --name NAME (or use another --store)",
        )
    return known


def read(store: Store, run: RunPlace) -> Run | None:
    """Return a run's record, or None if there is no such run. Raises StoreError, UserError for a newer version's.

    Of a drive's twins the first whole one counts: the others were broken off, or made on two machines at once.
    """
    try:
        return _parsed(store.read(run.record), run)
    except Missing:
        if not store.traits.mounted:
            return None
        damaged = None
    except DamagedRecord as error:
        damaged = error
    for name in _twins(store, run):
        with suppress(Missing, DamagedRecord):
            return _parsed(store.read(f"{run.name}/{name}"), run)
    if damaged:
        raise damaged
    return None


def names(store: Store) -> list[str]:
    """Return the names of all runs in a store."""
    folders = [entry.name for entry in store.list("") if entry.folder]
    return [name for name in folders if any(inside.name == "run.json" for inside in store.list(name))]


def last_status(store: Store, run: RunPlace, known: Sequence[Rank]) -> RunStatus | None:
    """Return the last status that one of the ``known`` sessions, oldest first, published; None if none ever did."""
    told = (newest_status(store, run, rank) for rank in reversed(known))
    return next((status for status in told if status is not None), None)


def cannot_use(store: Store, error: StoreError) -> UserError:
    """Say in two lines that a store cannot be used, and what to do."""
    hints = {
        "full": "make room there or choose another --store; nothing was lost",
        "read-only": "make it writable for this user, or choose another --store; nothing was lost",
        "gone": "mount it again, then start again; nothing was lost",
        "hung": "see whether it still works; if not, `umount -l` it and mount it again; nothing was lost",
    }
    if error.kind == "local":
        return UserError(f"this machine's own disk cannot be used: {error}", hints["full"], FAILED_PRECHECKS)
    hint = hints.get(error.kind, "see that it is a folder that can be read and written, then start again")
    return UserError(f"the store {store.traits.where} cannot be used: {error}", hint, FAILED_PRECHECKS)


def _known(store: Store, run: RunPlace, made: Run) -> Run | None:
    """Return the record that is there. On a drive a torn one does not stop us: another is put beside it, and it stays.

    It is not removed, because it may be another machine's that is still on its way.
    """
    try:
        return read(store, run)
    except DamagedRecord:
        if not store.traits.mounted:
            raise
    taken = (RECORD.fullmatch(name) for name in _twins(store, run))
    number = 1 + max((int(match[2]) for match in taken if match and match[2]), default=0)
    return _create(store, run, made, f"{run.name}/run ({number}).json")


def _parsed(body: bytes, run: RunPlace) -> Run:
    try:
        told = json.loads(body)
        if told["schema"] > SCHEMA:
            raise UserError(
                f"the run {run.name!r} was written by a newer version of training-supervisor",
                "update training-supervisor on this machine and start again",
                FAILED_PRECHECKS,
            )
        return Run(told["id"], told["script"], told.get("digest", ""), told["arguments"], told["options"])
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedRecord(
            f"{run.record} is damaged ({error})",
            "put it back from a copy, or start under another --name; the checkpoints beside it are untouched",
        ) from error


def _twins(store: Store, run: RunPlace) -> list[str]:
    """Return the names of the run's records in an order that is the same for all who see them."""
    found = ((RECORD.fullmatch(entry.name), entry.name) for entry in store.list(run.name))
    return [name for _, name in sorted((int(match[2] or 0), name) for match, name in found if match)]


def _create(store: Store, run: RunPlace, made: Run, path: str) -> Run:
    body = {
        "schema": SCHEMA,
        "id": made.id,
        "script": made.script,
        "digest": made.digest,
        "arguments": list(made.arguments),
        "options": dict(made.options),
    }
    try:
        store.create(path, json.dumps(body, ensure_ascii=False, indent=1).encode())
    except Taken:
        there = read(store, run)  # another machine entered at the same time: its record is the run's
        if there is None:
            raise
        return there
    return made


def _shown(script: Path) -> str:
    """Return the script's path as it is the same on every machine: from the folder that holds its repository."""
    for parent in script.parents:
        if (parent / ".git").exists() or (parent / "pyproject.toml").exists():
            return script.relative_to(parent).as_posix()
    return script.name


def _same_script(known: str, script: Path) -> bool:
    """The same file on another machine lies under another root: one path must end in the other."""
    one, other = PurePosixPath(known).parts, script.parts
    shared = min(len(one), len(other))
    return one[-shared:] == other[-shared:]
