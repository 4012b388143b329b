"""What a script saved is followed when it is renamed, moved, copied or linked, also while it was written as an open file."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from supervisor.core.messages import Saved
from supervisor.trainer.hooks import writers
from supervisor.trainer.hooks.saves import MOVES
from supervisor.trainer.hooks.unattached import Unattached
from supervisor.trainer.life import Life
from supervisor.trainer.settings import read_settings

ROOT = Path(__file__).resolve().parents[3]


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


@pytest.mark.parametrize(
    ("row", "argument", "given", "told"),
    [
        # the calls as stable-baselines3 2.9, XGBoost 3.2, LightGBM 4.7 and CatBoost declare them
        ("stable_baselines3.common.base_class BaseAlgorithm.save", "path", "rl_model_8000_steps", ".zip"),
        ("xgboost.core Booster.save_model", "fname", "model_4.ubj", ""),
        ("lightgbm.basic Booster.save_model", "filename", "model.txt", ""),
        ("catboost.core CatBoost.save_model", "fname", "model.cbm", ""),
    ],
)
def test_writers_of_other_libraries_are_told_with_the_suffix_that_they_add(  # noqa: PLR0917  # the row
    script: Watched, tmp_path: Path, row: str, argument: str, given: str, told: str
) -> None:
    name, dotted = row.split()
    owner, method = dotted.split(".")
    module, written = ModuleType(name), dict[str, Any]()
    exec(  # a stand-in with the library's call shape
        f"class {owner}:\n    def {method}(self, {argument}, *more):\n        open(str({argument}) + {told!r}, 'wb').close()\n",
        written,
    )
    setattr(module, owner, written[owner])
    writers.install(module, script)
    getattr(written[owner](), method)(str(tmp_path / given))
    assert [each for each, _ in script.told] == [given + told]


@pytest.mark.slow
def test_torch_scripts_and_distributed_checkpoints_are_told(tmp_path: Path) -> None:
    """In a process of its own, because what is hooked stays so."""
    code = """
import sys
from pathlib import Path
from supervisor.trainer import hooks
from tests.unit.trainer.test_moves import Watched
script = Watched()
hooks.install(script)
import torch
import torch.distributed.checkpoint as dcp
here, model = Path(sys.argv[1]), torch.nn.Linear(2, 2)
torch.jit.save(torch.jit.script(model), here / "scripted.pt")
dcp.save({"model": model.state_dict()}, checkpoint_id=here / "step-1")
with open(here / "tmp", "wb") as file:
    torch.save(model.state_dict(), file)
(here / "tmp").rename(here / "model_1.pt")
print([name for name, _ in script.told])
"""
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.stdout.splitlines()[-1:] == ["['scripted.pt', 'step-1', 'model_1.pt']"], done.stderr
