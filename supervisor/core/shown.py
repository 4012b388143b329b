"""Text of a script, a store or a machine, as it may be shown: nothing in it acts on a terminal or turns a line around."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from supervisor.core import fields

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TextIO

_ACTS = re.compile(f"[{fields.CONTROLS}\ud800-\udfff]")
_ACTS_NOT_LINES = re.compile(f"(?![\n\t])[{fields.CONTROLS}\ud800-\udfff]")
_COLOUR = re.compile("\x1b\\[[0-9;:]{0,40}m")


def shown(text: object) -> str:
    """Return the text on one line, with C0, DEL, C1, bidirectional controls and lone surrogates escaped."""
    return _ACTS.sub(_escaped, str(text))


def shown_lines(text: str) -> str:
    """Return the same of several lines: line ends and tabs stay."""
    return _ACTS_NOT_LINES.sub(_escaped, text)


def shown_output(text: str) -> str:
    """Return what a script printed: colours stay too, and a carriage return begins the line again, as progress bars need."""
    return "\r".join(map(shown_with_colours, text.split("\r")))


def shown_with_colours(text: str) -> str:
    """Return several lines as they may be shown; their colours stay."""
    parts = map(shown_lines, _COLOUR.split(text))
    colours = [*_COLOUR.findall(text), ""]
    return "".join(part + colour for part, colour in zip(parts, colours, strict=True))


def _escaped(found: re.Match[str]) -> str:
    """Return a character as JSON has it, so that a line of JSON stays one."""
    return "\\n" if found[0] == "\n" else f"\\u{ord(found[0]):04x}"


class ShownStream:
    """A text stream for people: whatever is printed, nothing in it acts on their terminal. ``unshown`` is the stream below."""

    def __init__(self, unshown: TextIO) -> None:
        self.unshown = unshown

    def write(self, text: str) -> int:
        """Write a text, its control characters escaped but line ends, tabs and colours."""
        self.unshown.write(shown_with_colours(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.unshown, name)


def drawn_on(stream: TextIO) -> TextIO:
    """Return the stream for one who draws with control sequences of our own, and shows all other text by itself."""
    below: TextIO = getattr(stream, "unshown", stream)
    return below
