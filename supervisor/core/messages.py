"""What the trainer and the supervisor say to each other: one JSON object a line over a Unix socket.

``feed`` is how both sides read. It never raises: what is not a known message is returned as ``Malformed``,
so a script that writes into the socket by mistake can disturb nobody.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import asdict, field
from typing import Any

from supervisor.core import shapes
from supervisor.core.values import dataclass

VERSION = 1
LINE_BYTES_MAX = 64 * 1024
SHORT_CHARACTERS = 1000

Scalar = shapes.Scalar


# --- from the trainer ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Hello:
    """First message of an attempt. ``attached`` is False until the script calls ``attach()``."""

    pid: int
    attempt: int
    attached: bool = False
    framework: str = ""
    device: str = ""
    version: int = VERSION


@dataclasses.dataclass(frozen=True, slots=True)  # made all the time, so its own methods pay
class Beat:
    """A sign of life: ``step`` steps are done; the trainer is in ``section`` (start, restore, step, save, eval, after).

    ``step_s`` is the trainer's own running mean of a step; ``seconds`` sums the time in each section so far;
    ``longest_s`` is the longest single stay in each section so far; ``metrics`` are the newest logged values.
    Not ``asked``: nobody can ask this script for a save, it saves when it likes.
    """

    step: int
    section: str
    total_steps: int | None = None
    epoch_of_data: float | None = None
    step_s: float | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    longest_s: dict[str, float] = field(default_factory=dict)
    metrics: dict[str, Scalar] = field(default_factory=dict)
    asked: bool = True


@dataclass(frozen=True, slots=True)
class Restored:
    """The state of ``step`` is back in the script's objects, after ``seconds``."""

    step: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Staged:
    """A whole checkpoint lies in ``folder`` (a name inside the staging folder), flushed to the local disk.

    ``stall_s`` is how long the training loop stood still for it; ``write_s`` how long writing it took beside the loop,
    and ``slow_s`` how much longer the loop's steps took meanwhile. Not ``counted``: ``step`` is only its number.
    """

    step: int
    folder: str
    bytes: int
    reason: str
    stall_s: float
    write_s: float
    slow_s: float = 0.0
    counted: bool = True


@dataclass(frozen=True, slots=True)
class SaveFailed:
    """A save did not succeed; training goes on and the trainer will try again when next asked."""

    step: int
    error: str


@dataclass(frozen=True, slots=True)
class Saved:
    """The script itself, which nobody attached, has just written the file or folder ``path`` (absolute) with ``step`` steps done.

    Not ``whole``: the file was still open, so that its end may not be on the disk yet.
    """

    path: str
    step: int | None = None
    whole: bool = True


@dataclass(frozen=True, slots=True)
class ReadBack:
    """Whether the script opened one of the files that were put back before its first step: ``path``, "" for none.

    ``late``: it opened the first of them only after that step. ``loaded``: which of network and optimizer had loaded a state
    by then, as "network optimizer"; "nothing" for neither, "" where no hook can tell.
    """

    path: str = ""
    late: bool = False
    loaded: str = ""


@dataclass(frozen=True, slots=True)
class Note:
    """Words for the user. ``level`` is "info" or "warning"; ``hint`` says what to do."""

    level: str
    text: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Trouble:
    """What the step with the index ``step`` logged as ``name`` shows that training has gone wrong.

    ``kind``: "nan" (``value`` is no finite number) or "spike" (it is far over what it was). ``fine``: the last index before
    it at which all that is watched was in order; if there is none since the checkpoint, the last one before that.
    """

    step: int
    name: str
    value: str
    kind: str
    fine: int | None = None


@dataclass(frozen=True, slots=True)
class ScriptFailed:
    """The script ended in an exception, or before its loop had come to its end. ``where``: its own line, ``file:line``.

    ``kind``: "setup" (import or syntax error before the first step: never worth a retry), "refused" (a state that
    cannot be kept exactly: never worth a retry), "code" (an error in the script's own code: never worth a retry),
    "device-oom", "outage" (the network, a disk, a device: worth every retry), "exit" (``sys.exit`` with a code other
    than 0), "left" (exit code 0 inside its loop), "short" (a framework's loop that stopped before its total), or "script".
    """

    kind: str
    type: str
    message: str
    where: str


@dataclass(frozen=True, slots=True)
class Stopped:
    """The script was told to stop and does so now, with ``step`` steps done."""

    step: int


@dataclass(frozen=True, slots=True)
class Finished:
    """The script came to its normal end with ``step`` steps done; the process may still wait for its threads.

    ``short_of``: the total of a loop that was left before it. ``left``: names of the threads that the process waits for.
    """

    step: int
    short_of: int | None = None
    left: str = ""


# --- to the trainer -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Save:
    """Stage a checkpoint at the next step boundary."""

    reason: str


@dataclass(frozen=True, slots=True)
class Stop:
    """End at the next step boundary, with a checkpoint first if ``save``; what takes over ``grace_s`` is killed."""

    reason: str
    save: bool
    grace_s: float


@dataclass(frozen=True, slots=True)
class Malformed:
    """A line that is no message: ``reason`` says why, ``line`` is its beginning."""

    reason: str
    line: str


Message = (
    Hello | Beat | Restored | Staged | SaveFailed | Saved | ReadBack | Note | Trouble | ScriptFailed | Stopped | Finished
    | Save | Stop
)  # fmt: skip

KINDS: dict[str, type[Any]] = {
    "hello": Hello,
    "beat": Beat,
    "restored": Restored,
    "staged": Staged,
    "save-failed": SaveFailed,
    "saved": Saved,
    "read-back": ReadBack,
    "note": Note,
    "trouble": Trouble,
    "script-failed": ScriptFailed,
    "stopped": Stopped,
    "finished": Finished,
    "save": Save,
    "stop": Stop,
}
_NAMES = {kind: name for name, kind in KINDS.items()}


def encode(message: Message) -> bytes:
    """Return the message as one line, newline included, of at most ``LINE_BYTES_MAX`` bytes.

    A text too long for a line is cut; metrics or sections that are too many are left out. Neither is worth losing a
    beat for.
    """
    body = {"t": _NAMES[type(message)], **asdict(message)}
    line = _line(body)
    if len(line) > LINE_BYTES_MAX:
        line = _line({key: _short(value) for key, value in body.items()})
    return line


def feed(buffer: bytes, received: bytes) -> tuple[bytes, list[Message | Malformed]]:
    """Cut ``buffer + received`` into messages; return the unfinished rest and the messages in order.

    However the bytes are cut, the messages are the same. A line over ``LINE_BYTES_MAX`` is one ``Malformed``:
    its beginning is dropped as it grows, so that a flood costs no memory.
    """
    *lines, rest = (buffer + received).split(b"\n")
    messages = [_decode(line) for line in lines if line.strip()]
    if len(rest) > LINE_BYTES_MAX:
        rest = rest[: LINE_BYTES_MAX + 1]
    return rest, messages


def _line(body: dict[str, Any]) -> bytes:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":"), default=str).encode("utf-8", "replace") + b"\n"


def _short(value: Any) -> Any:
    if isinstance(value, dict):
        return {}
    return value[:SHORT_CHARACTERS] if isinstance(value, str) else value


def _decode(line: bytes) -> Message | Malformed:
    shown = line[:200].decode("utf-8", "replace")
    try:
        body = json.loads(line) if len(line) <= LINE_BYTES_MAX else None
    except (ValueError, RecursionError):
        return Malformed("not JSON", shown)
    name = body.pop("t", None) if isinstance(body, dict) else None
    kind = KINDS.get(name) if isinstance(name, str) else None
    if kind is None or body is None:
        return Malformed("no message of a known kind, or too long for one", shown)
    try:
        message: Message = shapes.of(kind, body)
    except ValueError as error:
        return Malformed(f"a field is missing or of the wrong type: {error}", shown)
    return message
