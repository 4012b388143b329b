"""Google Cloud, AWS and Azure: known by their firmware, asked over real HTTP, heard once."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from supervisor.core.events import Notice
from supervisor.core.instant import Instant
from supervisor.platforms import clouds, spot

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.platforms.loopback import Loopback

GCE, AWS, AZURE = "/computeMetadata/v1/instance", "/latest/meta-data", "/metadata"
TOKEN = {"PUT /latest/api/token": "a-token"}
FIRMWARE = {
    "google": {"product_name": "Google Compute Engine", "sys_vendor": "Google"},
    "aws": {"sys_vendor": "Amazon EC2", "product_name": "g5.xlarge"},
    "azure": {"sys_vendor": "Microsoft Corporation", "chassis_asset_tag": "7783-7084-3265-9085-8269-3286-77"},
}


def firmware(folder: Path, **texts: str) -> dict[str, str]:
    for name, text in texts.items():
        (folder / name).write_text(f"{text}\n")
    return {"SUPERVISOR_RUN_FIRMWARE": str(folder)}


def reader(name: str, server: Loopback) -> clouds.Cloud:
    environ = {
        "GCE_METADATA_HOST": server.address,
        "AWS_EC2_METADATA_SERVICE_ENDPOINT": f"http://{server.address}/",
        "SUPERVISOR_RUN_AZURE_METADATA": f"http://{server.address}",
    }
    return clouds.READERS[name](environ)


def test_every_cloud_has_who_asks_it():
    assert clouds.READERS.keys() == spot.CLOUDS.keys()


@pytest.mark.parametrize("name", FIRMWARE)
def test_a_cloud_is_known_by_its_firmware(tmp_path: Path, name: str):
    environ = firmware(tmp_path, **FIRMWARE[name])
    assert spot.is_here(environ)
    assert spot.CLOUDS[name].title in spot.describe(environ, Instant(1.0, 1.0)).title


@pytest.mark.parametrize("texts", [{}, {"sys_vendor": "Microsoft Corporation"}, {"product_name": "ThinkPad"}])
def test_other_machines_are_not_taken_for_one(tmp_path: Path, texts: dict[str, str]):
    assert not spot.is_here(firmware(tmp_path, **texts))


def test_what_speaks_http_is_loaded_only_to_listen(tmp_path: Path):
    environ = firmware(tmp_path, **FIRMWARE["aws"])
    said = (
        "import sys; from supervisor.platforms import spot; from supervisor.core.instant import Instant\n"
        f"spot.describe({environ!r}, Instant(1.0, 1.0)); print([m for m in ('urllib.request', 'http.client') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_google_cloud_waits_for_the_preemption(server: Loopback):
    server.answers = {f"GET {GCE}/preempted": "FALSE", f"GET {GCE}/maintenance-event": "NONE"}
    cloud = reader("google", server)
    assert cloud.notices() == []
    server.on(f"GET {GCE}/preempted", "TRUE")
    assert cloud.notices() == [Notice(30.0, "Google Cloud takes this spot machine back")]
    first, last = server.asked[0][1], server.asked[-1][1]
    assert first["metadata-flavor"] == "Google"
    assert "wait_for_change=true" in first["query"]
    assert "last_etag=0" in first["query"]
    assert "last_etag=e1" in last["query"]  # so that no change is missed between two questions


@pytest.mark.parametrize(
    ("event", "told"), [("NONE", 0), ("MIGRATE_ON_HOST_MAINTENANCE", 0), ("TERMINATE_ON_HOST_MAINTENANCE", 1)]
)
def test_google_clouds_maintenance_saves_and_goes_on(server: Loopback, event: str, told: int):
    server.answers = {f"GET {GCE}/preempted": "FALSE", f"GET {GCE}/maintenance-event": event}
    notices = reader("google", server).notices()
    assert [notice.certain for notice in notices] == [False] * told


def test_aws_is_asked_with_a_token_and_404_is_no_notice(server: Loopback):
    server.answers = dict(TOKEN)
    assert reader("aws", server).notices() == []
    assert server.asked[0][1]["x-aws-ec2-metadata-token-ttl-seconds"] == "21600"
    assert server.asked[1][1]["x-aws-ec2-metadata-token"] == "a-token"


@pytest.mark.parametrize(
    ("time", "seconds"), [("2026-11-23T10:01:55Z", 115.0), ("2026-11-23T09:00:00Z", 0.0), ("soon", 120.0)]
)
def test_aws_tells_when_by_its_own_clock(server: Loopback, time: str, seconds: float):
    body = json.dumps({"action": "stop", "time": time})
    server.answers = {**TOKEN, f"GET {AWS}/spot/instance-action": body}
    assert reader("aws", server).notices() == [Notice(seconds, "AWS is going to stop this spot machine")]


def test_awss_recommendation_saves_and_goes_on(server: Loopback):
    server.answers = {**TOKEN, f"GET {AWS}/events/recommendations/rebalance": '{"noticeTime": "2026-11-23T10:00:00Z"}'}
    assert [notice.certain for notice in reader("aws", server).notices()] == [False]


def test_a_token_that_is_too_old_is_replaced(server: Loopback):
    server.answers = {**TOKEN, f"GET {AWS}/spot/instance-action": 401}
    cloud = reader("aws", server)
    with pytest.raises(clouds.Refused, match="401"):
        cloud.notices()
    del server.answers[f"GET {AWS}/spot/instance-action"]
    assert cloud.notices() == []
    assert [question for question, _ in server.asked].count("PUT /latest/api/token") == 2


def azure(kind: str, *resources: str) -> str:
    event = {"EventId": "A1", "EventType": kind, "EventStatus": "Scheduled", "Resources": resources}
    return json.dumps({"DocumentIncarnation": 1, "Events": [{**event, "NotBefore": "Mon, 23 Nov 2026 10:00:40 GMT"}]})


@pytest.mark.parametrize(
    ("kind", "certain"),
    [("Preempt", [True]), ("Terminate", [True]), ("Redeploy", [False]), ("Reboot", [False]), ("Freeze", [])],
)
def test_azures_events_for_this_machine_are_heard(server: Loopback, kind: str, certain: list[bool]):
    server.answers = {
        f"GET {AZURE}/instance/compute/name": "vm-1",
        f"GET {AZURE}/scheduledevents": azure(kind, "vm-0", "vm-1"),
    }
    notices = reader("azure", server).notices()
    assert [notice.certain for notice in notices] == certain
    assert all(notice.in_s == 40.0 for notice in notices)
    assert server.asked[0][1]["metadata"] == "true"


def test_azures_events_for_others_of_the_scale_set_are_not_ours(server: Loopback):
    server.answers = {
        f"GET {AZURE}/instance/compute/name": "vm-1",
        f"GET {AZURE}/scheduledevents": azure("Preempt", "vm-2"),
    }
    assert reader("azure", server).notices() == []


@pytest.mark.parametrize("name", clouds.READERS)
@pytest.mark.parametrize("nonsense", ["", "[]", "null", '{"Events": [3]}', "<html>", 500, 403, 404])
def test_nonsense_is_no_notice_and_ends_nothing(server: Loopback, name: str, nonsense: str | int):
    for question in ("PUT /latest/api/token", f"GET {GCE}/preempted", f"GET {GCE}/maintenance-event",
                     f"GET {AZURE}/instance/compute/name", f"GET {AZURE}/scheduledevents"):  # fmt: skip
        server.on(question, nonsense)
    server.on(f"GET {AWS}/spot/instance-action", nonsense if isinstance(nonsense, int) else "[]")
    heard, waits = [], iter([False, False, True])
    clouds.listen(reader(name, server), heard.append, lambda _seconds: next(waits))
    assert heard == []


def test_a_notice_is_heard_once_and_the_next_one_too():
    told = iter([[Notice(9.0, "likely", certain=False)], [Notice(8.0, "likely", certain=False)], [Notice(7.0, "now")]])
    heard, waits = [], iter([False, False, False, True])

    class Fake:
        def notices(self) -> list[Notice]:
            return next(told)

    clouds.listen(Fake(), heard.append, lambda _seconds: next(waits))
    assert [notice.words for notice in heard] == ["likely", "now"]


def test_a_server_that_is_not_there_is_asked_ever_less_often():
    waited: list[float] = []

    def pause(seconds: float) -> bool:
        waited.append(seconds)
        return len(waited) == 8

    clouds.listen(clouds.GoogleCloud({"GCE_METADATA_HOST": "127.0.0.1:1"}), pytest.fail, pause)
    assert waited == [0.0, 5.0, 10.0, 20.0, 40.0, 60.0, 60.0, 60.0]
