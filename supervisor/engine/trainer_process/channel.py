"""The supervisor's end of the channel: a Unix socket that the trainer connects to."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

from supervisor.core.wire.messages import Heartbeat, Malformed, Message, SaveRequest, StopRequest, encode, feed

if TYPE_CHECKING:
    from collections.abc import Callable

PATH_BYTES_MAX = 100
RECEIVE_BYTES = 64 * 1024


class Channel:
    """Receives on its own threads and passes every message to ``on_message``. It sends to the newest trainer only."""

    def __init__(self, wanted: Path, on_message: Callable[[Message | Malformed], None]) -> None:
        self._on_message = on_message
        self._own_folder: Path | None = None
        self.path = self._short(wanted)
        self._speaking: socket.socket | None = None
        self._listeners: list[Thread] = []
        self._listening = self._listen_at()

    @property
    def name_deleted(self) -> bool:
        """Whether the socket's name was deleted, so that no trainer can find it."""
        return not self.path.exists()

    def listen_again(self) -> None:
        """Listen under the name again. A connected trainer stays connected. Raises OSError."""
        if self.name_deleted:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            before, self._listening = self._listening, self._listen_at()
            _shut(before)

    def send(self, message: SaveRequest | StopRequest) -> bool:
        """Send a message to the trainer; return False if none is connected."""
        speaking = self._speaking
        if speaking is None:
            return False
        try:
            speaking.sendall(encode(message))
        except OSError:
            return False  # the trainer is gone, and its exit is a separate event
        return True

    def drain(self, seconds: float) -> None:
        """Wait until all messages of dead trainers are received. The exit event then follows every message."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as last:
            last.settimeout(seconds)
            with contextlib.suppress(OSError):  # connections are accepted in order, so all earlier ones are accepted
                last.connect(str(self.path))
                last.shutdown(socket.SHUT_WR)
                last.recv(1)
        for listener in tuple(self._listeners):
            listener.join(seconds)

    def close(self) -> None:
        """Stop listening. The trainer takes the closed channel for the end of its supervisor."""
        for each in (self._listening, self._speaking):
            if each is not None:
                with contextlib.suppress(OSError):
                    each.close()
        self.path.unlink(missing_ok=True)
        if self._own_folder is not None:
            shutil.rmtree(self._own_folder, ignore_errors=True)

    def _short(self, wanted: Path) -> Path:
        wanted.unlink(missing_ok=True)
        if len(os.fsencode(wanted)) <= PATH_BYTES_MAX:
            return wanted
        import tempfile

        self._own_folder = Path(tempfile.mkdtemp(prefix="supervisor-run-"))
        return self._own_folder / "channel"

    def _listen_at(self) -> socket.socket:
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listening.bind(str(self.path))
            self.path.chmod(0o600)
            listening.listen(4)
        except OSError:
            listening.close()
            raise
        Thread(target=self._accept, args=(listening,), name="channel", daemon=True).start()
        return listening

    def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return  # closed: the session is over
            self._speaking = connection
            listener = Thread(target=self._listen, args=(connection,), name="trainer", daemon=True)
            listener.start()  # started before it is listed, because join() needs a started thread
            self._listeners = [each for each in self._listeners if each.is_alive()] + [listener]

    def _listen(self, connection: socket.socket) -> None:
        rest = b""
        with connection:
            while True:
                try:
                    received = connection.recv(RECEIVE_BYTES)
                except OSError:
                    received = b""
                if not received:
                    return
                rest, on_message = feed(rest, received)
                for message in _coalesced(on_message):
                    self._on_message(message)


def _shut(listening: socket.socket) -> None:
    with contextlib.suppress(OSError):
        listening.shutdown(socket.SHUT_RDWR)  # close() alone does not wake a thread in accept()
    listening.close()


def _coalesced(on_message: list[Message | Malformed]) -> list[Message | Malformed]:
    """Keep only the last of several heartbeats in a row. A flood of them must not keep the loop busy."""
    kept: list[Message | Malformed] = []
    for message in on_message:
        if kept and isinstance(message, Heartbeat) and isinstance(kept[-1], Heartbeat):
            kept.pop()
        kept.append(message)
    return kept
