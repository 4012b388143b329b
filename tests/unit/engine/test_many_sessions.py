"""A run with very many sessions: each folder is listed once, and what only the newest tell is asked of the newest alone."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import pytest

from supervisor.core import claim, retention
from supervisor.core.claim import Rank, rank_of
from supervisor.engine import checkpoints, claims, history, packages, retaining, runs
from tests.faults.world import KEEP, RUN

SESSIONS = 400


class Counting:
    """A store that counts what is asked of each folder."""

    def __init__(self, inner):
        self.inner, self.listed, self.read_, self.swept = inner, Counter(), Counter(), Counter()
        self.traits = inner.traits

    def list(self, folder):
        self.listed[folder] += 1
        return self.inner.list(folder)

    def read(self, path):
        self.read_[path] += 1
        return self.inner.read(path)

    def sweep(self, folder):
        self.swept[folder] += 1
        return self.inner.sweep(folder)

    def __getattr__(self, name):
        return getattr(self.inner, name)


def empty_sessions(root, run, first, count):
    names = [str(Rank(number, f"{number:08x}")) for number in range(first, first + count)]
    for name in names:
        (root / run.name / name).mkdir(parents=True)
    return names


@pytest.fixture
def counted(store):
    return Counting(store)


def test_one_look_over_a_run_lists_each_folder_once(counted, run, tmp_path):
    names = empty_sessions(tmp_path / "store", run, 1, SESSIONS)
    listed = checkpoints.look_over(counted, run)
    assert counted.listed == Counter([run.name, *(f"{run.name}/{name}" for name in names)])
    assert listed.bare == set(names)
    assert not listed.found
    assert not listed.telling


def test_where_a_run_goes_on_is_found_by_one_look(counted, run, tmp_path):
    empty_sessions(tmp_path / "store", run, 1, SESSIONS)
    checkpoints.newest_whole(counted, run, (), tmp_path / "into")
    assert counted.listed.total() == SESSIONS + 1
    assert not counted.read_


def environment(store, run, local):
    made = SimpleNamespace(python="python", env={}, installed=(), drift=(), seconds=0.0)
    installer = packages.Installer(lambda _recorded, _fetch: made, lambda *_: [])
    return packages.Packages(store, run, installer, local).prepare()


@pytest.mark.parametrize(
    "ask",
    [
        lambda store, run, _: runs.last_status(store, run, claims.ranks(store, run)),
        lambda store, run, _: history.read(store, run, Rank(SESSIONS + 1, "mine"), lambda _: None),
        environment,
    ],
    ids=["status", "history", "environment"],
)
def test_what_the_newest_tell_is_asked_of_the_newest_alone(counted, run, tmp_path, ask):
    empty_sessions(tmp_path / "store", run, 1, SESSIONS)
    ask(counted, run, tmp_path / "local")
    asked = {path.split("/")[1] for path in (*counted.listed, *counted.read_) if "/e0" in path}
    assert len(asked) == claims.SESSIONS_READ_MAX
    first = SESSIONS - claims.SESSIONS_READ_MAX + 1
    assert min(asked) == str(Rank(first, f"{first:08x}"))


def test_retention_lists_and_sweeps_a_folder_that_holds_nothing_once(world):
    bare = {f"{RUN.name}/{name}" for name in empty_sessions(world.root / "store", RUN, 2, SESSIONS)}
    store, knowledge = Counting(world.store()), retaining.Knowledge(durable=set(world.safe))
    for _ in range(3):
        retaining.retain(store, RUN, retention.Policy(KEEP), knowledge, Rank(SESSIONS + 2, "mine"))
    assert {store.listed[folder] for folder in bare} == {1}
    assert {store.swept[folder] for folder in bare} == {1}


def test_a_session_that_may_still_write_is_listed_at_each_retention(world):
    (mine,) = empty_sessions(world.root / "store", RUN, 7, 1)
    store, knowledge = Counting(world.store()), retaining.Knowledge(durable=set(world.safe))
    for _ in range(3):
        retaining.retain(store, RUN, retention.Policy(KEEP), knowledge, Rank(7, f"{7:08x}"))
    assert store.listed[f"{RUN.name}/{mine}"] >= 3


def test_names_that_no_session_has_are_not_remembered():
    rank_of(str(Rank(1, "x" * 64)))
    before = claim._rank_of.cache_info().currsize
    for number in range(100):
        assert rank_of(f"e00000001-{number}{'a' * 1000}") is None
    assert claim._rank_of.cache_info().currsize == before
