"""Look who has been at a run, claim it, ask its session to stop: the use cases around ``core.claim``."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supervisor.core import fields, shapes
from supervisor.core.checkpoint import CheckpointId  # noqa: TC001  # the reader of records evaluates the types
from supervisor.core.claim import Rank, Sighting, believed, highest, in_order, rank_of
from supervisor.core.ports import Missing, Store
from supervisor.core.values import dataclass

if TYPE_CHECKING:
    from supervisor.engine.place import RunPlace

CLAIM = "claim.json"
RUN_ID = re.compile(r"[0-9a-f]{16}")
_OF = f"(e{fields.EPOCH}-{fields.WRITER})"
END = re.compile(rf"end-([a-z-]{{1,40}}){fields.TWIN}\.json")
KNOCK = re.compile(rf"knock-{_OF}-[0-9a-f]{{1,32}}{fields.TWIN}\.json")
HERE = re.compile(rf"here-([0-9]{{1,9}})-[0-9a-f]{{1,32}}{fields.TWIN}\.json")
STOP = re.compile(rf"stop-{_OF}-(save|now)-[0-9a-f]{{1,32}}{fields.TWIN}\.json")


@dataclass(frozen=True, slots=True)
class Claimant:
    """The process that wrote a claim, as ``identity.mine`` tells of it."""

    boot: str | None = None
    processes: str | None = None
    pid: int | None = None
    since: str | None = None
    host: str | None = None
    machine: str = ""


@dataclass(frozen=True, slots=True)
class Claim:
    """What a claim may say of its session; all of it may be absent."""

    machine: Claimant = Claimant()
    platform: str = ""
    arguments: tuple[shapes.Text, ...] = ()
    local: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    script: shapes.Text = ""
    project: Mapping[str, Any] = field(default_factory=dict)
    age_s: shapes.Finite = 0.0


@dataclass(frozen=True, slots=True)
class End:
    """What the record of a session's end may say."""

    reason: str = ""
    words: str = ""
    exit_code: int = 0
    step: int | None = None
    checkpoint: CheckpointId | None = None
    at: shapes.Finite | None = None


Alive = Callable[[Mapping[str, Any]], "bool | None"]
SESSIONS_READ_MAX = (
    64  # so many of the newest sessions are asked in turn for what only the last one to tell of it needs to
)


@dataclass(frozen=True, slots=True)
class _Request:
    """What a request to stop says besides its name: which program asks."""

    by: str = ""


@dataclass(frozen=True, slots=True)
class View:
    """One listing of a run: all names, and what is seen of its highest session."""

    names: tuple[str, ...]
    last: Sighting | None
    claim: Mapping[str, Any]


def look(store: Store, run: RunPlace, alive: Alive) -> View:
    """List the run and look closer at its highest session. Raises StoreError where that cannot be read."""
    names = tuple(entry.name for entry in store.list(run.name))
    top = highest(names)
    if top is None:
        return View(names, None, {})
    inside = [entry.name for entry in store.list(run.session(top))]
    claim = read_claim(store, run, top)
    end = next((match[1] for name in inside if (match := END.fullmatch(name))), "")
    seen = Sighting(
        top,
        signs=len(inside),
        end=end,
        alive=alive(claim.get("machine", {})),
        asked=knocks(names, top),
        answered=max((int(match[1]) for name in inside if (match := HERE.fullmatch(name))), default=0),
    )
    return View(names, seen, claim)


def write_claim(store: Store, run: RunPlace, rank: Rank, body: Mapping[str, Any]) -> None:
    """Make our folder, by writing our claim into it. The epoch is taken from this moment on, by us or by nobody."""
    store.create(f"{run.session(rank)}/{CLAIM}", json.dumps(body, ensure_ascii=False, indent=1).encode())


def read_claim(store: Store, run: RunPlace, rank: Rank) -> dict[str, Any]:
    """Return a session's claim; empty if it never got to write one or it is damaged (then nothing rests on it).

    Fields of a wrong type are left out.
    """
    try:
        body = fields.document(store.read(f"{run.session(rank)}/{CLAIM}"))
    except (Missing, ValueError):
        return {}
    return shapes.kept(Claim, body)


def local_path(claim: Mapping[str, Any]) -> Path | None:
    """Return the path of a session's folder on the local disk of its machine, or None if its claim does not say.

    Only a path that a session can have: absolute, and it ends in the run's id and the session's name.
    """
    path = Path(str(claim.get("local", "")))
    fits = path.is_absolute() and ".." not in path.parts and rank_of(path.name) and RUN_ID.fullmatch(path.parent.name)
    return path if fits and not fields.has_controls(str(path)) else None


def local_folder(claim: Mapping[str, Any]) -> Path | None:
    """Return the same if this machine has that folder, of this user.

    The name is unique, so where there is a folder of this name, it is that one.
    """
    path = local_path(claim)
    try:
        found = None if path is None else path.lstat()
    except (OSError, ValueError):
        return None
    return path if found is not None and stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() else None


def ranks(store: Store, run: RunPlace) -> list[Rank]:
    """Return all sessions of a run, oldest first."""
    return in_order(believed(entry.name for entry in store.list(run.name)))


def newest_first(known: Sequence[Rank]) -> Sequence[Rank]:
    """Return the sessions, of all that are ``known`` oldest first, that are asked in turn: the newest, and not without end.

    A run's folder may hold many thousand that never came to leave anything.
    """
    return known[: -SESSIONS_READ_MAX - 1 : -1]


def stop_wanted(names: tuple[str, ...], mine: Rank) -> str:
    """Return what somebody asked of this session: "" nothing, "save" or "now"."""
    asked = {match[2] for name in names if (match := STOP.fullmatch(name)) and match[1] == str(mine)}
    return "now" if "now" in asked else "save" if asked else ""


def knocks(names: tuple[str, ...], mine: Rank) -> int:
    """Return how many asked this session for a sign of life so far."""
    return len({name for name in names if (match := KNOCK.fullmatch(name)) and match[1] == str(mine)})


def knock(store: Store, run: RunPlace, rank: Rank) -> None:
    """Ask a session for a sign of life: it looks at the run's folder every few seconds."""
    store.create(run.knock(rank, os.urandom(4).hex()), b"{}")


def answer(store: Store, run: RunPlace, mine: Rank, number: int) -> None:
    """Give a sign of life: an answer that names how many asked. Any new name in our folder is one, if it cannot be late."""
    store.create(f"{run.session(mine)}/here-{number}-{os.urandom(2).hex()}.json", b"{}")


def asked_of(name: str) -> Rank | None:
    """Return the session that a question or request in the run's folder is for; None for any other name."""
    match = KNOCK.fullmatch(name) or STOP.fullmatch(name)
    return rank_of(match[1]) if match else None


def request_stop(store: Store, run: RunPlace, rank: Rank, how: str, by: str = "") -> str:
    """Ask a session, through the store, to end; return the request's path. ``by``: the program that asks.

    Requests name one session, so that the next one is not stopped too.
    """
    path = run.stop_request(rank, how, os.urandom(4).hex())
    store.create(path, json.dumps({"by": by} if by else {}).encode())
    return path


def stop_requests(store: Store, run: RunPlace) -> dict[str, tuple[Rank, str]]:
    """Return the requests to stop: each path with the session that is asked, and the program that asked. Raises StoreError."""
    found = {}
    for entry in store.list(run.name):
        match = STOP.fullmatch(entry.name)
        rank = rank_of(match[1]) if match else None
        if rank is None:
            continue
        path = f"{run.name}/{entry.name}"
        try:
            found[path] = (rank, shapes.read(_Request, store.read(path)).by)
        except Missing:
            continue
        except ValueError:
            found[path] = (rank, "")  # its name asks for it all the same
    return found


def write_end(store: Store, run: RunPlace, rank: Rank, reason: str, body: Mapping[str, Any]) -> None:
    """Record how the session ended. The name says it too, so that a listing is enough."""
    store.create(f"{run.session(rank)}/end-{reason}.json", json.dumps(body, ensure_ascii=False, indent=1).encode())


def read_end(store: Store, run: RunPlace, rank: Rank) -> dict[str, Any]:
    """Return the record of a session's end, or an empty one if it left none. Of a damaged one its name is believed."""
    for entry in store.list(run.session(rank)):
        if match := END.fullmatch(entry.name):
            try:
                body = dict(fields.document(store.read(f"{run.session(rank)}/{entry.name}")))
            except (Missing, ValueError):
                return {"reason": match[1]}
            return shapes.kept(End, body)
    return {}
