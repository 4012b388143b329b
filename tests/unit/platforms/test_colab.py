"""Colab: three kinds of it told apart by variables, the age of a machine, Drive proved, the machine given back."""

from __future__ import annotations

import json
from threading import Event
from typing import TYPE_CHECKING

import pytest

from supervisor.core.errors import UserError
from supervisor.core.instant import Instant
from supervisor.platforms import colab

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.platforms.loopback import Loopback

HOUR = 3600.0
RELEASE = {"COLAB_RELEASE_TAG": "release-colab_20260818-060114_RC00"}
HOSTED = {**RELEASE, "TBE_RUNTIME_ADDR": "127.0.0.1:1"}
ENTERPRISE = {"VERTEX_PRODUCT": "COLAB_ENTERPRISE"}
KINDS = {"hosted": HOSTED, "local": RELEASE, "enterprise": ENTERPRISE}


class Machine:
    """A folder that plays /content and /var/colab of one machine."""

    def __init__(self, folder: Path, name: str = "gpu-t4-s-kkb-1") -> None:
        folder.mkdir(exist_ok=True)
        self.stamp, self.hostname = folder / "first-seen.json", folder / "hostname"
        self.hostname.write_text(f"{name}\n")

    def described(self, up_s: float):
        return colab.describe(HOSTED, Instant(mono_s=up_s, wall_s=1e9), stamp=self.stamp, hostname=self.hostname)

    def age_s(self, up_s: float) -> float:
        return self.described(up_s).age_s


@pytest.mark.parametrize("kind", KINDS)
def test_the_three_kinds_are_told_apart_by_variables_alone(kind: str):
    assert colab.is_here(KINDS[kind])
    assert colab.kind(KINDS[kind]) == kind


def test_googles_own_machine_has_a_limit_and_the_others_have_their_owners():
    lives = {kind: colab.describe(environ, Instant(9.0, 9.0)).lifetime for kind, environ in KINDS.items()}
    assert lives["hosted"] is not None
    assert lives["hosted"].seconds == 12 * HOUR
    assert not lives["hosted"].hard  # a planning figure, never a promise
    assert lives["local"] is None
    assert lives["enterprise"] is None


def test_only_googles_own_machine_keeps_runs_on_drive_and_can_be_given_back():
    made = {kind: colab.describe(environ, Instant(9.0, 9.0)) for kind, environ in KINDS.items()}
    assert made["hosted"].store == "/content/drive/MyDrive/supervisor"
    assert made["hosted"].release is not None
    for kind in ("local", "enterprise"):
        assert made[kind].store == "./runs"
        assert made[kind].release is None
        assert made[kind].flush is None
    assert "--budget" in made["enterprise"].notice


def test_a_machine_is_new_at_first_sight_and_ages_from_there(tmp_path: Path):
    machine = Machine(tmp_path)
    assert machine.age_s(up_s=5 * HOUR) == 0  # it may have been warmed up for hours before it was given to anybody
    assert machine.age_s(up_s=5 * HOUR + 60) == 60
    assert "gpu-t4-s-kkb-1" in machine.described(up_s=6 * HOUR).title


@pytest.mark.parametrize("told", [b"", b"{}", b'"x"', b'{"boot": "", "hostname": ', b'{"mono_s": "soon"}'])
def test_a_torn_stamp_is_none(tmp_path: Path, told: bytes):
    machine = Machine(tmp_path)
    machine.stamp.write_bytes(told)
    assert machine.age_s(up_s=HOUR) == 0
    assert machine.age_s(up_s=HOUR + 5) == 5


@pytest.mark.parametrize("changed", [{"boot": "another"}, {"hostname": "another"}])
def test_another_boot_or_name_is_another_machine(tmp_path: Path, changed: dict[str, str]):
    machine = Machine(tmp_path)
    machine.age_s(up_s=HOUR)
    machine.stamp.write_text(json.dumps({**json.loads(machine.stamp.read_bytes()), **changed}))
    assert machine.age_s(up_s=3 * HOUR) == 0


def test_no_machine_is_older_than_its_boot(tmp_path: Path):
    machine = Machine(tmp_path)
    machine.age_s(up_s=5 * HOUR)
    assert machine.age_s(up_s=2 * HOUR) == 0  # a clock that went back
    machine.stamp.write_text(json.dumps({**json.loads(machine.stamp.read_bytes()), "mono_s": -1e9}))
    assert machine.age_s(up_s=60) == 60


def test_where_nothing_can_be_kept_the_boot_is_the_bound_and_no_folder_is_made(tmp_path: Path):
    absent = tmp_path / "content" / "first-seen.json"
    described = colab.describe(HOSTED, Instant(700.0, 1.0), stamp=absent, hostname=tmp_path / "hostname")
    assert described.age_s == 700.0
    assert described.title == "a Colab machine"
    assert not absent.parent.exists()


@pytest.mark.parametrize(
    ("kind", "to_do"),
    [("hosted", 'drive.mount("/content/drive")'), ("enterprise", "give another --store"), ("local", "as ./runs")],
)
@pytest.mark.parametrize("where", [colab.DRIVE, "/content/drive", "/content/drive/Shareddrives/us/runs"])
def test_a_place_on_drive_is_refused_while_drive_is_not_mounted(kind: str, to_do: str, where: str):
    with pytest.raises(UserError) as refused:
        colab.check_store(where, lambda _: False, KINDS[kind])
    assert "not mounted" in refused.value.what
    assert to_do in refused.value.hint
    assert refused.value.exit_code == 4


def test_drive_is_known_by_its_folders_wherever_it_is_usually_mounted():
    with pytest.raises(UserError) as refused:
        colab.check_store("/content/gdrive/MyDrive/runs", lambda path: path == "/content/drive", HOSTED)
    assert 'drive.mount("/content/gdrive")' in refused.value.hint
    colab.check_store("/content/gdrive/My Drive/runs", lambda path: path == "/content/gdrive", HOSTED)


def test_a_place_on_a_mounted_drive_and_any_other_place_is_taken():
    colab.check_store(colab.DRIVE, lambda path: path == "/content/drive", HOSTED)
    for where in ("/content/runs", "/content/drives/x", "./runs", "/data/MyDrive"):
        colab.check_store(where, lambda _: False, HOSTED)


def test_the_machine_is_given_back_by_asking_its_own_runtime(server: Loopback, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # which the machine's own address must not go through
    server.on("POST /unassign", "")
    described = colab.describe({**HOSTED, "TBE_RUNTIME_ADDR": server.address}, Instant(9.0, 9.0))
    assert described.release is not None
    described.release()
    described.release()
    assert [question for question, _ in server.asked] == ["POST /unassign"] * 2


def test_a_connection_that_breaks_is_the_machine_that_goes(server: Loopback):
    server.on("POST /unassign", None)
    colab.release(server.address)
    assert len(server.asked) == 1


@pytest.mark.parametrize("status", [404, 500])
def test_a_machine_that_is_not_given_back_says_what_to_do(server: Loopback, status: int):
    server.on("POST /unassign", status)
    with pytest.raises(UserError, match="could not be given back") as refused:
        colab.release(server.address)
    assert "Disconnect and delete runtime" in refused.value.hint


def test_a_runtime_that_is_not_there_or_does_not_answer_is_said(server: Loopback, monkeypatch: pytest.MonkeyPatch):
    over = Event()
    server.on("POST /unassign", lambda _: over.wait(60) and None)
    monkeypatch.setattr(colab, "ANSWER_S", 0.05)
    try:
        for address in ("127.0.0.1:1", server.address, "nonsense:port"):
            with pytest.raises(UserError, match="could not be given back"):
                colab.release(address)
    finally:
        over.set()
