"""The product in a hurry, as for the drives' tests, but patient with a slow machine: several live here at a time.

Where $MACHINE_GATES names a folder it halts before it writes a run's record or its claim until the gate of that is open, so
that several machines do it at the same time, each having seen nothing of the others.
"""

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.drives import hasty

GATES = "MACHINE_GATES"
PATIENCE_S = 60.0  # with a drive that does not answer: here it is only busy
UPLOAD_WAIT_S = 120.0
SILENCE_S = 60.0
LOOK_EVERY_S = 0.005


def halted(act: Callable[..., Any], gate: str) -> Callable[..., Any]:
    """Return the same act behind a gate."""

    def behind(*given: Any) -> Any:
        folder = Path(os.environ[GATES])
        (folder / f"{gate}-{socket.gethostname()}").touch()
        while not (folder / gate).exists():
            time.sleep(LOOK_EVERY_S)  # because the test opens it when all are there
        return act(*given)

    return behind


def main() -> int:
    """Hurry, and be a command of the product."""
    from supervisor.__main__ import main
    from supervisor.bootstrap import ensure

    ensure()
    from supervisor.engine import claims, runs

    hasty.PATIENCE_S, hasty.UPLOAD_WAIT_S, hasty.SILENCE_S = PATIENCE_S, UPLOAD_WAIT_S, SILENCE_S
    hasty.hurry()
    if os.environ.get(GATES):
        runs._create = halted(runs._create, "record")
        claims.write_claim = halted(claims.write_claim, "claim")
    return main()


if __name__ == "__main__":
    raise SystemExit(main())
