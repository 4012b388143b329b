"""After a gap the newest checkpoint comes home before older pieces; one that is under way is finished first."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from supervisor.core.instant import Instant
from supervisor.fleet import parcels
from supervisor.fleet.outbox import GAP_S, REPLACED_AFTER_S
from tests.fleet.published import RUN, Served

if TYPE_CHECKING:
    from pathlib import Path

SIZE = 1000


class Hours:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.at_s = 1000.0

    def now(self) -> Instant:
        return Instant(self.at_s, self.at_s)


@pytest.fixture
def clock() -> Hours:
    return Hours()


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Hours) -> Served:
    monkeypatch.setattr(parcels, "CONTENT_BYTES_MAX", SIZE)
    monkeypatch.setattr(parcels, "BYTES_MAX", 4 * SIZE)
    monkeypatch.setattr("supervisor.fleet.outbox.WINDOW_BYTES", 8 * 4 * SIZE)
    monkeypatch.setattr("supervisor.fleet.outbox.SMALL_BYTES", 500)
    monkeypatch.setattr(os, "fsync", lambda _: None)  # because no power fails here
    made = Served(tmp_path)
    made.enter()
    made.outbox._clock = clock
    return made


def round_trip(served: Served, most: int = 8) -> None:
    """One poll: some parcels are fetched, and the mail goes back."""
    for parcel in served.cut()[:most]:
        served.home.merge(parcel.file, parcel.sha256)
    served.mail()


def first_step(served: Served) -> int:
    """The step of the checkpoint whose files are to be fetched first."""
    pieces = [piece for parcel in served.cut() for piece, _ in parcels.read(parcel.file)]
    return next(int(piece.path.split("/step-")[1][:9]) for piece in pieces if "/step-" in piece.path)


@pytest.mark.parametrize("size", [200, 5 * SIZE])
def test_after_a_gap_the_newest_checkpoint_is_safe_first(served: Served, clock: Hours, size: int):
    for step in (20, 40, 60, 80):
        served.publish(step, os.urandom(size))
        served.cut()
        clock.at_s += REPLACED_AFTER_S
    rounds = 0
    while served.home.newest() is None:
        round_trip(served)
        rounds += 1
    assert served.home.newest().step == 80
    assert rounds <= 4
    served.carry()
    assert served.at_home().keys() >= {path for path in served.on_the_machine() if "/step-000000080/" in path}
    assert served.outbox.waiting() == (0, 0)


def test_a_checkpoint_that_is_under_way_is_finished_before_a_newer_one_begins(served: Served, clock: Hours):
    served.publish(20, os.urandom(30 * SIZE))
    seen = []
    for step in range(40, 400, 20):  # a new one with each poll: none may keep another from being finished
        round_trip(served)
        clock.at_s += 60
        served.publish(step, os.urandom(30 * SIZE))
        seen.append(served.home.newest() and served.home.newest().step)
    assert 20 in seen
    newest = [step for step in dict.fromkeys(seen) if step]
    assert len(newest) >= 3
    assert newest[1] > 40, "behind it the newest, not the next"


def test_a_gap_in_the_middle_of_one_lets_the_newest_go_first(served: Served, clock: Hours):
    served.publish(20, os.urandom(60 * SIZE))
    round_trip(served, most=2)
    clock.at_s += GAP_S
    served.publish(40, os.urandom(5 * SIZE))
    for _ in range(4):
        round_trip(served, most=4)
    assert served.home.newest().step == 40


def test_a_parcel_that_may_be_fetched_just_now_stays(served: Served, clock: Hours):
    served.publish(20, os.urandom(5 * SIZE))
    before = {parcel.name for parcel in served.cut()}
    served.publish(40, os.urandom(5 * SIZE))
    assert before <= {parcel.name for parcel in served.cut()}
    clock.at_s += REPLACED_AFTER_S
    numbers = {number for number, _ in served.outbox.ready}
    assert first_step(served) == 40
    assert all(parcel.file.exists() for _, parcel in served.outbox.ready)
    served.publish(60, os.urandom(5 * SIZE))
    clock.at_s += REPLACED_AFTER_S
    served.cut()
    assert max(number for number, _ in served.outbox.ready) > max(numbers), "no number names two parcels"


def test_files_of_older_steps_that_the_newest_checkpoint_shares_come_with_it(served: Served, clock: Hours):
    first = served.publish(20, os.urandom(3 * SIZE))
    served.publish(40, os.urandom(20 * SIZE))
    served.publish(60, shared=first)
    clock.at_s += GAP_S
    for _ in range(3):
        round_trip(served)
    assert served.home.newest().step == 60
    assert RUN.step(served.rank, 20) in "\n".join(served.at_home())
