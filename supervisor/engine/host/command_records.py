"""Records of the commands by which this user started runs, on the local disk: a store's records may be forged.

``resume`` runs these commands. A ``--watch-dir`` folder in them is trusted, too.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from supervisor.core.frozen import dataclass
from supervisor.core.wire import fields
from supervisor.engine import json_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

COMMAND = "command.json"


@dataclass(frozen=True, slots=True)
class OwnCommand:
    """The last start of a run here. ``watched``: the folder named by this command or an earlier one, "" for none."""

    store: str
    run: str
    script: str
    arguments: tuple[str, ...]
    options: Mapping[str, Any]
    watched: str = ""


def read(local_run: Path, store: str, run: str) -> OwnCommand | None:
    """Return the last command for this run in this store, None if this machine has none.

    Another store may contain a forged id of this run, so store and run must both match.

    Args:
        local_run: the run's folder on this machine.
        store: place of the store.
        run: name of the run.
    """
    stored = json_file.read(local_run / COMMAND) or {}
    try:
        known = OwnCommand(
            store=fields.text(stored["store"], "store"),
            run=fields.text(stored["run"], "run"),
            script=fields.text(stored["script"], "script"),
            arguments=tuple(
                fields.text(each, "an argument") for each in fields.sequence(stored["arguments"], "arguments")
            ),
            options=fields.mapping(stored["options"], "options"),
            watched=fields.text(stored.get("watched", ""), "watched"),
        )
    except (KeyError, ValueError):
        return None
    return known if (known.store, known.run) == (store, run) else None


def write(local_run: Path, command: OwnCommand) -> None:
    """Record a command. If the local disk is full, a later ``resume`` only asks for a confirmation."""
    with suppress(OSError):
        local_run.mkdir(parents=True, exist_ok=True)
        json_file.write(local_run / COMMAND, {name: getattr(command, name) for name in command.__slots__})
