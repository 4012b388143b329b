"""The plane of the tests itself: what one world does is not felt on the machines of another."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.fleet.plane import vm_box, world

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(bool(vm_box.missing()), reason=vm_box.missing() or "machines can be made")


@pytest.mark.slow
def test_a_world_that_ends_does_not_take_the_content_of_another_worlds_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = tmp_path / "content"
    for module in (vm_box, world):
        monkeypatch.setattr(module, "CONTENT", content)
    with world.a_colab_world(tmp_path / "the one that was first"):
        box = vm_box.VmBox(tmp_path / "of another world", "another")
    try:
        (box.content / "kept").touch()
        seen = ["nsenter", "--target", str(box.first), *vm_box.NAMESPACES, "ls", str(content)]
        assert subprocess.run(seen, capture_output=True, text=True, check=False).stdout == "kept\n"
    finally:
        box.die()
