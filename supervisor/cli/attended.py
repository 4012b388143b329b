"""A session that a notebook's cell attends: started or found again, watched until it ends, saved when the cell is interrupted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from supervisor.core import program
from supervisor.core.spoken import duration
from supervisor.engine import here, kept
from supervisor.engine.identity import started
from supervisor.views import notebook
from supervisor.wiring import CHECKOUT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from supervisor.core.ports import Clock
    from supervisor.engine.here import Here
    from supervisor.engine.kept import Kept

LOOK_EVERY_S = 0.25
SHOW_EVERY_S, SHOW_LATER_EVERY_S = 1.0, 5.0
OFTEN_FOR_S = 300.0  # because a browser that is closed for hours must not find thousands of panels waiting for it
NOTE_EVERY_S = 2.0
RESTARTS_WITHIN_S = 2.0  # Jupyter interrupts a kernel before it ends it: an interrupt alone is a person's
SAID_MAX, SAID_MAX_AFTER_ABSENCE, PRINTED_MAX, PRINTED_MAX_AFTER_FAILURE = 10, 16, 3, 20
STORE_PATIENCE_S = 60.0
LINES_KEPT = 400
FINE = frozenset({0, 42, 130, 143})


class Shown(Protocol):
    """Where a person sees it."""

    def show(self, scene: notebook.Scene) -> None: ...


@dataclass(frozen=True)
class Target:
    """The run that is meant: ``run`` is "" where the store's only one is, ``command`` what starts or resumes it."""

    run: str
    store: str
    command: tuple[str, ...]


@dataclass
class Attended:
    """One session under the eyes of one cell. ``began_s``: when the cell began, None if another kernel started it."""

    run: str
    clock: Clock
    local_root: Path
    kept: Kept | None = None
    here: Here | None = None
    process: subprocess.Popen[bytes] | None = None
    began_s: float | None = None
    beside: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    interrupts: int = 0
    passed_on: int = 0
    said_max: int = SAID_MAX
    told_code: int | None = None
    _heard_s: float = 0.0
    _offset: int = 0

    @property
    def lives(self) -> bool:
        """Whether the supervisor still runs; one that this kernel started is buried at once when it ends."""
        if self.process is not None:
            return self.process.poll() is None
        return (self.kept or self.here).lives  # type: ignore[union-attr]  # one of them was found

    @property
    def code(self) -> int | None:
        """How it ended, None if nobody knows."""
        told = None if self.kept is None else self.kept.code
        if told is None and self.process is not None:
            told = self.process.poll()
        return self.told_code if told is None else told if told >= 0 else None

    def hear(self) -> None:
        """Hear an interrupt of the cell; it is passed on later, because Jupyter interrupts a kernel that it restarts."""
        self.interrupts += 1
        self._heard_s = self.clock.now().mono_s

    def pass_on(self, after_s: float) -> None:
        """Pass on one interrupt, if no other came for ``after_s``: the first has it save and end, the second end at once."""
        if self.passed_on == self.interrupts or self.clock.now().mono_s - self._heard_s < after_s:
            return
        self.passed_on += 1
        pid = self.kept.pid if self.kept is not None else self.here.pid if self.here is not None else None
        if pid is not None and self.lives:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGINT)

    def look(self) -> notebook.Scene:
        """Read what it says and prints, and its status."""
        ended = not self.lives  # asked first, so that an ended one has said all there is
        if self.kept is not None:
            text, self._offset = self.kept.printed(self._offset)
            self.lines = (self.lines + text.splitlines())[-LINES_KEPT:]
        found = self.here or self._found()
        self.here = found.again() if found is not None else None
        said, printed = notebook.sorted_lines(self.lines)
        failed = ended and self.code not in FINE
        plain = self.here.plain if self.here is not None else None
        silent_s = 0.0
        if plain is not None and not ended:
            silent_s = max(0.0, self.clock.now().wall_s - plain["updated"])
            plain = notebook.moved_on(plain, silent_s)
        return notebook.Scene(
            run=self.run or (self.here.run if self.here else ""),
            plain=plain,
            silent_s=silent_s,
            notes=(*self.notes, *notebook.interrupted(said, self.interrupts, self.passed_on, ended=ended)),
            arrival=notebook.arrival((plain or {}).get("arrival") or {}, self.began_s, self.beside),
            said=said[-self.said_max :],
            printed=printed[-(PRINTED_MAX_AFTER_FAILURE if failed else PRINTED_MAX) :],
            ended=ended,
            code=self.code,
            stopping=self.passed_on > 0 and not notebook.leaving(said),
        )

    def ask_the_store(self) -> None:
        """Take the last status from the store, because a session that has ended takes its own along."""
        store = self.kept.store if self.kept is not None else self.here.store if self.here is not None else ""
        run = self.run or (self.here.run if self.here is not None else "")
        command = [sys.executable, "-m", "supervisor", "status", *([run] if run else []), "--json", "--store", store]
        try:
            told = subprocess.run(
                command, env=environment(), capture_output=True, text=True, timeout=STORE_PATIENCE_S, check=True
            )
            plain = json.loads(told.stdout)
        except (OSError, ValueError, subprocess.SubprocessError):
            return  # it does not answer: then what was last seen here is what there is
        if self.here is not None and plain["epoch"] == self.here.rank.epoch:
            arrival = self.here.plain.get("arrival")
            self.here = replace(self.here, plain={**plain, "arrival": arrival}, folder=Path())
            self.told_code = plain["exit_code"]

    def remember(self, scene: notebook.Scene) -> None:
        """Leave what was seen for the cell of another kernel."""
        if self.kept is not None:
            kept_at = (scene.plain or {}).get("checkpoints", {}).get("durable")
            step = (scene.plain or {}).get("step")
            told = {"wall_s": self.clock.now().wall_s, "step": step, "durable": kept_at}
            self.kept.saw({**told, "offset": self._offset, "ended": scene.ended})

    def _found(self) -> Here | None:
        pid = None if self.kept is None else self.kept.pid
        return next((each for each in here.living(self.local_root) if each.pid == pid), None)


def begin(target: Target, clock: Clock, local_root: Path, began_s: float, beside: dict[str, float]) -> Attended:
    """Start a session in a process session of its own, so that no kernel takes it along.

    ``began_s``: when the cell began, by the boot clock; ``beside``: seconds of what another cell did for it before.
    """
    before = next((each for each in kept.known(local_root, target.store) if each.run == target.run), None)
    folder = kept.new(local_root)
    command = [sys.executable, "-m", "supervisor.cli.kept", str(folder), target.run, target.store, *target.command]
    with (folder / kept.OUTPUT).open("wb") as output:
        process = subprocess.Popen(
            command, env=environment(), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
    mine = kept.Kept(folder, target.run, target.store, process.pid, started(process.pid))
    made = Attended(target.run, clock, local_root, kept=mine, process=process, began_s=began_s, beside=beside)
    if before is not None and before.seen and not before.seen.get("ended"):
        made.notes.append(_ended_meanwhile(before))
    return made


def find(target: Target, clock: Clock, local_root: Path) -> Attended | None:
    """Return the session of the run that lives on this machine, whoever started it."""
    for each in kept.known(local_root, target.store):
        if each.lives and (not target.run or each.run in {"", target.run}):
            found = Attended(target.run or each.run, clock, local_root, kept=each, said_max=SAID_MAX_AFTER_ABSENCE)
            found.notes.append(_meanwhile(each, found.look(), clock.now().wall_s))
            return found
    named = [each for each in here.living(local_root) if each.store == target.store and target.run in {"", each.run}]
    if not named:
        return None
    newest = max(named, key=lambda each: each.rank)
    found = Attended(newest.run, clock, local_root, here=newest)
    found.notes.append("re-attached to the session that lives on this machine; it was not started by a notebook")
    return found


def follow(attended: Attended, shown: Shown, kernel_ends: Callable[[], bool] | None = None) -> notebook.Scene | None:
    """Show it until it has ended, and return the last that was shown; interrupts of the cell are passed on meanwhile.

    ``kernel_ends``: whether Jupyter has told the kernel to end; the run goes on then, and None is returned. None where
    there is no kernel.
    """
    pause, clock = threading.Event(), attended.clock
    began_s = shown_s = clock.now().mono_s
    noted_s = began_s - NOTE_EVERY_S
    last: tuple[Any, ...] = ()
    after_s = 0.0 if kernel_ends is None else RESTARTS_WITHIN_S
    with interrupts_to(attended.hear):
        while True:
            if kernel_ends is not None and kernel_ends():
                attended.interrupts = attended.passed_on  # they were not meant for it
                attended.notes.append("the kernel is ending; the run goes on: run this cell again to see it")
                shown.show(attended.look())
                return None
            attended.pass_on(after_s)
            scene = attended.look()
            now_s = clock.now().mono_s
            news = (scene.said, scene.notes, scene.ended, scene.plain is None, scene.arrival)
            often = now_s - began_s < OFTEN_FOR_S or attended.interrupts
            if news != last or now_s - shown_s >= (SHOW_EVERY_S if often else SHOW_LATER_EVERY_S):
                last, shown_s = news, now_s
                shown.show(scene)
            if scene.ended or now_s - noted_s >= NOTE_EVERY_S:
                noted_s = now_s
                attended.remember(scene)
            if scene.ended:
                break
            pause.wait(LOOK_EVERY_S)
        attended.ask_the_store()
    scene = attended.look()
    shown.show(scene)
    return scene


@contextmanager
def interrupts_to(hear: Callable[[], None]) -> Iterator[None]:
    """Have interrupts heard instead of raised: raised they would come anywhere, in the middle of a drawing too."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread hears signals
        return
    before = signal.signal(signal.SIGINT, lambda _number, _frame: hear())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def environment() -> dict[str, str]:
    """Return what a process of ours finds in its environment, so that it finds this checkout too."""
    path = os.pathsep.join(filter(None, [str(CHECKOUT), os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", program.ENVIRONMENT: program.MAGIC}


def error_of(scene: notebook.Scene) -> tuple[str, str]:
    """Return the two lines of a failure: the supervisor's own, where it said them."""
    errors = [each.removeprefix("error: ") for each in scene.said if each.startswith("error: ")]
    tries = [each.strip().removeprefix("try: ") for each in scene.said if each.startswith("  try: ")]
    if errors:
        return errors[-1], tries[-1] if tries else f"{program.MAGIC} doctor"
    if scene.code is None:
        return "the supervisor is gone without a word", "run this cell again: it goes on from what is safe"
    return f"the run ended with exit code {scene.code}", f"{program.MAGIC} {program.of_run('logs', scene.run)}"


def _meanwhile(found: Kept, now: notebook.Scene, wall_s: float) -> str:
    """Say what happened while nobody looked."""
    seen, plain = found.seen, now.plain or {}
    if not seen:
        return "re-attached to the session that lives on this machine"
    away = f"re-attached: nobody watched for {duration(max(0.0, wall_s - seen['wall_s']))}, and it went on by itself"
    steps = ""
    if plain.get("step") is not None:
        steps = f", from step {seen['step'] or 0:,} to {plain['step']:,}"
    kept_now = plain.get("checkpoints", {}).get("durable")
    safe = ""
    if kept_now:
        before = seen.get("durable")
        safe = f"; step {kept_now:,} is safe now" + (
            f", step {before:,} was then" if before not in {None, kept_now} else ""
        )
    return f"{away}{steps}{safe}"


def _ended_meanwhile(before: Kept) -> str:
    text, _ = before.printed(int(before.seen.get("offset", 0)))
    said, _ = notebook.sorted_lines(text.splitlines())
    last = next(
        (each for each in reversed(said) if each.startswith(("error: ", "SUCC", "CANC", "HAND", "FAIL", "FENC"))), ""
    )
    how = f"exit code {before.code}" if before.code is not None else "it is gone without a word"
    return f"while nobody watched, the session before ended: {last or how}"
