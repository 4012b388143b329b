"""Messages between the supervisor and its store workers: a JSON header and a body of bytes, both with their lengths before them."""

from __future__ import annotations

import json
import os
import select
import struct
from typing import TYPE_CHECKING, Any

from supervisor.core.errors import UserError
from supervisor.core.ports import Missing, StoreError, Taken, Unconfirmed

if TYPE_CHECKING:
    from collections.abc import Callable

    Header = dict[str, Any]

_LENGTHS = struct.Struct(">II")
_SLICE_BYTES = 1024 * 1024


class Silent(Exception):  # noqa: N818, because it is a finding
    """The other side said, or took, nothing for as long as one waits."""


class Ended(Exception):  # noqa: N818, because it is a finding
    """The other side is not there any more."""


def send(fd: int, header: Header, body: bytes = b"", *, patience_s: float | None = None) -> None:
    """Send a message. Raises Ended; and Silent, on a pipe that does not block, if nothing is taken for so long."""
    head = json.dumps(header).encode()
    view = memoryview(_LENGTHS.pack(len(head), len(body)) + head + body)
    while view:
        try:
            view = view[os.write(fd, view[:_SLICE_BYTES]) :]
        except BlockingIOError:
            _wait(fd, select.POLLOUT, patience_s)
        except BrokenPipeError as error:
            raise Ended from error


def receive(fd: int, *, patience_s: float | None = None) -> tuple[Header, bytes]:
    """Receive a message. Raises Ended; and Silent, on a pipe that does not block, if nothing comes for so long."""
    head_bytes, body_bytes = _LENGTHS.unpack(_exactly(fd, _LENGTHS.size, patience_s))
    header: Header = json.loads(_exactly(fd, head_bytes, patience_s))
    return header, _exactly(fd, body_bytes, patience_s)


def packed(error: Exception) -> Header:
    """Return an error as it travels: by its name, with what it says."""
    if isinstance(error, UserError):
        return {"name": "UserError", "words": error.what, "hint": error.hint, "exit_code": error.exit_code}
    assert isinstance(error, StoreError)
    possible = getattr(error, "possible", True)
    return {"name": type(error).__name__, "words": str(error), "kind": error.kind, "possible": possible}


def unpacked(error: Header) -> Exception:
    """Return the error that travelled; one of a name that no store raises is a defect of ours."""
    makers: dict[str, Callable[[], Exception]] = {
        "StoreError": lambda: StoreError(error["words"], error["kind"]),
        "Missing": lambda: Missing(error["words"]),
        "Taken": lambda: Taken(error["words"]),
        "Unconfirmed": lambda: Unconfirmed(error["words"], possible=error["possible"]),
        "UserError": lambda: UserError(error["words"], error["hint"], error["exit_code"]),
    }
    return makers[error["name"]]() if error["name"] in makers else RuntimeError(error["words"])


def _exactly(fd: int, length: int, patience_s: float | None) -> bytes:
    parts: list[bytes] = []
    while length:
        try:
            part = os.read(fd, min(length, _SLICE_BYTES))
        except BlockingIOError:
            _wait(fd, select.POLLIN, patience_s)
            continue
        if not part:
            raise Ended
        parts.append(part)
        length -= len(part)
    return b"".join(parts)


def _wait(fd: int, event: int, patience_s: float | None) -> None:
    poll = select.poll()
    poll.register(fd, event)
    if not poll.poll(None if patience_s is None else patience_s * 1000):
        raise Silent
