"""How the program was called is how its command lines begin, with names and paths that the shell reads as they are."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import supervisor
from supervisor.cli import calling
from supervisor.core import program

CLONE = Path(supervisor.__file__).resolve().parents[1]
FOLDER = str(CLONE / "supervisor")


def called(*original: str, argv0: str = "", told: str = "", which: str | None = "/usr/bin/python3") -> str:
    return calling.read(original, argv0, {program.ENVIRONMENT: told} if told else {}, lambda _name: which)


@pytest.mark.parametrize(
    ("original", "prefix"),
    [
        (("python3", "-m", "supervisor", "start", "x.py"), "python3 -m supervisor"),
        (("/opt/my py/bin/python", "-m", "supervisor", "list"), "'/opt/my py/bin/python' -m supervisor"),
        (("python3.11", "-X", "dev", "-P", "-m", "supervisor"), "python3.11 -X dev -P -m supervisor"),
        (("python3", "-Pm", "supervisor", "status"), "python3 -Pm supervisor"),
        (("python3", "-msupervisor", "status"), "python3 -msupervisor"),
        (("python3", "-W", "error", "-m", "supervisor", "-m"), "python3 -W error -m supervisor"),
    ],
)
def test_a_module_is_named_with_its_interpreter(original: tuple[str, ...], prefix: str) -> None:
    assert called(*original, argv0=f"{FOLDER}/__main__.py") == prefix


@pytest.mark.parametrize("named", [FOLDER, f"{FOLDER}/__main__.py"])
def test_a_folder_that_is_run_is_named(named: str) -> None:
    assert called("python3", named, "list", argv0=named) == shlex.join(["python3", named])


def test_the_console_script_is_named_alone_where_the_shell_finds_it(tmp_path: Path) -> None:
    script = tmp_path / "my venv" / "training-supervisor"
    script.parent.mkdir()
    script.touch()
    original = ("/venv/bin/python", str(script), "list")
    assert called(*original, argv0=str(script), which=str(script)) == "training-supervisor"
    assert called(*original, argv0=str(script), which=None) == f"'{script}'"


def test_a_process_that_another_started_shows_the_commands_of_that_one() -> None:
    assert called("python3", "-m", "supervisor", "status", told="%supervisor") == "%supervisor"


def test_elsewhere_the_interpreter_that_is_there_is_named() -> None:
    assert called("python3", "-m", "pytest", argv0="/x/pytest/__main__.py") == "python3 -m supervisor"
    assert called("python3", "-m", "pytest", argv0="x", which=None).endswith(" -m supervisor")


NAMES = st.text(st.characters(exclude_categories=("Cc", "Cs"), exclude_characters="/\\"), min_size=1, max_size=20)


@given(NAMES, NAMES)
def test_a_shell_reads_names_and_stores_as_they_are(run: str, store: str) -> None:
    words = shlex.split(program.command_of_run("logs", run, "-f", option=program.store_option(store)))
    assert words[:4] == ["python3", "-m", "supervisor", "logs"]
    assert words[4] == (f"--name={run}" if run.startswith("-") else run)
    assert words[5:] == ["-f", *([f"--store={store}"] if store.startswith("-") else ["--store", store])]


def test_the_store_is_named_before_the_scripts_own_arguments() -> None:
    said = program.command("start", "my x.py", "--", "--epochs", "2", option=" --store s")
    assert said == "python3 -m supervisor start 'my x.py' --store s -- --epochs 2"


@pytest.fixture
def about():
    program.set_about("my run", " --store 'My Drive'")
    yield
    program.set_called_as(program.DEFAULT)


@pytest.mark.parametrize(
    ("short", "whole"),
    [
        ("see `logs`, please", "see `python3 -m supervisor logs 'my run' --store 'My Drive'`, please"),
        ("`stop --now` ends it", "`python3 -m supervisor stop 'my run' --now --store 'My Drive'` ends it"),
        ("`doctor`", "`python3 -m supervisor doctor --store 'My Drive'`"),
        ("`launch --release m --on local`", "`python3 -m supervisor launch --release m --on local`"),
        ("`nvidia-smi` and `statusx`", "`nvidia-smi` and `statusx`"),
    ],
)
def test_short_commands_in_backquotes_become_whole_ones(about: None, short: str, whole: str) -> None:
    assert program.expanded(short) == whole
