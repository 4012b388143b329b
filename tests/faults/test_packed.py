"""The same harm to a session that packs whatever it sends: nothing safe is lost, and nothing is left on either disk."""

from __future__ import annotations

import array
import json
import random
import struct
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from supervisor.core.packing import Policy
from supervisor.engine import checkpoints
from supervisor.engine.storing import Storing
from tests.faults.sweep import ALL, calls_of, fault_sweep, faults, kill_sweep
from tests.faults.world import RUN, Turn, World, story

if TYPE_CHECKING:
    from pathlib import Path

    from supervisor.core.ports import Store

pytest.importorskip("zstandard")
EAGER = Policy(bytes_min=1, upload_s_min=0.0, gain=-1e9, ratio_min=0.0)
KILL_STRIDE, FAULT_STRIDE = (1, 5) if ALL else (50, 300)


class PackingWorld(World):
    """Every machine of it packs as soon as it has measured one upload."""

    def turn(self, machine: str, store: Store | None = None) -> Turn:
        turn = Turn(self, self.root / machine, store or self.store())
        turn.storing = Storing(replace(turn.storing.job, packing=EAGER))
        return turn

    def copy(self, to: Path) -> World:
        plain = super().copy(to)
        return PackingWorld(to, plain.size, plain.safe, plain.made)

    def content(self, step: int) -> dict[str, bytes]:
        chance = random.Random(step)
        body = array.array("f", [chance.gauss(0, 1) for _ in range(64)]).tobytes()
        said = json.dumps({"w": {"dtype": "F32", "shape": [64], "data_offsets": [0, 256]}}).encode()
        return {"state-00000.safetensors": struct.pack("<Q", len(said)) + said + body}


@pytest.fixture
def start(quick: Path) -> World:
    (quick / "start").mkdir()
    (quick / "start" / "script.py").write_text("pass\n")
    world = PackingWorld(quick / "start")
    story(world.turn("first"), lambda _: None)
    found = max(checkpoints.find(world.store(), RUN), key=lambda each: each.id)
    manifest = checkpoints.read_manifest(world.store(), found).manifest
    assert manifest is not None
    assert any(entry.packing for entry in manifest.files)
    return world


@pytest.mark.slow
def test_killed_at_any_call(quick, start):
    calls = calls_of(start, quick / "scratch")
    assert kill_sweep(start, quick / "scratch", iter(range(1, calls + 1, KILL_STRIDE))) > calls // KILL_STRIDE


@pytest.mark.slow
def test_every_fault_has_a_name_and_passes(quick, start):
    calls = calls_of(start, quick / "scratch")
    assert fault_sweep(start, quick / "scratch", faults(calls, FAULT_STRIDE)) > calls // FAULT_STRIDE
