"""What must hold after any harm, as sentences to call; a ``Violation`` names the law and what broke it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from supervisor.core import checkpoint as cp
from supervisor.core import claim
from supervisor.core import events as ev
from supervisor.engine import checkpoints, staged, steplog
from supervisor.stores.folder import TEMPORARY
from tests.faults.world import KEEP, RUN, Turn, World, demand, row

TORN = "its manifest is damaged"


def laws_hold(world: World, machine: str = "fresh", *, in_order: bool = True) -> None:
    """After any harm that is no damage: what was said to be safe is, and a machine that comes now goes on with it.

    ``in_order``: what was written and removed was so in this order for everybody.
    """
    nothing_safe_is_lost(world)
    if in_order:
        every_manifest_is_whole(world)
    turn = world.turn(machine)
    ready = turn.begin()
    it_resumes_from(world, turn, ready, max(world.safe, default=None))
    for number in range(1, KEEP + 1):
        outcome = turn.publish(turn.stage())
        demand(isinstance(outcome, ev.Durable), f"the next save does not succeed: {outcome}")
        retained = turn.storing.retain()
        demand(isinstance(retained, ev.Retained), f"retention does not succeed: {retained}")
        turn.journal_piece(number)
    nothing_safe_is_lost(world)
    every_file_is_its_sessions_own(world)
    nothing_is_left_over(world)
    the_log_is_whole(world, turn.step)


def nothing_safe_is_lost(world: World) -> None:
    """I2: nothing DURABLE stops loading unless K newer DURABLE ones load."""
    whole = {found.id for found in examined(world) if found.verdict is cp.Verdict.WHOLE}
    for id_ in world.safe:
        newer = [other for other in whole if other > id_ and other in world.safe]
        demand(id_ in whole or len(newer) >= KEEP, f"{id_} was safe, does not load, and only {len(newer)} newer do")


def every_manifest_is_whole(world: World) -> None:
    """The manifest is written last and removed first. On a drive it can be there in part, which says that it is none."""
    for found in examined(world):
        if world.mounted and found.why.startswith(TORN):
            continue
        demand(found.verdict is cp.Verdict.WHOLE, f"the manifest of {found.id} is there, but {found.why}")


def every_file_is_its_sessions_own(world: World) -> None:
    """No checkpoint rests on a file that another session wrote and could remove, or on one that was never DURABLE."""
    safe = {f"{claim.Rank(id_.epoch, id_.writer)}/step-{id_.step:09d}" for id_ in world.safe}
    for found in checkpoints.find(world.store(), RUN):
        manifest = checkpoints.read_manifest(world.store(), found).manifest
        own = RUN.step(claim.Rank(found.id.epoch, found.id.writer), found.id.step).removeprefix(f"{RUN.name}/")
        for entry in manifest.files if manifest else ():
            folder = entry.path.rpartition("/")[0]
            demand(folder.split("/")[0] == own.split("/")[0], f"{found.id} rests on {entry.path} of another session")
            demand(folder in {own} | safe, f"{found.id} rests on {entry.path}, which was never DURABLE")


def it_resumes_from(world: World, turn: Turn, ready: ev.CheckpointReady, least: cp.CheckpointId | None) -> None:
    """I1, I3: bit for bit what was saved, and not behind what was safe."""
    if ready.id is None:
        demand(least is None, f"it begins anew though {least} was safe")
        return
    demand(
        least is None or (ready.id.epoch, ready.id.step) >= (least.epoch, least.step), f"{ready.id} is behind {least}"
    )
    folder = Path(ready.folder)
    for name, body in world.content(ready.id.step).items():
        demand((folder / name).read_bytes() == body, f"{name} of {ready.id} is not what was saved")
    staged.prove(folder, ready.id.step)
    demand(turn.storing.rank > claim.Rank(ready.id.epoch, ready.id.writer), "it outranks what it resumes from")


def nothing_is_left_over(world: World) -> None:
    """I16: the space of whatever was cut short, and of whatever nothing names any more, is reclaimed."""
    run = world.root / "store" / RUN.name
    found = [checkpoints.read_manifest(world.store(), each) for each in checkpoints.find(world.store(), RUN)]
    published = {str(world.root / "store" / each.path.rpartition("/")[0]) for each in found}
    needed = {str(run / entry.path) for each in found if each.manifest for entry in each.manifest.files}
    for folder, _, names in os.walk(run):
        demand(not [name for name in names if name.startswith(TEMPORARY)], f"{folder} has temporary files: {names}")
        if "step-" in folder and folder not in published:
            kept = [name for name in names if f"{folder}/{name}" in needed]
            demand(kept and kept == names, f"{folder} is left over: {names}")
    demand(len(found) == KEEP, f"{len(found)} checkpoints are kept: {[str(each.id) for each in found]}")


def the_log_is_whole(world: World, steps: int) -> None:
    """I18: no row of the step log is missing, none is there twice."""
    rows = list(steplog.joined(world.store(), RUN))
    there = [each["step"] for each in rows]
    demand(there == list(range(steps)), f"the step log has {there}, wanted 0 to {steps}")
    demand(rows == [row(step) for step in range(steps)], "the step log has other values")


def examined(world: World) -> list[cp.Found]:
    beside = world.root / "examined"
    found = [checkpoints.bring(world.store(), RUN, each, beside)[0] for each in checkpoints.find(world.store(), RUN)]
    shutil.rmtree(beside, ignore_errors=True)
    return found
