"""The product in a hurry: the same commands, but what waits for seconds and minutes waits for tenths and seconds.

``python -m tests.drives.hasty VERB …`` is ``python -m supervisor VERB …`` with other figures and nothing else changed.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

from benchmarks.machines import Machine

CONFIRM_EVERY_S = 0.15
DARK_WAIT_S = float(os.environ.get("HASTY_DARK_WAIT_S", "60"))  # at the end, for a drive that does not answer
FENCE_EVERY_S = 0.5
LOOK_AGAIN_S = 0.2
PATIENCE_S = float(
    os.environ.get("HASTY_PATIENCE_S", "60")
)  # with a drive that does not answer: a slow one is only busy
SILENCE_S = 0.5  # of a session on a machine that cannot be asked; only one at a time lives in these tests
UPLOAD_WAIT_S = float(os.environ.get("HASTY_UPLOAD_WAIT_S", "120"))  # at the end of a run
WARN_AFTER_S = 2.0  # of waiting for a proof


class HastyMachine(Machine):
    """A machine on which the product is in a hurry."""

    def command(self, *words: str) -> list[str]:
        whole = super().command(*words)
        return [each if each != "supervisor" else "tests.drives.hasty" for each in whole]


def hurry() -> None:
    """Shorten the waits of this process's supervisor."""
    from supervisor import wiring
    from supervisor.core import ending, saving, starting
    from supervisor.stores import mounted

    ending.DARK_WAIT_S = DARK_WAIT_S
    starting.LOOK_AGAIN_S = LOOK_AGAIN_S
    saving.WARN_AFTER_S = WARN_AFTER_S
    mounted.MountedStore.__init__.__kwdefaults__["confirm_every_s"] = CONFIRM_EVERY_S
    wiring.SESSION_PATIENCE_S = PATIENCE_S
    wiring.open_store.__defaults__ = (PATIENCE_S, *wiring.open_store.__defaults__[1:])
    configured = wiring.configure

    def configure(*given: Any) -> Any:
        waits = {"answer_s": SILENCE_S, "fence_every_s": FENCE_EVERY_S, "upload_wait_s": UPLOAD_WAIT_S}
        return replace(configured(*given), **waits)

    wiring.configure = configure


if __name__ == "__main__":
    from supervisor.__main__ import main
    from supervisor.bootstrap import ensure

    ensure()
    hurry()
    raise SystemExit(main())
