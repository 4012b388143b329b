"""What the house promises to who lives in it: small rooms, true documents, no forbidden words."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

from supervisor.cli import TABLE
from supervisor.core.machine import TRANSITIONS
from supervisor.core.session import FINAL, Phase

ROOT = Path(__file__).resolve().parents[2]
ROOMS = [
    path
    for folder in ("supervisor", "trainers", "hyperlpr_example")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if "__pycache__" not in path.parts
]
DOCS = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "hyperlpr_example" / "README.md"]


def test_every_room_is_small_and_says_what_it_is_for() -> None:
    for path in ROOMS:
        text = path.read_text()
        assert text.count("\n") <= 500, f"{path} has over 500 lines: deciding and doing have usually met there"
        doc = ast.get_docstring(ast.parse(text))
        assert doc, f"{path} does not say what it is for"


def test_no_function_is_longer_than_a_page() -> None:
    for path in ROOMS:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                assert lines <= 65, f"{path}: {node.name} has {lines} lines"


def test_no_room_has_a_name_that_says_nothing() -> None:
    empty = {"utils", "util", "helpers", "helper", "manager", "misc", "common", "data", "info"}
    assert not [path for path in ROOMS if path.stem in empty]


def test_the_core_has_no_clock_even_by_other_names() -> None:
    for path in sorted((ROOT / "supervisor" / "core").glob("*.py")):
        assert not re.search(r"perf_counter|monotonic\(|time\.time|datetime", path.read_text()), path


def test_only_one_file_reads_a_clock_on_the_supervisors_side() -> None:
    reading = re.compile(r"clock_gettime|time\.monotonic|time\.time\(|datetime\.now")
    found = {
        path.relative_to(ROOT).as_posix()
        for path in ROOMS
        if "supervisor" in path.parts and reading.search(path.read_text())
    }
    assert found <= {"supervisor/engine/clock.py", "supervisor/trainer/clock.py"}


def test_file_times_are_read_only_where_the_architecture_page_says_so() -> None:
    """Of a script's own files; the others copy or compare them: which packages changed, what is sent, what is the same file."""
    where = re.compile(r"mtime")
    allowed = re.compile(
        r"supervisor/(engine/files/.*|core/(choosing|carried)|trainer/companions|environments/capture|fleet/bundle)\.py"
    )
    found = [path.relative_to(ROOT).as_posix() for path in ROOMS if path.is_relative_to(ROOT / "supervisor")]
    reading = [name for name in found if where.search((ROOT / name).read_text())]
    assert [name for name in reading if not allowed.fullmatch(name)] == []


def test_the_readme_names_every_verb() -> None:
    readme = (ROOT / "README.md").read_text()
    assert not [verb for verb in TABLE if f"`{verb}" not in readme]


def test_every_link_in_the_documents_leads_somewhere() -> None:
    for doc in DOCS:
        for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", doc.read_text()):
            assert (doc.parent / target).exists(), f"{doc.name} links to {target}"


def test_the_tree_in_the_architecture_page_is_the_folder() -> None:
    page = (ROOT / "ARCHITECTURE.md").read_text()
    block = page.split("<!-- tree -->")[1].split("<!-- /tree -->")[0]
    named = set(re.findall(r"^  (\w+)/", block, re.MULTILINE))
    there = {
        path.name for path in (ROOT / "supervisor").iterdir() if path.is_dir() and (path / "__init__.py").is_file()
    }
    assert named == there


def test_the_state_diagram_in_the_architecture_page_is_the_table() -> None:
    page = (ROOT / "ARCHITECTURE.md").read_text()
    assert diagram() in page, f"put this into ARCHITECTURE.md:\n{diagram()}"


def diagram() -> str:
    lines = [
        f"{phase:<10} -> {' '.join(each for each in Phase if each in TRANSITIONS[phase])}"
        for phase in Phase
        if phase not in FINAL
    ]
    return "\n".join(lines)


def test_nothing_committed_names_a_registry_host_or_this_machine() -> None:
    hosts = "|".join(("py" + "pi.org", "files.pythonhosted" + ".org", "npm" + "js.org", "deb.deb" + "ian.org"))
    forbidden = re.compile(rf"{hosts}|/ro" + r"ot/|/wo" + r"rk/|/opt/wh" + r"eels")
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("this is no git checkout, so nothing is committed")
    for name in listed.stdout.splitlines():
        path = ROOT / name
        if path.suffix in {".py", ".md", ".toml", ".txt", ".sh", ".ipynb", ""} and path.is_file():
            found = forbidden.search(path.read_text(errors="replace"))
            assert not found, f"{name} names {found[0] if found else ''}"


def test_the_package_list_in_pyproject_is_the_folder() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    listed = set(re.findall(r'"((?:supervisor|hyperlpr_example)[\w.]*)"', text.split("packages = [")[1].split("]")[0]))
    there = {
        path.parent.relative_to(ROOT).as_posix().replace("/", ".")
        for folder in ("supervisor", "hyperlpr_example")
        for path in (ROOT / folder).rglob("__init__.py")
    }
    assert listed - {"supervisor.examples"} == there, "the examples' folder is made for the wheel only"
