"""A store in a folder and a run in it, for the use cases of the engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from supervisor.engine.place import RunPlace
from supervisor.stores.folder import FolderStore
from tests.faults.world import World, before

if TYPE_CHECKING:
    from pathlib import Path

    from supervisor.core.ports import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return FolderStore(str(tmp_path / "store"))


@pytest.fixture
def run() -> RunPlace:
    return RunPlace("plates")


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Two DURABLE checkpoints of a dead machine, and an upload that was cut short."""
    return before(tmp_path / "world", (2, 50))
