"""The laws of every platform: a new row of the table is tested without a new test."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from importlib import import_module
from threading import Event, Thread
from typing import TYPE_CHECKING

import pytest

from supervisor.core.errors import UserError
from supervisor.core.instant import Instant
from supervisor.platforms import TABLE
from supervisor.wiring import find_platform
from tests.unit.platforms.loopback import Loopback

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from supervisor.core.events import Notice
    from supervisor.core.ports import Platform

NOW = Instant(mono_s=5000.0, wall_s=1.7e9)
FRAMEWORKS = ("torch", "tensorflow", "jax", "numpy", "google.colab")
RELEASE = {"COLAB_RELEASE_TAG": "release-colab_20260818-060114_RC00"}
# One for each kind of machine; the key begins with the platform that must recognise it.
SAMPLES = {
    "colab": {**RELEASE, "TBE_RUNTIME_ADDR": "127.0.0.1:1"},
    "colab, a local runtime": RELEASE,
    "colab, Enterprise": {"VERTEX_PRODUCT": "COLAB_ENTERPRISE"},
    "kaggle": {"KAGGLE_KERNEL_RUN_TYPE": "Interactive"},
    "kaggle, a version with Colab's image": {"KAGGLE_KERNEL_RUN_TYPE": "Batch", **RELEASE},
    "slurm": {"SLURM_JOB_ID": "4711", "SLURM_JOB_END_TIME": "1700007200"},
    "slurm, on a machine of a cloud": {"SLURM_JOB_ID": "4711", "SUPERVISOR_RUN_FIRMWARE": "{firmware}"},
    "spot": {"SUPERVISOR_RUN_FIRMWARE": "{firmware}"},
    "local": {},
}


@pytest.fixture
def environs(tmp_path: Path) -> dict[str, dict[str, str]]:
    (tmp_path / "product_name").write_text("Google Compute Engine\n")
    own = {"SUPERVISOR_RUN_FIRMWARE": "", "HOME": str(tmp_path)}
    return {
        name: own | {key: value.format(firmware=tmp_path) for key, value in sample.items()}
        for name, sample in SAMPLES.items()
    }


@pytest.fixture
def server() -> Iterator[Loopback]:
    made = Loopback()
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(_socket: socket.socket, address: object) -> None:
        assert isinstance(address, tuple), address
        assert address[0] == "127.0.0.1", f"a platform asked {address}"
        return real(_socket, address)

    real = socket.socket.connect
    monkeypatch.setattr(socket.socket, "connect", connect)


def of(name: str) -> str:
    return name.partition(",")[0]


def test_every_platform_has_a_sample():
    assert {of(name) for name in SAMPLES} == set(TABLE)


@pytest.mark.parametrize("name", SAMPLES)
def test_the_first_that_recognises_the_machine_is_its_platform(environs, name: str):
    assert find_platform(environs[name], NOW).name == of(name)


@pytest.mark.parametrize("name", sorted(set(TABLE) - {"local"}))
def test_no_platform_recognises_what_it_has_nothing_to_do_with(environs, name: str):
    module = import_module(TABLE[name])
    assert not module.is_here(environs["local"])
    for other in SAMPLES:
        mixed = name in {"spot", "colab"} and other in {
            "slurm, on a machine of a cloud",
            "kaggle, a version with Colab's image",
        }
        if of(other) != name and not mixed:
            assert not module.is_here(environs[other]), other


@pytest.mark.parametrize("name", SAMPLES)
def test_a_platform_says_what_it_is(environs, name: str):
    described: Platform = find_platform(environs[name], NOW)
    assert described.store
    assert described.title
    assert described.notice
    assert described.prior_life_s > 0
    assert 0 <= described.age_s <= max(NOW.mono_s, NOW.wall_s)
    assert described.lifetime is None or described.lifetime.seconds > 0


@pytest.mark.parametrize("name", SAMPLES)
def test_describing_asks_nobody_loads_no_framework_and_ends(environs, name: str):
    said = (
        "import socket, sys\n"
        "def refuse(*words): raise AssertionError(words)\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        "import subprocess; subprocess.Popen = refuse\n"
        "import os; from supervisor import wiring; from supervisor.core.instant import Instant\n"
        "wiring.find_platform(os.environ, Instant(5000.0, 1.7e9))\n"
        f"print([name for name in {FRAMEWORKS!r} if name in sys.modules])"
    )
    environ = {"PATH": os.environ["PATH"], **environs[name]}
    done = subprocess.run(
        [sys.executable, "-c", said], env=environ, capture_output=True, text=True, timeout=400, check=False
    )
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize(
    "where", ["/content/drive/MyDrive/runs", "./runs", "relay:/content/store", "/kaggle/working/x"]
)
def test_a_place_is_taken_or_refused_with_a_thing_to_do(environs, name: str, where: str):
    module = import_module(TABLE[of(name)])
    module.check_store(where, lambda _: True, environs[name])
    refused = refusal(module, where, environs[name])
    if refused is not None:
        assert where in refused.what
        assert len(refused.hint) > 20
        assert refused.exit_code == 4


def refusal(module, where: str, environ: dict[str, str]) -> UserError | None:
    try:
        module.check_store(where, lambda _: False, environ)
    except UserError as error:
        return error
    return None


@pytest.mark.parametrize("name", SAMPLES)
def test_giving_back_twice_does_no_harm_or_says_what_to_do(environs, name: str, server: Loopback):
    environ = environs[name]
    if "TBE_RUNTIME_ADDR" in environ:
        environ |= {"TBE_RUNTIME_ADDR": server.address}
        server.on("POST /unassign", "")
    release = find_platform(environ, NOW).release
    assert (release is not None) == (name == "colab")
    for _ in range(2 if release else 0):
        release()


@pytest.mark.parametrize("name", SAMPLES)
def test_a_notice_is_delivered_and_the_listener_ends_when_it_is_told_to(environs, name: str, server: Loopback):
    server.answers = {"GET /computeMetadata/v1/instance/preempted": "TRUE"}
    described = find_platform({**environs[name], "GCE_METADATA_HOST": server.address}, NOW)
    assert (described.listen is None) == (name != "spot")
    if described.listen is None:
        return
    heard, over = [], Event()

    def hear(notice: Notice) -> None:
        heard.append(notice)
        over.set()

    listening = Thread(target=described.listen, args=(hear, over.wait), daemon=True)
    listening.start()
    assert over.wait(400)
    listening.join(400)
    assert not listening.is_alive()
    assert [(notice.certain, notice.in_s) for notice in heard] == [(True, 30.0)]
