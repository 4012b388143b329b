"""Claims: inspect a run's sessions, claim the run, ask its session to stop."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supervisor.core.checkpoint.manifest import CheckpointId  # noqa: TC001  # the reader of records evaluates the types
from supervisor.core.checkpoint.session_id import (
    SessionId,
    SessionObservation,
    in_order,
    latest,
    parse_session_id,
    plausible,
)
from supervisor.core.frozen import dataclass
from supervisor.core.ports import NotFound, Store
from supervisor.core.wire import fields, shapes

if TYPE_CHECKING:
    from supervisor.engine.paths import RunPaths

CLAIM = "claim.json"
RUN_ID = re.compile(r"[0-9a-f]{16}")
_OF = f"(e{fields.EPOCH}-{fields.WRITER})"
END = re.compile(rf"end-([a-z-]{{1,40}}){fields.TWIN}\.json")
PROBE = re.compile(rf"knock-{_OF}-[0-9a-f]{{1,32}}{fields.TWIN}\.json")
HERE = re.compile(rf"here-([0-9]{{1,9}})-[0-9a-f]{{1,32}}{fields.TWIN}\.json")
STOP = re.compile(rf"stop-{_OF}-(save|now)-[0-9a-f]{{1,32}}{fields.TWIN}\.json")


@dataclass(frozen=True, slots=True)
class Claimant:
    """The process that wrote a claim, see ``process_identity.mine``."""

    boot: str | None = None
    processes: str | None = None
    pid: int | None = None
    since: str | None = None
    host: str | None = None
    machine: str = ""


@dataclass(frozen=True, slots=True)
class Claim:
    """The fields of a claim. All are optional."""

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
    """The fields of a session's end record."""

    reason: str = ""
    words: str = ""
    exit_code: int = 0
    step: int | None = None
    checkpoint: CheckpointId | None = None
    at: shapes.Finite | None = None


Alive = Callable[[Mapping[str, Any]], "bool | None"]
SESSIONS_READ_MAX = 64  # limit of the newest sessions that are read in turn for a fact that one of them has


@dataclass(frozen=True, slots=True)
class _Request:
    """The content of a stop request: the program that asks."""

    by: str = ""


@dataclass(frozen=True, slots=True)
class RunView:
    """One listing of a run, with an observation of its highest session."""

    names: tuple[str, ...]
    last: SessionObservation | None
    claim: Mapping[str, Any]


def inspect(store: Store, run: RunPaths, alive: Alive) -> RunView:
    """List the run and inspect its highest session. Raises StoreError."""
    names = tuple(entry.name for entry in store.list(run.name))
    top = latest(names)
    if top is None:
        return RunView(names, None, {})
    inside = [entry.name for entry in store.list(run.session(top))]
    claim = read_claim(store, run, top)
    end = next((match[1] for name in inside if (match := END.fullmatch(name))), "")
    seen = SessionObservation(
        top,
        file_count=len(inside),
        end=end,
        alive=alive(claim.get("machine", {})),
        asked=probe_count(names, top),
        answered=max((int(match[1]) for name in inside if (match := HERE.fullmatch(name))), default=0),
    )
    return RunView(names, seen, claim)


def write_claim(store: Store, run: RunPaths, rank: SessionId, body: Mapping[str, Any]) -> None:
    """Create the session's folder by writing its claim. From now on no other session uses this generation."""
    store.create(f"{run.session(rank)}/{CLAIM}", json.dumps(body, ensure_ascii=False, indent=1).encode())


def read_claim(store: Store, run: RunPaths, rank: SessionId) -> dict[str, Any]:
    """Return a session's claim; empty if it is absent or damaged.

    Fields of a wrong type are left out.
    """
    try:
        body = fields.document(store.read(f"{run.session(rank)}/{CLAIM}"))
    except (NotFound, ValueError):
        return {}
    return shapes.valid_fields(Claim, body)


def local_path(claim: Mapping[str, Any]) -> Path | None:
    """Return the path of a session's local folder on its machine, or None if the claim has none.

    Only a path that a session can have: absolute, and ending in the run's id and the session's name.
    """
    path = Path(str(claim.get("local", "")))
    fits = (
        path.is_absolute()
        and ".." not in path.parts
        and parse_session_id(path.name)
        and RUN_ID.fullmatch(path.parent.name)
    )
    return path if fits and not fields.has_controls(str(path)) else None


def local_folder(claim: Mapping[str, Any]) -> Path | None:
    """Return that path if this machine has the folder and this user owns it.

    The name is unique, so an existing folder of this name is the session's.
    """
    path = local_path(claim)
    try:
        found = None if path is None else path.lstat()
    except (OSError, ValueError):
        return None
    return path if found is not None and stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() else None


def ranks(store: Store, run: RunPaths) -> list[SessionId]:
    """Return all sessions of a run, oldest first."""
    return in_order(plausible(entry.name for entry in store.list(run.name)))


def newest_first(known: Sequence[SessionId]) -> Sequence[SessionId]:
    """Return the newest of the ``known`` sessions, newest first, up to a limit.

    A run's folder may hold many thousand sessions that left nothing.
    """
    return known[: -SESSIONS_READ_MAX - 1 : -1]


def stop_wanted(names: tuple[str, ...], mine: SessionId) -> str:
    """Return the request to this session: "" none, "save" or "now"."""
    asked = {match[2] for name in names if (match := STOP.fullmatch(name)) and match[1] == str(mine)}
    return "now" if "now" in asked else "save" if asked else ""


def probe_count(names: tuple[str, ...], mine: SessionId) -> int:
    """Return the number of probes for this session so far."""
    return len({name for name in names if (match := PROBE.fullmatch(name)) and match[1] == str(mine)})


def probe(store: Store, run: RunPaths, rank: SessionId) -> None:
    """Ask a session for a sign of life. A live session lists the run's folder every few seconds."""
    store.create(run.probe(rank, os.urandom(4).hex()), b"{}")


def answer_probe(store: Store, run: RunPaths, mine: SessionId, number: int) -> None:
    """Answer the probes with a file that names their number. It counts as a sign of life."""
    store.create(f"{run.session(mine)}/here-{number}-{os.urandom(2).hex()}.json", b"{}")


def addressee(name: str) -> SessionId | None:
    """Return the session that a probe or stop request is for; None for any other name."""
    match = PROBE.fullmatch(name) or STOP.fullmatch(name)
    return parse_session_id(match[1]) if match else None


def request_stop(store: Store, run: RunPaths, rank: SessionId, how: str, by: str = "") -> str:
    """Ask a session to end, through the store; return the request's path. ``by`` is the program that asks.

    A request names one session, so that its successor is not stopped too.
    """
    path = run.stop_request(rank, how, os.urandom(4).hex())
    store.create(path, json.dumps({"by": by} if by else {}).encode())
    return path


def stop_requests(store: Store, run: RunPaths) -> dict[str, tuple[SessionId, str]]:
    """Return the stop requests: path -> (session, asking program). Raises StoreError."""
    found = {}
    for entry in store.list(run.name):
        match = STOP.fullmatch(entry.name)
        rank = parse_session_id(match[1]) if match else None
        if rank is None:
            continue
        path = f"{run.name}/{entry.name}"
        try:
            found[path] = (rank, shapes.read(_Request, store.read(path)).by)
        except NotFound:
            continue
        except ValueError:
            found[path] = (rank, "")  # its name is enough for the request
    return found


def write_end(store: Store, run: RunPaths, rank: SessionId, reason: str, body: Mapping[str, Any]) -> None:
    """Record the end of the session. The name holds the reason, so that a listing is enough."""
    store.create(f"{run.session(rank)}/end-{reason}.json", json.dumps(body, ensure_ascii=False, indent=1).encode())


def read_end(store: Store, run: RunPaths, rank: SessionId) -> dict[str, Any]:
    """Return the record of a session's end; empty if there is none. For a damaged record the name counts."""
    for entry in store.list(run.session(rank)):
        if match := END.fullmatch(entry.name):
            try:
                body = dict(fields.document(store.read(f"{run.session(rank)}/{entry.name}")))
            except (NotFound, ValueError):
                return {"reason": match[1]}
            return shapes.valid_fields(End, body)
    return {}
