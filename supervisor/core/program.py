"""Command lines for people to paste: how this program was called, and names and paths quoted for the shell.

It is the only place that knows the program's own command line. The process's entry point sets it once
(``cli/calling.py`` reads it); everything that prints a next step builds it here.
"""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

from supervisor.core.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DEFAULT = "python3 -m supervisor"
ENVIRONMENT = "SUPERVISOR_RUN_CALLED_AS"  # how the process that started this one was called
MAGIC = "%supervisor"
OF_A_RUN = frozenset({"status", "logs", "stop", "resume", "checkpoints"})
OF_A_STORE = OF_A_RUN | {"list", "doctor"}
_SHORT = re.compile(r"`(status|logs|stop|resume|checkpoints|list|doctor|launch|rehearse|clean)((?: [^`]*)?)`")


@dataclass(frozen=True, slots=True)
class _Call:
    """``prefix``: what stands before the verb. ``run`` and ``option``: the run and the store that this command is about."""

    prefix: str = DEFAULT
    run: str = ""
    option: str = ""


_call = [_Call()]


def set_called_as(prefix: str) -> None:
    """Note how the program was called, as a person would type it again; run and store are not known yet."""
    _call[0] = _Call(prefix)


def set_about(run: str = "", option: str = "") -> None:
    """Note which run and which store this command is about; ``option``: from :func:`store_option`."""
    _call[0] = _Call(_call[0].prefix, run, option)


def called_as() -> str:
    """Return what stands before the verb: "python3 -m supervisor", "training-supervisor", "%supervisor"."""
    return _call[0].prefix


def environment() -> Mapping[str, str]:
    """Return what a process of ours is told in its environment, so that its commands look like this one's."""
    return {ENVIRONMENT: called_as()}


def command(*words: str, option: str = "") -> str:
    """Return a command line: the program, its ``words`` quoted, and the ``option`` that names the store.

    The option goes before a ``--``, because what follows that is the script's.
    """
    return f"{called_as()} {line(*words, option=option)}"


def line(*words: str, option: str = "") -> str:
    """Return the same without the program."""
    at = words.index("--") if "--" in words else len(words)
    own, behind = shlex.join(words[:at]), shlex.join(words[at:])
    return f"{own}{option}{' ' if behind else ''}{behind}"


def of_run(verb: str, run: str, *words: str, option: str = "") -> str:
    """Return the words of a verb for a run: ``logs NAME -f --store DIR``, without the program."""
    return line(verb, *run_words(run), *words, option=option)


def command_of_run(verb: str, run: str, *words: str, option: str = "") -> str:
    """Return the same as a whole command line."""
    return f"{called_as()} {of_run(verb, run, *words, option=option)}"


def run_words(run: str) -> Sequence[str]:
    """Return the words that name a run: a name that begins with a dash would be read as an option."""
    return option_words("--name", run) if run.startswith("-") else (run,) if run else ()


def option_words(name: str, value: str) -> Sequence[str]:
    """Return an option with its value, as one word where the value begins with a dash."""
    return (f"{name}={value}",) if value.startswith("-") else (name, value)


def store_option(store: str | None) -> str:
    """Return `` --store DIR`` quoted, or "" for the default store."""
    if not store:
        return ""
    return f" {shlex.join(option_words('--store', store))}"


def expanded(text: str) -> str:
    """Return a text in which each short command in backquotes, like `` `logs` ``, is a whole command line.

    The run and the store that this command is about are added where the verb takes them.
    """
    return _SHORT.sub(_whole, text)


def _whole(found: re.Match[str]) -> str:
    call, verb = _call[0], found[1]
    run = f" {shlex.join(run_words(call.run))}" if call.run and verb in OF_A_RUN else ""
    return f"`{call.prefix} {verb}{run}{found[2]}{call.option if verb in OF_A_STORE else ''}`"
