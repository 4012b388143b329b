"""Difference between required and installed packages, solved by the installer from the strictest attempt to the freest."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from supervisor.core.environment import normal_name
from supervisor.core.errors import SetupError
from supervisor.core.frozen import replace
from supervisor.core.humanize import duration
from supervisor.engine.progress import told_every
from supervisor.environments.installers.port import CannotInstallError, InstallerFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from supervisor.core.environment import EnvironmentRecord, Installed, InstallPlan, LockedPackage, Requirements
    from supervisor.environments.installers.port import Installer


def difference(
    installer: Installer,
    python: str,
    wanted: Requirements,
    found: Installed,
    todo: InstallPlan,
    *,
    recorded: EnvironmentRecord | None,
    wheel_folders: Sequence[str],
    say: Callable[[str], None],
    lines: Sequence[str] = (),
) -> tuple[LockedPackage, ...]:
    """Return the pinned and hashed packages to add to the installed ones.

    Args:
        installer: uv or pip.
        python: the interpreter.
        wanted: the requirements.
        found: the installed packages.
        todo: the plan.
        recorded: record of the last machine, or None.
        wheel_folders: the user's wheel folders.
        say: receives progress messages.
        lines: the plan's direct references in the installer's syntax; only their dependencies are returned.

    Raises:
        CannotInstallError: with the installer's own reason.
    """
    asked = (*todo.missing, *todo.kept_lines, *lines)
    options = [*wanted.index_options, *(word for name in todo.binary_only for word in ("--only-binary", name))]
    first: InstallerFailed | None = None
    for constraints, words in _attempts(
        todo, _recorded_pins(recorded, found), _local_wheel_pins(todo.missing, wheel_folders, found)
    ):
        try:
            with told_every(say, lambda seconds: f"choosing versions, {duration(seconds)} so far"):
                locked = installer.solve(python, asked, [*constraints, *wanted.constraints], options)
        except InstallerFailed as failure:
            if failure.no_network:
                raise _solve_error(wanted, todo, failure) from failure
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
    raise _solve_error(wanted, todo, first or InstallerFailed("the installer gave no reason")) from first


def _solve_error(wanted: Requirements, todo: InstallPlan, failure: InstallerFailed) -> CannotInstallError:
    return CannotInstallError(
        f"{wanted.source} asks for {todo.asked}, which cannot be installed here", failure, wanted.source
    )


def _with_stated_hashes(added: Sequence[LockedPackage], wanted: Requirements) -> tuple[LockedPackage, ...]:
    """Return the packages with only the digests that the user allows. Raises SetupError if none is left for one."""
    stated = dict(wanted.hashes)
    checked: list[LockedPackage] = []
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


def _attempts(todo: InstallPlan, recorded: list[str], local_pins: list[str]) -> Iterator[tuple[list[str], str]]:
    """Return the constraints to try, each with a notice of the relaxed rule.

    Installed versions stay; if that is impossible, only the frameworks' versions do. Recorded versions come before new
    ones, and local wheels before downloads.
    """
    seen: list[list[str]] = []
    differs = "the recorded versions do not fit this machine: newer ones were chosen" if recorded else ""
    pinned = {pin.partition("==")[0] for pin in recorded}
    preferred = recorded + [pin for pin in local_pins if pin.partition("==")[0] not in pinned]
    for preference, words in ((preferred, ""), (recorded, ""), (local_pins, differs), ([], differs)):
        for pins in (todo.constraints, todo.framework_constraints):
            constraints = [*pins, *preference]
            if constraints not in seen:
                seen.append(constraints)
                yield constraints, words


def _recorded_pins(recorded: EnvironmentRecord | None, found: Installed) -> list[str]:
    if recorded is None:
        return []
    new = [one.pin for one in recorded.difference if one.name not in found.distributions]
    # a CPU build was chosen on a machine without an accelerator; this one has an accelerator
    return [pin.removesuffix("+cpu") for pin in new] if found.accelerators else new


def _local_wheel_pins(missing: Sequence[str], folders: Sequence[str], found: Installed) -> list[str]:
    """Return each missing package's best version of which the user's folders hold a wheel for this Python."""
    from packaging.requirements import Requirement

    wanted = {normal_name(one.name): one for one in map(Requirement, missing)}
    best: dict[str, str] = {}
    for name, version in _wheels(folders, found):
        if name in wanted and wanted[name].specifier.contains(version) and _newer(version, best.get(name)):
            best[name] = version
    return [
        f"{name}=={version}" for name, version in best.items() if not (found.accelerators and version.endswith("+cpu"))
    ]


def _wheels(folders: Sequence[str], found: Installed) -> Iterator[tuple[str, str]]:
    for folder in folders:
        if Path(folder).is_dir():
            for wheel in Path(folder).glob("*.whl"):
                parts = re.fullmatch(r"([^-]+)-([^-]+)(?:-\d[^-]*)?-([^-]+)-([^-]+)-[^-]+", wheel.stem)
                if parts and ({found.python_tag, "py3"} & {*parts[3].split(".")} or "abi3" in parts[4]):
                    yield normal_name(parts[1]), parts[2]


def _newer(version: str, than: str | None) -> bool:
    from packaging.version import Version

    return than is None or Version(version) > Version(than)
