"""Give a script the environment it asks for: the one call the engine makes; milliseconds on a machine that is prepared."""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supervisor.core import environment
from supervisor.core.environment import Record
from supervisor.core.errors import SetupError
from supervisor.core.values import dataclass
from supervisor.environments import capture, wish

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from supervisor.core.environment import DebianPackage, Found, Locked, Plan, Wanted
    from supervisor.environments.capture import Interpreter
    from supervisor.environments.port import Installer


@dataclass(frozen=True, slots=True)
class Prepared:
    """An environment ready for the trainer: start it with `python` and the whole environment `env`.

    `record` is to be kept in the run under `record_name` and handed to the next machine. `installed`: the packages
    laid over the interpreter's own, as "name version". `drift`: how this machine differs from the recorded one.
    `home`: the private folder in which all that was made lies.
    """

    python: str
    env: dict[str, str]
    record: bytes
    record_name: str
    installed: tuple[str, ...]
    drift: tuple[str, ...]
    seconds: float
    home: Path


@dataclass(frozen=True)
class _Place:
    """Where and with what the work is done."""

    interpreter: Interpreter
    home: Path
    environ: Mapping[str, str]
    wheels: Path | None
    say: Callable[[str], None]

    @cached_property
    def installer(self) -> Installer:
        from supervisor.environments import installers

        return installers.choose(self.environ, self.home, self.say, python=self.interpreter.executable)


def prepare(
    script: Path,
    *,
    python: str,
    root: Path,
    recorded: bytes | None,
    wheels: Path | None,
    say: Callable[[str], None],
    install: bool = True,
    environ: Mapping[str, str] = os.environ,
    clock: Callable[[], float] = time.perf_counter,
) -> Prepared:
    """Find what `script` wants, install only what `python` lacks into ``root/.supervisor``, and record it exactly.

    `recorded`: the record of the run's last machine, put back to the letter where it fits. `wheels`: a folder of kept
    files. With ``install=False`` what is missing is only said. Raises UserError; what it began is never used half-made.
    """
    began, home, source = clock(), _home(root, environ), wish.find(script)
    chosen = capture.interpreter(python, home, environ)
    found = capture.found(chosen, environ)
    situation = _situation(source, found, chosen, install=install)
    answer = _load(_ready_file(home, situation, recorded))
    if answer is None:
        place = _Place(chosen, home, environ, wheels, say)
        wanted = wish.parse(source, script.name).wanted
        record, drift, program = _make(wanted, found, place, recorded, install=install)
        answer = {"record": record.to_bytes().decode(), "name": record.name, "drift": drift, "python": program,
                  "installed": [f"{one.name} {one.version}" for one in record.difference]}  # fmt: skip
        _save(_ready_file(home, situation, recorded), answer)
        _save(_ready_file(home, situation, record.to_bytes()), answer | {"drift": []})
    return Prepared(
        python=answer["python"],
        env=trainer_environment(environ, answer["python"], chosen.executable),
        record=answer["record"].encode(),
        record_name=answer["name"],
        installed=tuple(answer["installed"]),
        drift=tuple(answer["drift"]),
        seconds=clock() - began,
        home=home,
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


def _make(
    wanted: Wanted, found: Found, place: _Place, recorded: bytes | None, *, install: bool
) -> tuple[Record, tuple[str, ...], str]:
    old, drift = _read_record(recorded)
    todo = environment.plan(wanted, found)
    if not install:
        if todo.missing:
            place.say(f"not installed, as asked: {', '.join(todo.missing)}")
        todo = replace(todo, missing=())
    difference = _difference(wanted, found, todo, old, place)
    program = place.interpreter.executable
    if difference:
        from supervisor.environments import overlay

        folder = overlay.folder_of(place.interpreter, difference, place.home)
        overlay.make(place.interpreter, difference, folder, lambda: place.installer, wheels=place.wheels,
                     index_options=wanted.index_options, environ=place.environ, say=place.say)  # fmt: skip
        program = f"{folder}/bin/python"
    record = Record(found, wanted.requirements, difference, _debian(wanted, old, place) if install else ())
    return record, drift + (environment.drift(old, record) if old else ()), program


def _read_record(recorded: bytes | None) -> tuple[Record | None, tuple[str, ...]]:
    if recorded is None:
        return None, ()
    try:
        return Record.from_bytes(recorded), ()
    except ValueError as error:
        return None, (f"the recorded environment cannot be read ({error}): a new one was made from the script's wish",)


def _difference(wanted: Wanted, found: Found, todo: Plan, old: Record | None, place: _Place) -> tuple[Locked, ...]:
    if not todo.missing:
        return ()
    if old and old.difference and old.found.fits(found) and old.wanted == wanted.requirements:
        return old.difference
    from supervisor.environments import settings, solve

    if old and old.found.python_tag != found.python_tag:
        place.say(
            f"the run was on Python {old.found.python}: its packages are chosen anew for {found.python}, same versions where they exist"
        )
    place.say(f"{wanted.source} asks for {', '.join(todo.missing)}: finding what to add")
    folders = (*settings.read(place.environ).wheel_folders, *([str(place.wheels)] if place.wheels else []))
    try:
        return solve.difference(place.installer, place.interpreter.executable, wanted, found, todo,
                                recorded=old, wheel_folders=folders, say=place.say)  # fmt: skip
    except SetupError:
        if (
            old
            and old.difference
            and place.wheels
            and _same_abi(old.found, found)
            and old.wanted == wanted.requirements
        ):
            place.say("no new choice can be made here: putting the recorded packages back from the kept wheels")
            return old.difference
        raise


def _same_abi(one: Found, other: Found) -> bool:
    return (one.python_tag, one.system) == (other.python_tag, other.system)


def _debian(wanted: Wanted, old: Record | None, place: _Place) -> tuple[DebianPackage, ...]:
    if not wanted.debian:
        return ()
    from supervisor.environments import debian

    kept = debian.files_of(old.debian if old else (), place.wheels)
    return debian.prepare(wanted.debian, kept, place.home, place.environ, place.say)


def _situation(source: wish.Source, found: Found, chosen: Interpreter, *, install: bool) -> bytes:
    """All that an answer depends on, but for the record of the last machine."""
    return json.dumps([source.kind, source.text, asdict(found), chosen.executable, chosen.folders, install]).encode()


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
