"""Does what the machine commands. Quick things at once, slow things on a lane; every outcome goes into the inbox."""

from __future__ import annotations

import shutil
import traceback
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supervisor.core import commands as do
from supervisor.core import events as ev
from supervisor.core import messages
from supervisor.core.claim import Rank
from supervisor.core.errors import FAILED_PRECHECKS, UserError
from supervisor.core.masking import masked_text
from supervisor.core.ports import StoreError
from supervisor.core.spoken import duration
from supervisor.engine import claims, finished, runs, staged, threads
from supervisor.engine.files.script_files import ScriptFiles
from supervisor.engine.lane import Lane
from supervisor.engine.launcher import Launcher
from supervisor.engine.orphans import forget_dead_sessions
from supervisor.engine.output import Output
from supervisor.engine.storing import Storing
from supervisor.engine.ticking import told_every
from supervisor.engine.watch import Watch

if TYPE_CHECKING:
    from supervisor.engine.job import Job
    from supervisor.engine.journal import Journal

Inbox = Callable[[ev.Event], None]
Failed = Callable[[StoreError], ev.Event]


class Executor:
    """The hands of one session. All methods are called on the loop's thread; lanes report through ``inbox``."""

    def __init__(self, job: Job, inbox: Inbox, journal: Journal, say: Callable[[do.Say], None]) -> None:
        self.job, self.inbox, self.journal = job, inbox, journal
        self.output = Output()
        self.storing = Storing(job, lambda words: say(do.Say("info", words)))
        self.files = ScriptFiles(job, self.storing, inbox)
        self.launcher = Launcher(job, self._trainer_said, self._trainer_exited, self.output)
        self._say = say
        self._watch: Watch | None = None
        self._lanes = {name: Lane(name) for name in ("store", "fence", "setup", "restart")}
        self._handlers: dict[type, Callable[[Any], None]] = {
            do.Look: self._look,
            do.Knock: self._knock,
            do.Answer: self._answer,
            do.WriteClaim: self._write_claim,
            do.PrepareEnvironment: self._prepare,
            do.ReadHistory: self._read_history,
            do.Restore: self._restore,
            do.Launch: self._launch,
            do.Tell: lambda command: self.files.asked(command.message, partial(self.launcher.tell, command.message)),
            do.EndTrainer: lambda command: self.launcher.end(command.how),
            do.LookAtTrainer: lambda _: self.inbox(ev.TrainerSeen(self.launcher.cpu_s())),
            do.Publish: self._publish,
            do.Confirm: self._confirm,
            do.Discard: lambda command: self._later("setup", partial(staged.discard, Path(command.folder))),
            do.Retain: self._retain,
            do.LookAtFence: self._look_at_fence,
            do.WriteJournal: self._write_journal,
            do.WriteRollback: self._write_rollback,
            do.NoteNonfinite: self._note_nonfinite,
            do.WriteEnd: self._write_end,
            do.Flush: self._flush,
            do.Say: say,
            do.Announce: lambda _: None,
        }

    def execute(self, command: do.Command) -> None:
        """Do it, or begin to."""
        self._handlers[type(command)](command)

    def close(self, *, keep: bool, finished: bool = False) -> None:
        """Leave nothing running; remove the session's local folder unless it holds what is not proved elsewhere.

        Once the run is ``finished``, what dead sessions left on this machine has no use either.
        """
        if self._watch is not None:
            self._watch.close()
        self.files.close()
        self.launcher.close()
        if not keep and self.storing.rank.epoch:
            shutil.rmtree(self.storing.local.session, ignore_errors=True)
        if finished and self.storing.rank.epoch:
            forget_dead_sessions(self.storing.local.run, self.storing.rank, keep=self.storing.local.session)

    def mend(self) -> None:
        """Make the session's local folder again where somebody has emptied it. Raises OSError."""
        if self.launcher.mend():
            words = f"the local folder of this session was emptied and is made again: {self.storing.local.session}"
            hint = "what was staged there and not uploaded is lost; name another folder in SUPERVISOR_RUN_LOCAL"
            self._say(do.Say("warning", words, hint))

    def _look(self, _command: do.Look) -> None:
        self._on("store", self._ticking("looking at the run in the store", self.storing.look), self._cannot_start)

    def _ticking(self, words: str, act: Callable[[], Any]) -> Callable[[], Any]:
        """Return the act with a word every few seconds while it lasts, because on a drive it may take minutes."""

        def told() -> Any:
            with told_every(
                lambda text: self._say(do.Say("info", text)), lambda seconds: f"{words}, {duration(seconds)} so far"
            ):
                return act()

        return told

    def _knock(self, command: do.Knock) -> None:
        def act() -> ev.Event:
            claims.knock(self.job.store, self.job.run, Rank(command.epoch, command.writer))
            return ev.Knocked()

        self._on("store", act, lambda error: ev.Knocked(str(error)))

    def _answer(self, command: do.Answer) -> None:
        """On the lane of the fence, because the store's may be busy with a large file for minutes."""
        answer = partial(claims.answer, self.job.store, self.job.run, self.storing.rank, command.knock)
        self._later("fence", answer)

    def _write_claim(self, command: do.WriteClaim) -> None:
        def act() -> ev.Event:
            rank = self.storing.claim(command.epoch)
            try:
                self.launcher.open(self.storing.local)
            except (OSError, RuntimeError):
                self.inbox(ev.ClaimWritten(rank))  # or nothing would record how this session ended
                raise
            return ev.ClaimWritten(rank)

        self._on("store", act, self._cannot_start)

    def _prepare(self, _command: do.PrepareEnvironment) -> None:
        def act() -> ev.Event:
            prepared = self.job.environments.prepare()
            self.launcher.prepared = prepared
            return ev.EnvironmentReady(prepared.seconds, tuple(prepared.installed), tuple(prepared.drift))

        self._on("setup", act, self._cannot_start)

    def _read_history(self, _command: do.ReadHistory) -> None:
        act = self._ticking("reading what earlier machines left", self.storing.read_history)
        self._on("store", act, self._cannot_start)

    def _restore(self, command: do.Restore) -> None:
        """Where only the trainer died the store is not needed, and may be busy or away: so another lane is asked first."""

        def act() -> ev.Event | None:
            ready = None if command.afresh else self.storing.restart()
            if ready is None:
                self._on("store", there, self._cannot_start)
            return self.files.put_back(ready)

        def bring() -> ev.Event | None:
            return self.files.put_back(self.storing.restore(afresh=command.afresh))

        there = self._ticking("fetching the newest checkpoint and verifying it", bring)
        self._on("restart", act, self._cannot_start)

    def _launch(self, command: do.Launch) -> None:
        try:
            self.mend()
            resuming = self.files.resuming(command.checkpoint)
            self.launcher.added = (resuming.arguments, resuming.environ)
            pid = self.launcher.launch(command.attempt, resuming.checkpoint, command.rolled)
        except UserError as error:
            self.inbox(_setup_failed(error))
            return
        except (OSError, RuntimeError) as error:
            if threads.exhausted(error):
                self.inbox(_setup_failed(threads.no_more()))
                return
            if isinstance(error, RuntimeError):
                raise
            hint = "the job's environment may be damaged: remove .supervisor/envs and start again"
            self.inbox(ev.SetupFailed(f"the trainer cannot be started: {error}", hint, FAILED_PRECHECKS))
            return
        self.inbox(ev.Launched(pid))
        self.files.begin(pid)
        traits = self.job.store.traits
        if self._watch is None and not traits.mounted:
            self._watch = Watch(Path(traits.where) / self.job.run.name, self.storing.look_at_fence, self.inbox)
        if command.attempt == 1:
            self._later("setup", self._keep_environment)
            if self.job.deadline_wall_s is not None:  # else there is nothing to plan, and one can do without
                self._on("setup", self.storing.read_lives, lambda _: ev.LivesRead(()))

    def _keep_environment(self) -> None:
        self.job.environments.record(self.storing.rank)
        self.job.environments.keep()

    def _publish(self, command: do.Publish) -> None:
        def act() -> ev.Event:
            return self.storing.publish(Path(command.folder), command.step, self.inbox)

        self._on("store", act, lambda error: ev.PublishFailed(command.folder, str(error)))

    def _confirm(self, command: do.Confirm) -> None:
        act = partial(self.storing.confirm, Path(command.folder))
        self._on("store", act, lambda error: ev.PublishFailed(command.folder, str(error)))

    def _flush(self, command: do.Flush) -> None:
        self._on("store", partial(self.storing.flush, command.within_s), lambda error: ev.Flushed(None, str(error)))

    def _retain(self, _command: do.Retain) -> None:
        self._on("store", self.storing.retain, lambda error: ev.RetainFailed(str(error)))

    def _look_at_fence(self, _command: do.LookAtFence) -> None:
        self._on("fence", self.storing.look_at_fence, lambda error: ev.FenceUnreadable(str(error), error.kind))

    def _write_journal(self, _command: do.WriteJournal) -> None:
        self.inbox(memory_seen())
        pieces, output = self.journal.take(), self.output.take()

        def act() -> ev.Event:
            self.storing.write_pieces([*pieces, *output])
            return ev.JournalWritten()

        def failed(error: StoreError) -> ev.Event:
            self.journal.put_back(pieces)
            self.output.put_back(output)
            return ev.JournalFailed(str(error))

        self._on("store", act, failed)

    def _write_rollback(self, command: do.WriteRollback) -> None:
        """On the lane of the fence, because the store's may be busy with a large file, and this must not be lost."""
        act = partial(self.storing.roll_back, command.rollback, command.words)
        self._on("fence", act, lambda error: ev.RollbackWritten(str(error)))

    def _note_nonfinite(self, command: do.NoteNonfinite) -> None:
        """On the lane of the fence, because the store's may be busy. What fails here is written before anything is removed."""
        self.storing.nonfinite.saw(command.fine, command.step, command.words)
        self._later("fence", self.storing.note_nonfinite)

    def _write_end(self, command: do.WriteEnd) -> None:
        pieces, output = self.journal.take(), self.output.take()
        body = {"reason": command.reason, "exit_code": command.exit_code, "words": command.words, "step": command.step}

        def act() -> ev.Event:
            self.storing.uploads.seal()
            self.storing.write_pieces([*pieces, *output])
            proved = self.storing.newest_proved()  # asked after what was on its way: this may be the only record of it
            body["step"] = command.step if proved is None else proved.step
            body.update(checkpoint=finished.to_plain(proved), at=round(self.job.clock.now().wall_s, 3))
            claims.write_end(self.job.store, self.job.run, self.storing.rank, command.reason, body)
            return ev.EndWritten()

        self._on("store", act, lambda error: ev.EndWritten(str(error)))

    def _trainer_said(self, message: messages.Message | messages.Malformed) -> None:
        if isinstance(message, messages.Staged):
            folder = self.storing.local.staging / message.folder
            self.storing.take_log(folder)
            message = replace(message, folder=str(folder))
        self.files.heard(message)
        self.inbox(ev.TrainerSaid(message))

    def _trainer_exited(self, code: int, *, oom: bool) -> None:
        self.launcher.hear_out()
        other_file = False
        try:
            other_file = self.files.ended(code)
        except Exception:  # noqa: BLE001, because the end must be heard of, whatever goes wrong here
            self.inbox(ev.ControllerFailed(traceback.format_exc()))
        for left in self.storing.unreported():
            self.storing.take_log(left.folder)
            said = messages.Staged(left.id.step, str(left.folder), 0, "found", 0.0, 0.0)
            self.inbox(ev.TrainerSaid(said))
        self.inbox(ev.TrainerExited(code, oom, tuple(map(masked_text, self.output.tail)), other_file))

    def _on(self, lane: str, act: Callable[[], ev.Event | None], failed: Failed) -> None:
        self._lanes[lane].submit(partial(self._attempt, act, failed))

    def _cannot_start(self, error: StoreError) -> ev.Event:
        return _setup_failed(runs.cannot_use(self.job.store, error))

    def _later(self, lane: str, act: Callable[[], None]) -> None:
        def quietly() -> None:
            try:
                act()
            except (OSError, StoreError, UserError) as error:
                self._say(do.Say("warning", f"tidying up failed: {error}", "nothing that is needed is touched by it"))

        self._lanes[lane].submit(quietly)

    def _attempt(self, act: Callable[[], ev.Event | None], failed: Failed) -> None:
        """Put the outcome into the inbox; None if somebody else will."""
        outcome: ev.Event | None
        try:
            outcome = act()
        except StoreError as error:
            outcome = failed(error)
        except UserError as error:
            outcome = _setup_failed(error)
        except OSError as error:
            local = StoreError(f"{error.strerror or error} on the local disk ({error.filename})", "local")
            outcome = threads.defect(error) if threads.exhausted(error) else failed(local)
        except Exception as error:  # noqa: BLE001, because a defect on a lane must end the session in a named state, not hang it
            outcome = threads.defect(error)
        if outcome is not None:
            self.inbox(outcome)


def memory_seen(proc: Path = Path("/proc/meminfo")) -> ev.Event:
    """Return what /proc/meminfo says, in bytes; zeros where there is none."""
    try:
        lines = dict(line.split(":", 1) for line in proc.read_text().splitlines())
        return ev.MemorySeen(_kib(lines["MemAvailable"]), _kib(lines["MemTotal"]))
    except (OSError, KeyError, ValueError):
        return ev.MemorySeen(0, 0)


def _kib(text: str) -> int:
    return int(text.split(maxsplit=1)[0]) * 1024


def _setup_failed(error: UserError) -> ev.Event:
    return ev.SetupFailed(error.what, error.hint, error.exit_code)
