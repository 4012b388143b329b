"""The shortcut that makes a stop or a take-over act at once on a local disk."""

from queue import Empty, Queue

import pytest

from supervisor.core import events as ev
from supervisor.core.ports import StoreError
from supervisor.engine.watch import Watch

SOON_S = 60.0


@pytest.fixture
def watched(tmp_path):
    heard: Queue = Queue()
    watch = Watch(tmp_path, lambda: ev.FenceSeen(("seen",)), heard.put)
    watch.ready.wait(SOON_S)
    yield tmp_path, heard
    watch.close()


@pytest.mark.parametrize("name", ["e00000002-abcd1234", "stop-e00000001-abcd1234-save-0a1b2c3d.json"])
def test_a_claim_or_a_request_to_stop_is_looked_at_at_once(watched, name):
    folder, heard = watched
    (folder / "beside").write_bytes(b"{}")
    (folder / name).hardlink_to(folder / "beside")
    assert heard.get(timeout=SOON_S) == ev.FenceSeen(("seen",))
    assert heard.empty()


def test_a_new_session_folder_is_looked_at_at_once(watched):
    folder, heard = watched
    (folder / "e00000009-abcd1234").mkdir()
    assert heard.get(timeout=SOON_S) == ev.FenceSeen(("seen",))


def test_other_names_are_not_looked_at(watched):
    folder, heard = watched
    (folder / "pin-1-2-abcd-3.json").write_bytes(b"{}")
    (folder / "e00000009-abcd1234").mkdir()
    heard.get(timeout=SOON_S)
    with pytest.raises(Empty):
        heard.get_nowait()


def test_a_store_that_cannot_be_read_just_now_is_left_to_the_regular_look(tmp_path):
    looks: Queue = Queue()

    def look():
        looks.put("looked")
        raise StoreError("EIO")

    heard: Queue = Queue()
    watch = Watch(tmp_path, look, heard.put)
    watch.ready.wait(SOON_S)
    (tmp_path / "e00000009-abcd1234").mkdir()
    assert looks.get(timeout=SOON_S) == "looked"
    (tmp_path / "e00000010-abcd1234").mkdir()
    assert looks.get(timeout=SOON_S) == "looked"
    assert heard.empty()
    watch.close()
