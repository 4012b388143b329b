"""A person's consent to mount their Drive on a machine: the address is passed on, the command line waits for a key."""

from __future__ import annotations

import contextlib
from typing import IO, TYPE_CHECKING

from supervisor.fleet.provisioners.colab_calls import pause

if TYPE_CHECKING:
    from collections.abc import Callable


class Consent:
    """Listens to one `drivemount`, which runs without a terminal and so takes its key from the input."""

    def __init__(self, ask: Callable[[str], None], seconds: float) -> None:
        self._ask, self._seconds = ask, seconds
        self._needed = False

    def heard(self, line: str, answer: IO[bytes]) -> None:
        """Take a line that it printed; after the one with the address, give the person their time and press the key."""
        if "REQUIRED" in line:
            self._needed = True
        elif self._needed and line.strip().startswith("https://"):
            self._needed = False
            self._ask(line.strip())
            pause(self._seconds)
            with contextlib.suppress(BrokenPipeError, ValueError):
                answer.write(b"\n")
                answer.flush()
