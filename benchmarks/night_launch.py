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

from supervisor import fleet_composition
from supervisor.__main__ import main
from supervisor.core.errors import UserError
from supervisor.core.fleet import serving as fleet_serving
from supervisor.core.fleet import shutdown as fleet_shutdown
from supervisor.core.fleet import waiting as fleet_waiting
from supervisor.core.fleet.provisioning import MachineError
from supervisor.fleet import controller
from supervisor.fleet.home_replica import HomeReplica
from supervisor.fleet.provisioners.colab import provisioner as colab_provisioner
from supervisor.fleet.provisioners.local import LocalMachine
from supervisor.views import fleet as view

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervisor.core.fleet.state import FleetPolicy

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


def _hasty(policy: Callable[..., FleetPolicy]) -> Callable[..., FleetPolicy]:
    def made(*arguments: Any) -> FleetPolicy:
        return replace(
            policy(*arguments), poll_s=1.0, silence_s=40.0, listings_apart_s=0.3, machines_without_progress_max=8
        )

    return made


def patched() -> None:
    """Make minutes seconds, and network and disk what the night says."""
    colab_provisioner.TRAITS = replace(colab_provisioner.TRAITS, poll_s=1.0, listings=2, listings_apart_s=0.2)
    for module, name in (
        (fleet_waiting, "QUIET_S"), (fleet_waiting, "QUIET_AGAIN_S"), (fleet_waiting, "QUIET_AGAIN_S_MAX"), (fleet_waiting, "ERROR_AGAIN_S"),
        (fleet_waiting, "ERRORS_APART_S"), (fleet_serving, "STOP_WITHIN_S"), (fleet_serving, "BALANCE_SOON_S"),
        (fleet_serving, "AGAIN_S"), (fleet_serving, "AGAIN_S_MAX"), (fleet_shutdown, "LOST_LOOK_S"), (view, "PLAIN_EVERY_S"), (controller, "JOURNAL_AGAIN_S"), (controller, "QUIET_AGAIN_S"),
    ):  # fmt: skip
        setattr(module, name, getattr(module, name) / SCALE)
    fleet_composition.__dict__["_policy"] = _hasty(fleet_composition.__dict__["_policy"])
    LocalMachine.ask = _cut(LocalMachine.ask)  # type: ignore[method-assign]
    for kind, name, error in (
        (controller.FleetJournal, "_append", _journal_error),
        (HomeReplica, "merge", _store_error),
    ):
        setattr(kind, name, _filled(getattr(kind, name), error))


if __name__ == "__main__":
    patched()
    sys.exit(main())
