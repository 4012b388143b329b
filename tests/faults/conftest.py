"""Worlds live in memory where that is possible, because the fault tests build thousands of them."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def quick(tmp_path: Path) -> Iterator[Path]:
    """A folder on a memory disk, or an ordinary one."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    folder = Path(tempfile.mkdtemp(prefix="supervisor-faults-", dir=memory))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)
