"""A benchmark is known by the way in which it was started, and what it lacks by its PEP 723 block."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks import packages

if TYPE_CHECKING:
    from pathlib import Path

FOLDER = packages.FOLDER


@pytest.mark.parametrize(
    ("argv", "orig_argv", "found"),
    [
        (["-m"], ["python3", "-m", "benchmarks.kills", "--runs", "2"], "kills.py"),
        (["-m"], ["python3", "-X", "utf8", "-m", "benchmarks.measuring.phases"], "measuring/phases.py"),
        ([str(FOLDER / "simulate.py"), "--hours", "2"], ["python3", "benchmarks/simulate.py"], "simulate.py"),
        (["-m"], ["python3", "-m", "pytest"], ""),
        (["-m"], ["python3", "-m", "benchmarks.nowhere"], ""),
        (["-c"], ["python3", "-c", "import benchmarks.kills"], ""),
        ([""], ["python3"], ""),
        (["train.py"], ["python3", "train.py"], ""),
    ],
)
def test_the_benchmark_that_runs_is_known(argv: list[str], orig_argv: list[str], found: str) -> None:
    assert packages.running(argv, orig_argv) == (FOLDER / found if found else None)


def test_only_what_is_lacking_is_missing(tmp_path: Path) -> None:
    file = tmp_path / "bench.py"
    file.write_text('# /// script\n# dependencies = ["pytest>=1", "not-on-any-index==1.0"]\n# ///\n')
    assert packages.missing(file) == ["not-on-any-index"]


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.py")), ids=lambda file: file.stem)
def test_every_benchmark_states_what_it_needs_in_a_form_that_start_reads(file: Path) -> None:
    assert packages.missing(file) == []  # the environment of the tests has all of it
