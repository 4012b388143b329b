"""The laws of a framework's row, for every row: values, chance and live objects come back bit for bit, also in a new process.

Each row has processes of its own, because Keras takes its backend when it is imported, and to see what a row imports.
A new row is tested as soon as ``tests/contracts/frameworks.py`` has one for it; until then this fails.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from supervisor.trainer import frameworks
from tests.contracts.framework_laws import Back, Kept, laws
from tests.contracts.frameworks import missing, rows

pytestmark = [pytest.mark.slow, pytest.mark.frameworks]
ROOT = Path(__file__).parents[2]
WAIT_S = 600


def test_every_framework_of_the_table_has_a_row_here() -> None:
    assert {row.row for row in rows().values()} == set(frameworks.ROWS)


@pytest.mark.parametrize("name", list(rows()))
def test_the_laws_hold_in_a_process_that_keeps_and_in_one_that_puts_back(name: str, tmp_path: Path) -> None:
    if why := missing(rows()[name]):
        pytest.skip(why)
    wrong = {**asked(name, tmp_path, Kept), **asked(name, tmp_path, Back)}
    assert not wrong, "\n".join(f"{law}:\n{told}" for law, told in wrong.items())


def asked(name: str, folder: Path, kind: type[Kept]) -> dict[str, str]:
    """What was wrong, by law."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"), "1")
    command = [sys.executable, "-m", "tests.contracts.framework_laws", name, str(folder)]
    environ = {**os.environ, **threads, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["laws"] == laws(kind)
    return dict(told["wrong"])
