"""What a session that died leaves of its last files: each of them, whatever it is, may be there empty or in half."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from supervisor.core.ports import Unconfirmed
from supervisor.engine import claims
from supervisor.engine.packages import RECORD
from tests.faults.laws import laws_hold
from tests.faults.world import RUN, Turn, Violation, World, before

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervisor.core.ports import Store

TINY = (1, 30)


def parts_left_behind(root: Path, made: Callable[[str], Store]) -> int:
    """Let each file of a dead session be empty or half, on its own; then the laws hold. Return how many there were."""
    return sum(
        _each_in_part(world, root / f"{world.root.name}-left") for world in (_later(root, made), _first(root, made))
    )


def _later(root: Path, made: Callable[[str], Store]) -> World:
    world = before(root / "later", TINY, made)
    _die(world.turn("second"))
    return world


def _first(root: Path, made: Callable[[str], Store]) -> World:
    """A run whose only session died before anything of it was safe."""
    world = World(root / "first", TINY, made=made)
    world.root.mkdir()
    (world.root / "script.py").write_text("pass\n")
    _die(world.turn("first"))
    return world


def _die(turn: Turn) -> None:
    """Leave one of everything that a session writes; the manifest is there and was never proved."""
    turn.begin()
    turn.store.evidence = no_manifest_yet  # type: ignore[method-assign]
    turn.publish(turn.stage())
    turn.journal_piece(1)
    turn.store.create(f"{RUN.session(turn.storing.rank)}/{RECORD}", b"# a record")
    claims.write_end(turn.store, RUN, turn.storing.rank, "failed", {"reason": "failed"})
    turn.storing.local.step_log.unlink()


def _each_in_part(start: World, scratch: Path) -> int:
    newest = max((Path(start.where) / RUN.name).glob("e*"))
    paths = [Path(start.where) / RUN.record, *(path for path in newest.rglob("*") if path.is_file())]
    if not start.safe:  # the files that a whole manifest names had left the machine before it, so they are whole
        paths = [
            path
            for path in paths
            if path.suffix != ".safetensors" and path.name not in {"checkpoint.json", "log.jsonl"}
        ]
        paths = [path for path in paths if not path.name.startswith("log-")]
    for path in paths:
        body = path.read_bytes()
        for part in (b"", body[: len(body) // 2]):
            world = start.copy(scratch)
            (world.root / path.relative_to(start.root)).write_bytes(part)
            try:
                laws_hold(world, in_order=False)
            except Exception as error:
                raise Violation(f"{path.name} is {len(part)} bytes long: {error!r}") from error
            _forget(world)
    return 2 * len(paths)


def no_manifest_yet(path: str) -> str:
    """Answer for a client that has uploaded everything but manifests."""
    if "/manifest-" in path:
        raise Unconfirmed("not uploaded yet")
    return "client"


def _forget(world: World) -> None:
    import shutil

    shutil.rmtree(world.root)
