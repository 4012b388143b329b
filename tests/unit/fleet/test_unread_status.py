"""A status that is not there says that no agent ever began; one that cannot be read says nothing."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from supervisor.core import fleet_words as fw
from supervisor.core.provisioning import Machine, NoSuchFile
from supervisor.engine.place import RunPlace
from supervisor.fleet.hands import FleetHands, Home

MACHINE = Machine("m", "here")


def polled(tmp_path: Path, body: bytes | None) -> fw.Event:
    def get(_machine: Machine, name: str, local: str) -> None:
        if body is None:
            raise NoSuchFile(name)
        Path(local).write_bytes(body)

    relay: Any = SimpleNamespace(mail=lambda: (), newest=lambda: None)
    provisioner: Any = SimpleNamespace(get=get)
    home = Home(provisioner, RunPlace("toy"), relay, tmp_path)
    shipment: Any = None
    hands = FleetHands(provisioner, home, shipment, describe=str, release_at_s=lambda: None)
    return hands.do(fw.Poll(MACHINE))


def test_no_status_is_an_answer(tmp_path: Path) -> None:
    event = polled(tmp_path, None)
    assert isinstance(event, fw.Polled)
    assert event.phase == ""


@pytest.mark.parametrize("body", [b"", b'{"phase": "runn', b"[]", b"\xff\xfe", b"<html>502 Bad Gateway</html>"])
def test_a_status_that_cannot_be_read_is_none(tmp_path: Path, body: bytes) -> None:
    event = polled(tmp_path, body)
    assert isinstance(event, fw.Failed)
    assert event.kind == "unreachable", "with it a stop would give the machine back"
