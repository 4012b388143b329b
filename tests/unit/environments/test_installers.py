"""Choosing an installer, and putting its reasons into one line."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from supervisor.core.environment import Found, Locked, Plan, Record, Wanted
from supervisor.core.errors import SetupError
from supervisor.environments import installers, port, solve
from supervisor.environments.port import InstallerFailed

if TYPE_CHECKING:
    from pathlib import Path

FOUND = Found("3.12.1", "cp312", "linux-x86_64", distributions={"numpy": "2.1.3", "requests": "2.32.0"})
TODO = Plan(("httpx",), (), ("numpy==2.1.3", "requests==2.32.0"), ("numpy==2.1.3",))
HTTPX = Locked("httpx", "0.28.1", ("sha256:" + "0" * 64,))
WANTED = Wanted(("httpx",), source="job.py's script block")


class Scripted:
    """An installer that answers by the constraints it is given and remembers them."""

    name = "scripted"

    def __init__(
        self, refuses: set[str], answer: tuple[Locked, ...] = (HTTPX,), said: str = "error: because it cannot be"
    ) -> None:
        self.refuses = refuses
        self.answer = answer
        self.said = said
        self.asked: list[tuple[str, ...]] = []

    def solve(self, python, requirements, constraints, index_options):
        self.asked.append(tuple(constraints))
        if self.refuses & set(constraints):
            raise InstallerFailed(self.said)
        return self.answer


def ask(
    installer: Scripted, recorded: Record | None = None, said: list[str] | None = None, folders: tuple[str, ...] = ()
):
    return solve.difference(
        installer,
        "python",
        WANTED,
        FOUND,
        TODO,
        recorded=recorded,
        wheel_folders=folders,
        say=(said if said is not None else []).append,
    )


def test_all_that_is_there_is_held_when_that_can_be():
    installer = Scripted(set())
    assert ask(installer) == (HTTPX,)
    assert installer.asked == [("numpy==2.1.3", "requests==2.32.0")]


def test_only_frameworks_are_held_when_not_all_can_be_and_the_shadowed_are_named():
    said: list[str] = []
    newer = Locked("requests", "2.33.0", HTTPX.hashes)
    assert ask(Scripted({"requests==2.32.0"}, (HTTPX, newer)), said=said) == (HTTPX, newer)
    assert said == ["for this job alone, requests 2.32.0 by 2.33.0; the machine's own stay as they are"]


def test_frameworks_are_held_to_the_last():
    with pytest.raises(SetupError, match="because it cannot be"):
        ask(Scripted({"numpy==2.1.3"}))


def test_recorded_versions_come_first_and_giving_them_up_is_said():
    old = Record(FOUND, ("httpx",), (Locked("httpx", "0.27.0", HTTPX.hashes),))
    said: list[str] = []
    installer = Scripted({"httpx==0.27.0"})
    ask(installer, old, said)
    assert "httpx==0.27.0" in installer.asked[0]
    assert "httpx==0.27.0" not in installer.asked[-1]
    assert said == ["the recorded versions do not fit this machine: newer ones were chosen"]


def test_a_wheel_at_hand_comes_before_one_to_fetch(tmp_path: Path):
    for name in (
        "httpx-0.25.0-py3-none-any.whl",
        "httpx-0.26.0-py3-none-any.whl",
        "httpx-0.29.0-cp311-cp311-linux_x86_64.whl",
    ):
        (tmp_path / name).touch()
    installer = Scripted(set())
    ask(installer, folders=(str(tmp_path),))
    assert "httpx==0.26.0" in installer.asked[0]


def test_no_connection_is_told_apart_at_once():
    installer = Scripted(
        {"numpy==2.1.3"}, said="error: Failed to fetch\n  cause: dns error: failed to lookup address information"
    )
    with pytest.raises(SetupError, match="no connection to a package index"):
        ask(installer)
    assert len(installer.asked) == 1


def test_what_is_there_already_is_not_installed_again():
    same = Locked("requests", "2.32.0", HTTPX.hashes)
    assert ask(Scripted(set(), (HTTPX, same))) == (HTTPX,)


@pytest.mark.parametrize(
    ("said", "short"),
    [
        (
            "Using Python 3.11\n  × No solution found when resolving dependencies:\n  ╰─▶ Because you require numpy<2\n      and numpy==2.1, no.\n",
            "Because you require numpy<2 and numpy==2.1, no.",
        ),
        (
            "WARNING: x\nERROR: No matching distribution found for nothing\n",
            "No matching distribution found for nothing",
        ),
        ("error: Failed to fetch: https://host.example/simple\n", "Failed to fetch: the index"),
    ],
)
def test_an_installers_reason_fits_on_one_line(said: str, short: str):
    assert port.shorten(said) == short


def test_a_uv_that_does_not_run_is_not_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(installers.sys, "prefix", str(tmp_path))
    for name, answer in (("broken", "exit 1"), ("old", "echo uv 0.1.5"), ("good", "echo uv 0.9.1")):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "uv").write_text(f"#!/bin/sh\n{answer}\n")
        (folder / "uv").chmod(0o755)
    found = {
        name: installers.find_uv({"PATH": f"{tmp_path / name}{os.pathsep}/bin"}, tmp_path)
        for name in ("broken", "old", "good")
    }
    assert found == {"broken": None, "old": None, "good": tmp_path / "good" / "uv"}


def test_a_full_disk_is_named_and_an_installers_own_crash_is_told_by_its_last_line():
    trace = (
        "ERROR: Exception:\nTraceback (most recent call last):\n  File x, line 1\nOSError: [Errno 18] Invalid cross-device link\n"
        "During handling of the above exception, another exception occurred:\nOSError: [Errno 28] No space left on device: '/x'\n"
    )
    failed = port.InstallerFailed(trace)
    assert failed.reason == "OSError: [Errno 28] No space left on device: '/x'"
    assert failed.plain == "the disk of this machine is full"
    assert "make room" in failed.advice("train.py")
    assert not port.InstallerFailed(trace.replace("No space left on device", "Too many links")).no_space
