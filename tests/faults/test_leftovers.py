"""What a crash leaves on a drive, where a file gets its name before its content, never blocks the next save or load.

I13, I15, I16: torn run.json, claim, manifest, journal piece, end record, lock of the environment, piece of the step log and
history; a part that cannot even be removed; and a mount that is gone or replaced meanwhile.
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from supervisor.core.claim import Rank
from supervisor.core.environment import Found, Locked, Record
from supervisor.engine import claims
from supervisor.engine.packages import RECORD, Installer, Packages, Recorded
from supervisor.stores.folder import FolderStore
from tests.faults.checks import check_mount, check_torn_writes, check_trash
from tests.faults.leftovers import parts_left_behind
from tests.faults.stores import OnADrive
from tests.faults.world import RUN

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FIRST, SECOND = Rank(1, "aa"), Rank(2, "bb")
FOUND = Found(python="3.11.7", python_tag="cp311", system="Linux x86_64", distributions={"numpy": "2.0"})
LOCKED = tuple(Locked(name, "1.0", tuple(f"sha256:{digit * 64}" for digit in "ab")) for name in ("one", "other"))


@pytest.mark.slow
def test_each_file_of_a_dead_session_in_part(quick):
    assert parts_left_behind(quick, OnADrive) > 30


@pytest.mark.parametrize("made", [FolderStore, OnADrive], ids=["in a folder", "on a drive"])
def test_a_part_that_could_not_be_removed_is_removed_by_a_later_try(quick, made):
    check_torn_writes(quick, made)


def test_what_retention_removes_from_a_drive_is_emptied_first(quick):
    check_trash(quick, OnADrive)


def test_nothing_is_written_while_the_mount_is_gone_or_another_and_it_goes_on_when_it_is_back(quick):
    check_mount(quick, OnADrive)


@dataclass
class Made:
    record: bytes
    python: str = "/python"
    env: dict[str, str] = field(default_factory=dict)
    installed: tuple[str, ...] = ("one",)
    drift: tuple[str, ...] = ()
    seconds: float = 0.1


def test_a_lock_of_the_environment_that_was_cut_short_anywhere_is_never_put_back(quick):
    whole = Record(FOUND, ("one", "other"), LOCKED).to_bytes()
    older = Record(FOUND, ("one", "other"), LOCKED[:1]).to_bytes()
    for length in range(len(whole)):
        store, given = OnADrive(str(quick / f"{length}" / "store")), []
        (quick / f"{length}").mkdir()
        store.create(f"{RUN.session(FIRST)}/{RECORD}", older)
        store.create(f"{RUN.session(SECOND)}/{RECORD}", whole[:length])

        def make(recorded: Recorded | None, _fetch: object, given: list[bytes | None] = given) -> Made:
            given.append(recorded.record if recorded else None)
            return Made(whole)

        packages = Packages(store, RUN, Installer(make, lambda *_: []), quick / "local")
        packages.prepare()
        packages.record(SECOND)
        assert given == [older], length
        assert store.read(f"{RUN.session(SECOND)}/{RECORD}") == whole


def test_a_wheel_that_was_cut_short_is_not_used_and_is_put_in_again(quick):
    body, given = _wheel(), []
    store = OnADrive(str(quick / "store"))
    claims.write_claim(store, RUN, FIRST, {})
    store.create(f"{RUN.session(FIRST)}/{RECORD}", Record(FOUND, (), LOCKED).to_bytes())
    store.create(f"{RUN.environments}/one-1.0-py3-none-any.whl", body[: len(body) // 2])

    def make(_recorded: Recorded | None, fetch: Callable[[Callable[[str], bool]], Path | None]) -> Made:
        wheels = fetch(lambda _: True)
        given.append([] if wheels is None else [each.read_bytes() for each in wheels.iterdir()])
        return Made(Record(FOUND, (), LOCKED).to_bytes())

    def gather(_made: object, into: Path, kept: object) -> list[Path]:
        if kept:
            return []
        into.mkdir(parents=True, exist_ok=True)
        wheel = into / "one-1.0-py3-none-any.whl"
        wheel.write_bytes(body)
        return [wheel]

    for _ in range(2):
        packages = Packages(store, RUN, Installer(make, gather), quick / f"local-{len(given)}")
        packages.prepare()
        packages.keep()
    assert given == [[], [body]]


def _wheel() -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as wheel:
        wheel.writestr("one/__init__.py", "ONE = 1\n" * 50)
    return held.getvalue()
