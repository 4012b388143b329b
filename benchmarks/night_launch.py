"""`launch` as ``python -m`` starts it, with minutes as seconds, and with a network and a disk that a night can take away.

The folder in ``SUPERVISOR_NIGHT`` holds a file ``no network`` or ``disk full`` for as long as that is so.
"""

from __future__ import annotations

import errno
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supervisor import launching
from supervisor.__main__ import main
from supervisor.core import fleet_ending, fleet_serving, fleet_waiting
from supervisor.core.errors import UserError
from supervisor.core.provisioning import MachineError
from supervisor.fleet import controller
from supervisor.fleet.provisioners import colab
from supervisor.fleet.provisioners.local import Here
from supervisor.fleet.relay import HomeRun
from supervisor.views import fleet as view

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervisor.core.fleet_state import Policy

SCALE = 10.0  # a night's minute takes six seconds
FOLDER = "SUPERVISOR_NIGHT"
NO_NETWORK, DISK_FULL = "no network", "disk full"


def _is(what: str) -> bool:
    return (Path(os.environ[FOLDER]) / what).exists()


def _cut(call: Callable[..., Any]) -> Callable[..., Any]:
    def reached(*arguments: Any, **named: Any) -> Any:
        if _is(NO_NETWORK):
            raise MachineError(
                "no route to this computer's machines", "unreachable", "is this computer on the network?"
            )
        return call(*arguments, **named)

    return reached


def _filled(call: Callable[..., Any], error: Callable[[], Exception]) -> Callable[..., Any]:
    def written(*arguments: Any, **named: Any) -> Any:
        if _is(DISK_FULL):
            raise error()
        return call(*arguments, **named)

    return written


def _journal_error() -> Exception:
    return UserError("journal.jsonl cannot be written: No space left on device", "see to its disk")


def _store_error() -> Exception:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _hasty(policy: Callable[..., Policy]) -> Callable[..., Policy]:
    def made(*arguments: Any) -> Policy:
        return replace(policy(*arguments), poll_s=1.0, silence_s=40.0, listings_apart_s=0.3, fruitless_max=8)

    return made


def patched() -> None:
    """Make minutes seconds, and network and disk what the night says."""
    colab.TRAITS = replace(colab.TRAITS, poll_s=1.0, listings=2, listings_apart_s=0.2)
    for module, name in (
        (fleet_waiting, "QUIET_S"), (fleet_waiting, "QUIET_AGAIN_S"), (fleet_waiting, "QUIET_AGAIN_S_MAX"), (fleet_waiting, "TROUBLE_AGAIN_S"),
        (fleet_waiting, "TROUBLES_APART_S"), (fleet_serving, "STOP_WITHIN_S"), (fleet_serving, "BALANCE_SOON_S"),
        (fleet_serving, "AGAIN_S"), (fleet_serving, "AGAIN_S_MAX"), (fleet_ending, "LOST_LOOK_S"), (view, "PLAIN_EVERY_S"), (controller, "JOURNAL_AGAIN_S"), (controller, "QUIET_AGAIN_S"),
    ):  # fmt: skip
        setattr(module, name, getattr(module, name) / SCALE)
    launching.__dict__["_policy"] = _hasty(launching.__dict__["_policy"])
    Here.ask = _cut(Here.ask)  # type: ignore[method-assign]
    for kind, name, error in ((controller.Journal, "_append", _journal_error), (HomeRun, "merge", _store_error)):
        setattr(kind, name, _filled(getattr(kind, name), error))


if __name__ == "__main__":
    patched()
    sys.exit(main())
