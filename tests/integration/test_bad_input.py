"""What people get wrong, and what stores do to them: two lines, the right exit code, and nothing lost."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from benchmarks.machines import TOY, Machine, final_state

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow
STEPS = ("--steps", "40", "--step-ms", "5")


def two_lines(done: subprocess.CompletedProcess[str]) -> tuple[str, str]:
    lines = done.stderr.splitlines()
    assert len(lines) == 2, done.stderr + done.stdout
    assert lines[0].startswith("error: ")
    assert lines[1].startswith("  try: ")
    assert "Traceback" not in done.stderr
    return lines[0], lines[1]


def refused(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    said = " ".join(two_lines(done))
    assert done.returncode == code, said
    for each in words:
        assert each in said


def trained(machine: Machine, *arguments: str, name: str = "toy") -> None:
    done = machine.run("start", str(TOY), "--name", name, "--save-every", "100ms", "--", *(arguments or STEPS))
    assert done.returncode == 0, done.stdout + done.stderr


def states(store: Path, name: str = "toy") -> list[Path]:
    return sorted((store / name).glob("e*/step-*/state-00000.safetensors"))


def damage(file: Path) -> None:
    body = bytearray(file.read_bytes())
    body[len(body) // 2] ^= 0xFF
    file.write_bytes(body)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], str]:
    def write(text: str) -> str:
        path = tmp_path / "script.py"
        path.write_text(text)
        return str(path)

    return write


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 800 kB of its own; only root may make one."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    folder = tmp_path / "small"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=800k", "tmpfs", str(folder)], check=False).returncode:
        pytest.skip("this machine allows no mounts")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["start", "nowhere.py"], "nowhere.py does not exist"),
        (["start", "."], "is a folder"),
        (["start"], "SCRIPT"),
        (["start", str(TOY), "--stepz"], "--stepz"),
        (["start", str(TOY), "--budget", "12x"], "'12x' is not a duration"),
        (["start", str(TOY), "--save-every", "often"], "'often' is no interval"),
        (["start", str(TOY), "--keep-last", "1"], "--keep-last"),
        (["start", str(TOY), "--max-restarts", "-1"], "--max-restarts"),
        (["start", str(TOY), "--resume", "perhaps"], "perhaps"),
        (["start", str(TOY), "--name", "a/b"], "a/b"),
        (["strat", str(TOY)], "no command 'strat'"),
    ],
)
def test_a_wrong_command_line_is_two_lines_exit_2_and_writes_nothing(
    machine: Machine, words: list[str], said: str
) -> None:
    refused(machine.run(*words), 2, said)
    assert not machine.store.exists()
    assert not machine.local.exists()


def test_a_script_that_is_not_python_is_never_started(machine: Machine, script: Callable[[str], str]) -> None:
    refused(machine.run("start", script("def broken(:\n")), 3, "line 1", "invalid syntax")
    assert not machine.store.exists()


def test_a_failing_import_is_not_retried(machine: Machine, script: Callable[[str], str]) -> None:
    done = machine.run("start", script("import a_package_that_is_not_there\n"))
    refused(done, 3, "No module named 'a_package_that_is_not_there'")
    assert "restarting" not in done.stdout


def test_arguments_that_the_script_refuses_are_not_retried(machine: Machine) -> None:
    done = machine.run("start", str(TOY), "--", "--stepz", "3")
    refused(done, 3, "refused its arguments")
    assert "unrecognized arguments: --stepz" in done.stdout
    assert "restarting" not in done.stdout


def test_a_file_in_place_of_the_store_is_left_alone(machine: Machine) -> None:
    machine.store.write_text("precious")
    refused(machine.run("start", str(TOY)), 4, "Not a directory")
    assert machine.store.read_text() == "precious"


def test_a_read_only_store_is_refused_before_anything_runs(machine: Machine, small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    machine.store = small_disk
    refused(machine.run("start", str(TOY)), 4, "Read-only file system", "nothing was lost")


def test_a_full_store_is_refused_before_anything_runs(machine: Machine, small_disk: Path) -> None:
    filler = small_disk / "filler"
    with pytest.raises(OSError, match="No space left"):
        filler.write_bytes(bytes(900_000))
    machine.store = small_disk
    refused(machine.run("start", str(TOY)), 4, "No space left", "make room")


def test_a_store_that_fills_up_costs_no_step_and_keeps_what_was_safe(machine: Machine, small_disk: Path) -> None:
    machine.store = small_disk
    small = ("--step-ms", "5", "--state-mb", "0.05")
    turn = machine.start(TOY, "--save-every", "100ms", "--budget", "12s", arguments=["--steps", "100000", *small])
    turn.until("safe: step")
    with pytest.raises(OSError, match="No space left"):
        (small_disk / "filler").write_bytes(bytes(900_000))
    turn.until("could not be put into the store")
    before = [each for each in states(small_disk) if list(each.parent.glob("manifest-*"))]  # what was published
    assert turn.wait() == 42, turn.text
    assert "No space left" in turn.text
    assert "restarting" not in turn.text
    assert len(before) >= 1
    assert set(before) <= set(states(small_disk))
    (small_disk / "filler").unlink()
    again = machine.start(TOY, arguments=["--steps", "2000", "--step-ms", "1", "--state-mb", "0.05"])
    assert again.wait() == 0, again.text
    assert "going on from step" in again.text


def test_a_damaged_newest_checkpoint_is_passed_over_aloud(machine: Machine, store: Path) -> None:
    trained(machine)
    damage(states(store)[-1])
    done = machine.run("start", str(TOY), "--", "--steps", "60", "--step-ms", "1")
    assert done.returncode == 0
    assert done.stderr == ""
    assert "was passed over: state-00000.safetensors is damaged" in done.stdout
    assert "going on from step" in done.stdout
    assert final_state(store, "toy")["step"] == 60


def test_if_all_checkpoints_are_damaged_it_stops_and_deletes_nothing(machine: Machine, store: Path) -> None:
    trained(machine)
    for each in states(store):
        damage(each)
    before = contents(store / "toy")
    done = machine.run("start", str(TOY), "--", "--steps", "60", "--step-ms", "1")
    refused(done, 4, "no usable checkpoint is in it", "--resume never")
    assert {name: contents(store / "toy")[name] for name in before} == before
    again = machine.run("start", str(TOY), "--resume", "never", "--", "--steps", "60", "--step-ms", "1")
    assert again.returncode == 0, again.stderr


@pytest.mark.parametrize("what", ["run.json", "manifest"])
def test_what_a_newer_version_wrote_is_not_touched(machine: Machine, store: Path, what: str) -> None:
    trained(machine)
    if what == "run.json":
        record = store / "toy" / "run.json"
        record.write_text(json.dumps({**json.loads(record.read_text()), "schema": 99}))
    else:
        from supervisor.core.checkpoint import manifest_name

        newest = max((store / "toy").glob("e*/step-*/manifest-*.json"), key=lambda path: path.parent.name)
        body = newest.read_bytes().replace(b'"schema":1', b'"schema":99')
        seq = int(newest.name.split("-")[1])
        newest.unlink()
        (newest.parent / manifest_name(seq, body)).write_bytes(body)
    before = contents(store / "toy")
    done = machine.run("start", str(TOY), "--", "--steps", "60", "--step-ms", "1")
    refused(done, 4, "newer version", "update training-supervisor")
    assert {name: contents(store / "toy")[name] for name in before} == before


def test_a_damaged_run_record_is_named_and_the_checkpoints_stay(machine: Machine, store: Path) -> None:
    trained(machine)
    (store / "toy" / "run.json").write_text('{"schema": 1, ')
    before = contents(store / "toy")
    assert "run.json is damaged" in machine.run("status", "toy").stderr
    again = machine.run("start", str(TOY), "--", *STEPS)
    assert again.returncode == 0, again.stderr
    assert "finished already" in again.stdout
    assert {name: contents(store / "toy")[name] for name in before} == before


def test_another_script_under_the_same_name_is_refused(
    machine: Machine, store: Path, script: Callable[[str], str]
) -> None:
    trained(machine)
    before = contents(store / "toy")
    refused(machine.run("start", script("print(1)\n"), "--name", "toy"), 4, "of another script", "--name")
    assert contents(store / "toy") == before


def test_must_resume_refuses_to_begin(machine: Machine) -> None:
    refused(machine.run("start", str(TOY), "--resume", "must"), 4, "no checkpoint to resume from")


@pytest.mark.parametrize(
    "block", ['requires-python = ">=99"', 'dependencies = ["nowhere @ file:///nowhere/nowhere.whl"]']
)
def test_a_first_start_that_is_refused_leaves_no_run_behind(
    machine: Machine, script: Callable[[str], str], block: str
) -> None:
    done = machine.run("start", script(f"# /// script\n# {block}\n# ///\nprint(1)\n"))
    two_lines(done)
    assert done.returncode == 3
    assert "no run is kept of it" in done.stdout
    assert json.loads(machine.run("list", "--json").stdout) == []
    assert not list(machine.store.glob("*"))


def test_a_later_start_that_is_refused_keeps_the_run(machine: Machine, script: Callable[[str], str]) -> None:
    path = script("print(1)\n")
    assert machine.run("start", path).returncode == 0
    script('# /// script\n# requires-python = ">=99"\n# ///\nprint(1)\n')
    assert machine.run("start", path, "--resume", "never").returncode == 3
    assert [each["run"] for each in json.loads(machine.run("list", "--json").stdout)] == ["script"]


def test_an_unknown_option_in_the_script_itself_is_named(machine: Machine, script: Callable[[str], str]) -> None:
    text = '# /// script\n# [tool.supervisor]\n# save-evry = "1m"\n# ///\nprint(1)\n'
    refused(machine.run("start", script(text)), 2, "save-evry")


def test_json_keeps_stdout_clean_and_errors_on_stderr(machine: Machine, script: Callable[[str], str]) -> None:
    done = machine.run("start", script("import a_package_that_is_not_there\n"), "--json")
    two_lines(done)
    assert done.returncode == 3
    for line in done.stdout.splitlines():
        assert "is" in json.loads(line)
