"""Of several indexes the first that has a name answers; which ones are asked after that, and when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from supervisor.environments import commands
from supervisor.environments.port import InstallerFailed, Sources
from supervisor.environments.settings import Settings
from supervisor.environments.uv import Uv

if TYPE_CHECKING:
    from pathlib import Path

SEVERAL = Settings(index="http://127.0.0.1/one", extra_indexes=("http://127.0.0.1/two",))
UNKNOWN = "error: there is no version of it"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The strategies that uv is run with; only the one in ``WORKS`` succeeds."""
    strategies: list[str] = []

    def run(argv: list[str], *_: Any, **__: Any) -> commands.Ended:
        strategies.append(argv[argv.index("--index-strategy") + 1] if "--index-strategy" in argv else "")
        works = strategies[-1] == WORKS[0]
        return commands.Ended(0 if works else 1, "", " + it==1" if works else UNKNOWN)

    monkeypatch.setattr(commands, "run", run)
    return strategies


WORKS = [""]


def installer(works: str, environ: dict[str, str] | None = None, chosen: Settings = SEVERAL) -> Uv:
    WORKS[0] = works
    return Uv("uv", environ or {}, chosen)


def pinned(tmp_path: Path) -> Path:
    lines = tmp_path / "pinned.txt"
    lines.write_text("it==1 --hash=sha256:00\n")
    return lines


def test_the_first_index_is_enough(asked: list[str], tmp_path: Path) -> None:
    installer("").install("python", pinned(tmp_path), sources=Sources())
    assert asked == [""]


def test_files_that_are_named_by_their_hashes_may_come_from_any_index(asked: list[str], tmp_path: Path) -> None:
    installer("unsafe-best-match").install("python", pinned(tmp_path), sources=Sources())
    assert asked == ["", "unsafe-first-match", "unsafe-best-match"]


def test_without_hashes_the_best_version_of_all_indexes_is_never_taken(asked: list[str]) -> None:
    with pytest.raises(InstallerFailed):
        installer("unsafe-best-match").solve("python", ("it",), (), ())
    assert asked == ["", "unsafe-first-match"]


def test_a_strategy_that_worked_is_kept_and_still_followed_by_all_indexes(asked: list[str], tmp_path: Path) -> None:
    uv = installer("unsafe-first-match")
    uv.install("python", pinned(tmp_path), sources=Sources())
    WORKS[0] = "unsafe-best-match"
    uv.install("python", pinned(tmp_path), sources=Sources())
    assert asked == ["", "unsafe-first-match", "unsafe-first-match", "unsafe-best-match"]


@pytest.mark.parametrize(
    ("environ", "chosen"),
    [({"UV_INDEX_STRATEGY": "first-index"}, SEVERAL), ({}, Settings(index="http://127.0.0.1/one"))],
)
def test_a_users_own_strategy_and_a_single_index_are_left_alone(
    asked: list[str], tmp_path: Path, environ: dict[str, str], chosen: Settings
) -> None:
    with pytest.raises(InstallerFailed):
        installer("unsafe-best-match", environ, chosen).install("python", pinned(tmp_path), sources=Sources())
    assert asked == [""]
