"""The cells that run on a Colab machine: put a file in its place, end what runs, start the agent and wait with it."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

FOLDER = "/content/training-supervisor"
MARK_VARIABLE = "SUPERVISOR_FLEET_AGENT"

_DIGEST_OF = """\
    def digest_of(name):
        try:
            with open(name, "rb") as file:
                return hashlib.sha256(file.read()).hexdigest()
        except FileNotFoundError:
            return ""
"""

PLACE = (
    """
def _supervisor_place(mark, temporary, path, digest, body):
    import base64, hashlib, json, os
"""
    + _DIGEST_OF
    + """    os.makedirs(os.path.dirname(path), exist_ok=True)
    if body is not None:
        with open(temporary, "wb") as file:
            file.write(base64.b64decode(body))
    if digest_of(temporary) == digest:
        os.chmod(temporary, 0o600)
        os.replace(temporary, path)
    elif os.access(temporary, os.F_OK):
        os.remove(temporary)
    print(mark + json.dumps({"placed": digest_of(path) == digest}), flush=True)
_supervisor_place(*%s)
"""
)

UNPACK = (
    """
def _supervisor_unpack(mark, temporary, digest, files):
    import hashlib, json, os
"""
    + _DIGEST_OF
    + """    if digest_of(temporary) == digest:
        with open(temporary, "rb") as packed:
            for path, length, _ in files:
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with open(path + ".new", "wb") as file:
                    file.write(packed.read(length))
                os.chmod(path + ".new", 0o600)
                os.replace(path + ".new", path)
    if os.access(temporary, os.F_OK):
        os.remove(temporary)
    placed = all(digest_of(path) == each for path, _, each in files)
    print(mark + json.dumps({"placed": placed}), flush=True)
_supervisor_unpack(*%s)
"""
)

LOOK = """
def _supervisor_look(mark, path):
    import json, os
    print(mark + json.dumps({"there": os.path.lexists(path)}), flush=True)
_supervisor_look(*%s)
"""

SWEEP = """
def _supervisor_sweep(mark, variable, meant):
    import json, os, signal, time
    def is_meant(words):
        values = [word[len(variable) + 1:] for word in words if word.startswith(variable + "=")]
        return bool(values) and (meant is None or values[0] in meant)
    ended = 0
    for _ in range(150):
        living = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open("/proc/" + pid + "/environ", "rb") as file:
                    if is_meant(file.read().decode("utf-8", "replace").split("\\0")):
                        os.kill(int(pid), signal.SIGKILL)
                        living.append(pid)
            except OSError:
                pass
        if not living:
            break
        ended += len(living)
        time.sleep(0.1)
    print(mark + json.dumps({"swept": not living, "killed": ended}), flush=True)
_supervisor_sweep(*%s)
"""

LAUNCH = """
def _supervisor_launch(mark, folder, variable):
    import fcntl, os
    os.makedirs(folder, exist_ok=True)
    watch = os.open(os.path.join(folder, ".watch.lock"), os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(watch, fcntl.LOCK_SH)
    try:
        _supervisor_wait(mark, folder, variable)
    finally:
        os.close(watch)
def _supervisor_wait(mark, folder, variable):
    import fcntl, json, os, subprocess, sys
    lock = os.open(os.path.join(folder, ".agent.lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(mark + json.dumps({"agent": "runs already"}), flush=True)
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.close(lock)
        print(mark + json.dumps({"ended": None}), flush=True)
        return
    with open(os.path.join(folder, "agent.log"), "ab") as log:
        agent = subprocess.Popen(
            [sys.executable, "launch.py"], cwd=folder, env=dict(os.environ, **{variable: mark}), pass_fds=(lock,),
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )
    os.close(lock)
    print(mark + json.dumps({"agent": agent.pid}), flush=True)
    print(mark + json.dumps({"ended": agent.wait()}), flush=True)
_supervisor_launch(*%s)
"""


def place(mark: str, temporary: str, path: str, digest: str, body: bytes | None = None) -> str:
    """Return the cell that gives an uploaded file its name once it is whole; it says {"placed": true|false}.

    ``body``: the file itself, where it was not uploaded. Run twice, it says the same.
    """
    return PLACE % repr((mark, temporary, path, digest, None if body is None else base64.b64encode(body).decode()))


def unpack(mark: str, temporary: str, digest: str, files: Sequence[tuple[str, int, str]]) -> str:
    """Return the cell that makes files out of one that was uploaded, in their order; it says {"placed": true|false}.

    ``files``: path, length and digest of each; they lie in the uploaded file one after the other. Run twice, it says the same.
    """
    return UNPACK % repr((mark, temporary, digest, list(files)))


def look(mark: str, path: str) -> str:
    """Return the cell that says {"there": true|false} of a path."""
    return LOOK % repr((mark, path))


def sweep(mark: str, launches: Sequence[str] | None = None) -> str:
    """Return the cell that kills the agent and all it started; it says {"swept": true|false}.

    ``launches``: the marks of the launches that are meant, None for every one. A cell that was given up may run much later,
    and then it must not end the agent that was launched after it.
    """
    return SWEEP % repr((mark, MARK_VARIABLE, None if launches is None else list(launches)))


def launch(mark: str) -> str:
    """Return the cell that starts the agent, says {"agent": pid} and stays as long as it runs.

    The kernel is busy as long as the machine works, because idle machines are taken away. The agent inherits a lock:
    where it is held, the cell only waits for the one that has it. While it waits, it holds another lock, by which the
    agent sees whether a cell is there.
    """
    return LAUNCH % repr((mark, FOLDER, MARK_VARIABLE))
