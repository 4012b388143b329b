"""The last words of a trainer: however short it lived, they are heard before the news of its death."""

from __future__ import annotations

import os
import shutil
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from supervisor.core.messages import Beat, Malformed, Message, Save, ScriptFailed, Stop
from supervisor.engine.channel import Channel
from supervisor.trainer import client

if TYPE_CHECKING:
    from pathlib import Path

LIVES = 300
SWITCH_S = 1e-6  # threads change places in every few instructions, as on a machine with much to do


class Nobody:
    """A listener that says and does nothing."""

    def beat(self) -> Beat | None:
        """Nothing has moved."""
        return None

    def asked_to_save(self, message: Save) -> None:
        """Not asked here."""

    def asked_to_stop(self, message: Stop) -> None:
        """Not asked here."""

    def supervisor_gone(self) -> None:
        """Not looked at."""


def short_life(path: Path) -> None:
    """Connect, say one thing and end as a process that dies at once does."""
    sys.setswitchinterval(SWITCH_S)
    connected = client.connect(str(path), Nobody())
    connected.send(ScriptFailed("setup", "ImportError", "no module", ""))
    connected.flush(60.0)
    os._exit(0)


@pytest.mark.slow
def test_the_last_words_of_a_very_short_life_are_heard_before_its_end(tmp_path: Path) -> None:
    heard: list[Message | Malformed] = []
    channel = Channel(tmp_path / "channel", heard.append)
    try:
        for lives in range(1, LIVES + 1):
            child = os.fork()
            if child == 0:
                short_life(channel.path)
            os.waitpid(child, 0)
            channel.hear_out(60.0)
            assert len(heard) == lives
    finally:
        channel.close()


def test_a_flush_to_nobody_returns(tmp_path: Path) -> None:
    channel = Channel(tmp_path / "channel", lambda _said: None)
    connected = client.connect(str(channel.path), Nobody())
    channel.close()
    channel.hear_out(1.0)
    connected.flush(0.1)
    connected.send(ScriptFailed("script", "ValueError", "", ""))
    connected.flush(0.1)


def test_a_channel_whose_name_was_removed_is_found_again_and_who_is_connected_stays_so(tmp_path: Path) -> None:
    heard: list[Message | Malformed] = []
    (tmp_path / "session").mkdir()
    channel = Channel(tmp_path / "session" / "channel", heard.append)
    first = client.connect(str(channel.path), Nobody())
    shutil.rmtree(tmp_path / "session")
    assert channel.unnamed
    with pytest.raises(FileNotFoundError):
        client.connect(str(channel.path), Nobody())
    first.send(Beat(1, "step"))
    first.flush(60.0)
    channel.renew()
    channel.renew()  # nothing is to be done any more
    assert not channel.unnamed
    second = client.connect(str(channel.path), Nobody())
    second.send(Beat(2, "step"))
    second.flush(60.0)
    first.send(Beat(3, "step"))
    first.flush(60.0)
    while len(heard) < 3:
        threading.Event().wait(0.01)  # the listeners are threads of their own
    assert sorted(said.step for said in heard if isinstance(said, Beat)) == [1, 2, 3]
    channel.close()


def test_a_trainer_waits_a_moment_for_a_name_that_is_being_made_again(tmp_path: Path) -> None:
    path = tmp_path / "channel"
    made: list[Channel] = []
    timer = threading.Timer(0.05, lambda: made.append(Channel(path, lambda _: None)))
    timer.start()
    connected = client.connect(str(path), Nobody(), within_s=60.0)
    connected.flush(60.0)
    timer.join()
    made[0].close()
