"""The user's key: made once, readable by its user alone, or given by a variable; it never reaches other people's code."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from supervisor.core.errors import UsageError
from supervisor.engine import user_key

if TYPE_CHECKING:
    from pathlib import Path


def test_it_is_made_at_the_first_start_and_stays(tmp_path: Path):
    environ = {"HOME": str(tmp_path)}
    made = user_key.read_or_make(environ)
    assert len(made) == 2 * user_key.KEY_BYTES
    assert user_key.read_or_make(environ) == made
    file = user_key.place(environ)
    assert file.is_relative_to(tmp_path / ".local" / "state")
    assert file.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in file.parent.iterdir()] == ["key"]


def test_a_key_that_others_could_read_is_closed_to_them(tmp_path: Path):
    environ = {"XDG_STATE_HOME": str(tmp_path)}
    user_key.read_or_make(environ)
    user_key.place(environ).chmod(0o644)
    user_key.read_or_make(environ)
    assert user_key.place(environ).stat().st_mode & 0o777 == 0o600


def test_the_key_of_another_user_a_link_and_a_pipe_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    environ = {"XDG_STATE_HOME": str(tmp_path)}
    made = user_key.read_or_make(environ)
    owner = os.geteuid()
    monkeypatch.setattr(user_key.os, "geteuid", lambda: owner + 1)
    assert user_key.read_or_make(environ) == ""
    monkeypatch.undo()
    file = user_key.place(environ)
    file.rename(file.with_name("elsewhere"))
    file.symlink_to(file.with_name("elsewhere"))
    assert user_key.read_or_make(environ) == ""
    file.unlink()
    os.mkfifo(file)
    assert user_key.read_or_make(environ) == ""
    assert made


def test_a_variable_carries_it_and_a_wrong_one_is_refused(tmp_path: Path):
    environ = {"XDG_STATE_HOME": str(tmp_path), user_key.VARIABLE: f" {'c' * 64} "}
    assert user_key.read_or_make(environ) == "c" * 64
    assert not user_key.place(environ).exists()
    with pytest.raises(UsageError, match="64 hexadecimal digits"):
        user_key.read_or_make({user_key.VARIABLE: "abc"})
    assert user_key.without(environ) == {"XDG_STATE_HOME": str(tmp_path)}


def test_a_machine_without_a_place_for_it_has_none(tmp_path: Path):
    (tmp_path / "state").touch()
    assert user_key.read_or_make({"XDG_STATE_HOME": str(tmp_path / "state")}) == ""
