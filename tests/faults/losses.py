"""Power lost, or a drive's whole machine, after every call of a story, and what must hold after each."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supervisor.core import checkpoint as cp
from supervisor.core.digest import XXH3
from supervisor.stores.folder import TEMPORARY
from tests.faults import syscalls
from tests.faults.clouds import CHANGING as ARRIVING
from tests.faults.clouds import Cloud
from tests.faults.laws import TORN, examined, it_resumes_from, laws_hold, nothing_safe_is_lost
from tests.faults.power import Disk
from tests.faults.stores import OnADrive
from tests.faults.sweep import ALL
from tests.faults.world import Violation, World, demand, story

if TYPE_CHECKING:
    from collections.abc import Callable

CLOUD_STRIDE = 1 if ALL else 20  # of thousands of states
LAWS_EVERY = 5
STATE_STRIDE = 1 if ALL else 2
CHANGING = frozenset({"write", "pwrite", "ftruncate", "link", "rename", "unlink", "rmdir", "mkdir", "fsync"})


def power_sweep(start: World, root: Path, stride: int = STATE_STRIDE) -> int:
    """Tell the story and let the power fail after each call that changes something; return how many states there were."""
    world = start.copy(root / "live")
    disk, seen = Disk(Path(world.where)), [0, 0]

    def act(call: syscalls.Call) -> Any:
        result = disk.act(call)
        if call.name in CHANGING and call.path.startswith(world.where):
            with_real_calls(lambda: lose_power(world, disk, root / "after", seen, stride))
        return result

    with syscalls.bent(act):
        story(world.turn("second"), lambda _: None)
    return seen[1]


def with_real_calls(check: Any) -> None:
    wrapped = {name: getattr(os, name) for name in syscalls.NAMES}
    wrapped_open = syscalls.io.open
    for name, real in syscalls.REAL.items():
        setattr(os, name, real)
    syscalls.io.open = syscalls.REAL_IO_OPEN
    try:
        check()
    finally:
        for name, wrapper in wrapped.items():
            setattr(os, name, wrapper)
        syscalls.io.open = wrapped_open


def lose_power(world: World, disk: Disk, at: Path, seen: list[int], stride: int) -> None:
    for words, top, choice in disk.states():
        seen[0] += 1
        if seen[0] % stride:
            continue
        seen[1] += 1
        at.mkdir()
        choice.build(top, at / "store")
        shutil.copy(world.root / "script.py", at / "script.py")
        after = World(at, world.size, list(world.safe), world.made)
        try:
            nothing_safe_is_lost(after)
            turn = after.turn("fresh")
            it_resumes_from(after, turn, turn.begin(), max(after.safe, default=None))
            if seen[1] % 5 == 0:
                laws_but_wholeness(after)
        except Exception as error:
            raise Violation(f"power lost, {words}: {error!r}") from error
        shutil.rmtree(at)


def laws_but_wholeness(world: World) -> None:
    """A manifest of a checkpoint that was not DURABLE yet may name files that are lost; the next machine still goes on."""
    broken = [found for found in examined(world) if found.verdict is not cp.Verdict.WHOLE]
    if not broken:
        laws_hold(world, "next")


def names_are_whole(root: Path) -> int:
    """Let the power fail after each call that puts a file in, linked and copied: what has its name is all there."""
    world, states = World(root / "machine"), [0]
    world.root.mkdir()
    sources = {name: world.root / name for name in ("linked", "copied")}
    for name, source in sources.items():
        source.write_bytes(name.encode() * 50)
    store, disk = world.store(), None

    def lose() -> None:
        assert disk is not None
        for words, top, choice in disk.states():
            states[0] += 1
            choice.build(top, root / "after")
            for path in (root / "after").rglob("*"):
                if path.is_file() and not path.name.startswith(TEMPORARY):
                    demand(path.read_bytes() == path.name.encode() * 50, f"{path.name} is not whole ({words})")
            shutil.rmtree(root / "after")

    def act(call: syscalls.Call) -> Any:
        assert disk is not None
        result = disk.act(call)
        if call.name in CHANGING and call.path.startswith(world.where):
            with_real_calls(lose)
        return result

    store.create("run/claim", b"claim" * 50)
    disk = Disk(Path(world.where))
    with syscalls.bent(act):
        for name, source in sources.items():
            store.push(str(source), f"run/step/{name}", XXH3, link=name == "linked")
        store.create("run/step/created", b"created" * 50)
    return states[0]


def cloud_sweep(world: World, root: Path, stride: int = CLOUD_STRIDE, tell: Callable[..., None] = story) -> int:
    """Tell the story on a machine that is taken away after each call that changes something; return the number of states."""
    (world.root / "store").mkdir(exist_ok=True)
    cloud, seen = Cloud(Path(world.where)), [0, 0]

    def act(call: syscalls.Call) -> Any:
        result = cloud.act(call)
        if call.name in ARRIVING and call.path.startswith(world.where):
            with_real_calls(lambda: taken_away(world, cloud, root / "after", seen, stride))
        return result

    with syscalls.bent(act):
        tell(world.turn("second", OnADrive(world.where, cloud)), lambda _: None)
    return seen[1]


def taken_away(world: World, cloud: Cloud, at: Path, seen: list[int], stride: int) -> None:
    """Build what may be left in the cloud, and let another machine begin with it."""
    for words, state in cloud.states():
        seen[0] += 1
        if seen[0] % stride:
            continue
        seen[1] += 1
        at.mkdir()
        cloud.build(state, at / "store", folders=bool(seen[1] % 2))
        shutil.copy(world.root / "script.py", at / "script.py")
        after = World(at, world.size, list(world.safe), OnADrive)
        try:
            if seen[1] % LAWS_EVERY == 0:
                every_newer_manifest_is_whole(after)
                laws_hold(after, "next", in_order=False)
            else:
                nothing_safe_is_lost(after)
                turn = after.turn("fresh")
                it_resumes_from(after, turn, turn.begin(), max(after.safe, default=None))
        except Exception as error:
            raise Violation(f"the machine is gone and {words}: {error!r}") from error
        shutil.rmtree(at)


def every_newer_manifest_is_whole(world: World) -> None:
    """On a drive the manifest follows the evidence, so that none that is newer than what is safe names a file that is lost."""
    for found in examined(world):
        if found.id > max(world.safe, default=found.id) and not found.why.startswith(TORN):
            demand(found.verdict is cp.Verdict.WHOLE, f"the manifest of {found.id} arrived, but {found.why}")
