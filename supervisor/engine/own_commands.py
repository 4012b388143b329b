"""The commands by which this machine's user started runs, kept on its own disk: what a store says of them is anybody's word.

``resume`` runs what stands here. The folder of ``--watch`` that an earlier command named is believed from here, too.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from supervisor.core import fields
from supervisor.core.values import dataclass
from supervisor.engine import notes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

COMMAND = "command.json"


@dataclass(frozen=True, slots=True)
class OwnCommand:
    """How a run was last started here. ``watched``: the folder that this command or one before it named, "" for none."""

    store: str
    run: str
    script: str
    arguments: tuple[str, ...]
    options: Mapping[str, Any]
    watched: str = ""


def read(local_run: Path, store: str, run: str) -> OwnCommand | None:
    """Return the last command for this run in this store, None if this machine knows none.

    ``local_run``: everything of the run on this machine. Another store may tell the id of this one's run, so both must agree.
    """
    told = notes.read(local_run / COMMAND) or {}
    try:
        known = OwnCommand(
            store=fields.text(told["store"], "store"),
            run=fields.text(told["run"], "run"),
            script=fields.text(told["script"], "script"),
            arguments=tuple(
                fields.text(each, "an argument") for each in fields.sequence(told["arguments"], "arguments")
            ),
            options=fields.mapping(told["options"], "options"),
            watched=fields.text(told.get("watched", ""), "watched"),
        )
    except (KeyError, ValueError):
        return None
    return known if (known.store, known.run) == (store, run) else None


def write(local_run: Path, command: OwnCommand) -> None:
    """Remember a command. A local disk that takes nothing costs a later ``resume`` its ease, and nothing else."""
    with suppress(OSError):
        local_run.mkdir(parents=True, exist_ok=True)
        notes.write(local_run / COMMAND, {name: getattr(command, name) for name in command.__slots__})
