"""The difference between what is wanted and what is there, asked of the installer, from the most careful way to the freest."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from supervisor.core.environment import normal_name
from supervisor.core.errors import SetupError
from supervisor.core.spoken import duration
from supervisor.core.values import replace
from supervisor.engine.ticking import told_every
from supervisor.environments.port import CannotInstallError, InstallerFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from supervisor.core.environment import Found, Locked, Plan, Record, Wanted
    from supervisor.environments.port import Installer


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
    lines: Sequence[str] = (),
) -> tuple[Locked, ...]:
    """Pinned and hashed packages to lay over what `found` has. Raises CannotInstallError with the installer's own reason.

    ``lines``: the plan's directs as the installer takes them; only what they need is returned.
    """
    asked = (*todo.missing, *todo.kept_lines, *lines)
    options = [*wanted.index_options, *(word for name in todo.binary_only for word in ("--only-binary", name))]
    first: InstallerFailed | None = None
    for constraints, words in _ways(
        todo, _recorded_pins(recorded, found), _pins_at_hand(todo.missing, wheel_folders, found)
    ):
        try:
            with told_every(say, lambda seconds: f"choosing versions, {duration(seconds)} so far"):
                locked = installer.solve(python, asked, [*constraints, *wanted.constraints], options)
        except InstallerFailed as failure:
            if failure.no_network:
                raise _refusal(wanted, todo, failure) from failure
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
        if not found.accelerators and any(one.name.startswith("nvidia-") for one in added):
            say("no accelerator is here, and the builds for the processor cannot be reached: these come with CUDA")
        if shadowed:
            say(f"for this job alone, {', '.join(shadowed)}; the machine's own stay as they are")
        return _with_stated_hashes(added, wanted)
    raise _refusal(wanted, todo, first or InstallerFailed("the installer gave no reason")) from first


def _refusal(wanted: Wanted, todo: Plan, failure: InstallerFailed) -> CannotInstallError:
    return CannotInstallError(
        f"{wanted.source} asks for {todo.asked}, which cannot be installed here", failure, wanted.source
    )


def _with_stated_hashes(added: Sequence[Locked], wanted: Wanted) -> tuple[Locked, ...]:
    """Return the packages, each with those digests alone that the person allows. Raises SetupError where none is left."""
    stated = dict(wanted.hashes)
    checked: list[Locked] = []
    for one in added:
        allowed = stated.get(one.name, one.hashes)
        both = tuple(digest for digest in one.hashes if digest in allowed)
        if not both and one.hashes:
            raise SetupError(
                f"{wanted.source} allows no file of {one.pin} that is here: each has another hash",
                f"correct the --hash of {one.name}, or remove it",
            )
        checked.append(replace(one, hashes=both))
    return tuple(checked)


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
    new = [one.pin for one in recorded.difference if one.name not in found.distributions]
    # a build for the processor was chosen on a machine without an accelerator, and is none for one that has it
    return [pin.removesuffix("+cpu") for pin in new] if found.accelerators else new


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
