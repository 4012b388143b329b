"""One Colab account: its listing, its units, and short calls on its machines, each judged by what it says."""

from __future__ import annotations

import json
import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supervisor.core.provisioning import MachineError
from supervisor.fleet.provisioners.colab_calls import pause
from supervisor.fleet.provisioners.colab_spoken import balance, listing, sessions_file, trouble

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from supervisor.core.provisioning import Balance, FleetTraits, Machine
    from supervisor.fleet.provisioners.colab_calls import ColabCalls
    from supervisor.fleet.provisioners.colab_notes import Notes
    from supervisor.fleet.provisioners.colab_spoken import Said

ASK_S, CELL_S = 150.0, 90.0
NOBODY = json.dumps({"name": "nobody", "token": "", "url": "", "endpoint": "none"})


class Account:
    """What can be asked with one login. Errors are "unreachable" or "login": nothing is known then."""

    def __init__(self, calls: ColabCalls, traits: FleetTraits) -> None:
        self._calls, self._traits = calls, traits

    def balance(self) -> Balance:
        """Return the account's units."""
        return balance(self._again(["usage"]))

    def units(self) -> float | None:
        """Return the units where they are to be had."""
        try:
            return self.balance().units
        except MachineError:
            return None  # the refusal is what is told; why, stays open

    def listed(self) -> Sequence[Machine]:
        """Return every machine of the account, all with the name ""."""
        self._calls.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._calls.folder, prefix="listing-") as folder:
            config = Path(folder) / "sessions.json"
            config.write_text(sessions_file(NOBODY))  # with an empty file, a failed login would read as no machines
            return listing(self._again(["sessions"], config))

    def _again(self, words: Sequence[str], config: Path | None = None) -> Said:
        """Ask; and once more where it wants a login, because another call may be rewriting the login just now."""
        said = self._calls.call(words, ASK_S, config=config)
        if said.code != 0 and trouble(said, "").kind == "login":
            pause(1.0)
            said = self._calls.call(words, ASK_S, config=config)
        return said

    def gone(self, endpoint: str, *, listings: int = 0) -> bool:
        """Say whether a machine was absent from so many listings, one after the other."""
        for turn in range(listings or self._traits.listings):
            if turn:
                pause(self._traits.listings_apart_s)
            if any(each.endpoint == endpoint for each in self.listed()):
                return False
        return True

    def on(self, notes: Notes, words: Sequence[str], seconds: float, **more: Any) -> Said:
        """Run a verb on one machine."""
        verb, *rest = words
        return self._calls.call([verb, "-s", notes.name, *rest], seconds, config=notes.ready(notes.session), **more)

    def cell(self, notes: Notes, make: Callable[..., str], *arguments: Any) -> tuple[Said, dict[str, Any]]:
        """Run a short cell; its answer is {} when it has given none, whatever the exit status says."""
        mark = new_mark()
        words = ["exec", "--timeout", str(int(CELL_S))]
        said = self.on(notes, words, CELL_S, code=make(mark, *arguments), enough=mark)
        answers = [line.removeprefix(mark) for line in said.out.splitlines() if line.startswith(mark)]
        return said, json.loads(answers[0]) if answers else {}


def new_mark() -> str:
    """Return what an answer begins with, so that nothing else is taken for one."""
    return f"supervisor-{uuid.uuid4().hex}:"
