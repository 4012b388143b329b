"""Mounting Drive in a kernel: each way it fails has words of its own, patience where that helps, and a proof at the end."""

from __future__ import annotations

import inspect
import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

from supervisor.core.errors import UserError
from supervisor.platforms import colab_drive
from tests.notebook.machine import HERE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOSTED = {"COLAB_RELEASE_TAG": "release-colab_20260901", "TBE_RUNTIME_ADDR": "127.0.0.1:9"}


class Place:
    """A machine of Colab's as far as mounting goes; what google.colab does is switched, what it mounts is a plain folder."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.point, self.home, self.switches = folder / "drive", folder / "home", folder / "colab.json"
        self.table: dict[str, str] = {}
        self.said: list[str] = []
        self.pauses: list[float] = []
        self.now_s = 0.0
        self.switch(hostname=True, consents=["granted"], ends=["mounted"], drive={})
        monkeypatch.setenv("FAKE_COLAB", str(self.switches))
        monkeypatch.setenv("TBE_EPHEM_CREDS_ADDR", "127.0.0.1:9")
        monkeypatch.delenv("VERTEX_PRODUCT", raising=False)
        monkeypatch.syspath_prepend(str(HERE / "colab"))
        for name in [each for each in sys.modules if each == "google" or each.startswith("google.")]:
            monkeypatch.delitem(sys.modules, name)
        from google.colab import _message, drive

        self.drive, self.message = drive, _message
        monkeypatch.setattr(_message, "_kernel", lambda: type("Shell", (), {"kernel": type("K", (), {"parent": self})}))
        monkeypatch.setattr(drive, "_start", self.start)
        asked = _message.blocking_request

        def asking(*given: Any, timeout_sec: float, **more: Any) -> Any:
            answer = asked(*given, **more)
            self.now_s += 1.0 if answer else timeout_sec
            return answer

        monkeypatch.setattr(_message, "blocking_request", asking)

    def switch(self, **told: Any) -> dict[str, Any]:
        known = json.loads(self.switches.read_text()) if self.switches.is_file() else {}
        self.switches.write_text(json.dumps({**known, **told}))
        return {**known, **told}

    def start(self, point: str, _drive: Any) -> None:
        (self.point / "MyDrive").mkdir(parents=True)
        self.table[point] = "fuse.drive"

    def mount(self) -> bool:
        environ = {"HOME": str(self.home)}
        world = colab_drive.World(
            lambda point: self.table.get(point, ""), environ, lambda: self.now_s, self.pauses.append, self.said.append
        )
        return colab_drive.mount(world, str(self.point))

    def refused(self) -> UserError:
        with pytest.raises(UserError) as error:
            self.mount()
        assert error.value.hint
        assert not self.table, "nothing is mounted"
        return error.value


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    yield Place(tmp_path, monkeypatch)
    for name in [each for each in sys.modules if each == "google" or each.startswith("google.")]:
        del sys.modules[name]  # so that nobody else meets the fake


def test_drive_is_mounted_and_proved(place: Place) -> None:
    assert place.mount()
    assert place.switch()["asked"] == 1


def test_a_drive_that_is_mounted_is_left_alone_and_nobody_is_asked(place: Place) -> None:
    place.mount()
    assert not place.mount()
    assert place.switch()["asked"] == 1


def test_the_race_of_a_fresh_machine_is_tried_again(place: Place) -> None:
    place.switch(ends=["mount failed", "pexpect", "mounted"])
    assert place.mount()
    assert len(place.said) == 2
    assert place.pauses == [colab_drive.PAUSE_S] * 2


def test_a_full_top_of_my_drive_is_given_more_time(place: Place) -> None:
    place.switch(ends=["root", "mounted"])
    asked: list[int] = []
    whole = place.drive.mount
    place.drive.mount = lambda point, force_remount, timeout_ms: (
        asked.append(timeout_ms),
        whole(point, force_remount),
    )[1]
    assert place.mount()
    assert asked == [120_000, 360_000]


@pytest.mark.parametrize(
    ("told", "what", "hint", "consents"),
    [
        ({"consents": ["refused"]}, "the consent was refused", "allow it", 1),
        ({"consents": ["unanswered"]}, "nobody answered the question for Drive's consent within 120 s", "pop-ups", 1),
        ({"ends": ["mount failed"]}, "mount failed", "delete runtime", 3),
        ({"ends": ["root"]}, "very many files at its top", "into folders", 3),
        ({"ends": ["domain"]}, "administrator of this account's domain", "--store", 1),
        ({"ends": ["pexpect"]}, "Drive's own program did not answer", "delete runtime", 3),
        ({"ends": ["something new"]}, "ValueError: something new", "--store", 1),
        ({"hostname": False}, "Enterprise or a runtime of your own", "--store", 0),
    ],
)
def test_each_failure_has_its_own_words(
    place: Place, told: dict[str, Any], what: str, hint: str, consents: int
) -> None:
    place.switch(**told)
    error = place.refused()
    assert what in error.what
    assert hint in error.hint
    assert place.switch().get("asked", 0) == consents


def test_a_used_up_quota_is_told_from_the_race(place: Place) -> None:
    log = place.home / ".config/Google/DriveFS/Logs/drive_fs.txt"
    log.parent.mkdir(parents=True)
    log.write_text("... QUOTA_EXCEEDED ...")
    place.switch(ends=["mount failed"])
    assert "quota" in place.refused().what
    assert place.switch()["asked"] == 1, "trying again would not help"


def test_a_page_with_several_accounts_is_told(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(*_given: Any, **_more: Any) -> None:
        raise place.message.MessageError("Error propagating: 400")

    monkeypatch.setattr(place.message, "blocking_request", asked)
    error = place.refused()
    assert "several accounts" in error.hint


def test_a_machine_that_was_not_told_where_to_ask_is_told(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TBE_EPHEM_CREDS_ADDR")
    assert "TBE_EPHEM_CREDS_ADDR" in place.refused().what


def test_outside_a_cell_it_is_said_that_it_takes_one(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place.message, "_kernel", lambda: None)
    assert "from a cell" in place.refused().what


def test_without_google_colab_it_is_said(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "google.colab", None)
    assert "google.colab is not in this Python" in place.refused().what


def test_files_where_drive_is_to_be_mounted_are_named_before_anybody_is_asked(place: Place) -> None:
    (place.point / "MyDrive" / "supervisor").mkdir(parents=True)
    error = place.refused()
    assert "MyDrive" in error.what
    assert "written before Drive was mounted" in error.what
    assert f"!mv {place.point}" in error.hint
    assert "asked" not in place.switch()


def test_a_link_or_a_file_in_its_place_is_named_before_anybody_is_asked(place: Place) -> None:
    place.point.symlink_to(place.home)
    assert "symbolic link" in place.refused().what
    place.point.unlink()
    place.point.write_text("")
    assert "is a file" in place.refused().what
    assert "asked" not in place.switch()


def test_a_dead_mount_is_mounted_anew(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.table[str(place.point)] = "fuse.drive"
    answers = iter([colab_drive.DEAD, colab_drive.ALIVE])
    monkeypatch.setattr(colab_drive, "_answer", lambda _point: next(answers))
    forced = []
    whole = place.drive.mount
    place.drive.mount = lambda point, force_remount, timeout_ms: (
        forced.append(force_remount),
        whole(point, force_remount),
    )[1]
    assert place.mount()
    assert forced == [True]
    assert "is dead" in place.said[0]


def test_a_mount_that_hangs_is_not_torn_down(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.table[str(place.point)] = "fuse.drive"
    monkeypatch.setattr(colab_drive, "_answer", lambda _point: colab_drive.SILENT)
    with pytest.raises(UserError, match="has not answered for 30 s"):
        place.mount()
    assert "asked" not in place.switch()


def test_a_mount_that_is_said_and_not_there_is_not_believed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place.drive, "_start", lambda *_given: (place.point / "MyDrive").mkdir(parents=True))
    assert "does not show" in place.refused().what


def test_only_a_hosted_machine_has_a_drive_to_mount() -> None:
    store = "/content/drive/MyDrive/supervisor"
    assert colab_drive.point_of(store, HOSTED) == "/content/drive"
    assert colab_drive.point_of("/content/gdrive/MyDrive/runs", HOSTED) == "/content/gdrive"
    assert colab_drive.point_of("/content/runs", HOSTED) == ""
    assert colab_drive.point_of(store, {"COLAB_RELEASE_TAG": "x"}) == ""
    assert colab_drive.point_of(store, {**HOSTED, "VERTEX_PRODUCT": "COLAB_ENTERPRISE"}) == ""
    assert colab_drive.point_of(store, {}) == ""


def test_the_fake_has_the_signature_and_the_order_of_the_real_one(place: Place, tmp_path: Path) -> None:
    """As google.colab's own source has it: see what is asked for first, and which errors come before the consent."""
    from google.colab import errors

    given = inspect.signature(place.drive.mount)
    assert str(given) == "(mountpoint, force_remount=False, timeout_ms=120000, readonly=False)"
    assert issubclass(place.message.MessageError, errors.Error)
    with pytest.raises(ValueError, match="must not contain a space"):
        place.drive.mount("/content/my drive")
    assert "asked" not in place.switch(), "said before anybody is asked"
    (tmp_path / "drive").mkdir()
    (tmp_path / "drive" / "file").touch()
    with pytest.raises(ValueError, match="must not already contain files"):
        place.drive.mount(str(tmp_path / "drive"))
    assert place.switch()["asked"] == 1, "what lies there is looked at after the consent, so we look before"
