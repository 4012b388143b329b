"""The difference between what is wanted and what is there, asked of the installer, from the most careful way to the freest."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from supervisor.core.environment import normal_name
from supervisor.core.errors import SetupError
from supervisor.environments.port import InstallerFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from supervisor.core.environment import Found, Locked, Plan, Record, Wanted
    from supervisor.environments.port import Installer

_CONNECT = "connect this machine, or point PIP_FIND_LINKS at a folder that holds the wheels; nothing was changed"


def difference(
    installer: Installer,
    python: str,
    wanted: Wanted,
    found: Found,
    todo: Plan,
    *,
    recorded: Record | None,
    wheel_folders: Sequence[str],
    say: Callable[[str], None],
) -> tuple[Locked, ...]:
    """Pinned and hashed packages to lay over what `found` has. Raises SetupError with the installer's own reason."""
    first: InstallerFailed | None = None
    for constraints, words in _ways(
        todo, _recorded_pins(recorded, found), _pins_at_hand(todo.missing, wheel_folders, found)
    ):
        try:
            locked = installer.solve(python, todo.missing, constraints, wanted.index_options)
        except InstallerFailed as failure:
            if failure.no_network:
                raise _refusal(wanted, todo, "there is no connection to a package index", _CONNECT) from failure
            first = first or failure
            continue
        added = tuple(one for one in locked if found.distributions.get(one.name) != one.version)
        shadowed = [
            f"{one.name} {found.distributions[one.name]} by {one.version}"
            for one in added
            if one.name in found.distributions
        ]
        if words:
            say(words)
        if shadowed:
            say(f"for this job alone, {', '.join(shadowed)}; the machine's own stay as they are")
        return added
    reason = first.reason if first else "the installer gave no reason"
    raise _refusal(
        wanted, todo, reason, f"change the wish in {wanted.source}, or start with another interpreter"
    ) from first


def _refusal(wanted: Wanted, todo: Plan, reason: str, hint: str) -> SetupError:
    return SetupError(
        f"{wanted.source} asks for {', '.join(todo.missing)}, which cannot be installed here: {reason}", hint
    )


def _ways(todo: Plan, recorded: list[str], at_hand: list[str]) -> Iterator[tuple[list[str], str]]:
    """Constraints to try, with the words for a way in which something had to give.

    What the machine has stays as it is; if that cannot be, only its frameworks do. Recorded versions come before
    new ones, and a wheel that lies here before one to fetch.
    """
    seen: list[list[str]] = []
    differs = "the recorded versions do not fit this machine: newer ones were chosen" if recorded else ""
    pinned = {pin.partition("==")[0] for pin in recorded}
    preferred = recorded + [pin for pin in at_hand if pin.partition("==")[0] not in pinned]
    for preference, words in ((preferred, ""), (recorded, ""), (at_hand, differs), ([], differs)):
        for kept in (todo.constraints, todo.framework_constraints):
            constraints = [*kept, *preference]
            if constraints not in seen:
                seen.append(constraints)
                yield constraints, words


def _recorded_pins(recorded: Record | None, found: Found) -> list[str]:
    if recorded is None:
        return []
    return [one.pin for one in recorded.difference if one.name not in found.distributions]


def _pins_at_hand(missing: Sequence[str], folders: Sequence[str], found: Found) -> list[str]:
    """The best version of each missing package for which a folder of the person's own holds a wheel for this Python."""
    from packaging.requirements import Requirement

    wanted = {normal_name(one.name): one for one in map(Requirement, missing)}
    best: dict[str, str] = {}
    for name, version in _wheels(folders, found):
        if name in wanted and wanted[name].specifier.contains(version) and _newer(version, best.get(name)):
            best[name] = version
    return [
        f"{name}=={version}" for name, version in best.items() if not (found.accelerators and version.endswith("+cpu"))
    ]


def _wheels(folders: Sequence[str], found: Found) -> Iterator[tuple[str, str]]:
    for folder in folders:
        if Path(folder).is_dir():
            for wheel in Path(folder).glob("*.whl"):
                parts = re.fullmatch(r"([^-]+)-([^-]+)(?:-\d[^-]*)?-([^-]+)-([^-]+)-[^-]+", wheel.stem)
                if parts and ({found.python_tag, "py3"} & {*parts[3].split(".")} or "abi3" in parts[4]):
                    yield normal_name(parts[1]), parts[2]


def _newer(version: str, than: str | None) -> bool:
    from packaging.version import Version

    return than is None or Version(version) > Version(than)
