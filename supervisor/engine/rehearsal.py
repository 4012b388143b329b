"""A rehearsal: the same script once in peace and once with kill -9 in its way, in throw-away stores, then compared."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Self

from supervisor.core import events as ev
from supervisor.core import program
from supervisor.core.carried import FILES_FILE
from supervisor.core.errors import FAILED, NOT_TESTED, TERMINATED, UserError
from supervisor.core.values import dataclass
from supervisor.engine import checkpoints, journal, working_copy
from supervisor.engine.claims import ranks
from supervisor.engine.comparison import RUN, compare, environ, saved_outside
from supervisor.engine.orphans import TRAINER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from supervisor.core.ports import Clock, Store
    from supervisor.engine.comparison import Comparison

LOOK_EVERY_S = 0.02
SHORTEST_S = 0.5
PEACEFUL, KILLED = "peaceful", "killed"
SAVES_PER_RUN = 10
TAIL_LINES = 12
MORE_TO_DO = "give it more to do: rehearse SCRIPT -- ARGUMENTS"


@dataclass(frozen=True, slots=True)
class Plan:
    """What is rehearsed. ``folder`` holds everything and is thrown away.

    Each run has a fresh copy of the ``working`` folder and is started there.
    ``peace_s``: after so long in training the first run is stopped where it is, and the second is stopped at the same
    step; ``limit_s`` bounds the second. ``watch`` and ``resume_arguments``: of a script that saves by itself. Of such a one
    nobody can ask for a step: it has to come to its end.
    """

    script: Path
    arguments: Sequence[str]
    working: Path
    folder: Path
    steps: int | None
    save_every: str
    install: bool
    peace_s: float
    limit_s: float
    watch: str = ""
    resume_arguments: str = ""


@dataclass(frozen=True, slots=True)
class Peaceful:
    """The run that nothing happened to: the step it came to and how long its trainer lived."""

    step: int
    seconds: float
    finished: bool


class Rehearsal:
    """``open_store`` gives the store in a folder; ``say`` is told of each act."""

    def __init__(
        self, plan: Plan, open_store: Callable[[str], Store], clock: Clock, say: Callable[[str], None]
    ) -> None:
        self._plan, self._open, self._clock, self._say = plan, open_store, clock, say
        self._pause = Event()
        self._work = Path(os.path.realpath(plan.folder)) / "work"
        self._said = False

    def in_peace(self) -> Peaceful:
        """Run it once with nothing in its way. UserError where the script itself fails."""
        self._say(f"1/3 {self._plan.script.name} in peace")
        turn = self._turn(PEACEFUL, "peaceful-machine", self._plan.save_every, self._plan.steps)
        with self._cleared(), turn:
            until_s = None
            while turn.process.poll() is None:
                self._pause.wait(LOOK_EVERY_S)
                if until_s is None and turn.trainer() is not None:
                    until_s = self._clock.now().mono_s + self._plan.peace_s
                if until_s is not None and self._clock.now().mono_s > until_s:
                    turn.process.send_signal(signal.SIGTERM)
                    until_s = float("inf")
        store = self._open(str(turn.store))
        step = _last_step(store)
        if turn.process.returncode not in {0, TERMINATED}:
            raise self._failed("the script fails even when nothing happens to it", turn)
        if step is None:
            hint = "it must call supervisor.attach(…), or be told of: --watch DIR, the folder in which it saves"
            raise UserError("the script saved no checkpoint", hint, FAILED)
        if self._plan.watch and turn.process.returncode != 0:
            words = f"the script did not end within {self._plan.peace_s:.0f} s, and one that saves by itself has to"
            raise UserError(words, "give it less to do (rehearse SCRIPT -- ARGUMENTS), or more time: --limit", FAILED)
        seconds = _seconds(store)
        if seconds < SHORTEST_S:
            raise _not_tested(f"the script is over in {seconds:.1f} s, too soon to be killed in the middle")
        return Peaceful(step, seconds, finished=turn.process.returncode == 0)

    def with_kills(self, peaceful: Peaceful) -> None:
        """Run it again: kill the trainer, later the whole machine, and go on on a blank one."""
        stop_at = self._plan.steps if peaceful.finished else peaceful.step
        save_every = f"{max(100, min(1000, int(1000 * peaceful.seconds / SAVES_PER_RUN)))}ms"
        third_s = peaceful.seconds / 3
        turn = self._turn(KILLED, "first-machine", save_every, stop_at)
        with self._cleared(), turn:
            trainer, saved = self._wait(turn, third_s, None, None)
            self._say(f"2/3 kill -9 of the trainer, when step {saved:,} was safe")
            _kill_group(trainer)
            trainer, saved = self._wait(turn, third_s, trainer, saved)
            if trainer:
                self._say(f"3/3 kill -9 of everything, when step {saved:,} was safe; going on on a blank machine")
                turn.process.kill()
                _kill_group(trainer)
            else:
                self._say("3/3 it came to its end before it could be killed again; shown to a blank machine")
        turn = self._turn(KILLED, "second-machine", save_every, stop_at)
        with self._cleared(), turn:
            try:
                code = turn.process.wait(self._plan.limit_s)
            except subprocess.TimeoutExpired:
                raise _too_long(self._plan.limit_s) from None
        if code != 0:
            raise self._failed("resume fails: the run ends on the blank machine", turn)

    def compared(self) -> Comparison:
        """Compare what the two left: the final state, and the log of all steps. UserError where that tests nothing."""
        stores = [self._open(str(self._plan.folder / name)) for name in (PEACEFUL, KILLED)]
        found = compare(stores[0], stores[1], self._plan.folder)
        if not found.resumed:
            raise _not_tested(
                "the killed run came to its end without having gone on from anything, which shows nothing"
            )
        if min(found.resumed) >= max(found.steps):
            raise _not_tested(f"every kill fell at or after the last step, {max(found.steps):,}, which shows nothing")
        if found.empty:
            words = "nothing was there to be compared: no state, no step log, no file but logs"
            raise _not_tested(
                words, "attach what is trained, log values, or have the script save: see docs/frameworks.md"
            )
        return found

    def outside(self) -> tuple[str, ...]:
        """Return what the script was seen to save outside the copy of its folder: there it is as the user would have it."""
        stores = [self._open(str(self._plan.folder / name)) for name in (PEACEFUL, KILLED)]
        return tuple(dict.fromkeys(path for store in stores for path in saved_outside(store, self._work)))

    def _wait(self, turn: _Turn, seconds: float, old: int | None, saved_before: int | None) -> tuple[int, int]:
        """Wait until another trainer than ``old`` has run for ``seconds`` and something newer is safe.

        Return its process id and that step; no process id if a run whose trainer was killed is over by then.
        """
        store = self._open(str(turn.store))
        began_s = self._clock.now().mono_s
        since_s: float | None = None
        while turn.process.poll() is None:
            self._pause.wait(LOOK_EVERY_S)
            now_s = self._clock.now().mono_s
            pid = turn.trainer()
            if pid is None or pid == old:
                continue
            since_s = since_s or now_s
            saved = _last_step(store) if now_s - since_s >= seconds else None
            if saved is not None and saved > (saved_before or 0):
                return pid, saved
            if now_s - began_s > self._plan.limit_s:
                raise _too_long(self._plan.limit_s)
        if turn.process.returncode != 0:
            raise self._failed(
                "resume fails: the run ends after its trainer was killed" if old else "the run fails", turn
            )
        if old is not None:
            return 0, _last_step(store) or 0
        hint = MORE_TO_DO
        if not self._plan.watch and any((self._plan.folder / PEACEFUL).rglob(FILES_FILE)):
            hint += "; or if it went on from its own files of the first run: --watch DIR, the folder that has them"
        raise _not_tested("the run ended before it could be killed in the middle", hint)

    @contextlib.contextmanager
    def _cleared(self) -> Iterator[None]:
        """Take away in the end what the script has saved by itself: the next machine begins without it."""
        try:
            yield
        finally:
            shutil.rmtree(self._work, ignore_errors=True)
            if self._plan.watch and Path(self._plan.watch).is_absolute():
                shutil.rmtree(self._plan.watch, ignore_errors=True)

    def _copied(self) -> Path:
        """Make a fresh copy of the working folder, say so once, and return the script in it."""
        plan = self._plan
        watched = [plan.working / plan.watch] if plan.watch else []
        copied = working_copy.copy(plan.working, self._work, without=[plan.folder, *watched])
        if not self._said:
            self._said = True
            left = f"; too large and left out: {', '.join(copied.too_large[:3])}" if copied.too_large else ""
            size = f"{copied.files:,} files, {copied.bytes / 1e6:,.1f} MB"
            self._say(f"in a copy of {plan.working} ({size}); nothing in the folder itself is changed{left}")
        inside = plan.script.is_relative_to(plan.working)
        return self._work / plan.script.relative_to(plan.working) if inside else plan.script

    def _failed(self, what: str, turn: _Turn) -> UserError:
        self._say(turn.last_words())
        plan, beside = self._plan, working_copy.missed(turn.printed(), self._work, self._plan.working)
        if beside is not None:
            path, there = beside
            words = f"the script reads {path}, which is beside the working folder: a rehearsal copies that folder only"
            script = os.path.relpath(plan.script, plan.working.parent)
            above = program.command("rehearse", script, *(["--", *plan.arguments] if plan.arguments else []))
            hint = f"name it by its whole path, {there}; or where the script finds it by its own file's place: `cd {shlex.quote(str(plan.working.parent))} && {above}`"
            return UserError(words, hint, FAILED)
        return UserError(f"{what} (exit code {turn.process.returncode})", "mend what its last words say, above", FAILED)

    def _turn(self, store: str, machine: str, save_every: str, stop_at: int | None) -> _Turn:
        plan = self._plan
        command = [
            # -P: a clone that is the working folder itself runs, with its packages, and not its copy, which has none.
            sys.executable, "-P", "-m", "supervisor", "start", str(self._copied()), "--store", str(plan.folder / store),
            "--name", RUN.name, "--save-every", save_every, "--budget", "none",
            "--max-restarts", "0" if store == PEACEFUL else "3",
            *([] if plan.install else ["--no-install"]), *([f"--watch={plan.watch}"] if plan.watch else []),
            *([f"--resume-args={plan.resume_arguments}"] if plan.resume_arguments else []), "--", *plan.arguments,
        ]  # fmt: skip
        more = {"SUPERVISOR_RUN_LOCAL": str(plan.folder / machine)}
        if stop_at is not None:
            more["SUPERVISOR_RUN_STOP_AT"] = str(stop_at)
        return _Turn(command, environ(more), plan.folder / machine, plan.folder / store, self._work)


class _Turn:
    """One supervisor process with its machine's folder. Leaving the block leaves nothing running."""

    def __init__(
        self, command: Sequence[str], environ: Mapping[str, str], local: Path, store: Path, working: Path
    ) -> None:
        self.local, self.store = local, store
        self.output = local.with_suffix(".txt")
        with self.output.open("wb") as file:
            self.process = subprocess.Popen(
                list(command), env=dict(environ), cwd=working, stdin=subprocess.DEVNULL, stdout=file,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            pid = self.trainer()
            if pid is not None:
                _kill_group(pid)
        self.process.wait()

    def trainer(self) -> int | None:
        """Return the process id of the trainer that was started last, or None before the first."""
        for note in self.local.glob(f"training-supervisor/*/*/{TRAINER}"):
            try:
                return int(json.loads(note.read_text())["pid"])
            except (ValueError, KeyError, FileNotFoundError):
                return None  # it is being written
        return None

    def printed(self) -> str:
        """Return all that it printed."""
        return self.output.read_text("utf-8", "replace")

    def last_words(self) -> str:
        """Return the end of what it printed."""
        printed = self.printed().splitlines()
        lines = [line for line in printed if line.strip() and program.called_as() not in line]
        return "\n".join(f"  | {line}" for line in lines[-TAIL_LINES:])


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _last_step(store: Store) -> int | None:
    newest = max((each.id for each in checkpoints.find(store, RUN)), default=None)
    return None if newest is None else newest.step


def _seconds(store: Store) -> float:
    """Return how long the trainer lived."""
    records = [record for rank in ranks(store, RUN) for record in journal.records(store, RUN, rank)]
    began = [record.at for record in records if isinstance(record.value, ev.Launched)]
    ended = [record.at for record in records if isinstance(record.value, ev.TrainerExited)]
    return ended[-1].since(began[0]) if began and ended else 0.0


def _not_tested(words: str, hint: str = MORE_TO_DO) -> UserError:
    return UserError(f"not tested: {words}", hint, NOT_TESTED)


def _too_long(limit_s: float) -> UserError:
    return UserError(
        f"the rehearsal took longer than {limit_s:.0f} s", "give the script less to do, or more time: --limit", FAILED
    )
