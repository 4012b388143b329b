"""Machines to use the product on as people do: a working folder, a local disk, and supervisors started as commands."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supervisor.bootstrap import private_folder
from supervisor.core.checkpoint import Verdict
from supervisor.core.content import CONTENT_FILE, STATE_FILE
from supervisor.engine import checkpoints, steplog
from supervisor.engine.identity import started
from supervisor.engine.place import RunPlace
from supervisor.stores.folder import FolderStore
from supervisor.trainer import compare, rng
from supervisor.trainer.folder import Opened, open_folder
from supervisor.trainer.own_packages import make_xxhash_importable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

ROOT = Path(__file__).resolve().parent.parent
TOY = ROOT / "trainers" / "toy.py"
LOOK_EVERY_S = 0.01
WAIT_S_MAX = 400.0


class Machine:
    """A blank machine: nothing on it but Python and the checkout. Its store may be shared with other machines."""

    def __init__(self, folder: Path, store: Path, *, python: str = sys.executable) -> None:
        self.folder, self.store, self.python = folder, store, python
        self.local = folder / "local"
        self.work = folder / "work"
        self.work.mkdir(parents=True, exist_ok=True)
        self._turns = 0

    def command(self, *words: str) -> list[str]:
        """Return a whole command line of the product, with this machine's store."""
        verb, *rest = words
        return [self.python, "-m", "supervisor", verb, "--store", str(self.store), *rest]

    def environ(self, **more: str) -> dict[str, str]:
        """Return what a process on this machine finds in its environment."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("SUPERVISOR_RUN_")}
        kept.pop("PYTHONDONTWRITEBYTECODE", None)  # people's machines keep what Python compiled
        own = {"SUPERVISOR_RUN_LOCAL": str(self.local), "SUPERVISOR_RUN_FIRMWARE": ""}  # its firmware names no cloud
        return {**kept, "PYTHONPATH": str(ROOT), **own, **more}

    def run(self, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the product to its end."""
        return subprocess.run(
            self.command(*words), cwd=self.work, env=self.environ(**more), capture_output=True, text=True,
            timeout=WAIT_S_MAX, check=False,
        )  # fmt: skip

    def start(
        self, script: Path, *options: str, arguments: Sequence[str] = (), environ: Mapping[str, str] | None = None
    ) -> Turn:
        """Start a supervisor and come back at once."""
        self._turns += 1
        command = self.command("start", str(script), *options, "--", *arguments)
        return Turn(command, self.work, self.environ(**(environ or {})), self.folder / f"turn-{self._turns}.txt")


class Turn:
    """One supervisor process; what it and its trainer print goes into a file."""

    def __init__(self, command: Sequence[str], work: Path, environ: Mapping[str, str], output: Path) -> None:
        self.output = output
        self.local = Path(environ["SUPERVISOR_RUN_LOCAL"])
        with output.open("wb") as file:
            self.process = subprocess.Popen(
                command, cwd=work, env=environ, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip

    @property
    def text(self) -> str:
        """Everything printed so far."""
        return self.output.read_text("utf-8", "replace")

    @property
    def running(self) -> bool:
        """The supervisor has not ended."""
        return self.process.poll() is None

    def trainer(self) -> int | None:
        """Return the process id of this machine's trainer, if one lives."""
        for note in self.local.glob("training-supervisor/*/*/trainer.json"):
            try:
                body = json.loads(note.read_text())
            except (OSError, ValueError):
                continue  # it is being written or removed just now
            if started(body["pid"]) == body["since"]:
                return int(body["pid"])
        return None

    def wait(self, seconds: float = WAIT_S_MAX) -> int:
        """Return the exit code, or fail with what was printed."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.end()
            raise AssertionError(f"still running after {seconds:.0f} s:\n{self.text}") from None

    def until(self, seen: str | Callable[[], Any], seconds: float = WAIT_S_MAX) -> Any:
        """Wait until words were printed or something is true, or fail with what was printed."""
        end_s = time.perf_counter() + seconds
        while True:
            alive = self.running
            found = seen in self.text if isinstance(seen, str) else _answer(seen)
            if found:
                return found
            if not alive or time.perf_counter() > end_s:
                self.end()
                raise AssertionError(f"{seen!r} did not come; exit code {self.process.returncode}:\n{self.text}")
            time.sleep(LOOK_EVERY_S)  # because another process prints what is waited for

    def signal(self, number: int) -> None:
        """Send the supervisor a signal, as a terminal or a system would."""
        self.process.send_signal(number)

    def kill(self, victim: str) -> None:
        """Kill -9 the "trainer", the "supervisor" or "both"; what is gone already is gone."""
        trainer = self.trainer() if victim != "supervisor" else None
        if victim != "trainer":
            self.process.kill()
            self.process.wait()
        if trainer is not None:
            try:
                os.kill(trainer, signal.SIGKILL)
            except ProcessLookupError:
                return

    def end(self) -> None:
        """Leave nothing running."""
        self.kill("both")


def final_state(store: Path, run: str) -> dict[str, Any]:
    """Return what makes up a run's newest checkpoint and its whole step log: equal for equal runs, bit for bit."""
    make_xxhash_importable(str(private_folder() or ""))
    folder, place = FolderStore(str(store)), RunPlace(run)
    newest = max(checkpoints.find(folder, place), key=lambda found: found.id)
    with tempfile.TemporaryDirectory() as room:
        found, into = checkpoints.bring(folder, place, newest, Path(room) / "final")
        assert found.verdict is Verdict.WHOLE, found.why
        assert found.manifest is not None
        files = {entry.name: entry.digest for entry in found.manifest.files if entry.name != CONTENT_FILE}
        return {
            "step": found.manifest.id.step,
            "state": _attached(open_folder(into)) if STATE_FILE in files else files,
            "metrics": dict(found.manifest.metrics),
            "log": list(steplog.joined(folder, place)),
        }


def last_step(store: Path, run: str) -> int:
    """Return the step of a run's newest checkpoint; for a run that goes on meanwhile."""
    return max(found.id for found in checkpoints.find(FolderStore(str(store)), RunPlace(run))).step


def _attached(opened: Opened) -> dict[str, Any]:
    """Return what is attached, by path, and the generators; without those from which nobody drew: not seeded, they are always others."""
    digests = {path: (told, hashlib.sha256(body).hexdigest()) for path, (told, body) in compare.values(opened).items()}
    kept = opened.rng
    drawn = {f"rng.{name}": rng.of(name, kept) for name in kept["generators"] if name not in rng.undrawn(kept)}
    return {**digests, **drawn}


def until(true: Callable[[], Any], seconds: float = WAIT_S_MAX) -> Any:
    """Wait until something is so, and return it; fail if it does not come."""
    end_s = time.perf_counter() + seconds
    while not (found := _answer(true)):
        assert time.perf_counter() < end_s, "it did not come"
        time.sleep(LOOK_EVERY_S)  # because another process does what is waited for
    return found


def _answer(true: Callable[[], Any]) -> Any:
    """Ask; what vanishes while a folder is walked through (Python 3.11's rglob then fails) is asked for again."""
    try:
        return true()
    except FileNotFoundError:
        return None
