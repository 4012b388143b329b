"""The process-wide context of the trainer: its settings, its channel, and the run that attach() made."""

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
    """Sends messages to the supervisor, or prints them for the user where there is no supervisor.

    It is also the channel's listener for a script without attach() and without hooks. Such a script can only be ended.
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
        """Open the channel if there is one. Raises SetupError if no supervisor listens there."""
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
        """This process is a child of the process that runs the script: its end is not the script's end."""
        return os.getpid() != self._owner

    @property
    def step(self) -> int:
        """Steps done over all attempts, as far as they are known."""
        source = self.run or self.unmodified_script
        return source.step if source is not None else 0

    def watch(self, script: UnmodifiedScript) -> None:
        """Let ``script`` receive the supervisor's messages until the script calls attach().

        Call this before ``connect``.
        """
        self.unmodified_script = script

    def attach(self, run: Run, hello: Hello) -> None:
        """Let ``run`` receive the supervisor's messages."""
        self.run = run
        if self._client is not None:
            self._client.set_listener(run)
            self.send(hello)

    def send(self, message: Message) -> None:
        """Send a message; without a supervisor, print what a user should know."""
        self.stopped = self.stopped or isinstance(message, Stopped)
        if self._client is not None:
            self._client.send(message)
        if isinstance(message, SaveFailed):
            print(f"training-supervisor: step {message.step} could not be saved: {message.error}", file=sys.stderr)
        elif isinstance(message, TrainerNote) and self._client is None:
            hint = f"\n  {message.hint}" if message.hint else ""
            print(f"training-supervisor: {message.text}{hint}", file=sys.stderr)

    def warn(self, what: str, hint: str) -> None:
        """Send a warning of two lines: the problem and the hint."""
        self.send(TrainerNote("warning", what, hint))

    def notice(self, state: AttachedState) -> None:
        """Send the notices that the state has collected since the last call."""
        notices, state.notices = state.notices, []
        for level, words in notices:
            self.send(TrainerNote(level, words))

    def report_anomaly(self, anomaly: Anomaly) -> bool:
        """Report a training anomaly; return whether the supervisor acts on it."""
        acted_on = anomaly.kind in self.settings.anomalies.handled_kinds
        if acted_on:
            print(
                f"training-supervisor: {rollback.describe_anomaly(anomaly)}", file=sys.stderr
            )  # the last of it that `logs` shows
        elif anomaly.kind == "spike":
            self.send(TrainerNote("warning", rollback.describe_anomaly(anomaly)))
        if self.settings.supervised:
            self.send(anomaly)
        return acted_on

    def send_final(self, message: Message) -> None:
        """Send how the run ends, after a heartbeat with its newest numbers, and wait for the delivery."""
        source = self.run or self.unmodified_script
        if self.unmodified_script is not None and isinstance(message, Finished):
            self.unmodified_script.on_training_start(trains=False)  # it has not read anything until its very end
        beat = source.beat() if source is not None else None
        if beat is not None:
            self.send(beat)
        self.send(message)
        self.flush()

    def wake(self) -> None:
        """Have a heartbeat sent at once."""
        if self._client is not None:
            self._client.wake()

    def flush(self) -> None:
        """Wait a moment until the sent messages have reached the supervisor."""
        if self._client is not None:
            self._client.flush(2.0)

    def beat(self) -> Heartbeat | None:
        """Return one heartbeat, which shows that the process lives. Only attach() can report more."""
        if self._first_heartbeat_sent:
            return None
        self._first_heartbeat_sent = True
        return Heartbeat(0, "start")

    def on_save_request(self, message: SaveRequest) -> None:
        """A script that is not attached cannot be saved from here."""

    def on_stop_request(self, message: StopRequest) -> None:  # noqa: ARG002  # whatever the reason
        """Send SIGTERM, the only way to stop such a script."""
        os.kill(os.getpid(), signal.SIGTERM)

    def on_supervisor_lost(self) -> None:
        """End the process, because no supervisor would upload its further work."""
        silence_pipes()
        os.kill(os.getpid(), signal.SIGTERM)
        self.end_after_grace()

    def end_after_grace(self) -> None:
        """End the process from this thread unless it ends by itself within the grace time."""
        sleep(self.settings.grace_s)
        os._exit(FENCED)


def silence_pipes() -> None:
    """Redirect output into pipes to /dev/null.

    Their reader has died, and the next print would end the script before its save.
    """
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
    """Return the context of this process."""
    if not _current:
        _current.append(TrainerContext(read_settings(os.environ, sys.argv[0] if sys.argv else "")))
    return _current[0]
