"""Machines of Google Cloud, AWS and Azure, spot or not. Their metadata servers send a notice before a preemption.

Detected by the names in the machine's firmware, without a network request.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from supervisor.core.frozen import dataclass
from supervisor.core.ports import Platform

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from supervisor.core.clock import Instant
    from supervisor.core.session.events import PreemptionNotice

FIRMWARE = "/sys/class/dmi/id"
PRIOR_LIFE_S = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class CloudRow:
    """A cloud: the firmware ``file`` and how its text ``begins``, the cloud's title, and its notice."""

    file: str
    begins: str
    title: str
    notice: str


CLOUDS = {
    "google": CloudRow("product_name", "Google", "Google Cloud", "a spot machine gets notice 30 s ahead"),
    "aws": CloudRow("sys_vendor", "Amazon EC2", "AWS", "a spot machine gets notice 120 s ahead"),
    "azure": CloudRow(
        "chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77", "Azure", "a spot machine gets notice 30 s ahead"
    ),
}


def is_here(environ: Mapping[str, str]) -> bool:
    """Return True if the firmware names a cloud.

    SUPERVISOR_RUN_FIRMWARE overrides the folder ("" for none), for tests.
    """
    return _cloud(environ) is not None


def describe(environ: Mapping[str, str], _now: Instant) -> Platform:
    """Return the known figures: no limit, and a preemption at any time."""
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
    """Accept any folder: only the user knows if it outlives the machine."""


def listen(
    name: str, environ: Mapping[str, str], on_notice: Callable[[PreemptionNotice], None], pause: Callable[[float], bool]
) -> None:
    """Pass on the cloud's notices until ``pause`` returns True."""
    from supervisor.platforms import cloud_metadata  # imports HTTP, which no other command needs

    cloud_metadata.listen(cloud_metadata.READERS[name](environ), on_notice, pause)


def _cloud(environ: Mapping[str, str]) -> str | None:
    folder = environ.get("SUPERVISOR_RUN_FIRMWARE", FIRMWARE)
    if not folder:
        return None
    for name, row in CLOUDS.items():
        try:
            if (Path(folder) / row.file).read_text(errors="replace").strip().startswith(row.begins):
                return name
        except OSError:  # absent on this machine
            continue
    return None
