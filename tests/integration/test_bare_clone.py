"""A bare clone without a network, under a Python that has none of our packages: the example and the benchmarks find xxhash too."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from supervisor import bootstrap
from tests.wheelhouse import fill_private, offline_environ, write_interpreter

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("supervisor", "trainers", "benchmarks", "hyperlpr_example")
COMPARES = """
from pathlib import Path
from benchmarks.machines import TOY, Machine, final_state
machine = Machine(Path("machine").absolute(), Path("store").absolute())
assert machine.run("start", str(TOY), "--", "--steps", "20").returncode == 0
print(final_state(Path("store"), "toy")["step"])
"""


class Clone:
    """A copy of what is checked out. Its private folder has the packages that an installer would fetch."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "clone"
        for name in FOLDERS:
            shutil.copytree(ROOT / name, self.folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        self.python = write_interpreter(folder / "python")
        self.environ = offline_environ(folder)
        requirements = self.folder / "supervisor" / "requirements.txt"
        private = self.folder / ".supervisor" / bootstrap.folder_name(requirements.read_bytes())
        fill_private(private)

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.python, *words], cwd=self.folder, env=self.environ, capture_output=True, text=True, check=False,
            timeout=400,
        )  # fmt: skip


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    made = Clone(tmp_path_factory.mktemp("bare"))
    assert made.run("-c", "import xxhash").returncode != 0
    return made


def test_the_example_verifies_an_exported_checkpoint(clone: Clone, tmp_path: Path) -> None:
    store, exported = str(tmp_path / "store"), str(tmp_path / "exported")
    started = clone.run("-m", "supervisor", "start", "trainers/toy.py", "--store", store, "--", "--steps", "20")
    assert started.returncode == 0, started.stdout + started.stderr
    told = clone.run("-m", "supervisor", "checkpoints", "toy", "export", "latest", exported, "--store", store)
    assert told.returncode == 0, told.stdout + told.stderr
    checks = "import sys; from hyperlpr_example.checkpoints import is_keras; from pathlib import Path; print(is_keras(Path(sys.argv[1])))"
    told = clone.run("-c", f"from hyperlpr_example.__main__ import make_digests_known as m; m(); {checks}", exported)
    assert told.stdout.strip() == "False", told.stderr


def test_a_benchmark_reads_a_final_state(clone: Clone) -> None:
    told = clone.run("-c", COMPARES)
    assert told.stdout.strip() == "20", told.stdout + told.stderr


@pytest.mark.parametrize("trainer", ["hyperlpr.py", "hyperlpr_keras.py"])
def test_a_trainer_shows_its_options_without_its_framework(clone: Clone, trainer: str) -> None:
    told = clone.run(f"trainers/{trainer}", "--help")
    assert told.returncode == 0, told.stderr
    assert "--init" in told.stdout


@pytest.mark.parametrize(("trainer", "lacks"), [("hyperlpr.py", "torch"), ("hyperlpr_keras.py", "keras")])
def test_a_trainer_without_its_framework_ends_in_two_lines(clone: Clone, trainer: str, lacks: str) -> None:
    told = clone.run(f"trainers/{trainer}", "--steps", "1")
    assert told.returncode == 3
    what, hint = told.stderr.splitlines()
    assert lacks in what
    assert f"-m supervisor start trainers/{trainer}" in hint


@pytest.mark.parametrize("benchmark", ["checkpoint", "growth", "goodput", "hooks"])
def test_a_benchmark_that_needs_torch_shows_its_options_without(clone: Clone, benchmark: str) -> None:
    told = clone.run("-m", f"benchmarks.{benchmark}", "--help")
    assert told.returncode == 0, told.stderr
    assert "usage" in told.stdout


def test_a_benchmark_whose_packages_cannot_be_fetched_ends_in_two_lines(clone: Clone) -> None:
    told = clone.run("-m", "benchmarks.hooks")
    assert told.returncode == 3, told.stdout + told.stderr
    assert "Traceback" not in told.stderr
    assert [line.partition(":")[0].strip() for line in told.stderr.splitlines()[-2:]] == ["error", "try"]


def test_digests_of_the_supervisors_own_packages_are_measured(clone: Clone) -> None:
    told = clone.run("-m", "benchmarks.digests")
    assert "xxh3-128" in told.stdout, told.stderr
    assert "xxhash package is not there" not in told.stdout
