"""Debian packages: looked up first, installed only by root, from the system's own sources alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from supervisor.core.environment import DebianPackage
from supervisor.core.errors import SetupError
from supervisor.environments import debian

if TYPE_CHECKING:
    from pathlib import Path


def machine(folder: Path, *, apt: str = "exit 1", has: tuple[str, ...] = ()) -> dict[str, str]:
    """A machine whose dpkg and apt are scripts; what apt installs is what dpkg then has."""
    tools = folder / "tools"
    tools.mkdir()
    state = folder / "state"
    state.write_text("".join(f"{name}\t1.0\tinstalled\n" for name in has))
    programs = {"dpkg-query": f"cat {state}\nexit 1", "apt-get": f'echo "$@" >> {folder}/apt-calls\n{apt}'}
    for name, body in programs.items():
        (tools / name).write_text(f"#!/bin/sh\nstate={state}\n{body}\n")
        (tools / name).chmod(0o755)
    return {"PATH": f"{tools}:/bin:/usr/bin"}


@pytest.fixture
def as_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debian.os, "geteuid", lambda: 0)


def test_what_is_there_is_not_touched(tmp_path: Path):
    environ = machine(tmp_path, has=("libgl1", "git"))
    assert debian.prepare(["git"], environ, print)[0].name == "git"
    assert not (tmp_path / "apt-calls").exists()


def test_without_root_it_is_said_and_the_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(debian.os, "geteuid", lambda: 1000)
    said: list[str] = []
    assert debian.prepare(["libgl1"], machine(tmp_path), said.append) == ()
    assert "libgl1" in said[0]
    assert "not root" in said[0]


def test_without_apt_it_is_said_and_the_run_goes_on(tmp_path: Path):
    said: list[str] = []
    assert debian.prepare(["libgl1"], {"PATH": str(tmp_path)}, said.append) == ()
    assert "no apt" in said[0]


@pytest.mark.usefixtures("as_root")
def test_old_package_lists_are_renewed_once(tmp_path: Path):
    apt = f'case "$*" in update*) touch {tmp_path}/fresh;; *) test -e {tmp_path}/fresh && printf "libgl1\\t1.7\\tinstalled\\n" >> $state;; esac'
    environ = machine(tmp_path, apt=apt)
    assert debian.prepare(["libgl1"], environ, print) == (DebianPackage("libgl1", "1.7"),)


@pytest.mark.usefixtures("as_root")
def test_a_name_apt_does_not_know_ends_in_its_own_words(tmp_path: Path):
    environ = machine(tmp_path, apt="echo 'E: Unable to locate package nonsense' >&2; exit 100")
    with pytest.raises(SetupError, match="Unable to locate package nonsense"):
        debian.prepare(["nonsense"], environ, print)
