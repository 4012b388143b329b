"""A stop that a launch has asked for can be taken back at home and on the way, and nobody else's is touched."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from supervisor.core.claim import Rank
from supervisor.core.instant import Instant
from supervisor.engine import claims
from supervisor.engine.place import RunPlace
from supervisor.fleet.relay import HomeRun
from supervisor.stores.folder import FolderStore

RUN, RANK = RunPlace("toy"), Rank(3, "abc")
CLOCK = SimpleNamespace(now=lambda: Instant(0, 0))


@pytest.fixture
def home(tmp_path):
    store = FolderStore(str(tmp_path / "runs"))
    claims.write_claim(store, RUN, RANK, {})
    return store, HomeRun(store, RUN, tmp_path / "state", CLOCK)


def stops(store):
    return sorted(by for _, by in claims.stop_requests(store, RUN).values())


@pytest.mark.parametrize("packed", [False, True])
def test_a_stop_that_was_not_delivered_is_gone_everywhere(home, packed):
    store, relay = home
    claims.request_stop(store, RUN, RANK, "save", "launch")
    claims.request_stop(store, RUN, RANK, "now")
    parcels = relay.mail() if packed else ()
    assert relay.withdraw_stops("launch") is False
    assert stops(store) == [""], "what a person asked for by another command stays"
    assert not any(parcel.file.exists() for parcel in parcels)
    sent = [piece.path for parcel in relay.mail() for piece in opened(parcel)]
    assert [path for path in sent if "-save-" in path] == []
    assert [path for path in sent if "-now-" in path], "what lay in the same parcel is sent all the same"


def test_a_stop_that_was_delivered_is_told_as_delivered(home):
    store, relay = home
    claims.request_stop(store, RUN, RANK, "save", "launch")
    for parcel in relay.mail():
        relay.delivered(parcel)
    assert relay.withdraw_stops("launch") is True
    assert relay.withdraw_stops("launch") is False
    assert stops(store) == []


def opened(parcel):
    from supervisor.fleet import parcels

    return parcels.read(parcel.file).header.pieces
