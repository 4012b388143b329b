"""Runs in a store: enter one (making its record the first time), list them, read what was last known of one."""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from dataclasses import field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any

from supervisor.core import fields, shapes
from supervisor.core.claim import rank_of
from supervisor.core.errors import FAILED_PRECHECKS, UsageError, UserError
from supervisor.core.masking import masked
from supervisor.core.ports import Missing, Store, StoreError, Taken
from supervisor.core.project import Project, free_name, from_plain, same, to_plain
from supervisor.core.shown import shown
from supervisor.core.values import dataclass
from supervisor.engine import claims, project
from supervisor.engine.journal import newest_status
from supervisor.engine.place import RunPlace

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from supervisor.core.claim import Rank
    from supervisor.core.status import RunStatus

SCHEMA = 1
RECORD = re.compile(r"run( \(([0-9]{1,9})\))?\.json")
NAME = re.compile(rf"[^\s/\\.{fields.CONTROLS}][^/\\{fields.CONTROLS}]{{0,99}}")
ID = claims.RUN_ID
LEFT_OUT_NAMED = 3
SESSIONS_BACK = 3  # so many of the newest sessions tell what a lost record said


@dataclass(frozen=True, slots=True)
class Run:
    """A run's record, written once: its random id, its script, and how it was first started.

    ``damaged`` says what is wrong with the record in the store, where all this comes from the run's sessions instead.
    """

    id: str
    script: str
    digest: str = ""
    arguments: Sequence[str] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    project: Project = Project()
    damaged: str = ""


def _run_id(value: object, at: str) -> str:
    if not (isinstance(value, str) and ID.fullmatch(value)):
        raise ValueError(f"{at} is {value!r:.40}, not 16 hexadecimal digits")
    return value


@dataclass(frozen=True, slots=True)
class _Version:
    """What any version of the record says first."""

    schema: shapes.Whole


@dataclass(frozen=True, slots=True)
class _Record:
    """The record as it lies in the store."""

    id: Annotated[str, _run_id]
    script: shapes.Text
    arguments: tuple[shapes.Text, ...]
    options: Mapping[str, Any]
    digest: shapes.Text = ""
    project: Mapping[str, Any] | None = None


class DamagedRecord(UserError):  # noqa: N818, because it is what is found
    """The run's record can be read, and is none."""


def enter(
    store: Store, run: RunPlace, script: Path, arguments: Sequence[str], options: Mapping[str, Any], *,
    mine: Project | None = None, same_run: bool = False,
) -> Run:  # fmt: skip
    """Return the run's record, making it if the run is new. Raises UserError where the run is another project's.

    ``mine``: the script's project, None for what the disk shows. ``same_run``: a person says that the script is the run's.
    """
    if not NAME.fullmatch(run.name):
        raise UsageError(f"{run.name!r} cannot be the name of a run", "choose --name with letters, digits, - and _")
    mine = mine or project.of(script)
    try:
        left = _left_by_sessions(store, run)
        new = os.urandom(8).hex()
        made = Run(left.id if left and left.id else new, _shown(script), mine.digest, arguments, options, mine)
        known = _known(store, run, made) or _create(store, run, made, run.record)
        if not same_run:
            _require_same(store, run, known, mine)
    except StoreError as error:
        raise cannot_use(store, error) from error
    return known


def require_same(store: Store, run: RunPlace, mine: Project) -> None:
    """Raise UserError where the run is another project's. A run that there is not is nobody's."""
    known = read(store, run)
    if known is not None:
        _require_same(store, run, known, mine)


def read(store: Store, run: RunPlace) -> Run | None:
    """Return a run's record, or None if there is no such run. Raises StoreError, UserError for a newer version's.

    Where the record is absent or damaged and the run has sessions, these tell what it said: ``damaged`` is then not "".
    """
    damage: DamagedRecord | None = None
    try:
        known = read_whole(store, run)
    except DamagedRecord as error:
        known, damage = None, error
    if known is not None:
        return known
    left = _left_by_sessions(store, run)
    if left is not None:
        return replace(left, damaged=damage.what if damage else f"{run.record} is missing")
    if damage is not None:
        raise damage
    return None


def read_whole(store: Store, run: RunPlace) -> Run | None:
    """Return a run's record as it lies in the store, None where there is none. Raises DamagedRecord beside read's errors.

    Of twins the first whole one counts: the others were broken off, or made on two machines at once.
    """
    damaged = None
    try:
        return _parsed(store.read(run.record), run)
    except Missing:
        pass
    except DamagedRecord as error:
        damaged = error
    for name in _twins(store, run):
        with suppress(Missing, DamagedRecord):
            return _parsed(store.read(f"{run.name}/{name}"), run)
    if damaged:
        raise damaged
    return None


def names(store: Store) -> list[str]:
    """Return the names of all runs in a store: the folders with a record or with sessions."""
    folders = [entry.name for entry in store.list("") if entry.folder and NAME.fullmatch(entry.name)]
    return [name for name in folders if _is_run(store, name)]


def last_status(store: Store, run: RunPlace, known: Sequence[Rank]) -> RunStatus | None:
    """Return the last status that one of the newest ``known`` sessions, oldest first, published; None if none did."""
    told = (newest_status(store, run, rank) for rank in claims.newest_first(known))
    return next((status for status in told if status is not None), None)


def cannot_use(store: Store, error: StoreError) -> UserError:
    """Say in two lines that a store cannot be used, and what to do."""
    hints = {
        "full": "make room there or choose another --store; nothing was lost",
        "read-only": "make it writable for this user, or choose another --store; nothing was lost",
        "gone": "mount it again, then start again; nothing was lost"
        if store.traits.mounted
        else "is it on a disk that is not mounted? Mount that, or name another --store DIR; nothing was lost",
        "hung": "see whether it still works; if not, `umount -l` it and mount it again; nothing was lost",
    }
    if error.kind == "local":
        return UserError(f"this machine's own disk cannot be used: {error}", hints["full"], FAILED_PRECHECKS)
    hint = hints.get(error.kind, "see that it is a folder that can be read and written, then start again")
    return UserError(f"the store {store.traits.where} cannot be used: {error}", hint, FAILED_PRECHECKS)


def remove_unstarted(store: Store, run: RunPlace, rank: Rank) -> bool:
    """Remove a run that its first session could not start; False where another machine is at it, or has been.

    Raises StoreError. The session goes first and the record last, because what is left then still reads as a run.
    """
    inside = store.list(run.name)
    if {found for entry in inside if (found := rank_of(entry.name))} - {rank}:
        return False
    for entry in sorted(inside, key=lambda entry: (not entry.folder, is_record(entry.name))):
        _remove(store, f"{run.name}/{entry.name}", folder=entry.folder)
    store.delete(run.name)
    return True


def _remove(store: Store, path: str, *, folder: bool) -> None:
    for entry in store.list(path) if folder else ():
        _remove(store, f"{path}/{entry.name}", folder=entry.folder)
    store.delete(path)


def _is_run(store: Store, name: str) -> bool:
    try:
        return any(is_sign(inside.name) for inside in store.list(name))
    except StoreError as error:
        if error.kind != "unreadable":
            raise
        return True  # it may be one: who asks for it is told that it cannot be read


def left_out(store: Store) -> str:
    """Say in one line what in a store is neither a file nor a folder and was passed over; "" where nothing was seen."""
    found = sorted(getattr(store, "left_out", ()))
    if not found:
        return ""
    named = ", ".join(map(shown, found[:LEFT_OUT_NAMED])) + (", …" if len(found) > LEFT_OUT_NAMED else "")
    count = f"{len(found)} link or other odd file" if len(found) == 1 else f"{len(found)} links or other odd files"
    return f"{count} in the store {'is' if len(found) == 1 else 'are'} not gone through: {named}"


def is_sign(name: str) -> bool:
    """Say whether a name in a folder shows that the folder is a run's."""
    return name == "run.json" or rank_of(name) is not None


def is_record(name: str) -> bool:
    """Say whether a name in a run's folder is that of its record, or of a twin of it."""
    return RECORD.fullmatch(name) is not None


def _require_same(store: Store, run: RunPlace, known: Run, mine: Project) -> None:
    """Raise UserError unless the first start or one of the last sessions was of this project."""
    told = [_claimed_project(known, claim) for claim in _last_claims(store, run)]
    told = [each for each in (known.project, *told) if each.known]
    if any(same(each, mine, copy_remains=project.copy_remains(each, mine)) for each in told):
        return
    if not told and (known.digest == mine.digest or _same_path(known.script, mine.place)):
        return  # a record of an older version whose sessions tell no more
    told = told or [Project(path=known.script)]
    other = told[0]
    here, there = mine.where, other.where
    if here == there:
        here, there = mine.place, other.place or other.path
    raise UserError(
        f"the run {run.name!r} in this store is of another script: {other.path} of {there}, not of {here}",
        f"give this one a name of its own: --name {_proposed(store, mine)} (if it is the same script: --same-run)",
    )


def _proposed(store: Store, mine: Project) -> str:
    """Return the name of this project's own run, or a free one."""
    taken: list[str] = []
    there = names(store)
    while (name := free_name(mine, taken)) in there:
        with suppress(UserError):
            known = read(store, RunPlace(name))
            if known is not None and known.project.known and same(known.project, mine):
                return name
        taken.append(name)
    return name


def _last_claims(store: Store, run: RunPlace) -> list[Mapping[str, Any]]:
    """Return the claims of the newest sessions that can be read, the last one first."""
    newest = claims.ranks(store, run)[: -SESSIONS_BACK - 1 : -1]
    return [claim for rank in newest if (claim := claims.read_claim(store, run, rank))]


def _claimed_project(known: Run, claim: Mapping[str, Any]) -> Project:
    """Return the project of a session. Older versions wrote only the script's path into the claim."""
    told = from_plain(claim.get("project"))
    place = str(claim.get("script", ""))
    if told.known or not place:
        return told
    inner = PurePosixPath(known.script).parts
    parts = PurePosixPath(place).parts
    if parts[-len(inner) :] != inner:
        inner = parts[-1:]
    folder = parts[-len(inner) - 1] if len(parts) > len(inner) else ""
    return Project(folder=folder, path="/".join(inner), place=place, digest=known.digest)


def _same_path(known: str, place: str) -> bool:
    """Say whether the recorded path of a script, which begins at its project, is the end of an absolute one."""
    one, other = PurePosixPath(known).parts, PurePosixPath(place).parts
    return bool(one) and one == other[-len(one) :]


def _left_by_sessions(store: Store, run: RunPlace) -> Run | None:
    """Return what the newest sessions tell of the run, None if it has none."""
    if not claims.ranks(store, run):
        return None
    found = Run("", "")
    for claim in _last_claims(store, run):
        told, place = from_plain(claim.get("project")), str(claim.get("script", ""))
        local = claims.local_path(claim)
        found = Run(
            id=found.id or (local.parent.name if local is not None else ""),
            script=found.script or told.path or PurePosixPath(place).name,
            digest=found.digest or told.digest,
            arguments=found.arguments or tuple(claim.get("arguments", ())),
            options=found.options or claim.get("options", {}),
            project=found.project if found.project.known else told,
        )
    return found


def _known(store: Store, run: RunPlace, made: Run) -> Run | None:
    """Return the record that is there. Beside a torn one another is put, and the torn one stays.

    It is not removed, because on a drive it may be another machine's that is still on its way.
    """
    try:
        return read_whole(store, run)
    except DamagedRecord:
        taken = (RECORD.fullmatch(name) for name in _twins(store, run))
    number = 1 + max((int(match[2]) for match in taken if match and match[2]), default=0)
    return _create(store, run, made, f"{run.name}/run ({number}).json")


def _parsed(body: bytes, run: RunPlace) -> Run:
    try:
        plain = fields.plain(body)
        if shapes.of(_Version, plain).schema > SCHEMA:
            raise UserError(
                f"the run {run.name!r} was written by a newer version of training-supervisor",
                "update training-supervisor on this machine and start again",
                FAILED_PRECHECKS,
            )
        told = shapes.of(_Record, plain)
        return Run(told.id, told.script, told.digest, list(told.arguments), told.options, from_plain(told.project))
    except ValueError as error:
        raise DamagedRecord(
            f"{run.record} is damaged ({error})",
            "start it again, which writes a new record beside it; or put it back from a copy",
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
        "arguments": masked(made.arguments),
        "options": dict(made.options),
        "project": to_plain(made.project),
    }
    try:
        store.create(path, json.dumps(body, ensure_ascii=False, indent=1).encode())
    except Taken:
        there = read_whole(store, run)  # another machine entered at the same time: its record is the run's
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
