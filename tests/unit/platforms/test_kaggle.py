"""Kaggle: its limits, its two kinds of sessions, and what an earlier version left as input."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from supervisor.core.instant import Instant
from supervisor.platforms import kaggle

if TYPE_CHECKING:
    from pathlib import Path

HOUR = 3600.0
NOW = Instant(mono_s=1e7, wall_s=1e9)
BATCH, INTERACTIVE = {"KAGGLE_KERNEL_RUN_TYPE": "Batch"}, {"KAGGLE_KERNEL_RUN_TYPE": "Interactive"}


@pytest.mark.parametrize(
    ("more", "hours"), [({}, 12), ({"TPU_ACCELERATOR_TYPE": "v5litepod-8"}, 9), ({"ISTPUVM": "1"}, 9)]
)
def test_a_tpu_session_is_shorter(more: dict[str, str], hours: int):
    lifetime = kaggle.describe({**INTERACTIVE, **more}, NOW).lifetime
    assert lifetime is not None
    assert lifetime.seconds == hours * HOUR


def test_a_version_leaves_before_its_limit_because_only_then_its_output_is_kept():
    described = kaggle.describe(BATCH, NOW)
    assert described.lifetime is not None
    assert described.lifetime.hard
    assert described.lifetime.seconds < 12 * HOUR
    assert "output is kept" in described.advice


def test_an_interactive_session_may_end_when_it_is_left_alone():
    described = kaggle.describe(INTERACTIVE, NOW)
    assert described.lifetime is not None
    assert not described.lifetime.hard
    assert "Save Version" in described.advice


@pytest.mark.parametrize(("ticks", "age_s"), [("999000000", 10000.0), (None, 0.0), ("0", 0.0), ("1000100000", 0.0)])
def test_the_age_is_that_of_the_container_and_no_more_than_a_session_can_live(
    monkeypatch: pytest.MonkeyPatch, ticks: str | None, age_s: float
):
    monkeypatch.setattr(kaggle.identity, "started", {1: ticks}.get)
    monkeypatch.setattr(kaggle.os, "sysconf", lambda _: 100)
    assert kaggle.describe(BATCH, NOW).age_s == age_s


def test_what_earlier_versions_left_is_found_wherever_kaggle_mounts_it(tmp_path: Path):
    for slug in ("my-notebook", "notebooks/me/other", "datasets/me/unrelated"):
        for run in ("plates", "toy") if "unrelated" not in slug else ("toy",):
            folder = tmp_path / slug / "supervisor" / run
            folder.mkdir(parents=True)
            (folder / "run.json").touch()
    (tmp_path / "half" / "supervisor" / "plates").mkdir(parents=True)
    described = kaggle.describe(BATCH, NOW, inputs=tmp_path)
    assert described.earlier is not None
    found = described.earlier("plates")
    assert found == [f"{tmp_path}/my-notebook/supervisor", f"{tmp_path}/notebooks/me/other/supervisor"]


def test_a_large_data_set_is_not_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(kaggle, "NAMES_MAX", 10)
    images = tmp_path / "images"
    (images / "supervisor" / "plates").mkdir(parents=True)
    (images / "supervisor" / "plates" / "run.json").touch()
    for number in range(12):
        (images / f"{number:03}").mkdir()
    assert kaggle.earlier(tmp_path, "plates") == []


def test_no_input_is_no_earlier_work(tmp_path: Path):
    assert kaggle.earlier(tmp_path / "absent", "plates") == []
