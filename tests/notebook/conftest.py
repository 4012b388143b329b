"""Machines with notebooks for the tests, and the certainty that nothing of them lives on."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.drives.conftest import MISSING
from tests.notebook.machine import ColabMachine, NotebookMachine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def _missing() -> str:
    if MISSING:
        return MISSING
    tried = subprocess.run(["unshare", "--mount", "true"], capture_output=True, text=True, check=False)
    return f"no mount namespaces can be made here: {tried.stderr.strip()}" if tried.returncode else ""


@pytest.fixture
def new_machine(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Each call is another blank machine."""
    made: list[NotebookMachine] = []

    def make(kind: type[NotebookMachine] = NotebookMachine, *given: Any, **variables: str) -> NotebookMachine:
        if kind is ColabMachine and (missing := _missing()):
            pytest.skip(missing)
        made.append(kind(tmp_path / f"machine-{len(made) + 1}", *given, **variables))
        return made[-1]

    yield make
    for machine in made:
        machine.end()
