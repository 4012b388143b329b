"""Machines of Google Cloud, AWS and Azure, spot or not: their metadata servers give notice before they take one.

Recognised by the names in the machine's firmware, so that nothing is asked over the network to know where we are.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from supervisor.core.ports import Platform
from supervisor.core.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from supervisor.core.events import Notice
    from supervisor.core.instant import Instant

FIRMWARE = "/sys/class/dmi/id"
PRIOR_LIFE_S = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Row:
    """A cloud: the ``file`` of the firmware, how its text ``begins``; what it is called; the notice that it gives."""

    file: str
    begins: str
    title: str
    notice: str


CLOUDS = {
    "google": Row("product_name", "Google", "Google Cloud", "a spot machine is told 30 s ahead"),
    "aws": Row("sys_vendor", "Amazon EC2", "AWS", "a spot machine is told 120 s ahead"),
    "azure": Row("chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77", "Azure", "a spot machine is told 30 s ahead"),
}


def is_here(environ: Mapping[str, str]) -> bool:
    """The firmware names one of the clouds. SUPERVISOR_RUN_FIRMWARE: the folder to look in ("" none), for tests."""
    return _cloud(environ) is not None


def describe(environ: Mapping[str, str], _now: Instant) -> Platform:
    """Return what is known: such a machine has no limit, and may be taken at any time."""
    name = _cloud(environ) or "google"
    return Platform(
        name="spot",
        store="./runs",
        prior_life_s=PRIOR_LIFE_S,
        title=f"a machine of {CLOUDS[name].title}",
        notice=CLOUDS[name].notice,
        listen=partial(listen, name, environ),
    )


def check_store(_where: str, _is_mount: Callable[[str], bool], _environ: Mapping[str, str] = os.environ) -> None:
    """Any folder will do here; that it outlives the machine is the user's to know."""


def listen(
    name: str, environ: Mapping[str, str], hear: Callable[[Notice], None], pause: Callable[[float], bool]
) -> None:
    """Pass on the cloud's notices until ``pause`` says that it is over."""
    from supervisor.platforms import clouds  # speaks HTTP, which no other command has to load

    clouds.listen(clouds.READERS[name](environ), hear, pause)


def _cloud(environ: Mapping[str, str]) -> str | None:
    folder = environ.get("SUPERVISOR_RUN_FIRMWARE", FIRMWARE)
    if not folder:
        return None
    for name, row in CLOUDS.items():
        try:
            if (Path(folder) / row.file).read_text(errors="replace").strip().startswith(row.begins):
                return name
        except OSError:  # not told on this machine
            continue
    return None
