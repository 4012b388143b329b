"""The magics of ``%load_ext supervisor``: ``%supervise SCRIPT`` and ``%supervisor VERB``.

Only light modules are imported here. The run and every verb are separate processes, as on a command line.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from supervisor.cli import ALIASES, TABLE, script_target
from supervisor.cli.invocation import example_script
from supervisor.cli.notebook import session as notebook_session
from supervisor.cli.notebook.session import AttachedSession, SessionTarget, environment
from supervisor.cli.verbs import resume, start
from supervisor.core import shell_commands
from supervisor.core.errors import USAGE, UsageError, UserError
from supervisor.views import notebook

if TYPE_CHECKING:
    from collections.abc import Sequence

    from supervisor.views.notebook import PanelState

CODE = "_exit_code"  # as IPython calls it after !command
SERVING = ("start", "resume")
OF_A_STORE = frozenset({"status", "list", "logs", "stop", "checkpoints", "doctor"})
MOUNT = "mount"
ENDS_AFTER_S = 10.0


class VerbFailed(UserError):  # noqa: N818, because a notebook shows this name
    """A failed cell: the notebook shows two lines, and "Run all" stops here."""

    def _render_traceback_(self) -> list[str]:
        return [f"error: {self.what}", f"  try: {shell_commands.expanded(self.hint)}"]


def load(shell: Any) -> None:
    """Register the magics with an IPython shell."""
    shell_commands.set_called_as(shell_commands.MAGIC)
    magics = Magics(shell)
    shell.register_magic_function(magics.supervise, magic_kind="line", magic_name="supervise")
    shell.register_magic_function(magics.supervisor, magic_kind="line", magic_name="supervisor")


class Magics:
    """The magics of one shell."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._other_seconds: dict[str, float] = {}
        self._store = ""

    def supervise(self, line: str) -> None:
        """%supervise SCRIPT [options of start] [-- ARGUMENTS]: start or resume the run, and stay while it runs.

        One panel shows the run and updates itself. A closed browser or a restarted kernel does not end the run. Run the
        cell again to see the same run and its progress since. Interrupting the cell saves first, then ends the run; a
        second interrupt ends it at once. The exit code is in _exit_code.
        """
        self._with_two_line_errors(lambda: self._serve("start", words_of(line)))

    def supervisor(self, line: str) -> None:
        """%supervisor VERB …: any command of the command line, like status, stop, logs, checkpoints, doctor.

        Without --store it uses the store of this kernel's last %supervise. %supervisor mount mounts Google Drive on
        Colab and does nothing elsewhere. The exit code is in _exit_code.
        """
        words = words_of(line) or ["--help"]
        if words[0] in SERVING and not {"-h", "--help"} & set(words):
            self._with_two_line_errors(lambda: self._serve(words[0], words[1:]))
        elif words[0] == MOUNT:
            self._with_two_line_errors(self._mount)
        else:
            same = ["--store", self._store] if words[0] in OF_A_STORE and self._store and "--store" not in words else []
            self._shell.user_ns[CODE] = run_verb([words[0], *same, *words[1:]])

    def _serve(self, verb: str, words: Sequence[str]) -> int:
        from supervisor import composition
        from supervisor.engine.clock import BootClock

        clock = BootClock()
        began_s = clock.now().mono_s
        if {"-h", "--help"} & set(start.split(words)[0]):
            return run_verb([verb, *words])
        root = composition.local_root(os.environ)
        target = target_of(verb, words)
        self._store = target.store
        seen = notebook_session.attach(target, clock, root)
        if seen is None:
            if mount_if_needed(target.store):
                self._other_seconds = {}  # because the time counts from this cell's beginning
            seen = notebook_session.start(target, clock, root, began_s, self._other_seconds)
        self._other_seconds = {}
        in_kernel = hasattr(self._shell, "kernel")
        display = Panel() if in_kernel else LineBuffer(seen)
        scene = notebook_session.watch(seen, display, (lambda: bool(self._shell.exit_now)) if in_kernel else None)
        if scene is None:
            return 0
        if scene.code not in notebook_session.FINE:
            raise VerbFailed(*notebook_session.error_of(scene), scene.code or 1)
        return scene.code or 0

    def _mount(self) -> int:
        from supervisor import composition
        from supervisor.engine.clock import BootClock
        from supervisor.platforms import colab_drive

        began_s, store = BootClock().now().mono_s, composition.default_store(os.environ)
        if not colab_drive.point_of(store, os.environ):
            print(f"nothing to mount here: runs are kept in {store}")
        elif mount_if_needed(store):
            self._other_seconds = {"mounting Drive": BootClock().now().mono_s - began_s}
        else:
            print("Drive is mounted already")
        return 0

    def _with_two_line_errors(self, act: Any) -> None:
        """Call ``act``, leave its exit code for the next cell, and show a UserError without a traceback."""
        try:
            self._shell.user_ns[CODE] = act()
        except UserError as error:
            self._shell.user_ns[CODE] = error.exit_code
            raise VerbFailed(error.what, error.hint, error.exit_code) from None


class Panel:
    """One output of a cell, redrawn in place; a frontend without HTML shows its text."""

    def __init__(self) -> None:
        self._handle: Any = None
        self._last: dict[str, str] = {}

    def show(self, scene: PanelState) -> None:
        """Draw the panel if it has changed."""
        bundle = notebook.panel(scene)
        if bundle == self._last:
            return
        self._last = bundle
        if self._handle is None:
            from IPython import display

            made: Any = display.DisplayHandle
            self._handle = made()
            self._handle.display(bundle, raw=True)
        else:
            self._handle.update(bundle, raw=True)


class LineBuffer:
    """Output for IPython on a terminal: the session's lines as they arrive."""

    def __init__(self, seen: AttachedSession) -> None:
        self._seen, self._offset = seen, 0

    def show(self, scene: PanelState) -> None:
        """Print new lines. For a session that no notebook started, print the panel's text."""
        if self._seen.supervisor is None:
            print(notebook.text(scene))
            return
        text, self._offset = self._seen.supervisor.output_since(self._offset)
        sys.stdout.write(text)
        sys.stdout.flush()


def words_of(line: str) -> list[str]:
    """Split a magic's line as a shell would; ``~/`` at the beginning of a word is the home folder."""
    try:
        return [os.path.expanduser(word) for word in shlex.split(line)]  # noqa: PTH111, because options are no paths
    except ValueError as error:
        raise VerbFailed(f"the line cannot be read: {str(error).lower()}", "see to the quotes in it", USAGE) from None


def target_of(verb: str, words: Sequence[str]) -> SessionTarget:
    """Return the run and the store that a line refers to. Raises UserError."""
    from supervisor import composition
    from supervisor.environments.requirements import script_requirements

    if verb == "start" and (not words or words[0] == "--"):
        raise UsageError("no script is named", f"%supervise {example_script()}")
    own, script_arguments = start.split(words)
    if verb == "start":
        line = start.command_line()
        script_target.reject_launchers(line, own, script_arguments)
        options = line.parse_args(own)
        script = start.target(options)
        name, store = start.run_and_store(
            script, options, script_requirements.read(script, install=not options.no_install).options
        )
    else:
        options = resume.command_line().parse_args(own)
        name, store = options.run or options.name or "", options.store
    place = os.path.abspath(store or composition.default_store(os.environ))  # noqa: PTH100, because resolve() may hang
    return SessionTarget(name, place, (verb, *words))


def mount_if_needed(store: str) -> bool:
    """Mount Drive if a store needs it and it is not mounted; return True if it was mounted now. Raises UserError."""
    from supervisor.engine.clock import BootClock
    from supervisor.platforms import colab_drive
    from supervisor.stores.mounted import mounts

    world = colab_drive.World(
        mounts.kind_at,
        os.environ,
        lambda: BootClock().now().mono_s,
        threading.Event().wait,
        lambda words: print(words, flush=True),
    )
    point = colab_drive.point_of(store, os.environ)
    return bool(point) and colab_drive.mount(world, point)


def run_verb(words: Sequence[str]) -> int:
    """Run a command of the command line and print its output as it arrives. An interrupt of the cell ends it."""
    if words[0] not in {*TABLE, *ALIASES, "-h", "--help", "--version", "-V"}:
        hint = f"{shell_commands.command(MOUNT)}, or one of: {', '.join(TABLE)}"
        raise VerbFailed(f"there is no command {words[0]!r}", hint, USAGE)
    command = [sys.executable, "-m", "supervisor", *words]
    with subprocess.Popen(
        command, env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, encoding="utf-8", errors="replace",
    ) as process:  # fmt: skip
        assert process.stdout is not None
        try:
            for line in process.stdout:
                print(line, end="")
        except KeyboardInterrupt:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGINT)
            try:
                process.wait(ENDS_AFTER_S)
            except subprocess.TimeoutExpired:
                process.kill()
    return process.returncode
