"""What the product ships is found in a clone and in an installed wheel alike: packed, copied out, started."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import pytest

from supervisor.cli import main, shipped, start

ROOT = Path(__file__).resolve().parents[3]
NEEDED = (
    "supervisor/__init__.py", "supervisor/requirements.txt", "trainers/toy.py", "hyperlpr_example/colab.ipynb",
    "docs/frameworks.md", "README.md",
)  # fmt: skip


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The package as an installer leaves it, beside the files of another distribution."""
    packages = tmp_path / "site-packages"
    for name, path in shipped.product().items():
        if name.startswith(("supervisor/", "hyperlpr_example/")):
            copy(path, packages / name)
    for name, path in shipped.examples().items():
        copy(path, packages / "supervisor" / "examples" / name)
    own = [path.relative_to(packages).as_posix() for path in packages.rglob("*") if path.is_file()]
    record = packages / "training_supervisor-0.1.0.dist-info" / "RECORD"
    record.parent.mkdir()
    record.write_text("".join(f"{name},sha256=x,1\n" for name in own))
    (packages / "supervisor" / "supervisord.py").touch()
    return packages / "supervisor"


def copy(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, target)


def test_a_clone_and_an_installed_wheel_ship_the_same_files(installed: Path) -> None:
    assert shipped.is_clone()
    assert not shipped.is_clone(installed)
    assert shipped.examples(installed).keys() == shipped.examples().keys()
    assert set(NEEDED) <= shipped.product(installed).keys() <= shipped.product().keys(), "and no other's files"


def test_pack_writes_one_zip_with_a_clone_in_it(tmp_path: Path, capsys) -> None:
    assert main(["pack", "--for-colab", "-o", str(tmp_path)]) == 0
    (path,) = tmp_path.iterdir()
    assert path.name == "training-supervisor-0.1.0.zip"
    names = zipfile.ZipFile(path).namelist()
    assert {f"training-supervisor-0.1.0/{name}" for name in NEEDED} <= set(names)
    assert not [name for name in names if "__pycache__" in name or "/." in name]
    assert "MyDrive/training-supervisor" in capsys.readouterr().out


def test_a_zip_that_cannot_be_written_is_said_in_two_lines_and_leaves_nothing(tmp_path: Path, capsys) -> None:
    assert main(["pack", "-o", str(tmp_path / "absent" / "x.zip")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2
    assert not list(tmp_path.iterdir())


def test_examples_are_copied_and_never_replace_a_file(tmp_path: Path, capsys) -> None:
    target = tmp_path / "mine"
    assert main(["examples", str(target)]) == 0
    assert (target / "trainers" / "toy.py").read_bytes() == (ROOT / "trainers" / "toy.py").read_bytes()
    assert (target / "hyperlpr_example" / "colab.ipynb").is_file()
    assert str(target / "trainers" / "toy.py") in capsys.readouterr().out
    (target / "trainers" / "toy.py").write_text("my own")
    assert main(["examples", str(target)]) == 2
    assert (target / "trainers" / "toy.py").read_text() == "my own"


def test_a_shipped_trainer_is_started_where_no_such_file_is_here(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert start.script_path("trainers/toy.py") == ROOT / "trainers" / "toy.py"
    (tmp_path / "trainers").mkdir()
    (tmp_path / "trainers" / "toy.py").write_text("mine = 1")
    assert start.script_path("trainers/toy.py") == tmp_path / "trainers" / "toy.py"


@pytest.mark.parametrize("text", ["toy.py", "trainers/other.py", "../trainers/toy.py", "trainers/../trainers/toy.py"])
def test_other_names_never_mean_a_shipped_trainer(text: str, installed: Path) -> None:
    assert shipped.script(text, installed) is None
    assert shipped.script("trainers/toy.py", installed) == installed / "examples" / "trainers" / "toy.py"
