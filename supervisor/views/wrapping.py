"""Permanent lines on a terminal: broken between words and never inside one, and coloured where the terminal has colours.

What is no terminal gets each line whole: programs and pipes read it.
"""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING

from supervisor.core import program

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TextIO

COLUMNS = 80
COLUMNS_MIN = 20
CONTINUED = " \\"  # a shell reads the next line as the rest of this one
RED, GREEN, YELLOW, CYAN, DIM, PLAIN = "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[36m", "\x1b[2m", "\x1b[0m"
STATE_COLOURS = {  # how the words for a run's state begin
    "FAILED": RED, "COULD NOT START": RED, "RUNNING": GREEN, "SUCCEEDED": GREEN, "INTERRUPTED": YELLOW, "WAITING": YELLOW,
    "HANDED_OVER": YELLOW, "FENCED": YELLOW, "CANCEL": YELLOW, "RECOVERING": YELLOW, "BACKOFF": YELLOW, "DRAINING": YELLOW,
}  # fmt: skip
_HANGS = re.compile(r"\[\w+\] (?:warning: )?|error: |  try: |  next: | +-> |(?:ok|warning|problem) +|\s*")
_WORD = re.compile(r"\s*\S+")
_SHELL_WORD = re.compile(r"""\s*(?:'[^']*'|"[^"]*"|[^\s'"])+""")  # as shlex.quote writes them
_ESCAPE = re.compile(r"\x1b\[\d*m")


def show(text: str, out: TextIO | None = None) -> None:
    """Print lines that stay."""
    out = out or sys.stdout
    print(fitted(text, out), file=out, flush=True)


def show_error(what: str, hint: str) -> None:
    """Print the two lines that every error ends in: what happened, and what to do."""
    two = (
        f"{painted('error:', RED, sys.stderr)} {what}\n  {painted('try:', CYAN, sys.stderr)} {program.expanded(hint)}\n"
    )
    sys.stderr.write(fitted(two, sys.stderr))
    sys.stderr.flush()


def fitted(text: str, out: TextIO) -> str:
    """Return the text as it is shown there: wrapped on a terminal, else as it is."""
    return wrapped(text, columns_of(out)) if _is_terminal(out) else text


def columns_of(out: TextIO) -> int:
    """Return how many columns the terminal has; ``COLUMNS`` says it where it is set."""
    told = os.environ.get("COLUMNS", "")
    if told.isdecimal() and int(told):
        return max(int(told), COLUMNS_MIN)
    try:
        return max(os.get_terminal_size(out.fileno()).columns or COLUMNS, COLUMNS_MIN)
    except (OSError, ValueError):
        return COLUMNS


def has_colours(out: TextIO) -> bool:
    """Whether the stream is a terminal with colours, and nobody asked for none (``NO_COLOR``)."""
    return _is_terminal(out) and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"


def painted(text: str, colour: str, out: TextIO) -> str:
    """Return the text in a colour, where the stream has colours."""
    return f"{colour}{text}{PLAIN}" if has_colours(out) else text


def painted_state(state: str, out: TextIO) -> str:
    """Return the words for a run's state in the colour of how well it is, where the stream has colours."""
    words = state.strip()
    colour = next((each for begins, each in STATE_COLOURS.items() if words.startswith(begins)), CYAN)
    return state.replace(words, painted(words, colour, out), 1) if words else state


def wrapped(text: str, columns: int) -> str:
    """Return the text with each line that is wider than ``columns`` broken between words.

    A command line is continued with a backslash, so that it can be pasted as it is shown.
    """
    return "\n".join(line if width(line) <= columns else _broken(line, columns) for line in text.split("\n"))


def width(text: str) -> int:
    """Return how many columns a text takes: Chinese characters take two, colours none."""
    from unicodedata import combining, east_asian_width

    plain = _ESCAPE.sub("", text)
    return sum(0 if combining(each) else 2 if east_asian_width(each) in "FW" else 1 for each in plain)


def _broken(line: str, columns: int) -> str:
    plain = _ESCAPE.sub("", line)
    hangs = _HANGS.match(plain)
    hang = " " * len(hangs[0]) if hangs and hangs[0].strip() else (hangs[0] if hangs else "") + "  "
    lines = [""]
    for word, of_command in _words(line):
        if lines[-1].strip() and width(lines[-1] + word) > columns - len(CONTINUED):
            lines[-1] += CONTINUED if of_command else ""
            lines.append(hang + word.strip())
        else:
            lines[-1] += word
    return "\n".join(lines)


def _words(line: str) -> Iterator[tuple[str, bool]]:
    """Yield the words with the space before them, and whether what comes before one is the same command line."""
    start = line.find(f"{program.called_as()} ")
    if start < 0 or program.called_as() == program.MAGIC:
        yield from ((word[0], False) for word in _WORD.finditer(line))
        return
    quoted = line[start - 1 : start] == "`"
    start -= quoted
    stop = line.find("`", start + 1) + 1 if quoted else len(line)
    stop = (line.find(" ", stop) if quoted else stop) if stop > 0 else len(line)
    stop = len(line) if stop < 0 else stop
    yield from ((word[0], False) for word in _WORD.finditer(line[:start]))
    gap = " " * (start - len(line[:start].rstrip()))
    for at, word in enumerate(_SHELL_WORD.finditer(line[start:stop])):
        yield (word[0], True) if at else (gap + word[0], False)
    yield from _words(line[stop:])


def _is_terminal(out: TextIO) -> bool:
    try:
        return out.isatty()
    except ValueError:
        return False  # it is closed
