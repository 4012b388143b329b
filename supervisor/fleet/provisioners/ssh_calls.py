"""Calls to a host: the system's ssh in a process group of its own, one shared connection, a deadline for each."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import selectors
import shlex
import signal
import subprocess
import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supervisor.core import fields
from supervisor.core.provisioning import MachineError
from supervisor.core.values import dataclass
from supervisor.engine.clock import BootClock

if TYPE_CHECKING:
    from collections.abc import Mapping

PROGRAM = Path(__file__).with_name("ssh_far.py")
OLDEST = (3, 11)
ANSWER_BYTES_MAX, ERROR_BYTES_MAX, CHUNK_BYTES = 64 << 20, 64 << 10, 256 << 10
SSH_FAILED, NO_SUCH_COMMAND = 255, 127
TOO_OLD = "python-too-old"
BEGIN = (
    "import sys;b=sys.stdin.buffer;c=b.read(int(b.readline()));"
    f'exec(c) if sys.version_info>={OLDEST} else sys.exit("{TOO_OLD} "+sys.version.split()[0])'
)
CONFIG_VARIABLE = "SUPERVISOR_SSH_CONFIG"
PYTHON_VARIABLE = "SUPERVISOR_SSH_PYTHON"
SOCKET_NAME = re.compile(r"[\w/.-]{1,80}", re.ASCII)
"""ssh would take other characters for its own; it appends 17, and a socket's name may have 104 on some systems."""
LOGIN = (
    "Permission denied", "Host key verification failed", "Too many authentication failures",
    "REMOTE HOST IDENTIFICATION HAS CHANGED", "No more authentication methods",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Patience:
    """Deadlines of calls in seconds; a file of n bytes gets ``file_s`` + n / ``bytes_s_least``."""

    connect_s: float = 15.0
    ask_s: float = 45.0
    file_s: float = 60.0
    bytes_s_least: float = 50_000.0


class SshHost:
    """One host, as this computer's ssh and its configuration know it. ``folder`` is ours, on this computer."""

    def __init__(self, folder: Path, host: str, environ: Mapping[str, str], patience: Patience) -> None:
        self.host, self.patience = host, patience
        self._environ = dict(environ)
        self._program = PROGRAM.read_bytes()
        self._socket = _socket(folder, host)

    def ask(
        self, request: Mapping[str, Any], body: bytes = b"", expected_bytes: int = 0
    ) -> tuple[dict[str, Any], bytes]:
        """Have the host answer one request; raises MachineError, "unreachable" wherever the answer did not come whole."""
        mark = f"answer-{uuid.uuid4().hex}"
        words = dict(request) | {"mark": mark}
        sent = b"%d\n%b%b\n%b" % (len(self._program), self._program, json.dumps(words).encode(), body)
        carried = max(len(body), expected_bytes)
        deadline_s = self.patience.file_s + carried / self.patience.bytes_s_least if carried else self.patience.ask_s
        code, out, err = self._run(
            [*self._command(), "--", self.host, self._far()], sent, deadline_s, most=expected_bytes + ANSWER_BYTES_MAX
        )
        _, _, answered = out.partition(f"\n{mark}".encode())  # a shell's own start-up files may print before it
        line, ended, data = answered.partition(b"\n")
        if not ended:
            raise self._trouble(code, err, deadline_s)
        answer = _answer(line, self.host)
        if len(data) < answer["bytes"] or hashlib.sha256(data[: answer["bytes"]]).hexdigest() != answer["sha256"]:
            raise MachineError(f"the answer of {self.host} was cut off")
        return answer, data[: answer["bytes"]]

    def close(self) -> None:
        """End the shared connection."""
        if self._socket:
            self._run([*self._command(), "-O", "exit", "--", self.host], b"", self.patience.connect_s, forget=False)

    def _command(self) -> list[str]:
        options = {
            "BatchMode": "yes", "ConnectTimeout": str(max(1, round(self.patience.connect_s))), "ServerAliveInterval": "5",
            "ServerAliveCountMax": "3", "LogLevel": "ERROR", "RequestTTY": "no", "RemoteCommand": "none",
            "PermitLocalCommand": "no", "ClearAllForwardings": "yes", "ForwardAgent": "no", "ForwardX11": "no",
        }  # fmt: skip
        if self._socket:
            options |= {"ControlMaster": "auto", "ControlPath": self._socket, "ControlPersist": "60"}
        else:
            options |= {"ControlMaster": "no", "ControlPath": "none"}
        config = self._environ.get(CONFIG_VARIABLE)
        words = ["ssh", *(["-F", config] if config else [])]
        return words + [word for name, value in options.items() for word in ("-o", f"{name}={value}")]

    def _far(self) -> str:
        """Return the command for the host's own shell, whichever it is: single quotes mean the same in all of them."""
        python = self._environ.get(PYTHON_VARIABLE) or "python3"
        home, rest = ("~/", python[2:]) if python.startswith("~/") else ("", python)
        return f"{home}{shlex.quote(rest)} -SI -c '{BEGIN}'"

    def _run(
        self, command: list[str], sent: bytes, deadline_s: float, *, forget: bool = True, most: int = ANSWER_BYTES_MAX
    ) -> tuple[int | None, bytes, str]:
        """Run one child to its end or to its deadline; its whole process group is gone afterwards."""
        with tempfile.TemporaryFile() as errors:
            try:
                child = subprocess.Popen(
                    command, env=self._environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
                    start_new_session=True,
                )  # fmt: skip
            except FileNotFoundError as error:
                raise MachineError("there is no ssh on this computer", "failed", "install OpenSSH's client") from error
            code: int | None = None
            out = b""
            try:
                out = _exchange(child, sent, deadline_s, most)
                code = child.returncode
            except subprocess.TimeoutExpired:
                pass  # told by the code that is missing
            finally:
                if child.returncode is None:
                    os.killpg(child.pid, signal.SIGKILL)
                _leave(child)
            errors.seek(max(0, errors.seek(0, os.SEEK_END) - ERROR_BYTES_MAX))
            said = errors.read().decode("utf-8", "replace").strip()
        if code is None and forget:
            self.close()  # because a shared connection that hangs would hang every later call too
        return code, out, said

    def _trouble(self, code: int | None, err: str, deadline_s: float) -> MachineError:
        """Return what a call that brought no answer tells."""
        last = err.splitlines()[-1].strip() if err else ""
        if code is None:
            return MachineError(f"{self.host} did not answer within {deadline_s:.0f} s")
        if code == SSH_FAILED and any(words in err for words in LOGIN):
            return MachineError(
                f"{self.host} did not let us in: {last}", "login",
                f"log in once by hand (ssh {self.host}); it must work with a key, and without a question",
            )  # fmt: skip
        if TOO_OLD in err:
            return MachineError(
                f"the python3 of {self.host} is {err.partition(TOO_OLD)[2].strip()}; 3.11 or later is needed", "denied",
                f"install one there, or name it: {PYTHON_VARIABLE}=/path/on/the/host/python3",
            )  # fmt: skip
        if code == NO_SUCH_COMMAND:
            return MachineError(
                f"there is no python3 on {self.host}: {last}", "denied",
                f"install Python 3.11 or later there, or name it: {PYTHON_VARIABLE}=/path/on/the/host/python3",
            )  # fmt: skip
        hint = "is the name right? ssh asks ~/.ssh/config and the network for it" if "resolve" in err else ""
        return MachineError(f"{self.host} was not reached: {last or f'ssh ended with {code}'}", "unreachable", hint)


def _answer(line: bytes, host: str) -> dict[str, Any]:
    """Return what an answer says of itself. Raises MachineError for one that cannot be."""
    try:
        answer = dict(fields.document(line))
        fields.whole(answer.get("bytes"), "bytes")
        fields.text(answer.get("sha256"), "sha256")
    except ValueError as error:
        raise MachineError(f"the answer of {host} cannot be understood: {error}") from error
    return answer


def _exchange(child: subprocess.Popen[bytes], sent: bytes, deadline_s: float, most: int) -> bytes:
    """Send what is to be sent and return the answer. Raises TimeoutExpired at the deadline, and MachineError beyond ``most`` bytes."""
    assert child.stdin is not None
    assert child.stdout is not None
    clock = BootClock()
    end_s, out, left = clock.now().mono_s + deadline_s, bytearray(), memoryview(sent)
    with selectors.DefaultSelector() as ready:
        os.set_blocking(child.stdin.fileno(), False)
        ready.register(child.stdin, selectors.EVENT_WRITE)
        ready.register(child.stdout, selectors.EVENT_READ)
        while ready.get_map():
            if (wait_s := end_s - clock.now().mono_s) <= 0:
                raise subprocess.TimeoutExpired(child.args, deadline_s)
            for key, _ in ready.select(wait_s):
                if key.fileobj is child.stdout:
                    chunk = os.read(key.fd, CHUNK_BYTES)
                    out += chunk
                    if len(out) > most:
                        raise MachineError(f"its answer is longer than {most:,} bytes")
                    if not chunk:
                        ready.unregister(child.stdout)
                    continue
                with contextlib.suppress(BlockingIOError):
                    try:
                        left = left[os.write(key.fd, left[:CHUNK_BYTES]) :]
                    except BrokenPipeError:
                        left = memoryview(b"")
                if not left:
                    ready.unregister(child.stdin)
                    with contextlib.suppress(BrokenPipeError):
                        child.stdin.close()
    child.wait(max(0.0, end_s - clock.now().mono_s))
    return bytes(out)


def _leave(child: subprocess.Popen[bytes]) -> None:
    """Close the pipes without waiting for their end: the shared connection has them too, and may hang."""
    for stream in (child.stdin, child.stdout):
        if stream is not None:
            with contextlib.suppress(BrokenPipeError):
                stream.close()
    child.wait()


def _socket(folder: Path, host: str) -> str:
    """Return the shared connection's name: short, and in a folder that is nobody else's; "" where there is none."""
    name = hashlib.sha256(f"{folder.absolute()} {host}".encode()).hexdigest()[:12]
    shared = Path(tempfile.gettempdir()) / f"training-supervisor-{os.getuid()}"
    fitting = (each for each in (folder.absolute(), shared) if SOCKET_NAME.fullmatch(f"{each}/{name}"))
    if (place := next(fitting, None)) is None:
        return ""
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    there = place.lstat()
    # in a folder that others can write, anybody could answer in the host's place
    return f"{place}/{name}" if there.st_uid == os.getuid() and not there.st_mode & 0o022 else ""
