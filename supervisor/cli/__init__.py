"""The command line.

- ``confirm``: asks before deleting
- ``default_run``: the run of a verb without a name
- ``export_model``: checkpoints export --as
- ``help_text``: examples and exit codes of --help
- ``invocation``: how the program was called
- ``kept``: old import path of ``notebook.detached``
- ``notebook``: notebook commands
- ``options``: shared options
- ``package_data``: trainers and documents in clone and wheel
- ``run_lookup``: store and run of a command
- ``script_target``: script, module or launcher
- ``suggestions``: nearest option or line
- ``verbs``: one file a verb
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, cast

from supervisor.cli import invocation
from supervisor.core import shell_commands
from supervisor.core.escape import ShownStream, shown

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TextIO

TABLE = {
    "start": ("supervisor.cli.verbs.start", "start or resume the run of a script; the same command every time"),
    "resume": ("supervisor.cli.verbs.resume", "the same for a run that the store knows"),
    "status": ("supervisor.cli.verbs.status", "how a run is doing, from any machine that sees the store"),
    "list": ("supervisor.cli.verbs.list_runs", "all runs in the store"),
    "logs": ("supervisor.cli.verbs.logs", "what the trainer printed, over all machines; or its step log"),
    "stop": ("supervisor.cli.verbs.stop", "save, wait until it is safe, end; from any machine"),
    "checkpoints": ("supervisor.cli.verbs.checkpoints", "list, verify, export, pin, unpin, prune"),
    "rm": ("supervisor.cli.verbs.rm", "remove a run, after asking; never one that a machine is at"),
    "clean": ("supervisor.cli.verbs.clean", "remove environments, caches and leftovers of this machine, after asking"),
    "doctor": ("supervisor.cli.verbs.doctor", "can a run live here? each finding with what to do"),
    "rehearse": (
        "supervisor.cli.verbs.rehearse",
        "kill and resume a script in a minute or two: is its resume bit-exact?",
    ),
    "launch": (
        "supervisor.cli.verbs.launch",
        "run a script on one machine after another until it ends, unattended",
    ),
    "examples": (
        "supervisor.cli.verbs.examples",
        "copy the example trainers, the notebook and the documents into a folder",
    ),
    "pack": ("supervisor.cli.verbs.pack", "write the product into one zip, which the notebook finds in Google Drive"),
    "agent": ("supervisor.cli.verbs.agent", "what launch runs on each machine; not for people"),
}

ALIASES = {"test-resume": "rehearse"}

HELP = """usage: {program} VERB [options]

A long training run outlives the machines it runs on. The same command starts a run and resumes it:

  {start}

verbs:
{verbs}

`VERB --help` shows a verb's options, with examples and exit codes; every verb takes --store DIR and --debug.
-V or --version shows the version. The words are explained in docs/glossary.md.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code. A closed or broken stdin, stdout or stderr never causes a traceback."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    invocation.note()
    if None in {sys.stdin, sys.stdout, sys.stderr}:
        _open_closed_streams()
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = cast("TextIO", ShownStream(sys.stdout)), cast("TextIO", ShownStream(sys.stderr))
    try:
        return _main(arguments)
    finally:
        sys.stdout, sys.stderr = streams


def _main(arguments: list[str]) -> int:
    try:
        code = _dispatch(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        code = 0  # the reader of the output has closed it, as `head` does
    except OSError as error:  # all other errors are handled by now: this is our own output
        code = _cannot_print(error)
    _discard_output()
    return code


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in {"-h", "--help", "help"}:
        verbs = "\n".join(f"  {verb:12} {words}" for verb, (_, words) in TABLE.items())
        start = shell_commands.command("start", invocation.example_script())
        _show_help(HELP.format(program=shell_commands.called_as(), start=start, verbs=verbs))
        return 0
    if arguments[0] in {"-V", "--version"}:
        from supervisor import __version__

        sys.stdout.write(f"training-supervisor {__version__}\n")
        return 0
    return _run(arguments[0], arguments[1:])


def _show_help(text: str) -> None:
    from supervisor.views.wrapping import fitted

    sys.stdout.write(fitted(text, sys.stdout))


def _run(verb: str, arguments: list[str]) -> int:
    from supervisor.core.errors import USAGE, UserError
    from supervisor.core.ports import StoreError

    row = TABLE.get(ALIASES.get(verb, verb))
    if row is None:
        return _two_lines(*_unknown_verb(verb, arguments), USAGE)
    try:
        from importlib import import_module

        return int(import_module(row[0]).run(arguments))
    except UserError as error:
        if "--debug" in arguments:
            raise
        return _two_lines(error.what, error.hint, error.exit_code)
    except KeyboardInterrupt:
        return 130
    except (StoreError, OSError, RuntimeError) as error:
        return _report_system_error(verb, error, debug="--debug" in arguments)


def _unknown_verb(verb: str, arguments: list[str]) -> tuple[str, str]:
    """Return the two lines for an unknown verb: the nearest verb may be meant, or `start` is missing."""
    from supervisor.core.suggestion import nearest

    what = f"there is no command {verb!r}"
    if verb.endswith(".py"):
        from supervisor.cli import suggestions
        from supervisor.cli.verbs import start

        own, behind = start.split(arguments)
        known, others = suggestions.split_known(start.command_line(), [verb, *own])
        behind = [*others, *behind]
        line = shell_commands.command("start", *known, *(["--", *behind] if behind else []))
        return f"{what}: `start` runs a script", line
    if near := nearest(verb, (*TABLE, *ALIASES)):
        return f"{what}; did you mean {near}?", shell_commands.command(near, *arguments)
    return what, f"{shell_commands.command('--help')} lists them"


def _report_system_error(verb: str, error: Exception, *, debug: bool) -> int:
    """Report in two lines a request that the system rejected.

    Raise any other error again, and with ``debug`` every error.
    """
    from supervisor.core import errors

    refused = isinstance(error, RuntimeError) and "can't start new thread" in str(error)  # Python's only text for it
    if debug or isinstance(error, BrokenPipeError) or (isinstance(error, RuntimeError) and not refused):
        raise error
    if refused or (isinstance(error, BlockingIOError) and error.filename is None):  # a thread, or a process (EAGAIN)
        return _two_lines(errors.NO_MORE_PROCESSES, errors.NO_MORE_PROCESSES_HINT, errors.FAILED_PRECHECKS)
    if isinstance(error, OSError) and error.filename is None:
        raise error  # no file is named: the output cannot be written
    hint = "see whether the store can be read; --debug shows more"
    return _two_lines(f"{verb} could not be done: {error}", hint, errors.FAILED_PRECHECKS)


def _two_lines(what: str, hint: str, exit_code: int) -> int:
    from supervisor.views import wrapping

    try:
        wrapping.show_error(shown(what), shown(hint))
    except OSError:
        return exit_code  # every output stream is closed: only the exit code can report it
    return exit_code


def _cannot_print(error: OSError) -> int:
    from supervisor.core.errors import FAILED_PRECHECKS

    words = f"the output cannot be written: {error.strerror or error}"
    return _two_lines(words, "send it elsewhere; no run is touched by it", FAILED_PRECHECKS)


def _open_closed_streams() -> None:
    """Point closed standard streams at the null device. Otherwise the next opened file would take their number."""
    import os

    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115  # for good


def _discard_output() -> None:
    """Flush the output, or drop it, so that its buffer does not fail again at the end of the process."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            from supervisor.views.async_stream import redirect_to_null

            redirect_to_null(stream)
