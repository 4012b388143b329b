"""Text of a script, a store or a machine, as it may be shown: nothing in it acts on a terminal or turns a line around."""

from __future__ import annotations

import re

from supervisor.core import fields

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
    kept = _COLOUR.split(text)
    parts = ["\r".join(map(shown_lines, part.split("\r"))) for part in kept]
    colours = [*_COLOUR.findall(text), ""]
    return "".join(part + colour for part, colour in zip(parts, colours, strict=True))


def _escaped(found: re.Match[str]) -> str:
    point = ord(found[0])
    return f"\\x{point:02x}" if point < 0x100 else f"\\u{point:04x}"
