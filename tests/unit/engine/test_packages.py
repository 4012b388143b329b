"""The environment over machines: the newest record goes in, ours goes out, wheels are fetched whole or not at all."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from supervisor.core.claim import Rank
from supervisor.core.ports import StoreError
from supervisor.engine import claims
from supervisor.engine.packages import RECORD, Installer, Packages, Recorded

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

FIRST, SECOND = Rank(1, "aa"), Rank(2, "bb")


@dataclass
class Made:
    python: str = "/python"
    env: dict[str, str] = field(default_factory=dict)
    record: bytes = b"numpy==2"
    installed: tuple[str, ...] = ("numpy",)
    drift: tuple[str, ...] = ()
    seconds: float = 0.1


@dataclass
class Hands:
    made: Made = field(default_factory=Made)
    given: list[tuple[bytes | None, dict[str, bytes] | None]] = field(default_factory=list)
    signed: list[bool] = field(default_factory=list)
    kept: list[dict[str, int | None]] = field(default_factory=list)

    def make(self, recorded: Recorded | None, fetch: Callable[[Callable[[str], bool]], Path | None]) -> Made:
        wheels = fetch(lambda name: name.startswith("numpy"))
        there = None if wheels is None else {path.name: path.read_bytes() for path in wheels.iterdir()}
        self.given.append((recorded.record if recorded else None, there))
        self.signed.append(recorded is not None and recorded.signed)
        return self.made

    def gather(self, _made: Made, into: Path, kept: Mapping[str, int | None]) -> list[Path]:
        self.kept.append(dict(kept))
        into.mkdir(parents=True, exist_ok=True)
        wheel = into / "numpy-2.whl"
        wheel.write_bytes(b"wheel")
        return [wheel]


@pytest.fixture
def hands() -> Hands:
    return Hands()


def packages(store, run, hands, local, key: str = "") -> Packages:
    return Packages(store, run, Installer(hands.make, hands.gather), local, key)


def test_a_first_machine_makes_what_is_asked_for_and_leaves_it_for_the_next(store, run, hands, tmp_path):
    first = packages(store, run, hands, tmp_path / "one")
    first.prepare()
    claims.write_claim(store, run, FIRST, {})
    first.record(FIRST)
    first.record(FIRST)
    first.keep()
    second = packages(store, run, hands, tmp_path / "two")
    second.prepare()
    assert hands.given == [(None, None), (b"numpy==2", {"numpy-2.whl": b"wheel"})]
    second.keep()
    assert [entry.name for entry in store.list(run.environments)] == ["numpy-2.whl"]
    assert hands.kept == [{}, {"numpy-2.whl": 5}]


def test_of_kept_files_no_copy_stays_on_this_machine(store, run, hands, tmp_path):
    made = packages(store, run, hands, tmp_path / "one")
    made.prepare()
    claims.write_claim(store, run, FIRST, {})
    made.record(FIRST)
    made.keep()
    assert not (tmp_path / "one" / "wheels").exists()
    packages(store, run, hands, tmp_path / "two").prepare()
    assert hands.given[-1] == (b"numpy==2", {"numpy-2.whl": b"wheel"})
    assert not (tmp_path / "two" / "wheels").exists()


def test_a_record_is_signed_where_the_next_machine_has_the_same_key(store, run, hands, tmp_path):
    for key, next_key in (("a" * 64, "a" * 64), ("a" * 64, "b" * 64), ("a" * 64, ""), ("", "a" * 64)):
        rank = Rank(len(hands.given) + 1, "aa")
        claims.write_claim(store, run, rank, {})
        made = packages(store, run, hands, tmp_path, key)
        made.prepare()
        made.record(rank)
        packages(store, run, hands, tmp_path, next_key).prepare()
        assert (hands.given[-1][0], hands.signed[-1]) == (b"numpy==2", bool(key) and key == next_key)


def test_only_the_wheels_that_are_asked_for_are_fetched_and_nothing_else_of_the_store(store, run, hands, tmp_path):
    store.create(f"{run.session(FIRST)}/{RECORD}", b"old")
    for name in ("numpy-2.whl", "numpy-2.tar.gz", "numpy_2.deb", "evil-1.whl"):
        store.create(f"{run.environments}/{name}", b"file")
    packages(store, run, hands, tmp_path).prepare()
    assert hands.given == [(b"old", {"numpy-2.whl": b"file"})]


def test_wheels_that_would_fill_the_disk_are_left(store, run, hands, tmp_path, monkeypatch):
    store.create(f"{run.session(FIRST)}/{RECORD}", b"old")
    store.create(f"{run.environments}/numpy-2.whl", b"wheel")
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=9))
    packages(store, run, hands, tmp_path).prepare()
    assert hands.given == [(b"old", None)]


def test_kept_files_are_fetched_only_where_they_are_asked_for(store, run, hands, tmp_path, monkeypatch):
    store.create(f"{run.session(FIRST)}/{RECORD}", b"old")
    store.create(f"{run.environments}/numpy-2.whl", b"wheel")
    monkeypatch.setattr(store, "pull", lambda *_, **__: pytest.fail("a file was fetched"))
    Packages(store, run, Installer(lambda *_: hands.made, hands.gather), tmp_path).prepare()


def test_the_newest_record_counts_and_sessions_without_one_are_looked_behind(store, run, hands, tmp_path):
    store.create(f"{run.session(FIRST)}/{RECORD}", b"old")
    claims.write_claim(store, run, SECOND, {})
    packages(store, run, hands, tmp_path).prepare()
    assert hands.given == [(b"old", None)]


def test_a_record_that_cannot_be_read_is_not_passed_over(store, run, hands, tmp_path, monkeypatch):
    store.create(f"{run.session(FIRST)}/{RECORD}", b"old")

    def unreadable(_path: str) -> bytes:
        raise StoreError("no answer")

    monkeypatch.setattr(store, "read", unreadable)
    with pytest.raises(StoreError):
        packages(store, run, hands, tmp_path).prepare()
    assert hands.given == []


def test_a_wheel_that_was_cut_short_here_is_fetched_again(store, run, hands, tmp_path):
    store.create(f"{run.session(FIRST)}/{RECORD}", b"old")
    store.create(f"{run.environments}/numpy-2.whl", b"wheel")
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / "numpy-2.whl").write_bytes(b"whe")
    packages(store, run, hands, tmp_path).prepare()
    assert hands.given == [(b"old", {"numpy-2.whl": b"wheel"})]


def test_without_anything_installed_nothing_is_kept(store, run, hands, tmp_path):
    hands.made.installed = ()
    made = packages(store, run, hands, tmp_path)
    made.keep()
    made.prepare()
    made.keep()
    assert list(store.list(run.environments)) == []
