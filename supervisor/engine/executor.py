"""Performs the commands of ``decide``: quick ones at once, slow ones on a queue. Each outcome returns as an event."""

from __future__ import annotations

import shutil
import traceback
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supervisor.core.checkpoint.session_id import SessionId
from supervisor.core.errors import FAILED_PRECHECKS, UserError
from supervisor.core.humanize import duration
from supervisor.core.masking import masked_text
from supervisor.core.ports import StoreError
from supervisor.core.session import commands as do
from supervisor.core.session import events as ev
from supervisor.core.wire import messages
from supervisor.engine import threads
from supervisor.engine.host.fence_watch import FenceWatch
from supervisor.engine.progress import told_every
from supervisor.engine.resume import staging as staged_checkpoints
from supervisor.engine.resume.rollback_records import record_rollback
from supervisor.engine.run_catalog import claims, finished_run, runs
from supervisor.engine.task_queue import SerialExecutor
from supervisor.engine.trainer_process.launcher import Launcher
from supervisor.engine.trainer_process.log_capture import LogCapture
from supervisor.engine.trainer_process.orphans import delete_dead_sessions
from supervisor.engine.unmodified.session import UnmodifiedScriptSession
from supervisor.engine.upload.session_store import SessionStore

if TYPE_CHECKING:
    from supervisor.engine.context import SessionContext
    from supervisor.engine.journal import Journal

Inbox = Callable[[ev.Event], None]
Failed = Callable[[StoreError], ev.Event]


class Executor:
    """Performs the commands of one session.

    Its methods are called on the loop's thread. Four queues run the slow work and report through ``inbox``.
    """

    def __init__(self, job: SessionContext, inbox: Inbox, journal: Journal, say: Callable[[do.Notify], None]) -> None:
        self.job, self.inbox, self.journal = job, inbox, journal
        self.output = LogCapture()
        self.storing = SessionStore(job, lambda words: say(do.Notify("info", words)))
        self.files = UnmodifiedScriptSession(job, self.storing, inbox)
        self.launcher = Launcher(job, self._on_trainer_message, self._on_trainer_exit, self.output)
        self._say = say
        self._watch: FenceWatch | None = None
        self._queues = {name: SerialExecutor(name) for name in ("store", "fence", "setup", "restart")}
        self._handlers: dict[type, Callable[[Any], None]] = {
            do.InspectRun: self._inspect_run,
            do.ProbeOwner: self._probe_owner,
            do.AnswerProbe: self._answer_probe,
            do.WriteClaim: self._write_claim,
            do.PrepareEnvironment: self._prepare,
            do.ReadHistory: self._read_history,
            do.FetchCheckpoint: self._fetch_checkpoint,
            do.StartTrainer: self._start_trainer,
            do.SendToTrainer: lambda command: self.files.forward_to_trainer(
                command.message, partial(self.launcher.send, command.message)
            ),
            do.SignalTrainer: lambda command: self.launcher.end(command.how),
            do.SampleTrainerCpu: lambda _: self.inbox(ev.TrainerCpuSampled(self.launcher.cpu_s())),
            do.UploadCheckpoint: self._upload,
            do.ConfirmDurability: self._confirm,
            do.DeleteStaged: lambda command: self._in_background(
                "setup", partial(staged_checkpoints.discard, Path(command.folder))
            ),
            do.Prune: self._prune,
            do.CheckFence: self._check_fence,
            do.WriteJournal: self._write_journal,
            do.WriteRollback: self._write_rollback,
            do.RecordNonfinite: self._record_nonfinite,
            do.RecordSessionEnd: self._record_end,
            do.FlushDrive: self._flush,
            do.Notify: say,
            do.PublishState: lambda _: None,
        }

    def execute(self, command: do.Command) -> None:
        """Perform a command, or start it on a queue."""
        self._handlers[type(command)](command)

    def close(self, *, keep: bool, finished: bool = False) -> None:
        """Stop everything; delete the session's local folder unless ``keep``.

        Once the run is ``finished``, the local folders of its dead sessions go too.
        """
        if self._watch is not None:
            self._watch.close()
        self.files.close()
        self.launcher.close()
        if not keep and self.storing.rank.generation:
            shutil.rmtree(self.storing.local.session, ignore_errors=True)
        if finished and self.storing.rank.generation:
            delete_dead_sessions(self.storing.local.run, self.storing.rank, keep=self.storing.local.session)

    def recreate_folders(self) -> None:
        """Create the session's local folder again if it was emptied. Raises OSError."""
        if self.launcher.recreate_folders():
            words = f"the local folder of this session was emptied and is made again: {self.storing.local.session}"
            hint = "what was staged there and not uploaded is lost; name another folder in SUPERVISOR_RUN_LOCAL"
            self._say(do.Notify("warning", words, hint))

    def _inspect_run(self, _command: do.InspectRun) -> None:
        self._submit(
            "store",
            self._with_progress("looking at the run in the store", self.storing.inspect_run),
            self._setup_failed_by_store,
        )

    def _with_progress(self, words: str, act: Callable[[], Any]) -> Callable[[], Any]:
        """Return the act with a progress line every few seconds. On a drive it may take minutes."""

        def told() -> Any:
            with told_every(
                lambda text: self._say(do.Notify("info", text)), lambda seconds: f"{words}, {duration(seconds)} so far"
            ):
                return act()

        return told

    def _probe_owner(self, command: do.ProbeOwner) -> None:
        def act() -> ev.Event:
            claims.probe(self.job.store, self.job.run, SessionId(command.generation, command.writer))
            return ev.OwnerProbed()

        self._submit("store", act, lambda error: ev.OwnerProbed(str(error)))

    def _answer_probe(self, command: do.AnswerProbe) -> None:
        """Answer on the queue "fence": the queue "store" may be busy with a large file for minutes."""
        answer = partial(claims.answer_probe, self.job.store, self.job.run, self.storing.rank, command.probe)
        self._in_background("fence", answer)

    def _write_claim(self, command: do.WriteClaim) -> None:
        def act() -> ev.Event:
            rank = self.storing.claim(command.generation)
            try:
                self.launcher.open(self.storing.local)
            except (OSError, RuntimeError):
                self.inbox(ev.ClaimWritten(rank))  # otherwise the end of this session would not be recorded
                raise
            return ev.ClaimWritten(rank)

        self._submit("store", act, self._setup_failed_by_store)

    def _prepare(self, _command: do.PrepareEnvironment) -> None:
        def act() -> ev.Event:
            prepared = self.job.environments.prepare()
            self.launcher.prepared = prepared
            return ev.EnvironmentReady(prepared.seconds, tuple(prepared.installed), tuple(prepared.drift))

        self._submit("setup", act, self._setup_failed_by_store)

    def _read_history(self, _command: do.ReadHistory) -> None:
        act = self._with_progress("reading what earlier machines left", self.storing.read_history)
        self._submit("store", act, self._setup_failed_by_store)

    def _fetch_checkpoint(self, command: do.FetchCheckpoint) -> None:
        """Fetch the checkpoint to start from.

        If only the trainer died, the local disk is enough, and the store may be busy or unreachable. So the queue
        "restart" tries first, and "store" runs only if that finds nothing.
        """

        def act() -> ev.Event | None:
            ready = None if command.fresh else self.storing.restart()
            if ready is None:
                self._submit("store", there, self._setup_failed_by_store)
            return self.files.restore_files(ready)

        def bring() -> ev.Event | None:
            return self.files.restore_files(self.storing.restore(afresh=command.fresh))

        there = self._with_progress("fetching the newest checkpoint and verifying it", bring)
        self._submit("restart", act, self._setup_failed_by_store)

    def _start_trainer(self, command: do.StartTrainer) -> None:
        try:
            self.recreate_folders()
            resuming = self.files.resume_arguments(command.checkpoint)
            self.launcher.added = (resuming.arguments, resuming.environ)
            pid = self.launcher.launch(command.attempt, resuming.checkpoint, command.rollbacks)
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
        self.inbox(ev.TrainerStarted(pid))
        self.files.attempt_started(pid)
        traits = self.job.store.traits
        if self._watch is None and not traits.mounted:
            self._watch = FenceWatch(Path(traits.where) / self.job.run.name, self.storing.check_fence, self.inbox)
        if command.attempt == 1:
            self._in_background("setup", self._keep_environment)
            if (
                self.job.deadline_wall_s is not None
            ):  # without a deadline the lifetimes of other machines are not needed
                self._submit("setup", self.storing.read_peer_lifetimes, lambda _: ev.PeerLifetimesRead(()))

    def _keep_environment(self) -> None:
        self.job.environments.record(self.storing.rank)
        self.job.environments.keep()

    def _upload(self, command: do.UploadCheckpoint) -> None:
        def act() -> ev.Event:
            return self.storing.upload(Path(command.folder), command.step, self.inbox)

        self._submit("store", act, lambda error: ev.UploadFailed(command.folder, str(error)))

    def _confirm(self, command: do.ConfirmDurability) -> None:
        act = partial(self.storing.uploader.confirm, Path(command.folder))
        self._submit("store", act, lambda error: ev.UploadFailed(command.folder, str(error)))

    def _flush(self, command: do.FlushDrive) -> None:
        self._submit(
            "store", partial(self.storing.flush, command.within_s), lambda error: ev.DriveFlushed(None, str(error))
        )

    def _prune(self, _command: do.Prune) -> None:
        self._submit("store", self.storing.prune, lambda error: ev.PruneFailed(str(error)))

    def _check_fence(self, _command: do.CheckFence) -> None:
        self._submit("fence", self.storing.check_fence, lambda error: ev.StoreUnreachable(str(error), error.kind))

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

        self._submit("store", act, failed)

    def _write_rollback(self, command: do.WriteRollback) -> None:
        """Record on the queue "fence", because "store" may be busy. The record must not be lost."""
        act = partial(record_rollback, self.storing.fenced, self.job.run, command.rollback, command.message)
        self._submit("fence", act, lambda error: ev.RollbackWritten(str(error)))

    def _record_nonfinite(self, command: do.RecordNonfinite) -> None:
        """Record on the queue "fence", because "store" may be busy. Pruning retries a failed record."""
        self.storing.nonfinite.note(command.last_good_step, command.step, command.message)
        self._in_background("fence", self.storing.note_nonfinite)

    def _record_end(self, command: do.RecordSessionEnd) -> None:
        pieces, output = self.journal.take(), self.output.take()
        body = {
            "reason": command.reason,
            "exit_code": command.exit_code,
            "words": command.message,
            "step": command.step,
        }

        def act() -> ev.Event:
            self.storing.uploader.write_manifest_unconfirmed()
            self.storing.write_pieces([*pieces, *output])
            proved = self.storing.newest_durable()  # read after the manifest: this may be its only record
            body["step"] = command.step if proved is None else proved.step
            body.update(checkpoint=finished_run.to_plain(proved), at=round(self.job.clock.now().wall_s, 3))
            claims.write_end(self.job.store, self.job.run, self.storing.rank, command.reason, body)
            return ev.SessionEndRecorded()

        self._submit("store", act, lambda error: ev.SessionEndRecorded(str(error)))

    def _on_trainer_message(self, message: messages.Message | messages.Malformed) -> None:
        if isinstance(message, messages.CheckpointStaged):
            folder = self.storing.local.staging / message.folder
            self.storing.take_log(folder)
            message = replace(message, folder=str(folder))
        self.files.on_message(message)
        self.inbox(ev.TrainerMessage(message))

    def _on_trainer_exit(self, code: int, *, oom: bool) -> None:
        self.launcher.drain()
        other_file = False
        try:
            other_file = self.files.on_trainer_exit(code)
        except Exception:  # noqa: BLE001, because the exit must be reported after any error here
            self.inbox(ev.InternalError(traceback.format_exc()))
        for left in self.storing.unreported():
            self.storing.take_log(left.folder)
            said = messages.CheckpointStaged(left.id.step, str(left.folder), 0, "found", 0.0, 0.0)
            self.inbox(ev.TrainerMessage(said))
        self.inbox(ev.TrainerExited(code, oom, tuple(map(masked_text, self.output.tail)), other_file))

    def _submit(self, lane: str, act: Callable[[], ev.Event | None], failed: Failed) -> None:
        self._queues[lane].submit(partial(self._attempt, act, failed))

    def _setup_failed_by_store(self, error: StoreError) -> ev.Event:
        return _setup_failed(runs.unusable_store(self.job.store, error))

    def _in_background(self, lane: str, act: Callable[[], None]) -> None:
        def quietly() -> None:
            try:
                act()
            except (OSError, StoreError, UserError) as error:
                self._say(
                    do.Notify("warning", f"tidying up failed: {error}", "nothing that is needed is touched by it")
                )

        self._queues[lane].submit(quietly)

    def _attempt(self, act: Callable[[], ev.Event | None], failed: Failed) -> None:
        """Perform an act and report its outcome as an event. For None another act reports."""
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
        except Exception as error:  # noqa: BLE001, because a defect on a queue must end the session in a named state
            outcome = threads.defect(error)
        if outcome is not None:
            self.inbox(outcome)


def memory_seen(proc: Path = Path("/proc/meminfo")) -> ev.Event:
    """Return the memory sample from /proc/meminfo in bytes, zeros if there is none."""
    try:
        lines = dict(line.split(":", 1) for line in proc.read_text().splitlines())
        return ev.MemorySampled(_kib(lines["MemAvailable"]), _kib(lines["MemTotal"]))
    except (OSError, KeyError, ValueError):
        return ev.MemorySampled(0, 0)


def _kib(text: str) -> int:
    return int(text.split(maxsplit=1)[0]) * 1024


def _setup_failed(error: UserError) -> ev.Event:
    return ev.SetupFailed(error.what, error.hint, error.exit_code)
