"""A mount that goes away, and is replaced, under a store that proves it by a mount table of the test's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from supervisor.core import events as ev
from supervisor.core.ports import StoreError
from supervisor.stores.drive import DriveStore
from supervisor.stores.held import HeldMount
from supervisor.stores.mounts import TABLE_PATH, mount_of, mounts
from tests.faults.stores import Client, OnADrive
from tests.faults.world import World, before, demand, named

if TYPE_CHECKING:
    from collections.abc import Callable

TINY = (1, 30)


class OnAMount(OnADrive):
    """Holds the mount that the folder really lies on, as a table says that can be changed."""

    def __init__(self, where: str, table: Path) -> None:
        mount = mount_of(where, mounts())
        assert mount is not None
        client = Client()
        DriveStore.__init__(self, HeldMount(where, mount, str(table)), choose=lambda *_: client)


def mount_lost_and_back(root: Path) -> None:
    """I13: a session whose mount is gone, dead or another writes and removes nothing; when it is back, it goes on."""
    table, whole = root / "table", Path(TABLE_PATH).read_text()
    table.write_text(whole)
    world = before(root / "start", TINY, lambda where: OnAMount(where, table))
    turn = world.turn("second")
    turn.begin()
    line = f" {turn.store.held.mount.point} "  # type: ignore[attr-defined]
    for harm in (_unmounted, _another_source, _mounted_anew):
        table.write_text(harm(whole, line))
        folder, listing = turn.stage(), _listing(world)
        acts: tuple[Callable[[], object], ...] = (
            lambda folder=folder: turn.publish(folder), turn.storing.retain, lambda: turn.journal_piece(7),
            turn.storing.look_at_fence,
        )  # fmt: skip
        for act in acts:
            outcome = named(act)
            demand(isinstance(outcome, StoreError) and outcome.kind == "gone", f"{harm.__name__}: {outcome!r}")
        demand(_listing(world) == listing, f"{harm.__name__}: the folder in the place of the mount was written to")
        table.write_text(whole)
        outcome = named(lambda folder=folder: turn.publish(folder))
        demand(isinstance(outcome, ev.Durable), f"{harm.__name__}, and back: {outcome!r}")


def _unmounted(table: str, line: str) -> str:
    return "".join(each for each in table.splitlines(keepends=True) if line not in each)


def _another_source(table: str, line: str) -> str:
    return _changed(table, line, lambda each: each.rsplit(" ", 2)[0] + " another rw\n")


def _mounted_anew(table: str, line: str) -> str:
    return _changed(table, line, lambda each: " ".join([*each.split(" ")[:2], "0:9999", *each.split(" ")[3:]]))


def _changed(table: str, line: str, change: Callable[[str], str]) -> str:
    return "".join(change(each) if line in each else each for each in table.splitlines(keepends=True))


def _listing(world: World) -> list[tuple[str, bytes]]:
    paths = sorted((world.root / "store").rglob("*"))
    return [(str(path), path.read_bytes() if path.is_file() else b"") for path in paths]
