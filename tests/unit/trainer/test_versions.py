"""Versions of frameworks: what is tested fits, what is not is said once, and what is known not to work is refused."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

import supervisor
from benchmarks import versions as versions_command
from supervisor.core import supported
from supervisor.core.errors import SetupError
from supervisor.trainer import versions


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(versions, "_checked", set())
    return []


def installed(monkeypatch: pytest.MonkeyPatch, name: str, version: str | None) -> None:
    """Let the script have imported this version of a framework."""
    module = ModuleType(supported.ROWS[name].module)
    if version is not None:
        module.__version__ = version  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, supported.ROWS[name].module, module)


@pytest.mark.parametrize("row", supported.ROWS.values(), ids=supported.ROWS)
def test_the_lowest_and_the_newest_of_each_row_fit_and_their_neighbours_are_said(row: supported.Supported):
    assert supported.judge(row.name, row.lowest).fit == "fits"
    assert supported.judge(row.name, f"{row.newest}+cpu").fit == "fits"
    above = supported.judge(row.name, "99.0")
    assert (above.fit, "above" in above.what) == ("untested", True)
    assert supported.judge(row.name, "0.0.1").fit == ("broken" if row.broken_below else "untested")


def test_the_document_shows_the_rows_of_the_table():
    text = (Path(__file__).parents[3] / "docs" / "frameworks.md").read_text(encoding="utf-8")
    for row in supported.ROWS.values():
        below = f"below {row.broken_below} " if row.broken_below else ""
        assert f"| {row.name} | {row.lowest} | {row.newest} | {below}|" in text


def test_the_command_has_a_script_for_each_row():
    assert versions_command.HOW.keys() == supported.ROWS.keys()
    for script, _ in versions_command.HOW.values():
        assert (versions_command.SCRIPTS / script).is_file()


@pytest.mark.parametrize("version", ["5.17.0", "5.18.2", "4.57.1", "5.18.0.dev0"])
def test_a_transformers_that_is_known_not_to_work_is_refused_in_two_lines(
    monkeypatch: pytest.MonkeyPatch, said: list[str], version: str
):
    installed(monkeypatch, "transformers", version)
    for _ in range(2):  # also the second time it is asked for
        with pytest.raises(SetupError) as refused:
            _ = supervisor.TransformersCallback
        assert f"transformers {version} does not work" in refused.value.what
        assert refused.value.hint == "pip install 'transformers>=5.19.0'"
        assert "\n" not in refused.value.what


def test_a_version_that_is_not_tested_is_said_once(monkeypatch: pytest.MonkeyPatch, said: list[str]):
    installed(monkeypatch, "jax", "0.4.35")
    for _ in range(2):
        versions.check(["jax"], lambda what, hint: said.append(f"{what}\n{hint}"))
    assert len(said) == 1
    assert said[0].startswith("jax 0.4.35 is below the versions that are tested")
    assert "rehearse" in said[0]


def test_a_newer_patch_of_the_newest_version_is_no_news():
    newest = supported.ROWS["lightning"].newest
    assert supported.judge("lightning", f"{newest}.post1").fit == "fits"
    assert supported.judge("torch", "2.13.7").fit == "fits"
    assert supported.judge("torch", "2.14.0").fit == "untested"


def test_a_framework_that_says_no_version_stops_nobody(monkeypatch: pytest.MonkeyPatch, said: list[str]):
    monkeypatch.setattr(versions.importlib.metadata, "version", lambda _: "unknown")
    installed(monkeypatch, "keras", None)
    versions.check(["keras"], lambda *words: said.append(str(words)))
    assert said == []


def test_only_what_the_script_has_imported_is_looked_at(monkeypatch: pytest.MonkeyPatch, said: list[str]):
    for row in supported.ROWS.values():
        monkeypatch.delitem(sys.modules, row.module, raising=False)
    installed(monkeypatch, "accelerate", "0.1")
    versions.check_loaded(lambda what, _hint: said.append(what))
    assert [words.split()[0] for words in said] == ["accelerate"]
