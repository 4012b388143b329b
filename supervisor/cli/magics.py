"""What ``%load_ext supervisor`` gives a notebook: ``%supervise SCRIPT`` and ``%supervisor VERB``.

Only light modules are imported here: the run and every verb are processes of their own, as on a command line.
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

from supervisor.cli import TABLE, attended, resume, start, targets
from supervisor.cli.attended import Attended, Target, environment
from supervisor.cli.calling import example_script
from supervisor.core import program
from supervisor.core.errors import USAGE, UsageError, UserError
from supervisor.views import notebook

if TYPE_CHECKING:
    from collections.abc import Sequence

    from supervisor.views.notebook import Scene

CODE = "_exit_code"  # as IPython calls it after !command
SERVING = ("start", "resume")
OF_A_STORE = frozenset({"status", "list", "logs", "stop", "checkpoints", "doctor"})
MOUNT = "mount"
ENDS_AFTER_S = 10.0


class Failed(UserError):  # noqa: N818, because a notebook shows this name
    """A cell failed: shown as two lines, and "Run all" stops here."""

    def _render_traceback_(self) -> list[str]:
        return [f"error: {self.what}", f"  try: {program.expanded(self.hint)}"]


def load(shell: Any) -> None:
    """Register the magics with an IPython shell."""
    program.set_called_as(program.MAGIC)
    magics = Magics(shell)
    shell.register_magic_function(magics.supervise, magic_kind="line", magic_name="supervise")
    shell.register_magic_function(magics.supervisor, magic_kind="line", magic_name="supervisor")


class Magics:
    """The magics of one shell."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._beside: dict[str, float] = {}
        self._store = ""

    def supervise(self, line: str) -> None:
        """%supervise SCRIPT [options of start] [-- ARGUMENTS]: start the run or resume it, and stay while it lives.

        Shows one panel that keeps itself up to date. Closing the browser or restarting the kernel does not end the run:
        run the cell again, and it shows the same run and what happened meanwhile. Interrupting the cell saves first,
        then ends the run; interrupting twice ends it at once. The exit code is in _exit_code.
        """
        self._in_two_lines(lambda: self._serve("start", words_of(line)))

    def supervisor(self, line: str) -> None:
        """%supervisor VERB …: any command of the command line, like status, stop, logs, checkpoints, doctor.

        Without --store it looks where the last %supervise of this kernel kept its run. %supervisor mount mounts Google
        Drive on Colab, and does nothing elsewhere. The exit code is in _exit_code.
        """
        words = words_of(line) or ["--help"]
        if words[0] in SERVING and not {"-h", "--help"} & set(words):
            self._in_two_lines(lambda: self._serve(words[0], words[1:]))
        elif words[0] == MOUNT:
            self._in_two_lines(self._mount)
        else:
            same = ["--store", self._store] if words[0] in OF_A_STORE and self._store and "--store" not in words else []
            self._shell.user_ns[CODE] = pass_through([words[0], *same, *words[1:]])

    def _serve(self, verb: str, words: Sequence[str]) -> int:
        from supervisor import wiring
        from supervisor.engine.clock import BootClock

        clock = BootClock()
        began_s = clock.now().mono_s
        if {"-h", "--help"} & set(start.split(words)[0]):
            return pass_through([verb, *words])
        root = wiring.local_root(os.environ)
        target = target_of(verb, words)
        self._store = target.store
        seen = attended.find(target, clock, root)
        if seen is None:
            if mount_if_needed(target.store):
                self._beside = {}  # because it counts from this cell's beginning
            seen = attended.begin(target, clock, root, began_s, self._beside)
        self._beside = {}
        in_kernel = hasattr(self._shell, "kernel")
        shown = Panel() if in_kernel else Lines(seen)
        scene = attended.follow(seen, shown, (lambda: bool(self._shell.exit_now)) if in_kernel else None)
        if scene is None:
            return 0
        if scene.code not in attended.FINE:
            raise Failed(*attended.error_of(scene), scene.code or 1)
        return scene.code or 0

    def _mount(self) -> int:
        from supervisor import wiring
        from supervisor.engine.clock import BootClock
        from supervisor.platforms import colab_drive

        began_s, store = BootClock().now().mono_s, wiring.default_store(os.environ)
        if not colab_drive.point_of(store, os.environ):
            print(f"nothing to mount here: runs are kept in {store}")
        elif mount_if_needed(store):
            self._beside = {"mounting Drive": BootClock().now().mono_s - began_s}
        else:
            print("Drive is mounted already")
        return 0

    def _in_two_lines(self, act: Any) -> None:
        """Do it; leave its exit code for the next cell, and show a person's error without a traceback."""
        try:
            self._shell.user_ns[CODE] = act()
        except UserError as error:
            self._shell.user_ns[CODE] = error.exit_code
            raise Failed(error.what, error.hint, error.exit_code) from None


class Panel:
    """One output of a cell, redrawn in place; whoever shows no HTML shows its text."""

    def __init__(self) -> None:
        self._handle: Any = None
        self._last: dict[str, str] = {}

    def show(self, scene: Scene) -> None:
        """Draw it, if it differs from what is there."""
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


class Lines:
    """For IPython on a terminal: what the session prints, as it comes."""

    def __init__(self, seen: Attended) -> None:
        self._seen, self._offset = seen, 0

    def show(self, scene: Scene) -> None:
        """Print what is new; of a session that nobody's notebook started there is only the panel's text."""
        if self._seen.kept is None:
            print(notebook.text(scene))
            return
        text, self._offset = self._seen.kept.printed(self._offset)
        sys.stdout.write(text)
        sys.stdout.flush()


def words_of(line: str) -> list[str]:
    """Split a magic's line as a shell would; ``~/`` at the beginning of a word is the home folder."""
    try:
        return [os.path.expanduser(word) for word in shlex.split(line)]  # noqa: PTH111, because options are no paths
    except ValueError as error:
        raise Failed(f"the line cannot be read: {str(error).lower()}", "see to the quotes in it", USAGE) from None


def target_of(verb: str, words: Sequence[str]) -> Target:
    """Return which run in which store a line means. Raises UserError."""
    from supervisor import wiring
    from supervisor.environments import wish

    if verb == "start" and (not words or words[0] == "--"):
        raise UsageError("no script is named", f"%supervise {example_script()}")
    own, script_arguments = start.split(words)
    if verb == "start":
        line = start.command_line()
        targets.refuse_launchers(line, own, script_arguments)
        options = line.parse_args(own)
        script = start.target(options)
        name, store = start.named(script, options, wish.read(script, install=not options.no_install).options)
    else:
        options = resume.command_line().parse_args(own)
        name, store = options.run or options.name or "", options.store
    place = os.path.abspath(store or wiring.default_store(os.environ))  # noqa: PTH100, because resolve() may hang
    return Target(name, place, (verb, *words))


def mount_if_needed(store: str) -> bool:
    """Mount Drive if a store needs it and it is not there; True if it was mounted now. Raises UserError."""
    from supervisor.engine.clock import BootClock
    from supervisor.platforms import colab_drive
    from supervisor.stores import mounts

    world = colab_drive.World(
        mounts.kind_at,
        os.environ,
        lambda: BootClock().now().mono_s,
        threading.Event().wait,
        lambda words: print(words, flush=True),
    )
    point = colab_drive.point_of(store, os.environ)
    return bool(point) and colab_drive.mount(world, point)


def pass_through(words: Sequence[str]) -> int:
    """Run a command of the command line and show what it prints, as it comes; an interrupt of the cell ends it."""
    if words[0] not in {*TABLE, "-h", "--help", "--version", "-V"}:
        hint = f"{program.command(MOUNT)}, or one of: {', '.join(TABLE)}"
        raise Failed(f"there is no command {words[0]!r}", hint, USAGE)
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
