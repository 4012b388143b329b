"""Calls of the official Colab command line: children with a deadline, in a home of their own, judged by what they print."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING

from supervisor.core.provisioning import MachineError
from supervisor.fleet.provisioners.colab_spoken import LOGIN_HINT, Said

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

KEPT = Path(__file__).with_name("colab_kept.py")
BINARY_VARIABLE = "SUPERVISOR_COLAB_CLI"
ENOUGH_S = 0.3
LOG_BYTES_MAX = 8 * 1024 * 1024
CONFIG = Path(".config") / "colab-cli"


class ColabCalls:
    """``folder`` is ours; of the person's home only the login is read, and nothing there is changed.

    The login is copied, because the command line rewrites the file in place when it refreshes it. Bearer tokens stand
    in its log and in its history: all is for the owner's eyes only.
    """

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        self.folder = folder
        self._person = Path(environ.get("HOME") or Path.home())
        self._home = folder / "home"
        self._binary = _binary(environ)
        python = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
        self._environ = {key: value for key, value in environ.items() if key not in python} | {
            "HOME": str(self._home), "PYTHONUNBUFFERED": "1", "NO_COLOR": "1", "TERM": "dumb",
            "_TYPER_STANDARD_TRACEBACK": "1", "TYPER_STANDARD_TRACEBACK": "1",
        }  # fmt: skip
        for name, value in (("REQUEST_TIMEOUT", "60"), ("ASSIGN_RETRIES", "1"), ("RETRY_BACKOFF", "5")):
            self._environ.setdefault(f"COLAB_CLI_{name}", value)

    def call(
        self, arguments: Sequence[str], deadline_s: float, *, config: Path | None = None, code: str = "",
        enough: str = "", keep_open: Sequence[int] = (), heard: Callable[[str, IO[bytes]], None] | None = None,
    ) -> Said:  # fmt: skip
        """Run one call to its end or to its deadline.

        ``code`` goes to its input; ``enough``: it is ended a moment after a line that begins so, because the exit of an
        `exec` may take ten seconds more; ``heard`` gets every line and the call's open input.
        """
        command = self.command(arguments, deadline_s, config)
        with tempfile.TemporaryFile() as errors:
            child = subprocess.Popen(
                command, env=self._environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
                start_new_session=True, pass_fds=tuple(keep_open),
            )  # fmt: skip
            listener = _Listener(child, enough, heard)
            with contextlib.suppress(BrokenPipeError):
                listener.feed(code.encode(), close=heard is None)
            ended = listener.wait(deadline_s)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)  # nothing of a call stays behind
            listener.close()
            status = child.wait()
            errors.seek(0)
            return Said(status if ended else None, listener.text, errors.read().decode("utf-8", "replace"))

    def begin(self, arguments: Sequence[str], life_s: float, *, config: Path, log: Path, keep_open: int) -> int:
        """Start a call that outlives this process, and return the id of its process group."""
        with log.open("wb") as output:
            child = subprocess.Popen(
                self.command(arguments, life_s, config, "--leave"), env=self._environ, stdin=subprocess.DEVNULL,
                stdout=output, stderr=output, start_new_session=True, pass_fds=(keep_open,),
            )  # fmt: skip
        child.wait()
        return child.pid

    def command(self, arguments: Sequence[str], deadline_s: float, config: Path | None, *keep: str) -> list[str]:
        """Return the whole command line of a call; raises "login" when nobody has logged in."""
        self._prepare()
        oauth = self._person / ".colab-cli-oauth-config.json"
        options = ["--config", str(config or self._home / "none.json"), "--client-oauth-config", str(oauth)]
        return [sys.executable, "-SEI", str(KEPT), *keep, str(deadline_s), self._binary, *options, *arguments]

    def python(self) -> list[str]:
        """Return the interpreter that the command line itself runs on: for the one thing it has no verb for."""
        with Path(self._binary).open("rb") as file:
            first = file.readline().decode("utf-8", "replace").strip()
        if not first.startswith("#!"):
            raise MachineError(f"{self._binary} does not say which Python it runs on", "failed")
        return first[2:].split()

    def run_python(self, source: str, arguments: Sequence[str], deadline_s: float) -> Said:
        """Run a few lines on the command line's own Python, with its login."""
        self._prepare()
        try:
            done = subprocess.run(
                [*self.python(), "-c", source, *arguments], env=self._environ, stdin=subprocess.DEVNULL, capture_output=True,
                timeout=deadline_s, check=False, start_new_session=True,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return Said(None, "", "")
        return Said(done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace"))

    def log_mark(self) -> int:
        """Return how long the command line's log is now."""
        with contextlib.suppress(FileNotFoundError):
            return (self._home / CONFIG / "colab.log").stat().st_size
        return 0

    def logged_since(self, mark: int) -> str:
        """Return what went into the log since."""
        try:
            with (self._home / CONFIG / "colab.log").open("rb") as file:
                file.seek(mark)
                return file.read().decode("utf-8", "replace")
        except FileNotFoundError:
            return ""

    def _prepare(self) -> None:
        ours = self._home / CONFIG
        ours.mkdir(parents=True, exist_ok=True)
        for each in (self.folder, self._home):
            each.chmod(0o700)
        write(ours / "settings.json", json.dumps({"enable_update_check": False}))
        self._copy_login(ours / "token.json")
        for log in (ours / "colab.log", *ours.glob("history/*.jsonl")):
            with contextlib.suppress(FileNotFoundError):
                if log.stat().st_size > LOG_BYTES_MAX:
                    os.truncate(log, 0)

    def _copy_login(self, ours: Path) -> None:
        source, seen = self._person / CONFIG / "token.json", ours.with_name("token.seen")
        try:
            login = source.read_bytes()
        except OSError as error:
            ours.unlink(missing_ok=True)
            seen.unlink(missing_ok=True)
            raise MachineError("nobody has logged in to Colab on this computer", "login", LOGIN_HINT) from error
        digest = hashlib.sha256(login).hexdigest()
        try:
            known = ours.stat().st_size > 0 and seen.read_text() == digest
        except FileNotFoundError:
            known = False
        if not known:
            write(ours, login.decode())
            write(seen, digest)


class _Listener:
    """Reads what a call prints as it comes."""

    def __init__(
        self, child: subprocess.Popen[bytes], enough: str, heard: Callable[[str, IO[bytes]], None] | None
    ) -> None:
        self._child, self._enough, self._heard = child, enough, heard
        self._lines: list[str] = []
        self._said_enough, self._ended = threading.Event(), threading.Event()
        self._readers = [threading.Thread(target=each, daemon=True) for each in (self._read, self._watch)]
        for each in self._readers:
            each.start()

    @property
    def text(self) -> str:
        return "".join(self._lines)

    def feed(self, text: bytes, *, close: bool) -> None:
        stream = self._child.stdin
        assert stream is not None
        stream.write(text)
        stream.flush()
        if close:
            stream.close()

    def wait(self, seconds: float) -> bool:
        """Return whether it came to an end, or said enough, in time."""
        if not self._said_enough.wait(seconds) and not self._ended.is_set():
            return False
        self._ended.wait(ENOUGH_S)
        return True

    def close(self) -> None:
        for each in self._readers:
            each.join()
        for stream in (self._child.stdin, self._child.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()

    def _read(self) -> None:
        assert self._child.stdout is not None
        assert self._child.stdin is not None
        for raw in self._child.stdout:
            line = raw.decode("utf-8", "replace")
            self._lines.append(line)
            if self._enough and line.startswith(self._enough):
                self._said_enough.set()
            if self._heard:
                self._heard(line, self._child.stdin)

    def _watch(self) -> None:
        # not reaped here, because its group is killed yet, and until then its number must be its own
        os.waitid(os.P_PID, self._child.pid, os.WEXITED | os.WNOWAIT)
        self._ended.set()
        self._said_enough.set()


def write(path: Path, text: str) -> None:
    """Give a file this text, whole or not at all, for its owner's eyes only."""
    try:
        if path.read_text() == text:
            return
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    with os.fdopen(handle, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    Path(name).replace(path)


def _binary(environ: Mapping[str, str]) -> str:
    wanted = [environ.get(BINARY_VARIABLE) or "colab", str(Path(sys.executable).with_name("colab"))]
    named = next(filter(None, (shutil.which(each, path=environ.get("PATH")) for each in wanted)), None)
    if not named:
        raise MachineError(
            "there is no colab command here", "denied",
            f"pip install google-colab-cli==0.7.5 (Python 3.12 or later), or name it in {BINARY_VARIABLE}",
        )  # fmt: skip
    return named


def pause(seconds: float) -> None:
    """Wait; somebody else's machine needs the time."""
    time.sleep(seconds)
