"""The list of what the user's computer holds of a machine's store: the agent writes it, the store's evidence reads it.

One JSON object a line, only ever added to; the lines are folded in their order.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

from supervisor.core import fields, shapes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NAME = "acknowledged.jsonl"  # beside the store's folder


def _piece(value: object, at: str) -> tuple[str, int]:
    path, offset = fields.sequence(value, at) if isinstance(value, list) and len(value) == 2 else (None, None)  # noqa: PLR2004  # a pair
    return fields.text(path, at), fields.whole(offset, at)


@dataclass(frozen=True, slots=True)
class _Line:
    """One line of the list."""

    held: tuple[shapes.Text, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)
    wanted: tuple[shapes.Text, ...] = ()
    parcel: shapes.Whole | None = None
    pieces: tuple[Annotated[tuple[str, int], _piece], ...] = ()


@dataclass
class Acknowledged:
    """``held``: paths that are whole on the user's computer, proved by their digest; ``refused``: those it will not take, and why.

    ``pieces``: the offsets of each path that arrived there so far; ``parcels``: the numbers of those that did.
    """

    held: set[str] = field(default_factory=set)
    refused: dict[str, str] = field(default_factory=dict)
    pieces: dict[str, set[int]] = field(default_factory=dict)
    parcels: set[int] = field(default_factory=set)
    _rest: bytes = b""

    def read(self, chunk: bytes) -> None:
        """Take the next bytes of the list. Half a line waits for its other half; a damaged one tells nothing."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            try:
                self._take(shapes.read(_Line, line))
            except ValueError:
                continue  # its writer was killed in it: what it told is asked for again

    def take(self, told: Mapping[str, Any]) -> None:
        """Fold one line in."""
        self._take(shapes.of(_Line, json.loads(line(told))))

    def _take(self, told: _Line) -> None:
        for path in told.held:
            self.held.add(path)
            self.refused.pop(path, None)
            self.pieces.pop(path, None)
        for path, why in told.refused.items():
            self.refused[path] = why
            self.held.discard(path)
        for path in told.wanted:
            self.held.discard(path)
            self.refused.pop(path, None)
            self.pieces.pop(path, None)
        if told.parcel is not None:
            self.parcels.add(told.parcel)
            for path, offset in told.pieces:
                if path not in self.held:
                    self.pieces.setdefault(path, set()).add(offset)


def line(told: Mapping[str, Any]) -> bytes:
    """Return one line of the list."""
    return json.dumps(told, separators=(",", ":")).encode() + b"\n"


def arrived(number: int, pieces: Sequence[tuple[str, int]]) -> dict[str, Any]:
    """Return what is told of a parcel that arrived: its pieces' paths and offsets."""
    return {"parcel": number, "pieces": [list(piece) for piece in pieces]}
