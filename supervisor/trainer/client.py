"""The trainer's end of the channel: a thread that sends messages and heartbeats and receives requests.

The training loop never waits for it: messages are left in an outbox. The thread only sets flags in the script.
"""

from __future__ import annotations

import os
import select
import socket
import threading
from collections import deque
from typing import Protocol

from supervisor.core.wire import messages
from supervisor.core.wire.messages import Heartbeat, Malformed, Message, SaveRequest, StopRequest
from supervisor.trainer.clock import now_s, sleep

HEARTBEAT_INTERVAL_S = 0.5
CONNECT_RETRY_S = 0.1
OUTBOX_MESSAGES_MAX = 1000
RECEIVE_BYTES = 64 * 1024


class ChannelListener(Protocol):
    """The script's part of the channel. Each method is called in the client's thread and may only set flags."""

    def beat(self) -> Heartbeat | None:
        """Return the current heartbeat; None if nothing changed since the last one."""

    def on_save_request(self, message: SaveRequest) -> None:
        """The supervisor requests a checkpoint."""

    def on_stop_request(self, message: StopRequest) -> None:
        """The supervisor requests the script's end at the next step boundary."""

    def on_supervisor_lost(self) -> None:
        """The supervisor's end of the channel is closed; may end the process."""


class Client:
    """One connection for the life of the process. In a forked child it does nothing, and its socket is closed."""

    def __init__(self, connection: socket.socket, listener: ChannelListener) -> None:
        self._connection = connection
        self._listener = listener
        self._outbox: deque[bytes | threading.Event] = deque(maxlen=OUTBOX_MESSAGES_MAX)  # an event: flush waits for it
        self._sending = b""
        self._received = b""
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)
        self._disconnected = False
        self._owner_pid = os.getpid()
        connection.setblocking(False)
        os.register_at_fork(after_in_child=self._close_in_child)
        threading.Thread(target=self._serve, name="supervisor-channel", daemon=True).start()

    def set_listener(self, listener: ChannelListener) -> None:
        """Deliver received messages to another listener."""
        self._listener = listener

    def send(self, message: Message) -> None:
        """Queue a message; never blocks.

        The oldest messages are dropped if the supervisor does not read for very long.
        """
        if os.getpid() == self._owner_pid and not self._disconnected:
            self._outbox.append(messages.encode(message))
            self.wake()

    def wake(self) -> None:
        """Let the thread ask for a heartbeat at once."""
        if os.getpid() != self._owner_pid:
            return
        try:
            os.write(self._wake_write, b"!")
        except BlockingIOError:
            return  # it has been woken often enough already

    def flush(self, timeout_s: float) -> None:
        """Wait until all queued messages are sent, at most ``timeout_s`` seconds."""
        if os.getpid() == self._owner_pid:
            sent = threading.Event()
            self._outbox.append(sent)
            self.wake()
            if not self._disconnected:  # checked after queueing: on a closed channel no thread would set the event
                sent.wait(timeout_s)

    def _serve(self) -> None:
        poll = select.poll()
        poll.register(self._wake_read, select.POLLIN)
        try:
            while True:
                self._queue_heartbeat()
                self._send_pending()
                wanted = select.POLLIN | (select.POLLOUT if self._sending else 0)
                poll.register(self._connection, wanted)
                ready = dict(poll.poll(HEARTBEAT_INTERVAL_S * 1000))
                if self._wake_read in ready:
                    os.read(self._wake_read, RECEIVE_BYTES)
                if self._connection.fileno() in ready:
                    self._receive()
        except (OSError, EOFError):
            self._disconnected = True
            while self._outbox:
                item = self._outbox.popleft()
                if isinstance(item, threading.Event):
                    item.set()  # the rest will never be sent
            self._listener.on_supervisor_lost()

    def _queue_heartbeat(self) -> None:
        beat = self._listener.beat()
        if beat is not None:
            self._outbox.append(messages.encode(beat))

    def _send_pending(self) -> None:
        while self._sending or self._outbox:
            if not self._sending:
                item = self._outbox.popleft()
                if isinstance(item, threading.Event):
                    item.set()
                    continue
                self._sending = item
            try:
                self._sending = self._sending[self._connection.send(self._sending) :]
            except BlockingIOError:
                return

    def _receive(self) -> None:
        try:
            received = self._connection.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return
        if not received:
            raise EOFError
        self._received, messages_in = messages.feed(self._received, received)
        for message in messages_in:
            if isinstance(message, SaveRequest):
                self._listener.on_save_request(message)
            elif isinstance(message, StopRequest):
                self._listener.on_stop_request(message)
            elif isinstance(message, Malformed):
                continue  # malformed messages are ignored

    def _close_in_child(self) -> None:
        # A data loader's worker that held the socket open would hide this process's death from the supervisor.
        self._connection.close()
        os.close(self._wake_read)
        os.close(self._wake_write)


def connect(path: str, listener: ChannelListener, timeout_s: float = 0.0) -> Client:
    """Connect to the supervisor that listens at ``path``.

    A supervisor whose local folder was emptied creates the socket again within a second, so that a retry may help.

    Args:
        path: the path of the Unix socket.
        listener: receives the supervisor's requests.
        timeout_s: seconds to retry a refused connection.

    Raises:
        OSError: no supervisor listens there.
    """
    deadline_s = now_s() + timeout_s
    while True:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(path)
        except OSError:
            connection.close()
            if now_s() >= deadline_s:
                raise
            sleep(CONNECT_RETRY_S)
        else:
            return Client(connection, listener)
