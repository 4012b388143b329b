"""What this process has only one of: its settings, its channel, and the run that attach() made."""

from __future__ import annotations

import os
import signal
import stat
import sys
from typing import TYPE_CHECKING

from supervisor.core import program, rollback
from supervisor.core.errors import FENCED, NO_MORE_PROCESSES, NO_MORE_PROCESSES_HINT, SetupError
from supervisor.core.messages import Beat, Finished, Hello, Message, Note, Save, SaveFailed, Stop, Stopped, Trouble
from supervisor.trainer.clock import sleep
from supervisor.trainer.settings import Settings, read_settings

if TYPE_CHECKING:
    from supervisor.trainer.client import Client
    from supervisor.trainer.hooks.unattached import Unattached
    from supervisor.trainer.run import Run
    from supervisor.trainer.state import State

CONNECT_WITHIN_S = 5.0


class Life:
    """Speaks for the process: to the supervisor where there is one, to the person at the terminal where there is none.

    It is also the listener of a script that has not called attach() and is not watched: such a script can only end.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.run: Run | None = None
        self.unattached: Unattached | None = None  # counts what the hooks see of a script that has no run
        self.made_by: dict[str, str] = {}
        self.seed: int | None = None  # of generators that the script does not seed; None where it runs on its own
        self.failed = False  # the script ended in an error: its state is not worth a checkpoint
        self.stopped = False  # the supervisor knows that the script ends before its work is done
        self._client: Client | None = None
        self._started = False
        self._owner = os.getpid()
        if called := os.environ.get(program.ENVIRONMENT):
            program.set_called_as(called)

    def connect(self) -> None:
        """Open the channel, if there is one and it is not open yet; SetupError if nobody listens there."""
        if self._client is not None or not self.settings.supervised:
            return
        from supervisor.trainer.client import connect

        try:
            self._client = connect(self.settings.channel, self.unattached or self, CONNECT_WITHIN_S)
        except OSError as error:
            raise SetupError(
                f"the supervisor's channel {self.settings.channel} cannot be reached: {error}",
                f"start the script through {program.command('start')}, or unset SUPERVISOR_RUN_CHANNEL",
            ) from error
        except RuntimeError as error:
            raise SetupError(f"{NO_MORE_PROCESSES}: {error}", NO_MORE_PROCESSES_HINT) from error
        self.say(Hello(os.getpid(), self.settings.attempt))

    @property
    def forked(self) -> bool:
        """Whether this is a child of the process that runs the script: how it ends is no end of the script."""
        return os.getpid() != self._owner

    @property
    def step(self) -> int:
        """Steps done over all attempts, as far as anybody has told."""
        speaker = self.run or self.unattached
        return speaker.step if speaker is not None else 0

    def watch(self, script: Unattached) -> None:
        """Until the script calls attach(), ``script`` hears the supervisor. Call it before ``connect``."""
        self.unattached = script

    def attach(self, run: Run, hello: Hello) -> None:
        """From now on ``run`` hears the supervisor."""
        self.run = run
        if self._client is not None:
            self._client.listen_with(run)
            self.say(hello)

    def say(self, message: Message) -> None:
        """Send a message; without a supervisor, print what a person should know."""
        self.stopped = self.stopped or isinstance(message, Stopped)
        if self._client is not None:
            self._client.send(message)
        if isinstance(message, SaveFailed):
            print(f"training-supervisor: step {message.step} could not be saved: {message.error}", file=sys.stderr)
        elif isinstance(message, Note) and self._client is None:
            hint = f"\n  {message.hint}" if message.hint else ""
            print(f"training-supervisor: {message.text}{hint}", file=sys.stderr)

    def warn(self, what: str, hint: str) -> None:
        """Say in two lines what there is and what to do."""
        self.say(Note("warning", what, hint))

    def notice(self, state: State) -> None:
        """Say what the state has noticed since this was asked."""
        notices, state.notices = state.notices, []
        for level, words in notices:
            self.say(Note(level, words))

    def met(self, trouble: Trouble) -> bool:
        """Say that training has gone wrong; return whether the supervisor acts on it."""
        acted_on = trouble.kind in self.settings.troubles.awaited
        if acted_on:
            print(f"training-supervisor: {rollback.what(trouble)}", file=sys.stderr)  # the last of it that `logs` shows
        elif trouble.kind == "spike":
            self.say(Note("warning", rollback.what(trouble)))
        if self.settings.supervised:
            self.say(trouble)
        return acted_on

    def say_last(self, message: Message) -> None:
        """Say how the run ends, after a beat with its newest numbers, and see it off."""
        speaker = self.run or self.unattached
        if self.unattached is not None and isinstance(message, Finished):
            self.unattached.begins(trains=False)  # it has not read anything until its very end
        beat = speaker.beat() if speaker is not None else None
        if beat is not None:
            self.say(beat)
        self.say(message)
        self.flush()

    def wake(self) -> None:
        """Have a beat sent at once."""
        if self._client is not None:
            self._client.wake()

    def flush(self) -> None:
        """Give what was said a moment to reach the supervisor."""
        if self._client is not None:
            self._client.flush(2.0)

    def beat(self) -> Beat | None:
        """One beat says that the process lives; after that, only attach() can tell how it goes."""
        if self._started:
            return None
        self._started = True
        return Beat(0, "start")

    def asked_to_save(self, message: Save) -> None:
        """A script that is not attached cannot be saved from here."""

    def asked_to_stop(self, message: Stop) -> None:  # noqa: ARG002  # whatever the reason
        """Only the system's own way is left."""
        os.kill(os.getpid(), signal.SIGTERM)

    def supervisor_gone(self) -> None:
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
    nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    for descriptor in (1, 2):
        try:
            if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
                os.dup2(nowhere, descriptor)
        except OSError:
            continue  # the script closed it itself
    os.close(nowhere)


_here: list[Life] = []


def here() -> Life:
    """Return this process's one Life."""
    if not _here:
        _here.append(Life(read_settings(os.environ, sys.argv[0] if sys.argv else "")))
    return _here[0]
