"""Permanent lines on a terminal: wrapped between words, and coloured if the terminal has colours.

Other outputs get each line unwrapped, because programs and pipes read them.
"""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING

from supervisor.core import shell_commands

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TextIO

COLUMNS = 80
COLUMNS_MIN = 20
CONTINUED = " \\"  # a shell reads the next line as the rest of this one
RED, GREEN, YELLOW, CYAN, DIM, PLAIN = "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[36m", "\x1b[2m", "\x1b[0m"
STATE_COLOURS = {  # first words of a run's state
    "FAILED": RED, "COULD NOT START": RED, "RUNNING": GREEN, "SUCCEEDED": GREEN, "INTERRUPTED": YELLOW, "WAITING": YELLOW,
    "HANDED_OVER": YELLOW, "FENCED": YELLOW, "CANCEL": YELLOW, "RECOVERING": YELLOW, "BACKOFF": YELLOW, "DRAINING": YELLOW,
}  # fmt: skip
_HANGING_INDENT = re.compile(r"\[\w+\] (?:warning: )?|error: |  try: |  next: | +-> |(?:ok|warning|problem) +|\s*")
_WORD = re.compile(r"\s*\S+")
_SHELL_WORD = re.compile(r"""\s*(?:'[^']*'|"[^"]*"|[^\s'"])+""")  # as shlex.quote writes them
_ESCAPE = re.compile(r"\x1b\[\d*m")


def show(text: str, out: TextIO | None = None) -> None:
    """Print permanent lines."""
    out = out or sys.stdout
    print(fitted(text, out), file=out, flush=True)


def show_error(what: str, hint: str) -> None:
    """Print the two lines of an error: what happened and what to do."""
    two = f"{painted('error:', RED, sys.stderr)} {what}\n  {painted('try:', CYAN, sys.stderr)} {shell_commands.expanded(hint)}\n"
    sys.stderr.write(fitted(two, sys.stderr))
    sys.stderr.flush()


def fitted(text: str, out: TextIO) -> str:
    """Return the text as ``out`` shows it: wrapped on a terminal, else unchanged."""
    return wrapped(text, columns_of(out)) if _is_terminal(out) else text


def columns_of(out: TextIO) -> int:
    """Return the number of columns of the terminal; ``COLUMNS`` overrides it."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns):
        return max(int(columns), COLUMNS_MIN)
    try:
        return max(os.get_terminal_size(out.fileno()).columns or COLUMNS, COLUMNS_MIN)
    except (OSError, ValueError):
        return COLUMNS


def has_colours(out: TextIO) -> bool:
    """Return True if the stream is a terminal with colours and ``NO_COLOR`` is not set."""
    return _is_terminal(out) and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"


def painted(text: str, colour: str, out: TextIO) -> str:
    """Return the text in a colour if the stream has colours."""
    return f"{colour}{text}{PLAIN}" if has_colours(out) else text


def painted_state(state: str, out: TextIO) -> str:
    """Return the words for a run's state in the colour of its health if the stream has colours."""
    words = state.strip()
    colour = next((each for begins, each in STATE_COLOURS.items() if words.startswith(begins)), CYAN)
    return state.replace(words, painted(words, colour, out), 1) if words else state


def wrapped(text: str, columns: int) -> str:
    """Return the text with each line wider than ``columns`` wrapped between words.

    A command line continues with a backslash, so that it can be pasted as shown.
    """
    return "\n".join(line if width(line) <= columns else _broken(line, columns) for line in text.split("\n"))


def width(text: str) -> int:
    """Return the columns of a text: Chinese characters take two, colour codes none."""
    from unicodedata import combining, east_asian_width

    plain = _ESCAPE.sub("", text)
    return sum(0 if combining(each) else 2 if east_asian_width(each) in "FW" else 1 for each in plain)


def _broken(line: str, columns: int) -> str:
    plain = _ESCAPE.sub("", line)
    hangs = _HANGING_INDENT.match(plain)
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
    """Yield each word with its leading space, and True if it continues a command line."""
    start = line.find(f"{shell_commands.called_as()} ")
    if start < 0 or shell_commands.called_as() == shell_commands.MAGIC:
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
