"""One Colab account: its listing, its units, and short calls on its machines, each checked by its output."""

from __future__ import annotations

import json
import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supervisor.core.fleet.provisioning import MachineError
from supervisor.fleet.provisioners.colab.cli import pause
from supervisor.fleet.provisioners.colab.output import balance, error_of, listing, sessions_file

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from supervisor.core.fleet.provisioning import Balance, FleetTraits, Machine
    from supervisor.fleet.provisioners.colab.cli import ColabCli
    from supervisor.fleet.provisioners.colab.output import CliOutput
    from supervisor.fleet.provisioners.colab.records import MachineRecords

ASK_S, CELL_S = 150.0, 90.0
NOBODY = json.dumps({"name": "nobody", "token": "", "url": "", "endpoint": "none"})


class Account:
    """Calls with one login. Their errors are "unreachable" or "login", and leave the state unknown."""

    def __init__(self, calls: ColabCli, traits: FleetTraits) -> None:
        self._calls, self._traits = calls, traits

    def balance(self) -> Balance:
        """Return the account's units."""
        return balance(self._call_with_retry(["usage"]))

    def units(self) -> float | None:
        """Return the units if they are available."""
        try:
            return self.balance().units
        except MachineError:
            return None  # the rejection is reported; its reason stays unknown

    def listed(self) -> Sequence[Machine]:
        """Return every machine of the account, all with the name ""."""
        self._calls.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._calls.folder, prefix="listing-") as folder:
            config = Path(folder) / "sessions.json"
            config.write_text(sessions_file(NOBODY))  # with an empty file, a failed login would read as no machines
            return listing(self._call_with_retry(["sessions"], config))

    def _call_with_retry(self, words: Sequence[str], config: Path | None = None) -> CliOutput:
        """Make a call, and repeat it once at a login error: another call may be rewriting the login."""
        result = self._calls.call(words, ASK_S, config=config)
        if result.code != 0 and error_of(result, "").kind == "login":
            pause(1.0)
            result = self._calls.call(words, ASK_S, config=config)
        return result

    def is_absent(self, endpoint: str, *, listings: int = 0) -> bool:
        """Return True if a machine was absent from ``listings`` listings in a row."""
        for turn in range(listings or self._traits.listings):
            if turn:
                pause(self._traits.listings_apart_s)
            if any(each.endpoint == endpoint for each in self.listed()):
                return False
        return True

    def run(self, records: MachineRecords, words: Sequence[str], seconds: float, **more: Any) -> CliOutput:
        """Run a verb on one machine."""
        verb, *rest = words
        return self._calls.call(
            [verb, "-s", records.name, *rest], seconds, config=records.ready(records.session), **more
        )

    def run_cell(
        self, records: MachineRecords, make: Callable[..., str], *arguments: Any
    ) -> tuple[CliOutput, dict[str, Any]]:
        """Run a short cell. Its answer is {} if it gave none, whatever the exit status is."""
        mark = new_mark()
        words = ["exec", "--timeout", str(int(CELL_S))]
        result = self.run(records, words, CELL_S, code=make(mark, *arguments), end_marker=mark)
        answers = [line.removeprefix(mark) for line in result.out.splitlines() if line.startswith(mark)]
        return result, json.loads(answers[0]) if answers else {}


def new_mark() -> str:
    """Return a random prefix of an answer, so that no other output is mistaken for it."""
    return f"supervisor-{uuid.uuid4().hex}:"
