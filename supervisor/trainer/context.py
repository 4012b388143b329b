"""What this process has only one of: its settings, its channel, and the run that attach() made."""

from __future__ import annotations

import os
import signal
import stat
import sys
from typing import TYPE_CHECKING

from supervisor.core import shell_commands
from supervisor.core.errors import FENCED, NO_MORE_PROCESSES, NO_MORE_PROCESSES_HINT, SetupError
from supervisor.core.policy import rollback
from supervisor.core.wire.messages import (
    Anomaly,
    Finished,
    Heartbeat,
    Hello,
    Message,
    SaveFailed,
    SaveRequest,
    Stopped,
    StopRequest,
    TrainerNote,
)
from supervisor.trainer.clock import sleep
from supervisor.trainer.settings import TrainerSettings, read_settings

if TYPE_CHECKING:
    from supervisor.trainer.client import Client
    from supervisor.trainer.hooks.unmodified_script import UnmodifiedScript
    from supervisor.trainer.run import Run
    from supervisor.trainer.state.capture import AttachedState

CONNECT_TIMEOUT_S = 5.0


class TrainerContext:
    """Speaks for the process: to the supervisor where there is one, to the person at the terminal where there is none.

    It is also the listener of a script that has not called attach() and is not watched: such a script can only end.
    """

    def __init__(self, settings: TrainerSettings) -> None:
        self.settings = settings
        self.run: Run | None = None
        self.unmodified_script: UnmodifiedScript | None = None  # counts what the hooks see of a script that has no run
        self.made_by: dict[str, str] = {}
        self.seed: int | None = None  # of generators that the script does not seed; None where it runs on its own
        self.failed = False  # the script ended in an error: its state is not worth a checkpoint
        self.stopped = False  # the supervisor knows that the script ends before its work is done
        self._client: Client | None = None
        self._first_heartbeat_sent = False
        self._owner = os.getpid()
        if called := os.environ.get(shell_commands.ENVIRONMENT):
            shell_commands.set_called_as(called)

    def connect(self) -> None:
        """Open the channel, if there is one and it is not open yet; SetupError if nobody listens there."""
        if self._client is not None or not self.settings.supervised:
            return
        from supervisor.trainer.client import connect

        try:
            self._client = connect(self.settings.channel, self.unmodified_script or self, CONNECT_TIMEOUT_S)
        except OSError as error:
            raise SetupError(
                f"the supervisor's channel {self.settings.channel} cannot be reached: {error}",
                f"start the script through {shell_commands.command('start')}, or unset SUPERVISOR_RUN_CHANNEL",
            ) from error
        except RuntimeError as error:
            raise SetupError(f"{NO_MORE_PROCESSES}: {error}", NO_MORE_PROCESSES_HINT) from error
        self.send(Hello(os.getpid(), self.settings.attempt))

    @property
    def forked(self) -> bool:
        """Whether this is a child of the process that runs the script: how it ends is no end of the script."""
        return os.getpid() != self._owner

    @property
    def step(self) -> int:
        """Steps done over all attempts, as far as anybody has told."""
        source = self.run or self.unmodified_script
        return source.step if source is not None else 0

    def watch(self, script: UnmodifiedScript) -> None:
        """Until the script calls attach(), ``script`` hears the supervisor. Call it before ``connect``."""
        self.unmodified_script = script

    def attach(self, run: Run, hello: Hello) -> None:
        """From now on ``run`` hears the supervisor."""
        self.run = run
        if self._client is not None:
            self._client.set_listener(run)
            self.send(hello)

    def send(self, message: Message) -> None:
        """Send a message; without a supervisor, print what a person should know."""
        self.stopped = self.stopped or isinstance(message, Stopped)
        if self._client is not None:
            self._client.send(message)
        if isinstance(message, SaveFailed):
            print(f"training-supervisor: step {message.step} could not be saved: {message.error}", file=sys.stderr)
        elif isinstance(message, TrainerNote) and self._client is None:
            hint = f"\n  {message.hint}" if message.hint else ""
            print(f"training-supervisor: {message.text}{hint}", file=sys.stderr)

    def warn(self, what: str, hint: str) -> None:
        """Say in two lines what there is and what to do."""
        self.send(TrainerNote("warning", what, hint))

    def notice(self, state: AttachedState) -> None:
        """Say what the state has noticed since this was asked."""
        notices, state.notices = state.notices, []
        for level, words in notices:
            self.send(TrainerNote(level, words))

    def report_anomaly(self, anomaly: Anomaly) -> bool:
        """Say that training has gone wrong; return whether the supervisor acts on it."""
        acted_on = anomaly.kind in self.settings.anomalies.handled_kinds
        if acted_on:
            print(f"training-supervisor: {rollback.what(anomaly)}", file=sys.stderr)  # the last of it that `logs` shows
        elif anomaly.kind == "spike":
            self.send(TrainerNote("warning", rollback.what(anomaly)))
        if self.settings.supervised:
            self.send(anomaly)
        return acted_on

    def send_final(self, message: Message) -> None:
        """Say how the run ends, after a beat with its newest numbers, and see it off."""
        source = self.run or self.unmodified_script
        if self.unmodified_script is not None and isinstance(message, Finished):
            self.unmodified_script.on_training_start(trains=False)  # it has not read anything until its very end
        beat = source.beat() if source is not None else None
        if beat is not None:
            self.send(beat)
        self.send(message)
        self.flush()

    def wake(self) -> None:
        """Have a beat sent at once."""
        if self._client is not None:
            self._client.wake()

    def flush(self) -> None:
        """Give what was said a moment to reach the supervisor."""
        if self._client is not None:
            self._client.flush(2.0)

    def beat(self) -> Heartbeat | None:
        """One beat says that the process lives; after that, only attach() can tell how it goes."""
        if self._first_heartbeat_sent:
            return None
        self._first_heartbeat_sent = True
        return Heartbeat(0, "start")

    def on_save_request(self, message: SaveRequest) -> None:
        """A script that is not attached cannot be saved from here."""

    def on_stop_request(self, message: StopRequest) -> None:  # noqa: ARG002  # whatever the reason
        """Only the system's own way is left."""
        os.kill(os.getpid(), signal.SIGTERM)

    def on_supervisor_lost(self) -> None:
        """End, because nobody would look after what this process goes on writing."""
        silence_pipes()
        os.kill(os.getpid(), signal.SIGTERM)
        self.end_after_grace()

    def end_after_grace(self) -> None:
        """End the process from this thread unless it ends by itself within the grace time."""
        sleep(self.settings.grace_s)
        os._exit(FENCED)


def silence_pipes() -> None:
    """Let output into pipes go nowhere: whoever read them died, and the next print would end the script before its save."""
    devnull = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    for descriptor in (1, 2):
        try:
            if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
                os.dup2(devnull, descriptor)
        except OSError:
            continue  # the script closed it itself
    os.close(devnull)


_current: list[TrainerContext] = []


def current() -> TrainerContext:
    """Return this process's one Life."""
    if not _current:
        _current.append(TrainerContext(read_settings(os.environ, sys.argv[0] if sys.argv else "")))
    return _current[0]
