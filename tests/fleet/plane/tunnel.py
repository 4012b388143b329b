"""What stands between the computer and a machine's Jupyter server: asks for the token, and does what tunnels do wrong."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import socket
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.fleet.plane.vm_box import VmBox

TOKEN = re.compile(rb"colab-runtime-proxy-token[=:]\s*([\w-]+)", re.IGNORECASE)
LENGTH = re.compile(rb"content-length:\s*(\d+)", re.IGNORECASE)
HEAD_BYTES_MAX = 65536
SLICE_BYTES = 65536


class Tunnel:
    """Forwards connections to the machine.

    Faults, to be set at any time: ``answers`` a status line instead of the machine's answer ("404 Not Found");
    ``mute`` takes a request and never answers; ``cut_uploads`` so many uploads are stored half;
    ``bytes_s`` how fast an answer comes.
    """

    def __init__(self, box: VmBox) -> None:
        self.box = box
        self.tokens: dict[str, float] = {}  # token -> when it ends
        self.answers = ""
        self.mute = False
        self.cut_uploads = 0
        self.bytes_s = 0.0
        self.seen: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                caller, _ = self._listener.accept()
            except OSError:
                return  # closed
            threading.Thread(target=self._one, args=(caller,), daemon=True).start()

    def _one(self, caller: socket.socket) -> None:
        with caller, contextlib.suppress(OSError):
            caller.settimeout(300)
            head, rest = _head(caller)
            if not head:
                return
            line = head.split(b"\r\n", 1)[0].decode("latin-1")
            self.seen.append(line)
            if self.mute:
                caller.recv(1)  # until the caller goes away
                return
            token = TOKEN.search(head)
            known = token and self.tokens.get(token[1].decode(), 0) > time.perf_counter()
            status = self.answers or ("" if known else "401 Unauthorized")
            if status:
                caller.sendall(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
                return
            if not self.box.ready():
                return  # the machine is gone: the connection just ends
            if self.cut_uploads and line.startswith("PUT "):
                self.cut_uploads -= 1
                head, rest = _halved(caller, head, rest)
            with socket.create_connection(("127.0.0.1", self.box.port), 30) as machine:
                machine.settimeout(None)
                caller.settimeout(None)
                machine.sendall(head + rest)
                threading.Thread(target=_pump, args=(caller, machine, 0.0), daemon=True).start()
                _pump(machine, caller, self.bytes_s)


def _head(caller: socket.socket) -> tuple[bytes, bytes]:
    got = b""
    while b"\r\n\r\n" not in got and len(got) < HEAD_BYTES_MAX:
        piece = caller.recv(SLICE_BYTES)
        if not piece:
            return b"", b""
        got += piece
    head, _, rest = got.partition(b"\r\n\r\n")
    return head + b"\r\n\r\n", rest


def _halved(caller: socket.socket, head: bytes, rest: bytes) -> tuple[bytes, bytes]:
    length = int(LENGTH.search(head)[1])
    while len(rest) < length:
        rest += caller.recv(SLICE_BYTES)
    body = json.loads(rest)
    data = base64.b64decode(body["content"])
    body["content"] = base64.b64encode(data[: len(data) // 2]).decode()
    cut = json.dumps(body).encode()
    return LENGTH.sub(b"Content-Length: %d" % len(cut), head), cut


def _pump(source: socket.socket, sink: socket.socket, bytes_s: float) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(SLICE_BYTES if not bytes_s else max(1, int(bytes_s / 10))):
            sink.sendall(piece)
            if bytes_s:
                time.sleep(len(piece) / bytes_s)  # because slowness is the fault
    for each in (source, sink):
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
