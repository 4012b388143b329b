"""Passing errors of reads are tried again; answers and writes are not."""

from __future__ import annotations

import pytest

from supervisor.core.ports import Missing, StoreError, Taken, Traits, Unconfirmed
from supervisor.stores import retrying
from supervisor.stores.retrying import ATTEMPTS, RetryingStore


class Failing:
    """A store that fails some times before it answers."""

    traits = Traits()

    def __init__(self, times: int, error: StoreError) -> None:
        self.times, self.error, self.asked = times, error, 0

    def read(self, _path: str) -> bytes:
        self.asked += 1
        if self.asked <= self.times:
            raise self.error
        return b"answer"

    def create(self, path: str, _body: bytes) -> None:
        self.read(path)


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr(retrying, "WAIT_S_MAX", 0.0)


@pytest.mark.parametrize("kind", ["unreadable", "gone"])
def test_a_passing_error_is_waited_out(kind):
    inner = Failing(ATTEMPTS, StoreError("busy", kind))
    assert RetryingStore(inner).read("x") == b"answer"


def test_what_cannot_be_read_is_tried_for_longer_where_there_is_patience():
    inner = Failing(10 * ATTEMPTS, StoreError("download quota", "unreadable"))
    assert RetryingStore(inner, patience_s=60.0).read("x") == b"answer"


def test_a_mount_that_is_away_is_not_waited_for_with_that_patience():
    inner = Failing(10 * ATTEMPTS, StoreError("not connected", "gone"))
    with pytest.raises(StoreError):
        RetryingStore(inner, patience_s=60.0).read("x")
    assert inner.asked == ATTEMPTS + 1


def test_an_error_that_stays_is_raised_as_it_is():
    error = StoreError("busy")
    with pytest.raises(StoreError) as raised:
        RetryingStore(Failing(99, error)).read("x")
    assert raised.value is error


@pytest.mark.parametrize(
    "error",
    [
        Missing("x"),
        Taken("x"),
        StoreError("x", "full"),
        StoreError("x", "read-only"),
        StoreError("x", "lied"),
        StoreError("x", "hung"),
        Unconfirmed("x"),
    ],
)
def test_an_answer_is_not_asked_for_twice(error):
    inner = Failing(99, error)
    with pytest.raises(type(error)):
        RetryingStore(inner).read("x")
    assert inner.asked == 1


def test_a_write_is_not_repeated_behind_the_caller_s_back():
    inner = Failing(99, StoreError("busy"))
    with pytest.raises(StoreError):
        RetryingStore(inner).create("x", b"")
    assert inner.asked == 1
