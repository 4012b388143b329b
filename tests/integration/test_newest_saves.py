"""On the same disk a script goes on from its own newest whole save, though the last snapshot is older."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from benchmarks.machines import Machine

pytestmark = pytest.mark.slow

SCRIPT = """
import argparse, os, pathlib, time
import torch
told = argparse.ArgumentParser()
told.add_argument("--resume")
told = told.parse_args()
model = torch.nn.Linear(2, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
pathlib.Path("ckpt").mkdir(exist_ok=True)
epoch = torch.load(told.resume)["epoch"] if told.resume else 0
print("begins at epoch", epoch, flush=True)
while epoch < 12:
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    epoch += 1
    torch.save({"model": model.state_dict(), "epoch": epoch}, f"ckpt/epoch{epoch:03d}.pt")
    if epoch == 1 and not told.resume:
        while not os.path.exists("go"):
            time.sleep(0.05)
    if epoch == 9 and not told.resume:
        with open("ckpt/epoch010.pt", "wb") as file:
            file.write(b"half of it")
            file.flush()
            print("waits", flush=True)
            while True:
                time.sleep(0.05)
print("ended", flush=True)
"""
OPTIONS = ("--resume-args", "--resume {checkpoint}", "--save-every", "1h", "--no-install")


@pytest.fixture
def killed(fresh_machine: Callable[[], Machine], store: Path, tmp_path: Path) -> tuple[Machine, Path]:
    """Return a machine on which all was killed: its snapshot holds the first save, its disk nine whole ones and a half."""
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    machine = fresh_machine()
    turn = machine.start(script, *OPTIONS)
    turn.until(lambda: list(store.glob("train/e*/step-*/manifest-*.json")))
    (machine.work / "go").touch()
    turn.until(lambda: "waits" in turn.text)
    turn.until(lambda: "epoch009" in noted(machine))
    turn.kill("both")
    return machine, script


def noted(machine: Machine) -> str:
    return "".join(each.read_text() for each in machine.local.glob("training-supervisor/*/files-whole.jsonl"))


def test_on_the_same_disk_the_newest_whole_save_is_used(killed: tuple[Machine, Path]) -> None:
    machine, script = killed
    again = machine.start(script, *OPTIONS)
    assert again.wait() == 0, again.text
    assert "begins at epoch 9" in again.text, again.text
    assert "newer files of the script on this disk are whole and are used" in again.text
    aside = list(machine.local.glob("training-supervisor/*/aside/*/ckpt/*"))
    assert [each.name for each in aside] == ["epoch010.pt"], "the half-written one"


def test_another_machine_gets_the_newest_that_is_safe(
    killed: tuple[Machine, Path], fresh_machine: Callable[[], Machine]
) -> None:
    again = fresh_machine().start(killed[1], *OPTIONS)
    assert again.wait() == 0, again.text
    assert "begins at epoch 1" in again.text, again.text
