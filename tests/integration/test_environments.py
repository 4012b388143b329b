"""A script gets the packages it asks for: with real installers, real interpreters, and no network."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from supervisor.core.environment import Record
from supervisor.core.errors import SetupError
from supervisor.environments import installers
from supervisor.environments.prepare import Prepared, prepare
from supervisor.environments.wheels import wheels_to_keep
from tests.wheelhouse import offline_environ, write_interpreter, write_wheel

CHECKOUT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow


class Machine:
    """A machine with an interpreter of its own, a wheel folder for an index, and an empty private folder."""

    def __init__(self, folder: Path, **installed: str) -> None:
        self.folder = folder
        self.index = folder / "index"
        self.index.mkdir(parents=True)
        self.python = write_interpreter(folder / "python", **installed)
        self.environ = offline_environ(folder, self.index)
        self.said: list[str] = []

    @classmethod
    def with_parts(cls, folder: Path) -> Machine:
        """A machine with "frame" and "tool" 1.0, and an index from which "part" brings "piece"."""
        made = cls(folder / "first", frame="1.0", tool="1.0")
        write_wheel(made.index, "part", "1.0", requires=("piece>=1",))
        write_wheel(made.index, "piece", "1.1", requires=("frame",))
        return made

    def prepare(
        self, script: Path, recorded: bytes | None = None, wheels: Path | None = None, **more: bool
    ) -> Prepared:
        return prepare(script, python=str(self.python), root=self.folder / "root", recorded=recorded, wheels=wheels,
                       say=self.said.append, environ=self.environ, **more)  # fmt: skip

    def output(self, prepared: Prepared, code: str) -> str:
        return subprocess.run(
            [prepared.python, "-c", code], env=prepared.env, capture_output=True, text=True, check=True
        ).stdout.strip()


@pytest.fixture(params=["uv", "pip"])
def machine(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine on which one installer is the one that is used, with "frame" 1.0 in its Python."""
    if request.param == "uv" and installers.find_uv(os.environ, CHECKOUT / ".supervisor") is None:
        pytest.skip("no uv on this machine")
    if request.param == "pip":
        monkeypatch.setattr(installers, "find_uv", lambda environ, home: None)
    return Machine.with_parts(tmp_path)


def script(folder: Path, *wanted: str, python: str = ">=3.11") -> Path:
    path = folder / "job.py"
    path.write_text(f"# /// script\n# requires-python = '{python}'\n# dependencies = {list(wanted)!r}\n# ///\n")
    return path


def versions_seen(*names: str) -> str:
    return f"import {', '.join(names)}; print({', '.join(f'{name}.version' for name in names)})"


def test_nothing_is_installed_where_nothing_is_missing(machine: Machine, tmp_path: Path):
    prepared = machine.prepare(script(tmp_path, "frame>=1", "tool"))
    assert prepared.python == str(machine.python)
    assert prepared.installed == ()
    assert not (machine.folder / "root" / ".supervisor" / "envs").exists()
    assert Record.from_bytes(prepared.record).found.distributions == {"frame": "1.0", "tool": "1.0"}


def test_only_the_difference_is_laid_over_the_machines_own(machine: Machine, tmp_path: Path):
    prepared = machine.prepare(script(tmp_path, "part", "frame>=1"))
    assert prepared.installed == ("part 1.0", "piece 1.1")
    assert machine.output(prepared, versions_seen("part", "piece", "frame", "tool")) == "1.0 1.1 1.0 1.0"
    assert machine.output(prepared, "import frame; print(frame.__file__)").startswith(str(machine.folder / "python"))
    assert machine.output(prepared, "import part; print(part.__file__)").startswith(str(machine.folder / "root"))
    assert not list((machine.folder / "python").rglob("part*"))


def test_the_second_start_asks_no_installer(machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    job = script(tmp_path, "part")
    first = machine.prepare(job)
    monkeypatch.setattr(installers, "choose", lambda *_, **__: pytest.fail("an installer was asked"))
    for recorded in (None, first.record):
        again = machine.prepare(job, recorded)
        assert (again.python, again.record_name, again.drift) == (first.python, first.record_name, ())


@pytest.mark.parametrize("trusted", [True, False])
def test_a_blank_machine_of_the_same_kind_gets_exactly_the_recorded_packages(
    machine: Machine, tmp_path: Path, *, trusted: bool
):
    job = script(tmp_path, "part")
    first = machine.prepare(job)
    write_wheel(machine.index, "part", "2.0")
    second = Machine(tmp_path / "second", frame="1.0", tool="1.0")
    second.environ = offline_environ(second.folder, machine.index)
    resumed = second.prepare(job, first.record, trusted=trusted)
    assert resumed.installed == first.installed
    assert resumed.drift == ()
    assert second.output(resumed, versions_seen("part")) == "1.0"
    assert any("has not signed" in words for words in second.said) is not trusted


def test_kept_wheels_do_without_any_index(machine: Machine, tmp_path: Path):
    job = script(tmp_path, "part")
    first = machine.prepare(job)
    kept = wheels_to_keep(first, tmp_path / "kept", say=machine.said.append, environ=machine.environ)
    assert sorted(file.name for file in kept) == ["part-1.0-py3-none-any.whl", "piece-1.1-py3-none-any.whl"]
    second = Machine(tmp_path / "second", frame="1.0", tool="1.0")
    resumed = second.prepare(job, first.record, tmp_path / "kept", trusted=True)
    assert second.output(resumed, versions_seen("part", "piece")) == "1.0 1.1"


def test_kept_wheels_serve_another_image_too_and_the_drift_is_said(machine: Machine, tmp_path: Path):
    job = script(tmp_path, "part")
    first = machine.prepare(job)
    wheels_to_keep(first, tmp_path / "kept", say=machine.said.append, environ=machine.environ)
    second = Machine(tmp_path / "second", frame="1.5")
    resumed = second.prepare(job, first.record, tmp_path / "kept", trusted=True)
    assert resumed.installed == first.installed
    assert resumed.drift == ("2 other packages changed version",)
    assert resumed.record_name != first.record_name


def test_a_file_with_another_hash_is_refused(machine: Machine, tmp_path: Path):
    job = script(tmp_path, "part")
    first = machine.prepare(job)
    second = Machine(tmp_path / "second", frame="1.0", tool="1.0")
    write_wheel(second.index, "part", "1.0", body="stolen = True\n")
    write_wheel(second.index, "piece", "1.1", requires=("frame",))
    with pytest.raises(SetupError, match="part 1"):
        second.prepare(job, first.record, trusted=True)
    assert not list((second.folder / "root" / ".supervisor").glob("envs/*/complete"))


def test_a_damaged_kept_wheel_is_replaced_from_the_index(machine: Machine, tmp_path: Path):
    job = script(tmp_path, "part")
    first = machine.prepare(job)
    write_wheel(tmp_path / "kept", "part", "1.0", body="damaged = True\n")
    second = Machine(tmp_path / "second", frame="1.0", tool="1.0")
    second.environ = offline_environ(second.folder, machine.index)
    resumed = second.prepare(job, first.record, tmp_path / "kept")
    assert second.output(resumed, "import part; print(hasattr(part, 'damaged'))") == "False"


def test_a_wish_beyond_the_machines_version_is_shadowed_for_the_job_alone(machine: Machine, tmp_path: Path):
    write_wheel(machine.index, "tool", "2.0")
    prepared = machine.prepare(script(tmp_path, "tool>=2"))
    assert machine.output(prepared, versions_seen("tool")) == "2.0"
    own = subprocess.run([machine.python, "-c", versions_seen("tool")], capture_output=True, text=True, check=True)
    assert own.stdout.strip() == "1.0"


@pytest.mark.parametrize(
    ("wanted", "words"),
    [(["no-such-thing"], "no-such-thing"), (["piece>=7"], "piece"), (["part", "piece<1"], "piece")],
)
def test_an_impossible_wish_ends_in_the_installers_own_reason(
    machine: Machine, tmp_path: Path, wanted: list[str], words: str
):
    with pytest.raises(SetupError, match="cannot be installed here") as refusal:
        machine.prepare(script(tmp_path, *wanted))
    assert words in refusal.value.what.partition("cannot be installed here")[2]
    assert refusal.value.exit_code == 3
    assert "\n" not in refusal.value.what
    assert not (machine.folder / "root" / ".supervisor" / "envs").exists()


def test_a_python_that_does_not_fit_is_refused_before_anything_is_made(tmp_path: Path):
    first = Machine(tmp_path / "first")
    with pytest.raises(SetupError, match="needs Python >=3"):
        first.prepare(script(tmp_path, python=">=3.99"))


def test_no_install_means_none_and_says_what_is_missing(tmp_path: Path):
    first = Machine(tmp_path / "first")
    prepared = first.prepare(script(tmp_path, "part"), install=False)
    assert prepared.python == str(first.python)
    assert "part" in first.said[-1]


def test_a_damaged_record_is_said_and_made_anew(tmp_path: Path):
    first = Machine(tmp_path / "first")
    prepared = first.prepare(script(tmp_path), b"# training-supervisor environment, version 1: cut")
    assert "cannot be read" in prepared.drift[0]
    assert Record.from_bytes(prepared.record).found.python


def test_the_trainer_is_spared_what_a_notebook_sets(tmp_path: Path):
    first = Machine(tmp_path / "first")
    first.environ |= {
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "PYTHONDONTWRITEBYTECODE": "1",
        "KEPT": "yes",
    }
    env = first.prepare(script(tmp_path)).env
    assert env["MPLBACKEND"] == "Agg"
    assert "PYTHONDONTWRITEBYTECODE" not in env
    assert env["KEPT"] == "yes"


def test_on_a_machine_like_colabs_nothing_of_its_own_is_touched(machine: Machine, tmp_path: Path):
    own = next((machine.folder / "python" / "lib").glob("*/site-packages"))
    on_path = tmp_path / "env" / "python"
    stack = {"torch": "2.11.0+cu128", "tensorflow": "2.20.0", "numpy": "2.1.3", "nvidia-cudnn-cu12": "9.19"}
    for name, version, folder in [
        *((name, version, own) for name, version in stack.items()),
        ("shade", "1.0", on_path),
    ]:
        with zipfile.ZipFile(write_wheel(tmp_path / "image", name, version)) as wheel:
            wheel.extractall(folder)
    write_wheel(machine.index, "shade", "2.0")
    for name in stack:
        write_wheel(machine.index, name, "99.0")  # what an installer would upgrade to
    write_wheel(machine.index, "trainer-of-torch", "1.0", requires=("torch", "numpy>=2", "nvidia-cudnn-cu12"))
    machine.environ |= {"UV_SYSTEM_PYTHON": "true", "UV_CONSTRAINT": "/absent", "UV_PRERELEASE": "", "PIP_TARGET": str(own),
                        "PYTHONPATH": str(on_path), "MPLBACKEND": "module://matplotlib_inline.backend_inline"}  # fmt: skip
    before = {path: path.stat().st_mtime_ns for path in (*own.rglob("*"), *on_path.rglob("*")) if path.is_file()}
    prepared = machine.prepare(script(tmp_path, "part", "shade>=2", "trainer-of-torch", "torch>=2"))
    assert prepared.installed == ("part 1.0", "piece 1.1", "shade 2.0", "trainer-of-torch 1.0")
    assert machine.output(prepared, versions_seen("part", "shade", "torch", "numpy")) == "1.0 2.0 2.11.0+cu128 2.1.3"
    after = {path: path.stat().st_mtime_ns for path in (*own.rglob("*"), *on_path.rglob("*")) if path.is_file()}
    assert {path: at for path, at in after.items() if "__pycache__" not in path.parts} == before
    assert prepared.env["MPLBACKEND"] == "Agg"
    machine.environ["TPU_ACCELERATOR_TYPE"] = "v5e-1"  # an accelerator, to whose driver the builds are matched
    kept = machine.prepare(script(tmp_path, "torch>=3"))
    assert kept.python == str(machine.python)
    assert "torch>=3 is asked for, and torch 2.11.0+cu128 is used" in machine.said[-1]


START = """
import os, sys
sys.path.insert(0, {checkout!r})
from pathlib import Path
from supervisor.environments.prepare import prepare
prepared = prepare(Path({script!r}), python={python!r}, root=Path({root!r}), recorded=None, wheels=None, say=lambda words: None)
os.execve(prepared.python, [prepared.python, "-c", "import part, piece, frame; print('whole')"], prepared.env)
"""


# Before each thing that is done to what stays: what is only asked, or written elsewhere, the next start does not find.
DIE_AT = """
import os, sys
left = [{step}]
def count(event, details):
    writes = event == "open" and isinstance(details[2], int) and details[2] & (os.O_WRONLY | os.O_RDWR)
    acts = ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.rmtree", "subprocess.Popen")
    if (writes or event in acts) and {root!r} in repr(details[:2]):
        left[0] -= 1
        if left[0] == 0:
            os._exit(137)
sys.dont_write_bytecode = True
sys.addaudithook(count)
"""


@pytest.mark.timeout(1800)
def test_killed_before_each_thing_it_does_the_next_start_works(tmp_path: Path):
    machine = Machine.with_parts(tmp_path)
    job = script(tmp_path, "part")
    for step in range(1, 100):
        root = machine.folder / f"root-{step}"
        code = START.format(checkout=str(CHECKOUT), script=str(job), python=str(machine.python), root=str(root))
        died = subprocess.run(
            [sys.executable, "-c", DIE_AT.format(step=step, root=str(root)) + code],
            env=machine.environ,
            capture_output=True,
            text=True,
            check=False,
        )
        done = subprocess.run(
            [sys.executable, "-c", code], env=machine.environ, capture_output=True, text=True, check=False
        )
        assert done.stdout.strip() == "whole", f"after dying at step {step}: {done.stderr}"
        if died.returncode == 0:
            break
        assert died.returncode == 137, died.stderr
    assert died.stdout.strip() == "whole"
    assert step > 10


def test_killed_at_any_moment_the_next_start_works(tmp_path: Path):
    machine = Machine.with_parts(tmp_path)
    code = START.format(checkout=str(CHECKOUT), script=str(script(tmp_path, "part")), python=str(machine.python),
                        root=str(machine.folder / "root"))  # fmt: skip
    command = [sys.executable, "-c", code]
    began = time.perf_counter()
    for life_s in (0.08, 0.15, 0.25, 0.4, 0.6, 0.8, 1.1):
        started = subprocess.Popen(command, env=machine.environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            started.wait(life_s)
        except subprocess.TimeoutExpired:
            started.send_signal(signal.SIGKILL)
            started.wait()
    done = subprocess.run(command, env=machine.environ, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "whole", f"{done.stderr}\nafter {time.perf_counter() - began:.1f} s"


def test_two_at_once_make_one_environment(tmp_path: Path):
    machine = Machine.with_parts(tmp_path)
    code = START.format(checkout=str(CHECKOUT), script=str(script(tmp_path, "part")), python=str(machine.python),
                        root=str(machine.folder / "root"))  # fmt: skip
    pair = [
        subprocess.Popen([sys.executable, "-c", code], env=machine.environ, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert [one.communicate()[0].strip() for one in pair] == ["whole", "whole"]
    assert len(list((machine.folder / "root" / ".supervisor" / "envs").glob("*/complete"))) == 1


def test_inside_an_environment_that_shows_the_system_the_system_counts(tmp_path: Path):
    machine = Machine.with_parts(tmp_path)
    write_wheel(machine.index, "frame", "1.0")
    shown = machine.folder / "shown"
    subprocess.run([machine.python, "-m", "venv", "--without-pip", "--system-site-packages", str(shown)], check=True)
    if subprocess.run([shown / "bin" / "python", "-c", "import pip"], capture_output=True, check=False).returncode != 0:
        pytest.skip("the Python below has no package to be seen")
    machine.python = shown / "bin" / "python"
    prepared = machine.prepare(script(tmp_path, "part", "pip"))
    assert {name.split()[0] for name in prepared.installed} == {"part", "piece", "frame"}
    assert machine.output(prepared, "import part, pip; print(part.version)") == "1.0"


@pytest.mark.network
def test_a_package_from_the_index_is_recorded_with_its_hashes(tmp_path: Path):
    prepared = prepare(
        script(tmp_path, "einops==0.8.1"), python=sys.executable, root=tmp_path, recorded=None, wheels=None, say=print
    )
    (locked,) = Record.from_bytes(prepared.record).difference
    assert locked.pin == "einops==0.8.1"
    assert locked.hashes
    assert b"://" not in prepared.record
    assert (
        subprocess.run([prepared.python, "-c", "import einops, pytest"], env=prepared.env, check=False).returncode == 0
    )


def test_a_root_that_cannot_be_written_is_left_alone(tmp_path: Path):
    first = Machine(tmp_path / "first")
    (first.folder / "root").touch()
    assert first.prepare(script(tmp_path)).home == first.folder / ".cache" / "training-supervisor"


def test_packages_too_large_to_carry_are_not_kept(tmp_path: Path):
    machine = Machine.with_parts(tmp_path)
    prepared = machine.prepare(script(tmp_path, "part"))
    assert wheels_to_keep(prepared, tmp_path / "kept", say=machine.said.append, kept_bytes_max=100) == []
    assert "the next machine downloads the job's packages again" in machine.said[-1]


def test_without_the_index_no_wheels_are_kept_and_that_is_said(tmp_path: Path):
    machine = Machine.with_parts(tmp_path)
    prepared = machine.prepare(script(tmp_path, "part"))
    (tmp_path / "kept" / ".tmp-dead").mkdir(parents=True)
    for wheel in machine.index.glob("*.whl"):
        wheel.unlink()
    assert wheels_to_keep(prepared, tmp_path / "kept", say=machine.said.append, environ=machine.environ) == []
    assert "no wheels are kept" in machine.said[-1]
    assert not list((tmp_path / "kept").iterdir())
