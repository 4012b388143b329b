"""A metadata or runtime server on the loopback: it answers from a table and remembers what it was asked."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

NOW = "Mon, 23 Nov 2026 10:00:00 GMT"


class Loopback:
    """``answers`` maps "METHOD /path" (without the query) to a body, a status, or what returns or does either."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            """One connection."""

            def answer(self) -> None:
                path, _, query = self.path.partition("?")
                outer.asked.append(
                    (
                        f"{self.command} {path}",
                        {**{key.lower(): value for key, value in self.headers.items()}, "query": query},
                    )
                )
                found = outer.answers.get(f"{self.command} {path}", 404)
                if callable(found):
                    found = found(self)
                if found is None:
                    self.close_connection = True
                    return
                status, body = (found, b"") if isinstance(found, int) else (200, found.encode())
                self.send_response_only(status)
                for name, value in (("Date", NOW), ("ETag", "e1"), ("Content-Length", str(len(body)))):
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_PUT = answer  # noqa: N815, the names that the server calls

            def log_message(self, *_words: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        self._thread = Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def on(self, question: str, answer: str | int | Callable[[Any], Any] | None) -> None:
        """Answer a question like this from now on; None hangs up without a word."""
        self.answers[question] = answer if callable(answer) or answer is not None else (lambda _: None)

    def close(self) -> None:
        """Answer nobody any more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
