"""What a script saved is followed when it is renamed, moved, copied or linked, also while it was written as an open file."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from types import ModuleType

import pytest

from supervisor.core.messages import Saved
from supervisor.trainer.hooks import writers
from supervisor.trainer.hooks.saves import MOVES
from supervisor.trainer.hooks.unattached import Unattached
from supervisor.trainer.life import Life
from supervisor.trainer.settings import read_settings


class Watched(Unattached):
    """Keeps what is said."""

    def __init__(self) -> None:
        life = Life(read_settings({}, "train.py"))
        super().__init__(life)
        self.said: list[object] = []
        life.say = self.said.append  # type: ignore[method-assign]
        life.watch(self)

    @property
    def told(self) -> list[tuple[str, int | None]]:
        return [(Path(each.path).name, each.step) for each in self.said if isinstance(each, Saved)]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Watched:
    for module, name in MOVES:
        monkeypatch.setattr(module, name, getattr(module, name))
    return Watched()


def saved_into(script: Watched, file: object) -> None:
    script.stepped()
    script.saves.found(file)


@pytest.mark.parametrize("looked", [False, True])
def test_an_open_file_that_is_renamed_is_told_under_its_new_name(
    script: Watched, tmp_path: Path, *, looked: bool
) -> None:
    with (tmp_path / "model_7.pt.tmp").open("wb") as file:
        saved_into(script, file)
    if looked:
        script.beat()
    script.stepped()
    (tmp_path / "model_7.pt.tmp").rename(tmp_path / "model_7.pt")
    script.beat()
    assert script.told[-1][0] == "model_7.pt"
    assert looked or script.told == [("model_7.pt", 1)]


def test_a_named_temporary_file_that_is_moved_is_told_under_its_new_name(script: Watched, tmp_path: Path) -> None:
    with tempfile.NamedTemporaryFile(dir=tmp_path, delete=False) as file:
        saved_into(script, file)
    shutil.move(file.name, tmp_path / "last.pt")
    script.beat()
    assert script.told == [("last.pt", 1)]


def test_a_file_that_is_renamed_while_it_is_open_is_told_when_it_is_closed(script: Watched, tmp_path: Path) -> None:
    with (tmp_path / "a").open("wb") as file:
        saved_into(script, file)
        os.replace(tmp_path / "a", tmp_path / "b.pt")  # noqa: PTH105  # as scripts do
        script.beat()
        assert script.told == []
    script.beat()
    assert script.told == [("b.pt", 1)]


def test_hard_and_symbolic_links_are_told(script: Watched, tmp_path: Path) -> None:
    (tmp_path / "last.pt").write_bytes(b"x")
    script.saves.found(tmp_path / "last.pt")
    os.link(tmp_path / "last.pt", tmp_path / "best.pt")
    (tmp_path / "checkpoint-1.pt").hardlink_to(tmp_path / "best.pt")
    (tmp_path / "latest").symlink_to("last.pt")
    os.symlink(tmp_path / "last.pt", tmp_path / "newest")  # noqa: PTH211  # as scripts do
    os.link(__file__, tmp_path / "other") if os.stat(__file__).st_dev == tmp_path.stat().st_dev else None  # noqa: PTH116
    assert [name for name, _ in script.told] == ["last.pt", "best.pt", "checkpoint-1.pt", "latest", "newest"]


def test_a_link_to_a_file_that_was_written_open_is_told_though_the_first_name_goes(
    script: Watched, tmp_path: Path
) -> None:
    with (tmp_path / "x.tmp").open("wb") as file:
        saved_into(script, file)
    os.link(tmp_path / "x.tmp", tmp_path / "ckpt_1.pt")
    (tmp_path / "x.tmp").unlink()
    script.beat()
    assert ("ckpt_1.pt", 1) in script.told


def test_what_is_moved_from_another_file_system_is_told(
    script: Watched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "a.pt").write_bytes(b"x")
    (tmp_path / "there" / "folder").mkdir()
    (tmp_path / "there" / "folder" / "b.pt").write_bytes(b"x")

    def across(src: object, dst: object, **_options: object) -> None:
        raise OSError(18, "Invalid cross-device link", src, dst)

    monkeypatch.setattr(os, "rename", across)
    script.saves.found(tmp_path / "there" / "a.pt")
    script.saves.found(tmp_path / "there" / "folder" / "b.pt")
    (tmp_path / "here").mkdir()
    shutil.move(str(tmp_path / "there" / "a.pt"), str(tmp_path / "here"))
    shutil.move(str(tmp_path / "there" / "folder"), str(tmp_path / "checkpoint-5"))
    told = [each.path for each in script.said if isinstance(each, Saved)]
    assert told[2:] == [str(tmp_path / "here" / "a.pt"), str(tmp_path / "checkpoint-5")]


def test_what_is_renamed_within_a_save_is_told_once_under_its_last_name(script: Watched, tmp_path: Path) -> None:
    (tmp_path / "tmp-checkpoint-5").mkdir()
    (tmp_path / "tmp-checkpoint-5" / "optimizer.pt").touch()
    script.saves._follow()
    with script.saves.within():
        script.saves.found(tmp_path / "tmp-checkpoint-5" / "optimizer.pt")
        (tmp_path / "tmp-checkpoint-5").rename(tmp_path / "checkpoint-5")
    told = [each.path for each in script.said if isinstance(each, Saved)]
    assert told == [str(tmp_path / "checkpoint-5" / "optimizer.pt")]


def test_a_writer_that_adds_a_suffix_is_told_with_it(script: Watched, tmp_path: Path) -> None:
    """As stable-baselines3 does: ``model.save("rl_model")`` writes ``rl_model.zip``."""
    module = ModuleType("stable_baselines3.common.base_class")

    class BaseAlgorithm:
        def save(self, path: str, exclude: object = None) -> None:
            Path(f"{path}.zip").write_bytes(b"PK")

    BaseAlgorithm.__module__ = module.__name__
    module.BaseAlgorithm = BaseAlgorithm  # type: ignore[attr-defined]
    sys.modules.pop(module.__name__, None)
    writers.install(module, script)
    BaseAlgorithm().save(str(tmp_path / "rl_model_8000_steps"))
    assert [name for name, _ in script.told] == ["rl_model_8000_steps.zip"]
