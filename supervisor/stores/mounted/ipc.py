"""Messages between the supervisor and its store workers: a JSON header and a body of bytes, each with its length."""

from __future__ import annotations

import json
import os
import select
import struct
from typing import TYPE_CHECKING, Any

from supervisor.core.errors import UserError
from supervisor.core.ports import AlreadyExists, NotConfirmed, NotFound, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    Header = dict[str, Any]

_LENGTHS = struct.Struct(">II")
_SLICE_BYTES = 1024 * 1024


class PeerTimeout(Exception):  # noqa: N818, because it is an outcome
    """The other side sent or took nothing within the timeout."""


class PeerClosed(Exception):  # noqa: N818, because it is an outcome
    """The other side has exited."""


def send(fd: int, header: Header, body: bytes = b"", *, timeout_s: float | None = None) -> None:
    """Send a message. Raises PeerClosed, and PeerTimeout if a non-blocking pipe takes nothing within ``timeout_s``."""
    head = json.dumps(header).encode()
    view = memoryview(_LENGTHS.pack(len(head), len(body)) + head + body)
    while view:
        try:
            view = view[os.write(fd, view[:_SLICE_BYTES]) :]
        except BlockingIOError:
            _wait(fd, select.POLLOUT, timeout_s)
        except BrokenPipeError as error:
            raise PeerClosed from error


def receive(fd: int, *, timeout_s: float | None = None) -> tuple[Header, bytes]:
    """Receive a message.

    Raises PeerClosed, and PeerTimeout if a non-blocking pipe brings nothing within ``timeout_s``.
    """
    head_bytes, body_bytes = _LENGTHS.unpack(_read_exactly(fd, _LENGTHS.size, timeout_s))
    header: Header = json.loads(_read_exactly(fd, head_bytes, timeout_s))
    return header, _read_exactly(fd, body_bytes, timeout_s)


def encode_error(error: Exception) -> Header:
    """Return an error as a header: its class name and its text."""
    if isinstance(error, UserError):
        return {"name": "UserError", "words": error.what, "hint": error.hint, "exit_code": error.exit_code}
    assert isinstance(error, StoreError)
    possible = getattr(error, "possible", True)
    return {"name": type(error).__name__, "words": str(error), "kind": error.kind, "possible": possible}


def decode_error(error: Header) -> Exception:
    """Return the error of a header. An unknown name means a defect of this program."""
    makers: dict[str, Callable[[], Exception]] = {
        "StoreError": lambda: StoreError(error["words"], error["kind"]),
        "NotFound": lambda: NotFound(error["words"]),
        "AlreadyExists": lambda: AlreadyExists(error["words"]),
        "NotConfirmed": lambda: NotConfirmed(error["words"], possible=error["possible"]),
        "UserError": lambda: UserError(error["words"], error["hint"], error["exit_code"]),
    }
    return makers[error["name"]]() if error["name"] in makers else RuntimeError(error["words"])


def _read_exactly(fd: int, length: int, timeout_s: float | None) -> bytes:
    parts: list[bytes] = []
    while length:
        try:
            part = os.read(fd, min(length, _SLICE_BYTES))
        except BlockingIOError:
            _wait(fd, select.POLLIN, timeout_s)
            continue
        if not part:
            raise PeerClosed
        parts.append(part)
        length -= len(part)
    return b"".join(parts)


def _wait(fd: int, event: int, timeout_s: float | None) -> None:
    poll = select.poll()
    poll.register(fd, event)
    if not poll.poll(None if timeout_s is None else timeout_s * 1000):
        raise PeerTimeout
