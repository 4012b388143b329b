"""A proxy on this computer that ends TLS with a throw-away certificate, so that the official command line talks to a fake."""

from __future__ import annotations

import contextlib
import ssl
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fleet.plane.service import Service

HOSTS = ("colab.research.google.com", "oauth2.googleapis.com")


class Gateway:
    """Listens on loopback; everything that asks for one of the hosts is answered by the service, the rest is refused.

    ``down``: no connection gets through, as without a network.
    """

    def __init__(self, folder: Path, service: Service) -> None:
        self.authority = folder / "authority.pem"
        key = folder / "key.pem"
        _certificate(self.authority, key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.authority, key)
        self.server = _Server(("127.0.0.1", 0), _Handler)
        self.server.context, self.server.service, self.server.down = context, service, False
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    context: ssl.SSLContext
    service: Service
    down: bool

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: a caller that was killed in the middle is no news here."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_CONNECT(self) -> None:
        host = self.path.partition(":")[0]
        if self.server.down or host not in HOSTS:
            self.send_error(502)
            self.close_connection = True
            return
        self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        self.wfile.flush()
        self.close_connection = True
        with (
            contextlib.suppress(OSError),
            self.server.context.wrap_socket(self.connection, server_side=True) as inner,
            inner.makefile("rb") as self.rfile,
            inner.makefile("wb") as self.wfile,
        ):
            self.connection, self.host, self.close_connection = inner, host, False
            while not self.close_connection:
                self.handle_one_request()
        self.close_connection = True

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        where = urlsplit(self.path)
        headers = {key.lower(): value for key, value in self.headers.items()}
        status, body = self.server.service.answer(self.command, self.host, where.path, where.query, headers)
        sent = body.encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(sent)))
        self.end_headers()
        self.wfile.write(sent)
        self.wfile.flush()

    def log_message(self, *_args: object) -> None:
        """Say nothing."""


def _certificate(certificate: Path, key: Path) -> None:
    names = ",".join(f"DNS:{host}" for host in HOSTS)
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-keyout", str(key), "-out", str(certificate), "-subj", "/CN=throw-away", "-addext", f"subjectAltName={names}"],
        check=True, capture_output=True,
    )  # fmt: skip
