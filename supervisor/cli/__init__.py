"""The command line: finds the verb, loads only its module, and turns a person's errors into two lines."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, cast

from supervisor.cli import calling
from supervisor.core import program
from supervisor.core.shown import ShownStream, shown

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TextIO

TABLE = {
    "start": ("supervisor.cli.start", "start or resume the run of a script; the same command every time"),
    "resume": ("supervisor.cli.resume", "the same for a run that the store knows"),
    "status": ("supervisor.cli.status", "how a run is doing, from any machine that sees the store"),
    "list": ("supervisor.cli.listing", "all runs in the store"),
    "logs": ("supervisor.cli.logs", "what the trainer printed, over all machines; or its step log"),
    "stop": ("supervisor.cli.stop", "save, wait until it is safe, end; from any machine"),
    "checkpoints": ("supervisor.cli.checkpoints", "list, verify, export, pin, unpin, prune"),
    "rm": ("supervisor.cli.rm", "remove a run, after asking; never one that a machine is at"),
    "clean": ("supervisor.cli.clean", "remove environments, caches and leftovers of this machine, after asking"),
    "doctor": ("supervisor.cli.doctor", "can a run live here? each finding with what to do"),
    "rehearse": ("supervisor.cli.rehearse", "kill and resume a script in a minute or two: is its resume bit-exact?"),
    "launch": ("supervisor.cli.launch", "bring up machines one after another until the run ends, with nobody there"),
    "examples": ("supervisor.cli.examples", "copy the example trainers, the notebook and the documents into a folder"),
    "pack": ("supervisor.cli.pack", "write the product into one zip, which the notebook finds in Google Drive"),
    "agent": ("supervisor.cli.agent", "what launch runs on each machine; not for people"),
}

HELP = """usage: {program} VERB [options]

A long training run outlives the machines it runs on. The same command starts a run and resumes it:

  {start}

verbs:
{verbs}

`VERB --help` shows a verb's options, with examples and exit codes; every verb takes --store DIR and --debug.
-V or --version shows the version. The words are explained in docs/glossary.md.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code. No state of stdin, stdout and stderr ends it in a traceback."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    calling.note()
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
        code = _answer(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        code = 0  # the reader of our output has enough, as `head` has
    except OSError as error:  # all others are known by now: this is our own output
        code = _cannot_print(error)
    _let_go_of_output()
    return code


def _answer(arguments: list[str]) -> int:
    if not arguments or arguments[0] in {"-h", "--help", "help"}:
        verbs = "\n".join(f"  {verb:12} {words}" for verb, (_, words) in TABLE.items())
        start = program.command("start", calling.example_script())
        _show_help(HELP.format(program=program.called_as(), start=start, verbs=verbs))
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

    row = TABLE.get(verb)
    if row is None:
        return _two_lines(*_instead_of(verb, arguments), USAGE)
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
        return _told_of(verb, error, debug="--debug" in arguments)


def _instead_of(verb: str, arguments: list[str]) -> tuple[str, str]:
    """Return the two lines for a word that is no command: the nearest may be meant, or `start` left out."""
    from supervisor.core.spelling import nearest

    what = f"there is no command {verb!r}"
    if verb.endswith(".py"):
        from supervisor.cli import start, suggesting

        own, behind = start.split(arguments)
        known, others = suggesting.sorted_out(start.command_line(), [verb, *own])
        behind = [*others, *behind]
        line = program.command("start", *known, *(["--", *behind] if behind else []))
        return f"{what}: `start` runs a script", line
    if near := nearest(verb, TABLE):
        return f"{what}; did you mean {near}?", program.command(near, *arguments)
    return what, f"{program.command('--help')} lists them"


def _told_of(verb: str, error: Exception, *, debug: bool) -> int:
    """Say in two lines what the system refused; raise the error again where it is none of that, or is asked for."""
    from supervisor.core import errors

    refused = isinstance(error, RuntimeError) and "can't start new thread" in str(error)  # all that Python says of it
    if debug or isinstance(error, BrokenPipeError) or (isinstance(error, RuntimeError) and not refused):
        raise error
    if refused or (isinstance(error, BlockingIOError) and error.filename is None):  # a thread, or a process (EAGAIN)
        return _two_lines(errors.NO_MORE_PROCESSES, errors.NO_MORE_PROCESSES_HINT, errors.FAILED_PRECHECKS)
    if isinstance(error, OSError) and error.filename is None:
        raise error  # no file is named: it is the output that cannot be written
    hint = "see whether the store can be read; --debug shows more"
    return _two_lines(f"{verb} could not be done: {error}", hint, errors.FAILED_PRECHECKS)


def _two_lines(what: str, hint: str, exit_code: int) -> int:
    from supervisor.views import wrapping

    try:
        wrapping.show_error(shown(what), shown(hint))
    except OSError:
        return exit_code  # every output stream is closed: the exit code alone is left to tell it
    return exit_code


def _cannot_print(error: OSError) -> int:
    from supervisor.core.errors import FAILED_PRECHECKS

    words = f"the output cannot be written: {error.strerror or error}"
    return _two_lines(words, "send it elsewhere; no run is touched by it", FAILED_PRECHECKS)


def _open_closed_streams() -> None:
    """Let streams that were closed at the start lead nowhere: else the next file that is opened takes their place."""
    import os

    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115  # for good


def _let_go_of_output() -> None:
    """See to it that what is left in the buffers does not fail once more at the end of the process."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            from supervisor.views.lines import lead_nowhere

            lead_nowhere(stream)
