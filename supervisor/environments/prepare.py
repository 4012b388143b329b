"""Give a script the environment it asks for: the one call the engine makes; milliseconds on a machine that is prepared."""

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
from supervisor.core.environment import Record, normal_name
from supervisor.core.spoken import duration
from supervisor.core.values import dataclass, replace
from supervisor.engine.ticking import told_every
from supervisor.environments import capture, locks, wish
from supervisor.environments.files import package_of
from supervisor.environments.port import CannotInstallError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from supervisor.core.environment import DebianPackage, Direct, Found, Located, Locked, Plan, Wanted
    from supervisor.environments.capture import Interpreter
    from supervisor.environments.port import Installer


STAMP = "complete"  # the file that is written last into an environment


@dataclass(frozen=True, slots=True)
class Prepared:
    """An environment ready for the trainer: start it with `python` and the whole environment `env`.

    `record` is to be kept in the run under `record_name` and handed to the next machine. `installed`: the packages
    laid over the interpreter's own, as "name version". `drift`: how this machine differs from the recorded one.
    `home`: the private folder in which all that was made lies. ``unmet``: what the script asks for and does not get.
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
class _Place:
    """Where and with what the work is done."""

    interpreter: Interpreter
    home: Path
    environ: Mapping[str, str]
    fetch_wheels: Callable[[Callable[[str], bool]], Path | None]
    say: Callable[[str], None]
    cpu: bool
    trusted: bool

    def wheels(self, locked: Sequence[Locked]) -> Path | None:
        """Fetch those wheels that the run keeps of these packages; an installer compares their hashes with the lock's."""
        names = {(one.name, one.version) for one in locked}
        with told_every(
            self.say, lambda seconds: f"fetching the packages that the run keeps, {duration(seconds)} so far"
        ):
            return self.fetch_wheels(lambda name: package_of(name) in names)

    @cached_property
    def installer(self) -> Installer:
        from supervisor.environments import installers

        return installers.choose(self.environ, self.home, self.say, python=self.interpreter.executable, cpu=self.cpu)


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
) -> Prepared:
    """Find what `script` wants, install only what `python` lacks into ``root/.supervisor``, and record it exactly.

    `recorded`: the record of the run's last machine. It is put back to the letter where it fits and is ``trusted``; else it
    proposes versions of what the script asks for, and nothing more. `wheels`: a folder of kept files, or what fetches one.
    With ``install=False`` what is missing is only said. Raises UserError; what it began is never used half-made.
    """
    began, home = clock(), _home(root, environ)
    wanted = wish.read(script, install=install).wanted
    chosen = capture.interpreter(python, home, environ)
    found = capture.found(chosen, environ)
    situation = _situation(wanted, found, chosen, install=install)
    answer = _load(_ready_file(home, situation, recorded))
    fetch = wheels if callable(wheels) else lambda _: wheels
    place = _Place(chosen, home, environ, fetch, say, cpu=not found.accelerators, trusted=trusted)
    if answer is None:
        made = _make(wanted, found, place, recorded, install=install)
        record = made.record
        directs = [f"{one.name} {one.version}" for one in record.direct]
        answer = {"record": record.to_bytes().decode(), "name": record.name, "drift": made.drift, "python": made.python,
                  "installed": [*(f"{one.name} {one.version}" for one in record.difference), *directs],
                  "unmet": environment.unmet(wanted, found, record.versions())}  # fmt: skip
        _save(_ready_file(home, situation, recorded), answer)
        _save(_ready_file(home, situation, record.to_bytes()), answer | {"drift": []})
    if answer["installed"]:
        locks.hold_in_use(Path(answer["python"]).parent.parent / STAMP)
    record = Record.from_bytes(answer["record"].encode())
    _say_unmet(wanted, answer["unmet"], record, say, install=install)
    return Prepared(
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


def _say_unmet(
    wanted: Wanted, unmet: Sequence[str], record: Record, say: Callable[[str], None], *, install: bool
) -> None:
    """Say at every start what the job does not get of what its script asks for; nothing of that is silent."""
    for note in wanted.notes:
        say(note)
    if unmet:
        why = "" if install else "not installed, as asked: "
        say(f"{why}{'; '.join(unmet)} ({wanted.source})")
    if lacking := environment.lacking_of_conda(wanted, record.versions()):
        say(
            f"{wanted.source} asks conda for {', '.join(lacking)}: not here and not installed. If the script needs "
            "one of them, write it into a requirements.txt beside it"
        )


def trainer_environment(environ: Mapping[str, str], python: str, below: str) -> dict[str, str]:
    """The environment for a trainer started with `python`, an overlay of the interpreter `below` or that one itself.

    A notebook's drawing backend is replaced because it needs the notebook's kernel, and the ban on bytecode left out
    because it makes every attempt compile everything anew. PYTHONPATH, which shows more of the machine's own packages,
    stays, behind those of the overlay: Python itself would take it first, and with it what the overlay is to shadow.
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
    """The private folder: in `root`, or in the user's cache where `root` cannot be written."""
    home = root / ".supervisor"
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError:  # a read-only checkout is usual
        return _cache(environ)
    return home if os.access(home, os.W_OK) else _cache(environ)


def _cache(environ: Mapping[str, str]) -> Path:
    return Path(environ.get("XDG_CACHE_HOME") or f"{environ.get('HOME') or Path.home()}/.cache") / "training-supervisor"


@dataclass(frozen=True, slots=True)
class _Made:
    record: Record
    drift: tuple[str, ...]
    python: str


def _make(wanted: Wanted, found: Found, place: _Place, recorded: bytes | None, *, install: bool) -> _Made:
    """Install what is missing. A line whose package is here in another version gives way where it cannot be had."""
    old, drift = _read_record(recorded)
    added = _NOTHING
    todo = environment.plan(wanted, found) if install else None
    while todo is not None and todo.asks:
        try:
            added = _lay_over(wanted, found, todo, old, place)
            break
        except CannotInstallError as error:
            given_up = _give_way(todo, error)
            if not given_up:
                raise
            for name in given_up:
                todo = todo.without(name)
            place.say(f"{', '.join(given_up)} cannot be had in the version asked for: {error.reason}")
    record = Record(found, wanted.texts, added.difference, _debian(wanted, place) if install else (), added.directs)
    return _Made(
        record, drift + (environment.drift(old, record) if old else ()), added.python or place.interpreter.executable
    )


def _give_way(todo: Plan, error: CannotInstallError) -> tuple[str, ...]:
    """Return which of the packages that are here stay as they are: those that the reason names, else all of them.

    None of them does where another package cannot be built: it would not be, either, without them.
    """
    reason, unbuilt = error.reason, normal_name(error.unbuilt)
    if unbuilt and unbuilt not in todo.replaced and " " not in unbuilt:
        return ()
    named = tuple(name for name in todo.replaced if re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", reason.lower()))
    return named or todo.replaced


@dataclass(frozen=True, slots=True)
class _Added:
    """What was laid over the interpreter; ``python`` is "" where nothing was."""

    python: str = ""
    difference: tuple[Locked, ...] = ()
    directs: tuple[Located, ...] = ()


_NOTHING = _Added()


def _lay_over(wanted: Wanted, found: Found, todo: Plan, old: Record | None, place: _Place) -> _Added:
    from supervisor.environments import overlay

    expanded = replace(wanted, index_options=tuple(_expanded(each, place.environ) for each in wanted.index_options))
    believed = old if place.trusted else None  # any commit of any fork can be had from a repository's own address
    lines = tuple(_expanded(_at_commit(each, believed), place.environ) for each in todo.directs)
    difference = _difference(expanded, found, todo, old, place, lines=lines)
    if not difference and not lines:
        return _NOTHING
    prints = [f"{line} {each.fingerprint}\n" for line, each in zip(lines, todo.directs, strict=True)]
    folder = overlay.folder_of(place.interpreter, difference, place.home, prints)
    if not overlay.is_whole(folder):
        overlay.make(place.interpreter, difference, folder, lambda: place.installer,
                     wheels=place.wheels(difference), index_options=expanded.index_options, environ=place.environ, say=place.say, directs=lines,
                     source=wanted.source)  # fmt: skip
    return _Added(f"{folder}/bin/python", difference, overlay.located(folder) if lines else ())


def _at_commit(direct: Direct, old: Record | None) -> str:
    """Return the line of a package, at the very commit that the run's earlier machines had."""
    commit = next((one.commit for one in old.direct if one.name == direct.name), "") if old else ""
    if not commit or not direct.repository:
        return direct.line
    address, _, fragment = direct.line.partition("#")
    head, slash, last = address.rpartition("/")
    return f"{head}{slash}{last.partition('@')[0]}@{commit}" + (f"#{fragment}" if fragment else "")


def _expanded(text: str, environ: Mapping[str, str]) -> str:
    """Return a line with ``${NAME}`` replaced as pip does it, so that tokens need not stand in files."""
    return re.sub(r"\$\{([A-Z0-9_]+)\}", lambda found: environ.get(found[1], found[0]), text)


def _read_record(recorded: bytes | None) -> tuple[Record | None, tuple[str, ...]]:
    if recorded is None:
        return None, ()
    try:
        return Record.from_bytes(recorded), ()
    except ValueError as error:
        return None, (f"the recorded environment cannot be read ({error}): a new one was made from the script's wish",)


def _difference(
    wanted: Wanted, found: Found, todo: Plan, old: Record | None, place: _Place, *, lines: Sequence[str]
) -> tuple[Locked, ...]:
    """Return what is to be laid over the interpreter: what a trusted record says, else what the installer chooses.

    A record that nothing vouches for could name any package and any hash: the installer's own choice replaces it.
    """
    same = old is not None and old.wanted == wanted.texts
    if place.trusted and old and same and (old.difference or old.direct) and old.found.fits(found):
        return old.difference
    from supervisor.environments import settings, solve

    if old and old.found.python_tag != found.python_tag:
        place.say(
            f"the run was on Python {old.found.python}: its packages are chosen anew for {found.python}, same versions where they exist"
        )
    place.say(f"{wanted.source} asks for {todo.asked}: finding what to add")
    folders = settings.read(place.environ).wheel_folders
    fits = old is not None and same and _same_abi(old.found, found) and bool(old.difference)
    try:
        chosen = solve.difference(place.installer, place.interpreter.executable, wanted, found, todo,
                                  recorded=old, wheel_folders=folders, say=place.say, lines=lines)  # fmt: skip
    except CannotInstallError as error:
        if not fits or old is None or place.wheels(old.difference) is None:
            raise
        if place.trusted:
            place.say("no new choice can be made here: putting the recorded packages back from the kept wheels")
            return old.difference
        error.unbelieved()
        raise
    if old is not None and same and not place.trusted:
        _say_unsigned(old, chosen, place.say)
    return chosen


def _say_unsigned(old: Record, chosen: Sequence[Locked], say: Callable[[str], None]) -> None:
    """Say once what became of a record that this user's key has not signed."""
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


def _same_abi(one: Found, other: Found) -> bool:
    return (one.python_tag, one.system) == (other.python_tag, other.system)


def _debian(wanted: Wanted, place: _Place) -> tuple[DebianPackage, ...]:
    if not wanted.debian:
        return ()
    from supervisor.environments import debian

    return debian.prepare(wanted.debian, place.environ, place.say)


def _situation(wanted: Wanted, found: Found, chosen: Interpreter, *, install: bool) -> bytes:
    """All that an answer depends on, but for the record of the last machine."""
    return json.dumps([asdict(wanted), asdict(found), chosen.executable, chosen.folders, install]).encode()


def _ready_file(home: Path, situation: bytes, recorded: bytes | None) -> Path:
    return home / "ready" / f"{hashlib.sha256(situation + b'|' + (recorded or b'')).hexdigest()[:24]}.json"


def _load(ready: Path) -> dict[str, Any] | None:
    try:
        answer: dict[str, Any] = json.loads(ready.read_bytes())
    except (OSError, ValueError):  # not there, or cut short by a kill: worked out again
        return None
    if answer["installed"]:
        from supervisor.environments import overlay

        return answer if overlay.is_whole(Path(answer["python"]).parent.parent) else None
    return answer


def _save(ready: Path, answer: dict[str, Any]) -> None:
    ready.parent.mkdir(parents=True, exist_ok=True)
    # No pid in it, because containers that share a checkout have the same ones.
    temporary = ready.with_suffix(f".tmp-{os.urandom(4).hex()}")
    temporary.write_text(json.dumps(answer), encoding="utf-8")
    temporary.rename(ready)
