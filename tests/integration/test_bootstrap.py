"""A bare clone starts by itself: its own packages are put in place once, privately, and never half."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from supervisor import bootstrap
from supervisor.core.errors import SetupError
from tests.wheelhouse import offline_environ, write_interpreter, write_wheel

CHECKOUT = Path(__file__).resolve().parents[2]
OWN = {
    "tenacity": "9.2.1", "watchdog": "7.1.0", "rich": "15.0.0", "packaging": "26.3", "xxhash": "4.1.0",
}  # fmt: skip
ENSURE = "import supervisor.bootstrap as b, sys; print(b.ensure()); import rich; print(rich.version, rich.__file__)"


class Clone:
    """A bare clone with a list of tiny packages in the place of the true ones, and a Python that has none of them."""

    def __init__(self, folder: Path, **installed: str) -> None:
        self.checkout = folder / "clone"
        shutil.copytree(
            CHECKOUT / "supervisor", self.checkout / "supervisor", ignore=shutil.ignore_patterns("__pycache__")
        )
        self.python = write_interpreter(folder / "python", **installed)
        self.wheels = folder / "wheels"
        for name, version in OWN.items():
            write_wheel(self.wheels, name, version)
        self.environ = offline_environ(folder, self.wheels)
        self.require("".join(self._pinned(wheel) for wheel in sorted(self.wheels.glob("*.whl"))))

    def require(self, text: str) -> None:
        (self.checkout / "supervisor" / "requirements.txt").write_text(text)

    def run(self, code: str = ENSURE) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.python, "-c", code], cwd=self.checkout, env=self.environ, capture_output=True, text=True, check=False
        )

    @property
    def private(self) -> list[Path]:
        return sorted((self.checkout / ".supervisor").glob("packages-*-*"))

    @staticmethod
    def _pinned(wheel: Path) -> str:
        from supervisor.environments.files import digest, package_of

        name, version = package_of(wheel.name)
        return f"{name}=={version} --hash={digest(wheel)}\n"


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path)


@pytest.mark.slow
def test_the_first_start_puts_its_own_packages_in_place_and_the_second_finds_them(clone: Clone):
    first = clone.run()
    assert first.stdout.split()[1:] == ["15.0.0", f"{clone.private[0]}/rich.py"], first.stderr
    assert "first start here" in first.stderr
    clone.environ["PIP_FIND_LINKS"] = ""
    second = clone.run()
    assert second.stdout == first.stdout
    assert second.stderr == ""


@pytest.mark.slow
def test_nothing_of_the_users_python_is_changed(clone: Clone):
    before = sorted(path for path in clone.python.parent.parent.rglob("*"))
    clone.run()
    assert sorted(path for path in clone.python.parent.parent.rglob("*")) == before


@pytest.mark.slow
def test_what_the_python_has_is_used_as_it_is(tmp_path: Path):
    clone = Clone(tmp_path, **OWN | {"rich": "13.9.4"})
    assert clone.run().stdout.split()[:2] == ["None", "13.9.4"]
    assert not (clone.checkout / ".supervisor").exists()


@pytest.mark.slow
def test_an_old_version_in_the_python_is_not_used(tmp_path: Path):
    clone = Clone(tmp_path, **OWN | {"rich": "12.6.0"})
    assert "15.0.0" in clone.run().stdout


@pytest.mark.slow
def test_another_list_is_another_folder(clone: Clone):
    clone.run()
    clone.require((clone.checkout / "supervisor" / "requirements.txt").read_text() + "# renewed\n")
    assert "15.0.0" in clone.run().stdout
    assert len(clone.private) == 2


@pytest.mark.slow
def test_without_network_and_wheels_it_ends_in_two_lines(clone: Clone):
    clone.environ["PIP_FIND_LINKS"] = ""
    code = """
import supervisor.bootstrap as b
from supervisor.core.errors import UserError
try: b.ensure()
except UserError as error: print(error.what); print(error.hint); raise SystemExit(error.exit_code)
"""
    ended = clone.run(code)
    assert ended.returncode == 3
    assert len(ended.stdout.splitlines()) == 2
    assert "own packages cannot be installed" in ended.stdout
    assert clone.private == []


@pytest.mark.slow
def test_a_package_with_another_hash_is_refused(clone: Clone):
    write_wheel(clone.wheels, "rich", "15.0.0", body="stolen = True\n")
    ended = clone.run()
    assert ended.returncode != 0
    assert clone.private == []


@pytest.mark.slow
def test_half_made_folders_are_swept_away_and_never_used(clone: Clone):
    home = clone.checkout / ".supervisor"
    clone.run()
    whole = clone.private[0]
    (whole / "complete").unlink()
    (whole / "rich.py").write_text("version = 'half'")
    (home / ".tmp-packages-dead").mkdir()
    assert "15.0.0" in clone.run().stdout
    assert not list(home.glob(".tmp-*"))


@pytest.mark.slow
def test_killed_at_any_moment_the_next_start_works(clone: Clone):
    for life_s in (0.1, 0.3, 0.6, 1.0):
        started = subprocess.Popen(
            [clone.python, "-c", ENSURE],
            cwd=clone.checkout,
            env=clone.environ,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(life_s)  # because the moment of death is what is tested
        started.kill()
        started.wait()
    assert "15.0.0" in clone.run().stdout


@pytest.mark.slow
def test_two_first_starts_at_once_both_work(clone: Clone):
    pair = [
        subprocess.Popen([clone.python, "-c", ENSURE], cwd=clone.checkout, env=clone.environ, stdout=subprocess.PIPE,
                         stderr=subprocess.DEVNULL, text=True)
        for _ in range(2)
    ]  # fmt: skip
    assert all("15.0.0" in one.communicate()[0] for one in pair)
    assert len(clone.private) == 1


@pytest.mark.slow
def test_a_checkout_that_cannot_be_written_uses_the_users_cache(clone: Clone):
    (clone.checkout / ".supervisor").touch()
    for _ in range(2):
        assert ".cache/training-supervisor/packages-" in clone.run().stdout


def test_a_home_that_cannot_be_made_is_passed_over(tmp_path: Path):
    from supervisor.environments.private import first_writable

    (tmp_path / "file").touch()
    assert first_writable([tmp_path / "file" / "home", tmp_path / "second"]) == tmp_path / "second"
    with pytest.raises(SetupError, match="can be written"):
        first_writable([tmp_path / "file" / "home"])


def test_the_door_imports_nothing_before_it_is_opened():
    code = "import sys; before = set(sys.modules); import supervisor.__main__; print(*set(sys.modules) - before)"
    listed = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    heavy = {
        "supervisor.cli",
        "supervisor.bootstrap",
        "argparse",
        "dataclasses",
        "pathlib",
        "subprocess",
        "json",
        "rich",
    }
    assert heavy.isdisjoint(listed.stdout.split())


def test_versions_are_compared_as_numbers(tmp_path: Path):
    for name, version in {**OWN, "rich": "13.0.0", "watchdog": "10.0"}.items():
        (tmp_path / f"{name}-{version}.dist-info").mkdir()
    assert bootstrap.importable([str(tmp_path / "gone"), str(tmp_path)])
    (tmp_path / "rich-13.0.0.dist-info").rename(tmp_path / "rich-9.13.0.dist-info")
    assert not bootstrap.importable([str(tmp_path)])


@pytest.mark.slow
@pytest.mark.network
def test_the_true_packages_come_from_the_index(tmp_path: Path):
    clone = Clone(tmp_path)
    shutil.copy(CHECKOUT / "supervisor" / "requirements.txt", clone.checkout / "supervisor" / "requirements.txt")
    clone.environ = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    ended = clone.run(
        "import supervisor.bootstrap as b; b.ensure(); import rich.progress, tenacity, watchdog.observers, packaging.version, xxhash"
    )
    assert ended.returncode == 0, ended.stderr
