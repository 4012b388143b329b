"""A session watched by a notebook cell: started or found again, shown until its end, saved at an interrupt."""

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

from supervisor.composition import CHECKOUT
from supervisor.core import shell_commands
from supervisor.core.humanize import duration
from supervisor.engine.run_catalog import detached, local_sessions
from supervisor.engine.trainer_process.process_identity import started
from supervisor.views import notebook

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from supervisor.core.ports import Clock
    from supervisor.engine.run_catalog.detached import DetachedSupervisor
    from supervisor.engine.run_catalog.local_sessions import LocalSession

POLL_EVERY_S = 0.25
SHOW_EVERY_S, SHOW_LATER_EVERY_S = 1.0, 5.0
OFTEN_FOR_S = 300.0  # because a browser closed for hours must not receive thousands of panels
SAVE_SEEN_EVERY_S = 2.0
RESTARTS_WITHIN_S = 2.0  # Jupyter interrupts a kernel before it ends it; an interrupt alone comes from the user
MESSAGES_MAX, MESSAGES_MAX_AFTER_ABSENCE, OUTPUT_MAX, OUTPUT_MAX_AFTER_FAILURE = 10, 16, 3, 20
STORE_TIMEOUT_S = 60.0
LINES_KEPT = 400
FINE = frozenset({0, 42, 130, 143})


class Display(Protocol):
    """Display of the panel."""

    def show(self, scene: notebook.PanelState) -> None: ...


@dataclass(frozen=True)
class SessionTarget:
    """The requested run. ``run`` is "" for the store's only one; ``command`` starts or resumes it."""

    run: str
    store: str
    command: tuple[str, ...]


@dataclass
class AttachedSession:
    """One session watched by one cell. ``began_s``: start of the cell, None if another kernel started it."""

    run: str
    clock: Clock
    local_root: Path
    supervisor: DetachedSupervisor | None = None
    local: LocalSession | None = None
    process: subprocess.Popen[bytes] | None = None
    began_s: float | None = None
    other_seconds: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    interrupts: int = 0
    forwarded: int = 0
    messages_max: int = MESSAGES_MAX
    stored_code: int | None = None
    _interrupted_s: float = 0.0
    _offset: int = 0

    @property
    def alive(self) -> bool:
        """True while the supervisor runs. One that this kernel started is reaped when it ends."""
        if self.process is not None:
            return self.process.poll() is None
        return (self.supervisor or self.local).alive  # type: ignore[union-attr]  # one of them was found

    @property
    def code(self) -> int | None:
        """The exit code, None if unknown."""
        stored = None if self.supervisor is None else self.supervisor.code
        if stored is None and self.process is not None:
            stored = self.process.poll()
        return self.stored_code if stored is None else stored if stored >= 0 else None

    def on_interrupt(self) -> None:
        """Note an interrupt of the cell.

        It is forwarded later, because Jupyter also interrupts a kernel that it restarts.
        """
        self.interrupts += 1
        self._interrupted_s = self.clock.now().mono_s

    def forward_interrupt(self, after_s: float) -> None:
        """Forward one interrupt unless another came within ``after_s``.

        The first one saves and ends, the second ends at once.
        """
        if self.forwarded == self.interrupts or self.clock.now().mono_s - self._interrupted_s < after_s:
            return
        self.forwarded += 1
        pid = self.supervisor.pid if self.supervisor is not None else self.local.pid if self.local is not None else None
        if pid is not None and self.alive:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGINT)

    def refresh(self) -> notebook.PanelState:
        """Read the session's messages, output and status."""
        ended = not self.alive  # checked first, so that an ended session's output is complete
        if self.supervisor is not None:
            text, self._offset = self.supervisor.output_since(self._offset)
            self.lines = (self.lines + text.splitlines())[-LINES_KEPT:]
        found = self.local or self._found()
        self.local = found.refreshed() if found is not None else None
        messages, output = notebook.split_output(self.lines)
        failed = ended and self.code not in FINE
        plain = self.local.plain if self.local is not None else None
        silent_s = 0.0
        if plain is not None and not ended:
            silent_s = max(0.0, self.clock.now().wall_s - plain["updated"])
            plain = notebook.advance(plain, silent_s)
        return notebook.PanelState(
            run=self.run or (self.local.run if self.local else ""),
            plain=plain,
            silent_s=silent_s,
            notes=(*self.notes, *notebook.interrupt_notes(messages, self.interrupts, self.forwarded, ended=ended)),
            startup_lines=notebook.startup_lines((plain or {}).get("arrival") or {}, self.began_s, self.other_seconds),
            messages=messages[-self.messages_max :],
            output=output[-(OUTPUT_MAX_AFTER_FAILURE if failed else OUTPUT_MAX) :],
            ended=ended,
            code=self.code,
            stopping=self.forwarded > 0 and not notebook.is_releasing(messages),
        )

    def read_store_status(self) -> None:
        """Read the last status from the store, because an ended session removes its local one."""
        store = (
            self.supervisor.store if self.supervisor is not None else self.local.store if self.local is not None else ""
        )
        run = self.run or (self.local.run if self.local is not None else "")
        command = [sys.executable, "-m", "supervisor", "status", *([run] if run else []), "--json", "--store", store]
        try:
            stored = subprocess.run(
                command, env=environment(), capture_output=True, text=True, timeout=STORE_TIMEOUT_S, check=True
            )
            plain = json.loads(stored.stdout)
        except (OSError, ValueError, subprocess.SubprocessError):
            return  # the store does not answer: the last state seen here stays
        if self.local is not None and plain["epoch"] == self.local.rank.generation:
            arrival = self.local.plain.get("arrival")
            self.local = replace(self.local, plain={**plain, "arrival": arrival}, folder=Path())
            self.stored_code = plain["exit_code"]

    def save_seen_state(self, scene: notebook.PanelState) -> None:
        """Record the shown state for a cell of another kernel."""
        if self.supervisor is not None:
            kept_at = (scene.plain or {}).get("checkpoints", {}).get("durable")
            step = (scene.plain or {}).get("step")
            stored = {"wall_s": self.clock.now().wall_s, "step": step, "durable": kept_at}
            self.supervisor.note_shown({**stored, "offset": self._offset, "ended": scene.ended})

    def _found(self) -> LocalSession | None:
        pid = None if self.supervisor is None else self.supervisor.pid
        return next((each for each in local_sessions.alive_sessions(self.local_root) if each.pid == pid), None)


def start(
    target: SessionTarget, clock: Clock, local_root: Path, began_s: float, other_seconds: dict[str, float]
) -> AttachedSession:
    """Start a session in its own process session, so that it survives the kernel.

    Args:
        target: the run.
        clock: the boot clock.
        local_root: folder of the local session folders.
        began_s: start of the cell by the boot clock.
        other_seconds: durations of earlier steps by another cell.
    """
    before = next((each for each in detached.known(local_root, target.store) if each.run == target.run), None)
    folder = detached.new(local_root)
    command = [
        sys.executable,
        "-m",
        "supervisor.cli.notebook.detached",
        str(folder),
        target.run,
        target.store,
        *target.command,
    ]
    with (folder / detached.OUTPUT).open("wb") as output:
        process = subprocess.Popen(
            command, env=environment(), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
    supervisor = detached.DetachedSupervisor(folder, target.run, target.store, process.pid, started(process.pid))
    made = AttachedSession(
        target.run,
        clock,
        local_root,
        supervisor=supervisor,
        process=process,
        began_s=began_s,
        other_seconds=other_seconds,
    )
    if before is not None and before.seen and not before.seen.get("ended"):
        made.notes.append(_end_while_away(before))
    return made


def attach(target: SessionTarget, clock: Clock, local_root: Path) -> AttachedSession | None:
    """Return the run's live session on this machine, from any starter; None if there is none."""
    for each in detached.known(local_root, target.store):
        if each.alive and (not target.run or each.run in {"", target.run}):
            found = AttachedSession(
                target.run or each.run, clock, local_root, supervisor=each, messages_max=MESSAGES_MAX_AFTER_ABSENCE
            )
            found.notes.append(_progress_while_away(each, found.refresh(), clock.now().wall_s))
            return found
    named = [
        each
        for each in local_sessions.alive_sessions(local_root)
        if each.store == target.store and target.run in {"", each.run}
    ]
    if not named:
        return None
    newest = max(named, key=lambda each: each.rank)
    found = AttachedSession(newest.run, clock, local_root, local=newest)
    found.notes.append("re-attached to the live session on this machine; it was not started by a notebook")
    return found


def watch(
    attached: AttachedSession, display: Display, kernel_ends: Callable[[], bool] | None = None
) -> notebook.PanelState | None:
    """Show the session until it has ended, and forward interrupts of the cell; return the last state shown.

    Returns None if the kernel ends first; the run continues then.

    Args:
        attached: the session.
        display: the panel.
        kernel_ends: returns True if Jupyter has told the kernel to end; None without a kernel.
    """
    pause, clock = threading.Event(), attached.clock
    began_s = shown_s = clock.now().mono_s
    noted_s = began_s - SAVE_SEEN_EVERY_S
    last: tuple[Any, ...] = ()
    after_s = 0.0 if kernel_ends is None else RESTARTS_WITHIN_S
    with interrupts_to(attached.on_interrupt):
        while True:
            if kernel_ends is not None and kernel_ends():
                attached.interrupts = attached.forwarded  # they were meant for the kernel
                attached.notes.append("the kernel is ending; the run continues: run this cell again to see it")
                display.show(attached.refresh())
                return None
            attached.forward_interrupt(after_s)
            scene = attached.refresh()
            now_s = clock.now().mono_s
            news = (scene.messages, scene.notes, scene.ended, scene.plain is None, scene.startup_lines)
            often = now_s - began_s < OFTEN_FOR_S or attached.interrupts
            if news != last or now_s - shown_s >= (SHOW_EVERY_S if often else SHOW_LATER_EVERY_S):
                last, shown_s = news, now_s
                display.show(scene)
            if scene.ended or now_s - noted_s >= SAVE_SEEN_EVERY_S:
                noted_s = now_s
                attached.save_seen_state(scene)
            if scene.ended:
                break
            pause.wait(POLL_EVERY_S)
        attached.read_store_status()
    scene = attached.refresh()
    display.show(scene)
    return scene


@contextmanager
def interrupts_to(on_interrupt: Callable[[], None]) -> Iterator[None]:
    """Call a function at each interrupt instead of raising: an exception could come anywhere, even within a drawing."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread receives signals
        return
    before = signal.signal(signal.SIGINT, lambda _number, _frame: on_interrupt())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def environment() -> dict[str, str]:
    """Return the environment for a child process, which must find this checkout too."""
    path = os.pathsep.join(filter(None, [str(CHECKOUT), os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", shell_commands.ENVIRONMENT: shell_commands.MAGIC}


def error_of(scene: notebook.PanelState) -> tuple[str, str]:
    """Return the two lines of a failure: the supervisor's own if it printed them."""
    errors = [each.removeprefix("error: ") for each in scene.messages if each.startswith("error: ")]
    tries = [each.strip().removeprefix("try: ") for each in scene.messages if each.startswith("  try: ")]
    if errors:
        return errors[-1], tries[-1] if tries else f"{shell_commands.MAGIC} doctor"
    if scene.code is None:
        return (
            "the supervisor disappeared without a shutdown record",
            "run this cell again: it resumes from the safe step",
        )
    return (
        f"the run ended with exit code {scene.code}",
        f"{shell_commands.MAGIC} {shell_commands.of_run('logs', scene.run)}",
    )


def _progress_while_away(found: DetachedSupervisor, now: notebook.PanelState, wall_s: float) -> str:
    """Return a note on the progress while no cell watched."""
    seen, plain = found.seen, now.plain or {}
    if not seen:
        return "re-attached to the live session on this machine"
    away = f"re-attached: not watched for {duration(max(0.0, wall_s - seen['wall_s']))}; the run continued"
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


def _end_while_away(before: DetachedSupervisor) -> str:
    text, _ = before.output_since(int(before.seen.get("offset", 0)))
    messages, _ = notebook.split_output(text.splitlines())
    last = next(
        (each for each in reversed(messages) if each.startswith(("error: ", "SUCC", "CANC", "HAND", "FAIL", "FENC"))),
        "",
    )
    how = f"exit code {before.code}" if before.code is not None else "it disappeared without a shutdown record"
    return f"while no cell watched, the previous session ended: {last or how}"
