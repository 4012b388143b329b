"""Options shared by several verbs, and the syntax of durations and intervals."""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, NoReturn

from supervisor.cli import help_text
from supervisor.core import shell_commands
from supervisor.core.errors import UsageError
from supervisor.core.session.state import SaveSchedule

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

STORE = "where runs are kept (default: ./runs; on Colab the folder supervisor of the mounted Drive, on Kaggle its working folder)"
OF_SCRIPT = frozenset({"start", "resume", "rehearse", "launch"})
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_NO_VALUE = re.compile(r"argument (?:[^:]*/)?(-[^:/]+): expected one argument")
_ARGPARSE = (  # argparse's messages, and ours
    (_NO_VALUE, r"\1 needs a value"),
    (re.compile(r"the following arguments are required: (.*)"), r"\1 is missing"),
    (re.compile(r"argument (-[^:]+): ignored explicit argument '(.*)'"), r"\1 takes no value, and was given \2"),
    (re.compile(r"argument (-[^:]+): not allowed with argument (.*)"), r"\1 and \2: only one of them can be given"),
)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|min|m|h|d)")


class Parser(argparse.ArgumentParser):
    """argparse with errors of two lines and exit code 2. ``of_script``: the words after ``--`` are the script's."""

    verb = ""
    of_script = False
    of_run = False  # it takes the name of a run, which may begin with a dash
    script_arguments: Sequence[str] = ()  # the words after the --
    new_names: Mapping[str, str] = MappingProxyType({})  # the present name of each old option
    _words: Sequence[str] = ()

    def parse_args(self, args: Sequence[str] | None = None, namespace: None = None) -> argparse.Namespace:  # type: ignore[override]
        """Parse; a run named by ``--name`` counts as the positional RUN.

        The error for an unknown option proposes a corrected line.
        """
        self._words = words = self.name_from_dashes(list(args or ()))
        options, unknown = self.parse_known_args(words, namespace)
        if unknown:
            self.reject(words, unknown)
        if getattr(options, "named", None) and options.run is None:
            options.run = options.named
        return options

    def name_from_dashes(self, words: list[str]) -> list[str]:
        """Return the words with the run after ``--`` given by ``--name``: ``rm -- -odd``. Raises UsageError."""
        if not self.of_run or self.of_script or "--" not in words:
            return words
        at = words.index("--")
        if not words[at + 1 :] or not words[at + 1].startswith("-"):
            return words
        name, *others = words[at + 1 :]
        dashed = [word for word in others if word.startswith("-")]
        if dashed:
            line = shell_commands.command(self.verb, *words[:at], *others, "--", name)
            raise UsageError(f"{dashed[0]} stands behind --, where no option is read", line)
        return [*words[:at], f"--name={name}", *others]

    def format_help(self) -> str:
        """Return the options, examples and exit codes, wrapped for a terminal."""
        from supervisor.views.wrapping import fitted

        return fitted(super().format_help() + help_text.epilog(self.verb), sys.stdout)

    def error(self, message: str) -> NoReturn:
        """Raise UsageError instead of printing the usage and exiting."""
        hint = f"{self.prog} --help lists the options"
        if (found := _NO_VALUE.fullmatch(message)) and (value := self._dashed_value(found[1])):
            hint = f"a value that begins with a dash is written in one word: {shlex.quote(f'{found[1]}={value}')}"
        for theirs, ours in _ARGPARSE:
            message = theirs.sub(ours, message)
        raise UsageError(message, hint)

    def _dashed_value(self, option: str) -> str:
        """Return the word after an option if it begins with a dash and is no option of ours, else ""."""
        known = {name for action in self._actions for name in action.option_strings}
        after = next((word for before, word in pairwise(self._words) if before == option), "")
        return after if after.startswith("-") and after.partition("=")[0] not in known else ""

    def reject(self, words: list[str], unknown: list[str]) -> NoReturn:
        """Raise UsageError for unknown options, with the corrected line."""
        from supervisor.cli import suggestions

        what = (
            f"{self.verb} has no option {unknown[0]}"
            if unknown[0].startswith("-")
            else f"{unknown[0]!r} is one word too many"
        )
        near, line = suggestions.correct(self, words, unknown)
        if near:
            raise UsageError(f"{what}; did you mean {near}?", line)
        if self.of_run and unknown[0][:1] == "-" != unknown[0][1:2]:
            others = [word for word in words if word != unknown[0]]
            line = shell_commands.command(self.verb, f"--name={unknown[0]}", *others)
            raise UsageError(f"{what}; a run of this name is given by --name", line)
        if not self.of_script:
            raise UsageError(what, f"{self.prog} --help lists the options")
        raise UsageError(f"{what}: the script's own arguments go after --", line)


def parser(verb: str, description: str) -> Parser:
    """Return a parser with the options of every verb."""
    made = Parser(
        prog=shell_commands.command(verb), description=description, allow_abbrev=False, formatter_class=help_text.Format
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


def add_old_names(made: Parser, new_names: Mapping[str, str]) -> None:
    """Accept the old names of options without listing them in --help.

    Args:
        made: the parser, which has the options already.
        new_names: the present name of each old one.
    """
    takes = {name: action for action in made._actions for name in action.option_strings}  # noqa: SLF001
    for old, new in new_names.items():
        made.add_argument(old, dest=takes[new].dest, metavar=takes[new].metavar, help=argparse.SUPPRESS)
    made.new_names = new_names


def one_of(text: str, known: Sequence[str]) -> str:
    """Return ``text`` if it is one of a few words. Raises UsageError."""
    if text not in known:
        from supervisor.core.suggestion import meant

        raise UsageError(f"{text!r} is not known", f"{meant(text, known)}it is {', '.join(known[:-1])} or {known[-1]}")
    return text


def duration(text: str) -> float:
    """Return the seconds of "90s", "10m", "12h" or "1h30m". Raises UsageError."""
    pieces = _DURATION.findall(text)
    if not pieces or "".join(number + unit for number, unit in pieces) != text:
        raise UsageError(f"{text!r} is not a duration", "write it like 90s, 10m, 12h or 1h30m")
    return sum(float(number) * _SECONDS[unit] for number, unit in pieces)


def save_every(text: str) -> SaveSchedule:
    """Return the schedule of "auto", "10m", "500steps" or "1ep"."""
    if text == "auto":
        return SaveSchedule()
    if match := re.fullmatch(r"(\d+(?:\.\d+)?)(steps|step|ep|epochs|epoch)", text):
        unit: Literal["steps", "ep"] = "steps" if match[2].startswith("step") else "ep"
        if float(match[1]) <= 0:
            raise UsageError(f"{text!r} is not more than 0", "write it like 10m, 500steps, 1ep or auto")
        return SaveSchedule(unit, float(match[1]))
    try:
        return SaveSchedule("s", duration(text))
    except UsageError:
        raise UsageError(f"{text!r} is no interval", "write it like 10m, 500steps, 1ep or auto") from None


def byte_count(text: str) -> int:
    """Return the bytes of "100MB", "1.5GB", "0" or "none". Raises UsageError."""
    if text == "none":
        return 0
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?(B|kB|KB|MB|GB|)", text)
    if found is None:
        raise UsageError(f"{text!r} is not a size", "write it like 100MB or 1.5GB, or none")
    return int(float(found[1]) * {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}[found[2].upper()])


def count(text: str) -> int:
    """Return a whole number of at least 0."""
    if not text.isdecimal():
        raise UsageError(f"{text!r} is not a whole number", "write it like 3")
    return int(text)
