"""Every next step that a command prints is a command line that runs, whatever the run, the store and the script are called."""

from __future__ import annotations

import shlex
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from benchmarks.machines import ROOT, TOY, Machine

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

pytestmark = pytest.mark.slow
NAME = "my train 训练 $(x) 'y"
STORE = "My Drive/Colab 'Notebooks'"
USAGE = 2


class Person:
    """Types commands in one folder, always in the same way, and pastes what they print."""

    def __init__(self, machine: Machine, prefix: Sequence[str]) -> None:
        self.machine, self.prefix = machine, list(prefix)

    def shell(self, line: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", "-c", line], cwd=self.machine.work, env=self.machine.environ(), capture_output=True, text=True,
            timeout=300, check=False,
        )  # fmt: skip

    def types(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.shell(shlex.join([*self.prefix, *words]))

    def hints(self, done: subprocess.CompletedProcess[str]) -> Iterator[str]:
        """Yield each command line that was printed: to the end of its line, or of its backquotes."""
        for line in (done.stdout + done.stderr).splitlines():
            at = line.find(shlex.join(self.prefix) + " ")
            if at >= 0:
                yield line[at:].split("`")[0]


@pytest.fixture
def script(machine: Machine) -> str:
    name = f"{NAME}.py"
    (machine.work / name).write_text(
        TOY.read_text().replace("Path(__file__).resolve().parent.parent", f"Path({str(ROOT)!r})")
    )
    return name


@pytest.mark.parametrize(
    "prefix",
    [(sys.executable, "-m", "supervisor"), (sys.executable, str(ROOT / "supervisor"))],
    ids=["module", "folder"],
)
def test_every_hint_of_real_commands_runs_when_it_is_pasted(
    machine: Machine, script: str, prefix: tuple[str, ...]
) -> None:
    person = Person(machine, prefix)
    ours = ("--store", STORE)
    done = [
        person.types("start", script, *ours, "--save-every", "100ms", "--", "--steps", "40"),
        person.types("status", NAME, *ours),
        person.types("list", *ours),
        person.types("checkpoints", NAME, "list", *ours),
        person.types("checkpoints", NAME, "verify", *ours),
        person.types("checkpoints", NAME, "pin", "40", *ours),
        person.types("checkpoints", NAME, "prune", *ours),
        person.types("stop", NAME, *ours),
        person.types("doctor", *ours),
        person.types("list", "--store", "no such store"),
        person.types("start", "no such script.py", *ours),
        person.types("chekpoints", *ours),
    ]
    shown = [hint for each in done for hint in person.hints(each)]
    assert len(shown) >= 12, [each.stdout + each.stderr for each in done]
    for hint in sorted(set(shown)):
        if " start " in hint:
            assert shlex.split(hint)[len(prefix) + 1] == "trainers/toy.py", hint  # it is found from any folder
            continue
        again = person.shell(hint)
        assert again.returncode != USAGE, f"{hint}\n{again.stdout}{again.stderr}"
        assert "No such file" not in again.stderr, hint
