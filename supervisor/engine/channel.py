"""The supervisor's end of the channel: a Unix socket that the trainer connects to."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

from supervisor.core.messages import Beat, Malformed, Message, Save, Stop, encode, feed

if TYPE_CHECKING:
    from collections.abc import Callable

PATH_BYTES_MAX = 100
RECEIVE_BYTES = 64 * 1024


class Channel:
    """Listens on its own threads; every message goes to ``said``. One trainer at a time is spoken to, the newest."""

    def __init__(self, wanted: Path, said: Callable[[Message | Malformed], None]) -> None:
        self._said = said
        self._own_folder: Path | None = None
        self.path = self._short(wanted)
        self._speaking: socket.socket | None = None
        self._listeners: list[Thread] = []
        self._listening = self._listen_at()

    @property
    def unnamed(self) -> bool:
        """Whether somebody has removed the socket's name, so that no trainer can find it any more."""
        return not self.path.exists()

    def renew(self) -> None:
        """Listen under the name again; who is connected already stays so. Raises OSError."""
        if self.unnamed:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            before, self._listening = self._listening, self._listen_at()
            _shut(before)

    def tell(self, message: Save | Stop) -> bool:
        """Send a message to the trainer; False if none is connected."""
        speaking = self._speaking
        if speaking is None:
            return False
        try:
            speaking.sendall(encode(message))
        except OSError:
            return False  # it is gone, and its exit comes as an event of its own
        return True

    def hear_out(self, seconds: float) -> None:
        """Wait until all that dead trainers said is heard, so that no last words come after the news of the death."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as last:
            last.settimeout(seconds)
            with contextlib.suppress(OSError):  # connections are taken in order: once this one is, all before it are
                last.connect(str(self.path))
                last.shutdown(socket.SHUT_WR)
                last.recv(1)
        for listener in tuple(self._listeners):
            listener.join(seconds)

    def close(self) -> None:
        """Stop listening; the trainer sees the end of the channel as the end of its supervisor."""
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
            listener.start()  # before it is listed, because one that has not started cannot be waited for
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
                rest, said = feed(rest, received)
                for message in _coalesced(said):
                    self._said(message)


def _shut(listening: socket.socket) -> None:
    with contextlib.suppress(OSError):
        listening.shutdown(socket.SHUT_RDWR)  # closing alone does not wake who waits in accept()
    listening.close()


def _coalesced(said: list[Message | Malformed]) -> list[Message | Malformed]:
    """Of beats in a row keep the last: a flood of them must not keep the loop busy."""
    kept: list[Message | Malformed] = []
    for message in said:
        if kept and isinstance(message, Beat) and isinstance(kept[-1], Beat):
            kept.pop()
        kept.append(message)
    return kept
