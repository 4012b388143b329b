"""A loopback server for each test that asks for one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.unit.platforms.loopback import Loopback

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def server() -> Iterator[Loopback]:
    made = Loopback()
    yield made
    made.close()
