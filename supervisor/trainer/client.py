"""The channel to the supervisor: a thread that sends what it is given, looks for a beat twice a second, and listens.

Nothing here ever makes the training loop wait: messages are left in an outbox. The thread only sets flags in the script.
"""

from __future__ import annotations

import os
import select
import socket
import threading
from collections import deque
from typing import Protocol

from supervisor.core import messages
from supervisor.core.messages import Beat, Malformed, Message, Save, Stop
from supervisor.trainer.clock import now_s, sleep

BEAT_EVERY_S = 0.5
CONNECT_EVERY_S = 0.1
OUTBOX_MESSAGES_MAX = 1000
RECEIVE_BYTES = 64 * 1024


class Listener(Protocol):
    """The script's part of the conversation; every method is called in the client's thread and must only set flags."""

    def beat(self) -> Beat | None:
        """Return the present beat; None if nothing has moved since the last one."""

    def asked_to_save(self, message: Save) -> None:
        """The supervisor wants a checkpoint."""

    def asked_to_stop(self, message: Stop) -> None:
        """The supervisor wants the script to end at the next step boundary."""

    def supervisor_gone(self) -> None:
        """The supervisor's end of the channel is closed; may end the process."""


class Client:
    """One connection for the life of the process. In a forked child it does nothing and its socket is closed."""

    def __init__(self, connection: socket.socket, listener: Listener) -> None:
        self._connection = connection
        self._listener = listener
        self._outbox: deque[bytes | threading.Event] = deque(maxlen=OUTBOX_MESSAGES_MAX)  # an event: flush waits for it
        self._sending = b""
        self._received = b""
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)
        self._gone = False
        self._owner = os.getpid()
        connection.setblocking(False)
        os.register_at_fork(after_in_child=self._forget)
        threading.Thread(target=self._converse, name="supervisor-channel", daemon=True).start()

    def listen_with(self, listener: Listener) -> None:
        """Hand what is heard to another listener from now on."""
        self._listener = listener

    def send(self, message: Message) -> None:
        """Leave a message for the thread to send; never blocks. The oldest are lost if nobody reads for very long."""
        if os.getpid() == self._owner and not self._gone:
            self._outbox.append(messages.encode(message))
            self.wake()

    def wake(self) -> None:
        """Let the thread look for a beat at once."""
        if os.getpid() != self._owner:
            return
        try:
            os.write(self._wake_write, b"!")
        except BlockingIOError:
            return  # it has been woken often enough already

    def flush(self, timeout_s: float) -> None:
        """Wait until everything left so far is with the supervisor, at most ``timeout_s``."""
        if os.getpid() == self._owner:
            sent = threading.Event()
            self._outbox.append(sent)
            self.wake()
            if not self._gone:  # looked at after the event was left: from then on nobody would set it
                sent.wait(timeout_s)

    def _converse(self) -> None:
        poll = select.poll()
        poll.register(self._wake_read, select.POLLIN)
        try:
            while True:
                self._collect_beat()
                self._send_some()
                wanted = select.POLLIN | (select.POLLOUT if self._sending else 0)
                poll.register(self._connection, wanted)
                ready = dict(poll.poll(BEAT_EVERY_S * 1000))
                if self._wake_read in ready:
                    os.read(self._wake_read, RECEIVE_BYTES)
                if self._connection.fileno() in ready:
                    self._hear()
        except (OSError, EOFError):
            self._gone = True
            while self._outbox:
                left = self._outbox.popleft()
                if isinstance(left, threading.Event):
                    left.set()  # nobody will read the rest
            self._listener.supervisor_gone()

    def _collect_beat(self) -> None:
        beat = self._listener.beat()
        if beat is not None:
            self._outbox.append(messages.encode(beat))

    def _send_some(self) -> None:
        while self._sending or self._outbox:
            if not self._sending:
                left = self._outbox.popleft()
                if isinstance(left, threading.Event):
                    left.set()
                    continue
                self._sending = left
            try:
                self._sending = self._sending[self._connection.send(self._sending) :]
            except BlockingIOError:
                return

    def _hear(self) -> None:
        try:
            received = self._connection.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return
        if not received:
            raise EOFError
        self._received, heard = messages.feed(self._received, received)
        for message in heard:
            if isinstance(message, Save):
                self._listener.asked_to_save(message)
            elif isinstance(message, Stop):
                self._listener.asked_to_stop(message)
            elif isinstance(message, Malformed):
                continue  # garbage disturbs nobody

    def _forget(self) -> None:
        # A data loader's worker that held the socket open would hide this process's death from the supervisor.
        self._connection.close()
        os.close(self._wake_read)
        os.close(self._wake_write)


def connect(path: str, listener: Listener, within_s: float = 0.0) -> Client:
    """Return a client of the supervisor listening at ``path``; OSError if nobody does within so many seconds.

    A supervisor whose local folder was emptied makes the name again within a second.
    """
    until_s = now_s() + within_s
    while True:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(path)
        except OSError:
            connection.close()
            if now_s() >= until_s:
                raise
            sleep(CONNECT_EVERY_S)
        else:
            return Client(connection, listener)
