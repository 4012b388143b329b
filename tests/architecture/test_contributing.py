"""CONTRIBUTING.md names files, commands, options and functions that exist, and its program runs."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from supervisor.cli import TABLE
from supervisor.environments.tool_env import TEST_ENVIRONMENTS

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "CONTRIBUTING.md").read_text()
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SPANS = sorted(set(re.findall(r"`([^`\n]+)`", FENCE.sub("", PAGE))))
COMMANDS = [line for kind, body in FENCE.findall(PAGE) if not kind for line in body.splitlines()]
COMMANDS += [span for span in SPANS if re.match(r"(python3|make|pre-commit) \S", span)]
PATHS = [span for span in SPANS if "/" in span and " " not in span]
GOLDEN = ROOT / "tests" / "golden" / "store" / "golden" / "e00000001-e07acb97" / "journal-000001.jsonl"


def missing(path: str) -> bool:
    """Whether a path of the page does not exist; of one with a NAME to fill in, the folder counts."""
    found = ROOT / path
    return not (found.parent if "NAME" in found.name else found).exists()


def unknown(command: str) -> str:
    """Return what a command names that does not exist, "" for nothing."""
    words = command.split()
    lacking = [word for word in words if word.startswith(("tests/", "benchmarks/")) and missing(word)]
    if words[:3] == ["python3", "-m", "supervisor.bootstrap"]:
        name = words[4] if words[3] == "exec" else words[3]
        lacking += [] if name in TEST_ENVIRONMENTS else [name]
    elif words[:3] == ["python3", "-m", "supervisor"]:
        lacking += [] if words[3] in TABLE else [words[3]]
    elif words[0] == "make":
        lacking += [] if re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE) else [words[1]]
    elif words[0] not in {"python3", "pre-commit"}:
        lacking.append(words[0])
    return " ".join(lacking)


@pytest.mark.parametrize("path", PATHS)
def test_a_path_of_the_page_exists(path: str) -> None:
    assert not missing(path) or path == ".supervisor/"


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_page_exists(command: str) -> None:
    assert not unknown(command)


def test_what_does_not_exist_is_found() -> None:
    assert missing("supervisor/nothing.py")
    assert missing("supervisor/nothing/NAME.py")
    assert not missing("supervisor/platforms/NAME.py")
    assert unknown("make nothing") == "nothing"
    assert unknown("python3 -m supervisor nothing RUN") == "nothing"
    assert unknown("python3 -m supervisor.bootstrap nothing tests/nothing.py") == "tests/nothing.py nothing"
    assert unknown("nox tests") == "nox"


@pytest.mark.parametrize("row", [line for line in PAGE.splitlines() if line.startswith("|") and "`" in line])
def test_a_file_beside_its_folder_in_a_row_exists(row: str) -> None:
    """In the answers a file is named after its folder: `supervisor/core/policy`: `retention.py`."""
    spans = re.findall(r"`([^`]+)`", row)
    folders = [ROOT / span for span in spans if "/" in span]
    for name in (span for span in spans if re.fullmatch(r"\w+\.py", span)):
        assert any((folder / name).is_file() for folder in folders), name


@pytest.mark.parametrize(
    ("table", "path"), re.findall(r"`(TABLE|ROWS|CLOUDS|open_store|replay)` (?:in|of) `([\w/.]+)`", PAGE)
)
def test_a_name_of_the_page_is_in_its_file(table: str, path: str) -> None:
    names = {
        name.id if isinstance(name, ast.Name) else getattr(name, "name", "")
        for node in ast.parse((ROOT / path).read_text()).body
        for name in [node, *getattr(node, "targets", []), *([node.target] if isinstance(node, ast.AnnAssign) else [])]
    }
    assert table in names


def test_the_program_that_replays_a_journal_runs() -> None:
    (program,) = [body for kind, body in FENCE.findall(PAGE) if kind == "python"]
    done = subprocess.run(
        [sys.executable, "-c", program, str(GOLDEN)], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "SessionStarted()" in done.stdout
    assert "RunStatus(run='golden'" in done.stdout.splitlines()[-1]


GLOSSARY = [line for line in (ROOT / "docs" / "glossary.md").read_text().splitlines() if line.startswith("| ")]
ROWS = [row for row in GLOSSARY if not row.startswith("| term |")]


@pytest.mark.parametrize("row", ROWS, ids=[row.split("|")[1].strip(" *") for row in ROWS])
def test_a_row_of_the_glossary_says_where(row: str) -> None:
    _, _, meaning, where, *_ = row.split("|")
    assert meaning.strip()
    places = re.findall(r"`([^`]+)`", where)
    assert places
    assert all((ROOT / "supervisor" / place).exists() for place in places), where


def test_the_glossary_has_one_row_for_a_term() -> None:
    terms = [row.split("|")[1].strip(" *") for row in ROWS]
    assert len(terms) >= 60
    assert len(set(terms)) == len(terms)


def test_the_hooks_are_local_and_run_what_make_lint_runs() -> None:
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    entries = re.findall(r"^ +entry: python3 -m supervisor\.bootstrap (.+)$", hooks, re.MULTILINE)
    linted = re.findall(r"^\t\$\(BOOT\) (exec test .+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert entries == [*linted, "exec test python -m pytest -q tests/architecture"]
    assert re.findall(r"repo: (\S+)", hooks) == ["local"]
    assert set(re.findall(r"language: (\S+)", hooks)) == {"system"}
    assert len(re.findall(r"- id:", hooks)) == len(entries)
