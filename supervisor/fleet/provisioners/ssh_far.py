"""The program that a host runs for one call: it comes over ssh's input, followed by one request, and answers with one line.

Needs nothing but Python 3.11 on Linux. A machine is a folder with a marker in it; the marker comes with the folder, by one
rename, and all that a machine runs carries the machine's id in its environment.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

MARKER = ".machine.json"
PARTS = ".parts"
LOCK = ".agent.lock"
VARIABLE = "SUPERVISOR_FLEET_MACHINE"
KILLS, KILLS_APART_S = 300, 0.05
CHUNK = 1024 * 1024


class Refused(Exception):  # noqa: N818, because it is an answer
    """What was asked cannot be done; ``kind`` as in core/provisioning.py, or "absent" for a file."""

    def __init__(self, kind: str, words: str) -> None:
        super().__init__(words)
        self.kind = kind


def main() -> None:
    """Answer the request on the input: the request's mark, JSON, and after the line the bytes of a file."""
    request = json.loads(sys.stdin.buffer.readline())
    body = b""
    try:
        answer, body = VERBS[request["verb"]](request, Path(request["base"]).expanduser())
    except Refused as refused:
        answer = {"kind": refused.kind, "words": str(refused)}
    except OSError as error:
        answer = {"kind": "failed", "words": f"{error.strerror or error} ({error.filename or request['base']})"}
    answer |= {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}
    sys.stdout.buffer.write(f"\n{request['mark']}{json.dumps(answer)}\n".encode() + body)
    sys.stdout.buffer.flush()


def machines(_: dict[str, Any], base: Path) -> tuple[dict[str, Any], bytes]:
    """Tell of every machine in the base, whoever made it."""
    try:
        folders = sorted(entry for entry in base.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    except FileNotFoundError:
        return {"base": False, "machines": []}, b""
    # a marker that cannot be read is still one; without any it is a folder that a dying process left
    marked = [folder for folder in folders if os.path.lexists(folder / MARKER)]
    return {"base": True, "machines": [_described(folder) for folder in marked]}, b""


def make(request: dict[str, Any], base: Path) -> tuple[dict[str, Any], bytes]:
    """Make the machine of this name, or tell of the one there is."""
    folder = base / request["folder"]
    if not folder.exists():
        if not Path("/proc/self/environ").exists():
            raise Refused("denied", "the host does not run Linux")
        _require(request["hardware"])
        base.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = base / f".new-{folder.name}-{request['marker']['id']}"
        try:
            fresh.mkdir(mode=0o700)
            (fresh / MARKER).write_text(json.dumps(request["marker"]))
            fresh.rename(folder)
        except OSError:  # another call of the same name was first: a folder with something in it is never replaced
            if not folder.exists():
                raise
        for left in base.glob(f".new-{folder.name}-*"):
            shutil.rmtree(left, ignore_errors=True)
    return _described(folder), b""


def check(request: dict[str, Any], base: Path) -> tuple[dict[str, Any], bytes]:
    """Tell of the machine, if it is the one that is meant."""
    return _described(_meant(request, base)), b""


def put(request: dict[str, Any], base: Path) -> tuple[dict[str, Any], bytes]:
    """Keep the bytes that follow; they get their name when all are there."""
    folder = _meant(request, base)
    place = folder / request["path"]
    part = folder / PARTS / request["mark"]
    part.parent.mkdir(exist_ok=True)
    left, digest = request["bytes"], hashlib.sha256()
    with part.open("xb") as file:
        os.fchmod(file.fileno(), 0o600)
        while left and (chunk := sys.stdin.buffer.read(min(CHUNK, left))):
            left -= len(chunk)
            digest.update(chunk)
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    if left or digest.hexdigest() != request["sha256"]:
        part.unlink()
        raise Refused("unreachable", "the file did not arrive whole")
    place.parent.mkdir(parents=True, exist_ok=True)
    part.replace(place)
    return {}, b""


def get(request: dict[str, Any], base: Path) -> tuple[dict[str, Any], bytes]:
    """Return a file's bytes."""
    try:
        return {}, (_meant(request, base) / request["path"]).read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise Refused("absent", f"there is no file {request['path']}") from None


def start(request: dict[str, Any], base: Path) -> tuple[dict[str, Any], bytes]:
    """Start the agent, unless the last one runs: that holds the lock which it inherited, and nobody else can."""
    import fcntl

    folder = _meant(request, base)
    lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return {"started": False}, b""
    shutil.rmtree(folder / PARTS, ignore_errors=True)
    with (folder / "agent.log").open("ab") as log:
        subprocess.Popen(
            [sys.executable, "launch.py"], cwd=folder, env={**os.environ, VARIABLE: request["id"]},
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, pass_fds=(lock,),
        )  # fmt: skip
    return {"started": True}, b""


def restart(request: dict[str, Any], base: Path) -> tuple[dict[str, Any], bytes]:
    """End all that the machine runs."""
    _meant(request, base)
    _end(request["id"])
    return {}, b""


def release(request: dict[str, Any], base: Path) -> tuple[dict[str, Any], bytes]:
    """End all that the machine runs and remove it; nothing is done about a machine that is not the one that is meant."""
    folder, gone = base / request["folder"], base / f".gone-{request['id']}"
    if folder.exists() and _described(folder)["id"] == request["id"]:
        _end(request["id"])
        folder.rename(gone)
    _end(request["id"])
    if gone.exists():
        shutil.rmtree(gone)
    return {}, b""


VERBS = {
    "machines": machines, "make": make, "check": check, "put": put, "get": get, "start": start,
    "restart": restart, "release": release,
}  # fmt: skip


def _described(folder: Path) -> dict[str, Any]:
    """Return what the marker says; a folder that has none, or one that cannot be read, is a machine of nobody's."""
    unknown = {"id": "", "owner": "", "name": "", "hardware": ""}
    try:
        marker = json.loads((folder / MARKER).read_text())
    except (OSError, ValueError):
        marker = {}
    return {"folder": folder.name, **unknown, **(marker if isinstance(marker, dict) else {})}


def _meant(request: dict[str, Any], base: Path) -> Path:
    """Return the folder of the machine; absence is told only where the folder of all machines is there."""
    if not base.is_dir():
        raise Refused("unreachable", f"{base} is not there, which held the machines: is that disk mounted?")
    folder = base / str(request["folder"])
    try:
        marker = json.loads((folder / MARKER).read_text())
    except FileNotFoundError:
        raise Refused("gone", f"there is no machine {request['folder']}") from None
    if marker["id"] != request["id"]:
        raise Refused("gone", f"{request['folder']} is another machine by now")
    return folder


def _require(hardware: str) -> None:
    """Refuse where the host does not have this accelerator."""
    if not hardware:
        return
    try:
        asked = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=20, check=False)
        found = asked.stdout.strip() if asked.returncode == 0 else ""
    except (FileNotFoundError, subprocess.TimeoutExpired):
        found = ""
    if hardware.lower() not in found.lower():
        raise Refused("denied", f"the host has no {hardware}; nvidia-smi tells of {found or 'nothing'}")


def _end(mark: str) -> None:
    """Kill every process that carries the mark, until there is none."""
    word, living = f"{VARIABLE}={mark}".encode(), [0]
    for _ in range(KILLS):
        living = [int(entry.name) for entry in Path("/proc").iterdir() if word in _environment(entry)]
        if not living:
            return
        for pid in living:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(KILLS_APART_S)
    raise Refused("failed", f"processes {', '.join(map(str, living))} cannot be ended")


def _environment(process: Path) -> list[bytes]:
    """Return the words of a process's environment; none where it is no process, has ended or is not ours."""
    try:
        return (process / "environ").read_bytes().split(b"\0")
    except OSError:
        return []


if __name__ == "__main__":
    main()
