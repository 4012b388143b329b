"""Prepares a script's environment: the engine's one entry point, milliseconds on a prepared machine."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supervisor.core import environment
from supervisor.core.environment import EnvironmentRecord, normal_name
from supervisor.core.frozen import dataclass, replace
from supervisor.core.humanize import duration
from supervisor.engine import atomic
from supervisor.engine.progress import told_every
from supervisor.environments import installed as installed_packages
from supervisor.environments.installers.port import CannotInstallError
from supervisor.environments.requirements import script_requirements
from supervisor.environments.wheel_files import package_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from supervisor.core.environment import (
        DebianPackage,
        DirectReference,
        Installed,
        InstallPlan,
        LocatedRequirement,
        LockedPackage,
        Requirements,
    )
    from supervisor.environments.installed import Interpreter
    from supervisor.environments.installers.port import Installer


STAMP = "complete"  # the file that is written last into an environment


@dataclass(frozen=True, slots=True)
class PreparedInterpreter:
    """An environment ready for the trainer: start it with ``python`` and the environment variables ``env``.

    - ``record``: goes into the run as ``record_name``, for the next machine
    - ``installed``: the packages installed over the interpreter's own, as "name version"
    - ``drift``: differences between this machine and the recorded one
    - ``home``: private folder of everything built
    - ``unmet``: requirements that are not fulfilled
    """

    python: str
    env: dict[str, str]
    record: bytes
    record_name: str
    installed: tuple[str, ...]
    drift: tuple[str, ...]
    seconds: float
    home: Path
    unmet: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Workplace:
    """Interpreter, folders and installer of one preparation."""

    interpreter: Interpreter
    home: Path
    environ: Mapping[str, str]
    fetch_wheels: Callable[[Callable[[str], bool]], Path | None]
    say: Callable[[str], None]
    cpu: bool
    trusted: bool

    def wheels(self, locked: Sequence[LockedPackage]) -> Path | None:
        """Fetch the run's kept wheels of these packages. An installer compares their hashes with the lock."""
        names = {(one.name, one.version) for one in locked}
        with told_every(
            self.say, lambda seconds: f"fetching the packages that the run keeps, {duration(seconds)} so far"
        ):
            return self.fetch_wheels(lambda name: package_of(name) in names)

    @cached_property
    def installer(self) -> Installer:
        from supervisor.environments.installers import choice as installer_choice

        return installer_choice.choose(
            self.environ, self.home, self.say, python=self.interpreter.executable, cpu=self.cpu
        )


def prepare(
    script: Path,
    *,
    python: str,
    root: Path,
    recorded: bytes | None,
    wheels: Path | Callable[[Callable[[str], bool]], Path | None] | None,
    say: Callable[[str], None],
    install: bool = True,
    trusted: bool = False,
    environ: Mapping[str, str] = os.environ,
    clock: Callable[[], float] = time.perf_counter,
) -> PreparedInterpreter:
    """Read the script's requirements, install missing ones into ``root/.supervisor``, and record the result exactly.

    A partial result of a failed call is never used. Raises UserError.

    Args:
        script: the training script.
        python: the interpreter, a path or a name.
        root: folder for ``.supervisor``.
        recorded: record of the run's last machine. It is restored exactly if it fits and is trusted; else it only
            proposes versions.
        wheels: folder of kept wheels, or a function that fetches one.
        say: receives progress messages.
        install: False only reports missing packages.
        trusted: this user's key has signed the record.
        environ: the environment variables.
        clock: measures the duration.
    """
    began, home = clock(), _home(root, environ)
    wanted = script_requirements.read(script, install=install).requirements
    chosen = installed_packages.interpreter(python, home, environ)
    found = installed_packages.inspect(chosen, environ)
    cache_key = _cache_key(wanted, found, chosen, install=install)
    answer = _read_cache(_cache_file(home, cache_key, recorded))
    fetch = wheels if callable(wheels) else lambda _: wheels
    place = _Workplace(chosen, home, environ, fetch, say, cpu=not found.accelerators, trusted=trusted)
    if answer is None:
        made = _make(wanted, found, place, recorded, install=install)
        record = made.record
        directs = [f"{one.name} {one.version}" for one in record.direct]
        answer = {"record": record.to_bytes().decode(), "name": record.name, "drift": made.drift, "python": made.python,
                  "installed": [*(f"{one.name} {one.version}" for one in record.difference), *directs],
                  "unmet": environment.unmet(wanted, found, record.versions())}  # fmt: skip
        _write_cache(_cache_file(home, cache_key, recorded), answer)
        _write_cache(_cache_file(home, cache_key, record.to_bytes()), answer | {"drift": []})
    if answer["installed"]:
        atomic.hold_in_use(Path(answer["python"]).parent.parent / STAMP)
    record = EnvironmentRecord.from_bytes(answer["record"].encode())
    _report_unmet(wanted, answer["unmet"], record, say, install=install)
    return PreparedInterpreter(
        python=answer["python"],
        env=trainer_environment(environ, answer["python"], chosen.executable),
        record=answer["record"].encode(),
        record_name=answer["name"],
        installed=tuple(answer["installed"]),
        drift=tuple(answer["drift"]),
        seconds=clock() - began,
        home=home,
        unmet=tuple(answer["unmet"]),
    )


def _report_unmet(
    wanted: Requirements, unmet: Sequence[str], record: EnvironmentRecord, say: Callable[[str], None], *, install: bool
) -> None:
    """Report at every start the requirements that the job does not get. None is left out."""
    for note in wanted.notes:
        say(note)
    if unmet:
        why = "" if install else "not installed, as asked: "
        say(f"{why}{'; '.join(unmet)} ({wanted.source})")
    if lacking := environment.missing_from_conda(wanted, record.versions()):
        say(
            f"{wanted.source} asks conda for {', '.join(lacking)}: not here and not installed. If the script needs "
            "one of them, write it into a requirements.txt beside it"
        )


def trainer_environment(environ: Mapping[str, str], python: str, below: str) -> dict[str, str]:
    """Return the environment for a trainer of ``python``: an overlay of the interpreter ``below``, or that one itself.

    A notebook's drawing backend is replaced, because it needs the notebook's kernel. The ban on bytecode is dropped,
    because each attempt would compile everything again. PYTHONPATH stays behind the overlay's packages. Python itself
    would search it first, and find packages that the overlay is to shadow.
    """
    child = {key: value for key, value in environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    if child.get("MPLBACKEND", "").startswith("module://"):
        child["MPLBACKEND"] = "Agg"
    if python != below:
        folder = Path(python).parent
        child |= {"VIRTUAL_ENV": str(folder.parent), "PATH": f"{folder}{os.pathsep}{child.get('PATH', os.defpath)}"}
        child.pop("PYTHONHOME", None)
        if child.get("PYTHONPATH"):
            own = next((folder.parent / "lib").glob("*/site-packages"))
            child["PYTHONPATH"] = f"{own}{os.pathsep}{child['PYTHONPATH']}"
    return child


def _home(root: Path, environ: Mapping[str, str]) -> Path:
    """Return the private folder: in ``root``, or in the user's cache if ``root`` is not writable."""
    home = root / ".supervisor"
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError:  # a read-only checkout is usual
        return _cache(environ)
    return home if os.access(home, os.W_OK) else _cache(environ)


def _cache(environ: Mapping[str, str]) -> Path:
    return Path(environ.get("XDG_CACHE_HOME") or f"{environ.get('HOME') or Path.home()}/.cache") / "training-supervisor"


@dataclass(frozen=True, slots=True)
class _Prepared:
    record: EnvironmentRecord
    drift: tuple[str, ...]
    python: str


def _make(
    wanted: Requirements, found: Installed, place: _Workplace, recorded: bytes | None, *, install: bool
) -> _Prepared:
    """Install the missing packages.

    If one is unavailable and another version is installed, the installed version stays.
    """
    old, drift = _read_record(recorded)
    added = _NOTHING
    todo = environment.plan(wanted, found) if install else None
    while todo is not None and todo.asks:
        try:
            added = _build_overlay(wanted, found, todo, old, place)
            break
        except CannotInstallError as error:
            dropped = _fall_back(todo, error)
            if not dropped:
                raise
            for name in dropped:
                todo = todo.without(name)
            place.say(f"{', '.join(dropped)} cannot be had in the version asked for: {error.reason}")
    record = EnvironmentRecord(
        found, wanted.texts, added.difference, _debian(wanted, place) if install else (), added.directs
    )
    return _Prepared(
        record,
        drift + (environment.differences(old, record) if old else ()),
        added.python or place.interpreter.executable,
    )


def _fall_back(todo: InstallPlan, error: CannotInstallError) -> tuple[str, ...]:
    """Return the installed packages that keep their version: those named by the error, else all.

    If another package cannot be built, none keeps it: that build would fail without them too.
    """
    reason, unbuilt = error.reason, normal_name(error.unbuilt)
    if unbuilt and unbuilt not in todo.replaced and " " not in unbuilt:
        return ()
    named = tuple(name for name in todo.replaced if re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", reason.lower()))
    return named or todo.replaced


@dataclass(frozen=True, slots=True)
class _Added:
    """Packages added over the interpreter. ``python`` is "" if none were added."""

    python: str = ""
    difference: tuple[LockedPackage, ...] = ()
    directs: tuple[LocatedRequirement, ...] = ()


_NOTHING = _Added()


def _build_overlay(
    wanted: Requirements, found: Installed, todo: InstallPlan, old: EnvironmentRecord | None, place: _Workplace
) -> _Added:
    from supervisor.environments import overlay

    expanded = replace(wanted, index_options=tuple(_expand(each, place.environ) for each in wanted.index_options))
    trusted_record = old if place.trusted else None  # a repository's own address also serves commits of any fork
    lines = tuple(_expand(_at_commit(each, trusted_record), place.environ) for each in todo.directs)
    difference = _difference(expanded, found, todo, old, place, lines=lines)
    if not difference and not lines:
        return _NOTHING
    prints = [f"{line} {each.fingerprint}\n" for line, each in zip(lines, todo.directs, strict=True)]
    folder = overlay.folder_of(place.interpreter, difference, place.home, prints)
    if not overlay.is_complete(folder):
        overlay.make(place.interpreter, difference, folder, lambda: place.installer,
                     wheels=place.wheels(difference), index_options=expanded.index_options, environ=place.environ, say=place.say, directs=lines,
                     source=wanted.source)  # fmt: skip
    return _Added(f"{folder}/bin/python", difference, overlay.direct_installs(folder) if lines else ())


def _at_commit(direct: DirectReference, old: EnvironmentRecord | None) -> str:
    """Return a direct reference's line, pinned to the commit of the run's earlier machines."""
    commit = next((one.commit for one in old.direct if one.name == direct.name), "") if old else ""
    if not commit or not direct.repository:
        return direct.line
    address, _, fragment = direct.line.partition("#")
    head, slash, last = address.rpartition("/")
    return f"{head}{slash}{last.partition('@')[0]}@{commit}" + (f"#{fragment}" if fragment else "")


def _expand(text: str, environ: Mapping[str, str]) -> str:
    """Return a line with ``${NAME}`` expanded as pip does, so that files need no tokens."""
    return re.sub(r"\$\{([A-Z0-9_]+)\}", lambda found: environ.get(found[1], found[0]), text)


def _read_record(recorded: bytes | None) -> tuple[EnvironmentRecord | None, tuple[str, ...]]:
    if recorded is None:
        return None, ()
    try:
        return EnvironmentRecord.from_bytes(recorded), ()
    except ValueError as error:
        return None, (
            f"the recorded environment cannot be read ({error}): a new one was made from the script's requirements",
        )


def _difference(
    wanted: Requirements,
    found: Installed,
    todo: InstallPlan,
    old: EnvironmentRecord | None,
    place: _Workplace,
    *,
    lines: Sequence[str],
) -> tuple[LockedPackage, ...]:
    """Return the packages to add: those of a trusted record, else the installer's choice.

    An untrusted record could name any package and any hash, so the installer's own choice replaces it.
    """
    same = old is not None and old.wanted == wanted.texts
    if place.trusted and old and same and (old.difference or old.direct) and old.found.fits(found):
        return old.difference
    from supervisor.environments import resolve
    from supervisor.environments.installers import pip_config

    if old and old.found.python_tag != found.python_tag:
        place.say(
            f"the run was on Python {old.found.python}: its packages are chosen again for {found.python}, same versions where they exist"
        )
    place.say(f"{wanted.source} asks for {todo.asked}: finding what to add")
    folders = pip_config.read(place.environ).wheel_folders
    fits = old is not None and same and _same_abi(old.found, found) and bool(old.difference)
    try:
        chosen = resolve.difference(place.installer, place.interpreter.executable, wanted, found, todo,
                                  recorded=old, wheel_folders=folders, say=place.say, lines=lines)  # fmt: skip
    except CannotInstallError as error:
        if not fits or old is None or place.wheels(old.difference) is None:
            raise
        if place.trusted:
            place.say("no new choice can be made here: putting the recorded packages back from the kept wheels")
            return old.difference
        error.with_untrusted_note()
        raise
    if old is not None and same and not place.trusted:
        _report_unsigned(old, chosen, place.say)
    return chosen


def _report_unsigned(old: EnvironmentRecord, chosen: Sequence[LockedPackage], say: Callable[[str], None]) -> None:
    """Report once how a record without this user's signature was used."""
    found = {one.name: one for one in chosen}
    other = [
        one.name
        for one in old.difference
        if one.name not in found
        or one.version != found[one.name].version
        or not {*one.hashes} & {*found[one.name].hashes}
    ]
    if not old.difference:
        return
    differing = f"; {', '.join(other)} differ{'s' if len(other) == 1 else ''} from it" if other else ""
    say(
        "this user's key has not signed the store's record of packages: versions and hashes are those that the "
        f"package index has{differing} (SUPERVISOR_KEY carries the key)"
    )


def _same_abi(one: Installed, other: Installed) -> bool:
    return (one.python_tag, one.system) == (other.python_tag, other.system)


def _debian(wanted: Requirements, place: _Workplace) -> tuple[DebianPackage, ...]:
    if not wanted.debian:
        return ()
    from supervisor.environments.installers import apt as apt_packages

    return apt_packages.prepare(wanted.debian, place.environ, place.say)


def _cache_key(wanted: Requirements, found: Installed, chosen: Interpreter, *, install: bool) -> bytes:
    """Return the key of a cached answer: everything it depends on except the last machine's record."""
    return json.dumps([asdict(wanted), asdict(found), chosen.executable, chosen.folders, install]).encode()


def _cache_file(home: Path, cache_key: bytes, recorded: bytes | None) -> Path:
    return home / "ready" / f"{hashlib.sha256(cache_key + b'|' + (recorded or b'')).hexdigest()[:24]}.json"


def _read_cache(ready: Path) -> dict[str, Any] | None:
    try:
        answer: dict[str, Any] = json.loads(ready.read_bytes())
    except (OSError, ValueError):  # absent, or truncated by a kill: computed again
        return None
    if answer["installed"]:
        from supervisor.environments import overlay

        return answer if overlay.is_complete(Path(answer["python"]).parent.parent) else None
    return answer


def _write_cache(ready: Path, answer: dict[str, Any]) -> None:
    ready.parent.mkdir(parents=True, exist_ok=True)
    # No pid in the temporary name, because containers that share a checkout have the same ones.
    atomic.replace(ready, json.dumps(answer).encode(), unique=True)
