"""Large downloads: the build for the processor where there is no accelerator, sizes before, and a word while it runs."""

from __future__ import annotations

from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

import pytest

from supervisor.core.environment import Found, Locked, Record
from supervisor.engine import ticking
from supervisor.environments import capture, commands, overlay, settings, sizes, solve
from supervisor.environments.commands import Ended
from supervisor.environments.port import InstallerFailed, Sources
from supervisor.environments.uv import CPU_BUILDS, Uv

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

HASH = "sha256:" + "0" * 64
CUDA = " + torch==2.13.0\n + nvidia-cublas==13.1\n"
PYLOCK = """[[packages]]
name = "torch"
wheels = [{ url = "x", size = 526574961, hashes = { sha256 = "60" } }]

[[packages]]
name = "nvidia-cublas"
wheels = [{ url = "x", size = 400000000 }, { url = "y", size = 500000000 }]
"""


class Program:
    """uv, as far as it is asked here; ``reached``: whether the builds for the processor can be."""

    def __init__(self, *, reached: bool = True) -> None:
        self.reached = reached
        self.asked: list[list[str]] = []

    def __call__(self, argv: Sequence[str], environ: Mapping[str, str], *, keep_fd: int | None = None) -> Ended:
        self.asked.append(list(argv))
        cpu = "--torch-backend" in argv
        if cpu and not self.reached:
            return Ended(2, "", "error: Request failed\n  cause: dns error")
        if "pylock.toml" in argv:
            return Ended(0, PYLOCK, "")
        if "compile" in argv:
            version = "2.13.0+cpu" if cpu else "2.13.0"
            return Ended(0, f"torch=={version} --hash={HASH}\n", "")
        if "--dry-run" in argv:
            return Ended(0, "", " + torch==2.13.0+cpu\n" if cpu else CUDA)
        return Ended(0 if cpu else 1, "", "" if cpu else "no version of torch==2.13.0+cpu")


def uv(monkeypatch: pytest.MonkeyPatch, program: Program, *, cpu: bool = True, **environ: str) -> Uv:
    monkeypatch.setattr(commands, "run", program)
    return Uv("uv", environ, settings.Settings(), cpu=cpu)


def test_without_an_accelerator_the_build_for_the_processor_is_chosen(monkeypatch: pytest.MonkeyPatch):
    program = Program()
    assert uv(monkeypatch, program).solve("python", ["torch"], [], []) == (Locked("torch", "2.13.0+cpu", (HASH,)),)
    assert [argv[-2:] == list(CPU_BUILDS) for argv in program.asked] == [False, True, True]


def test_where_those_builds_cannot_be_reached_the_common_ones_do_and_are_not_asked_for_twice(
    monkeypatch: pytest.MonkeyPatch,
):
    program = Program(reached=False)
    installer = uv(monkeypatch, program)
    for _ in range(2):
        assert installer.solve("python", ["torch"], [], []) == (Locked("torch", "2.13.0", (HASH,)),)
    assert sum("--torch-backend" in argv for argv in program.asked) == 1


@pytest.mark.parametrize(("cpu", "environ"), [(False, {}), (True, {"UV_TORCH_BACKEND": "cu130"})])
def test_beside_an_accelerator_and_where_the_person_chose_nothing_is_chosen(
    monkeypatch: pytest.MonkeyPatch, cpu: bool, environ: dict[str, str]
):
    program = Program()
    assert uv(monkeypatch, program, cpu=cpu, **environ).solve("python", ["torch"], [], [])[0].version == "2.13.0"
    assert settings.for_uv(environ, Path("x")).get("UV_TORCH_BACKEND") == environ.get("UV_TORCH_BACKEND")


def test_a_recorded_build_for_the_processor_is_installed_from_where_uv_knows_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    lock = tmp_path / "lock.txt"
    lock.write_text(f"torch==2.13.0+cpu --hash={HASH}\n")
    program = Program()
    uv(monkeypatch, program).install("python", lock, sources=Sources())
    assert program.asked[-1][-2:] == list(CPU_BUILDS)
    with pytest.raises(InstallerFailed):
        uv(monkeypatch, program).install("python", lock, sources=Sources(tmp_path, wheels_only=True))


def test_a_build_for_the_processor_is_no_preference_beside_an_accelerator():
    here = Found("3.11.7", "cp311", "linux-x86_64", accelerators=("T4",))
    old = Record(here, ("torch",), (Locked("torch", "2.13.0+cpu", (HASH,)),))
    assert solve._recorded_pins(old, here) == ["torch==2.13.0"]


def test_uv_tells_how_much_is_to_be_fetched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    lock = tmp_path / "lock.txt"
    lock.write_text("torch==2.13.0\n")
    assert uv(monkeypatch, Program()).download_bytes("python", lock, sources=Sources()) == 1_026_574_961


def test_files_at_hand_are_measured_and_what_is_not_told_is_unknown(tmp_path: Path):
    (tmp_path / "a b.whl").write_bytes(b"x" * 10)
    assert sizes.total([(tmp_path / "a b.whl").as_uri()] * 2, {}) == 20
    assert sizes.total([(tmp_path / "absent.whl").as_uri()], {}) is None


class Slow:
    """An installer with much to fetch, which goes on until somebody was told of it."""

    name = "pip"

    def __init__(self, told: Event) -> None:
        self.told = told

    def download_bytes(self, *_: object, **__: object) -> int:
        return 2_600_000_000

    def install(self, *_: object, **__: object) -> None:
        assert self.told.wait(30.0)


def test_a_large_download_is_said_with_its_size_and_goes_on_with_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(ticking, "EVERY_S", 0.01)
    said: list[str] = []
    told = Event()

    def say(words: str) -> None:
        said.append(words)
        if words.startswith("installing, "):
            told.set()

    chosen = capture.Interpreter("python3", "3.11.7", "cp311", "linux-x86_64", "", (), ())
    locked = [Locked("torch", "2.13.0", (HASH,)), Locked("nvidia-cublas", "13.1", (HASH,))]
    monkeypatch.setattr(
        overlay, "make_venv", lambda _python, folder, _environ: (folder / "lib/x/site-packages").mkdir(parents=True)
    )
    overlay.make(chosen, locked, tmp_path / "env", lambda: Slow(told), wheels=None, index_options=(), environ={}, say=say)  # fmt: skip
    assert any("pip finds only builds with CUDA" in words for words in said)
    assert "installing 2 packages (about 2.6 GB to fetch): torch 2.13.0, nvidia-cublas 13.1" in said
