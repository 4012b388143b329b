"""Options that several verbs share, and how durations and intervals are written."""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, NoReturn

from supervisor.cli import helping
from supervisor.core import program
from supervisor.core.errors import UsageError
from supervisor.core.session import SaveEvery

if TYPE_CHECKING:
    from collections.abc import Sequence

STORE = "where runs are kept (default: ./runs; on Colab the folder supervisor of the mounted Drive, on Kaggle its working folder)"
OF_SCRIPT = frozenset({"start", "resume", "rehearse", "launch"})
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_NO_VALUE = re.compile(r"argument (?:[^:]*/)?(-[^:/]+): expected one argument")
_ARGPARSE = (  # argparse's words, and ours
    (_NO_VALUE, r"\1 needs a value"),
    (re.compile(r"the following arguments are required: (.*)"), r"\1 is missing"),
    (re.compile(r"argument (-[^:]+): ignored explicit argument '(.*)'"), r"\1 takes no value, and was given \2"),
    (re.compile(r"argument (-[^:]+): not allowed with argument (.*)"), r"\1 and \2: only one of them can be given"),
)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|min|m|h|d)")


class Parser(argparse.ArgumentParser):
    """argparse whose errors are two lines and exit code 2. ``of_script``: what follows ``--`` is the script's."""

    verb = ""
    of_script = False
    of_run = False  # it takes the name of a run, which may begin with a dash
    behind: Sequence[str] = ()  # what the person wrote after the --
    _words: Sequence[str] = ()

    def parse_args(self, args: Sequence[str] | None = None, namespace: None = None) -> argparse.Namespace:  # type: ignore[override]
        """Parse; a run that was named by ``--name`` stands as if it had been named by its place.

        An option that is not known is answered with the line that was meant.
        """
        self._words = words = self.with_name(list(args or ()))
        options, unknown = self.parse_known_args(words, namespace)
        if unknown:
            self.refuse(words, unknown)
        if getattr(options, "named", None) and options.run is None:
            options.run = options.named
        return options

    def with_name(self, words: list[str]) -> list[str]:
        """Return the words with the run that stands behind ``--`` named by ``--name``: ``rm -- -odd``. Raises UsageError."""
        if not self.of_run or self.of_script or "--" not in words:
            return words
        at = words.index("--")
        if not words[at + 1 :] or not words[at + 1].startswith("-"):
            return words
        name, *others = words[at + 1 :]
        dashed = [word for word in others if word.startswith("-")]
        if dashed:
            line = program.command(self.verb, *words[:at], *others, "--", name)
            raise UsageError(f"{dashed[0]} stands behind --, where no option is read", line)
        return [*words[:at], f"--name={name}", *others]

    def format_help(self) -> str:
        """Return the options, examples and exit codes, broken between words on a terminal."""
        from supervisor.views.wrapping import fitted

        return fitted(super().format_help() + helping.below(self.verb), sys.stdout)

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage and leaving."""
        hint = f"{self.prog} --help lists the options"
        if (found := _NO_VALUE.fullmatch(message)) and (value := self._dashed_value(found[1])):
            hint = f"a value that begins with a dash is written in one word: {shlex.quote(f'{found[1]}={value}')}"
        for theirs, ours in _ARGPARSE:
            message = theirs.sub(ours, message)
        raise UsageError(message, hint)

    def _dashed_value(self, option: str) -> str:
        """Return the word that follows an option and begins with a dash, "" where it is an option of ours or none."""
        known = {name for action in self._actions for name in action.option_strings}
        after = next((word for before, word in pairwise(self._words) if before == option), "")
        return after if after.startswith("-") and after.partition("=")[0] not in known else ""

    def refuse(self, words: list[str], unknown: list[str]) -> NoReturn:
        """Raise UsageError for options that the verb does not know, with the line that was meant."""
        from supervisor.cli import suggesting

        what = (
            f"{self.verb} has no option {unknown[0]}"
            if unknown[0].startswith("-")
            else f"{unknown[0]!r} is one word too many"
        )
        near, line = suggesting.corrected(self, words, unknown)
        if near:
            raise UsageError(f"{what}; did you mean {near}?", line)
        if self.of_run and unknown[0][:1] == "-" != unknown[0][1:2]:
            others = [word for word in words if word != unknown[0]]
            line = program.command(self.verb, f"--name={unknown[0]}", *others)
            raise UsageError(f"{what}; a run of this name is given by --name", line)
        if not self.of_script:
            raise UsageError(what, f"{self.prog} --help lists the options")
        raise UsageError(f"{what}: the script's own arguments go after --", line)


def parser(verb: str, description: str) -> Parser:
    """Return a parser with what every verb takes."""
    made = Parser(
        prog=program.command(verb), description=description, allow_abbrev=False, formatter_class=helping.Format
    )
    made.verb, made.of_script = verb, verb in OF_SCRIPT
    made.add_argument("--store", metavar="DIR", help=STORE)
    made.add_argument("--debug", action="store_true", help="show tracebacks")
    return made


def add_run(made: Parser, words: str = "the live run, else the newest") -> None:
    """Add RUN, and ``--name=RUN`` for a name that begins with a dash."""
    made.of_run = True
    made.add_argument("run", metavar="RUN", nargs="?", help=f"name of the run (default: {words})")
    made.add_argument("--name", dest="named", help=argparse.SUPPRESS)


def one_of(text: str, known: Sequence[str]) -> str:
    """Read one of a few words, or raise UsageError."""
    if text not in known:
        from supervisor.core.spelling import meant

        raise UsageError(f"{text!r} is not known", f"{meant(text, known)}it is {', '.join(known[:-1])} or {known[-1]}")
    return text


def duration(text: str) -> float:
    """Read "90s", "10m", "12h", "1h30m" as seconds, or raise UsageError."""
    pieces = _DURATION.findall(text)
    if not pieces or "".join(number + unit for number, unit in pieces) != text:
        raise UsageError(f"{text!r} is not a duration", "write it like 90s, 10m, 12h or 1h30m")
    return sum(float(number) * _SECONDS[unit] for number, unit in pieces)


def save_every(text: str) -> SaveEvery:
    """Read "auto", "10m", "500steps" or "1ep"."""
    if text == "auto":
        return SaveEvery()
    if match := re.fullmatch(r"(\d+(?:\.\d+)?)(steps|step|ep|epochs|epoch)", text):
        unit: Literal["steps", "ep"] = "steps" if match[2].startswith("step") else "ep"
        if float(match[1]) <= 0:
            raise UsageError(f"{text!r} is not more than 0", "write it like 10m, 500steps, 1ep or auto")
        return SaveEvery(unit, float(match[1]))
    try:
        return SaveEvery("s", duration(text))
    except UsageError:
        raise UsageError(f"{text!r} is no interval", "write it like 10m, 500steps, 1ep or auto") from None


def byte_count(text: str) -> int:
    """Read "100MB", "1.5GB", "0" or "none" as bytes, or raise UsageError."""
    if text == "none":
        return 0
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?(B|kB|KB|MB|GB|)", text)
    if found is None:
        raise UsageError(f"{text!r} is not a size", "write it like 100MB or 1.5GB, or none")
    return int(float(found[1]) * {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}[found[2].upper()])


def count(text: str) -> int:
    """Read a whole number of at least 0."""
    if not text.isdecimal():
        raise UsageError(f"{text!r} is not a whole number", "write it like 3")
    return int(text)
