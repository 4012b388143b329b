"""A script that nobody changed is given the right one of its files, and the next one if it fails on that."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from benchmarks.machines import Machine

pytestmark = pytest.mark.slow

SCRIPT = """
import argparse, os, pathlib, pickle, time
told = argparse.ArgumentParser()
told.add_argument("--resume")
told.add_argument("--netG")
told.add_argument("--netD")
told.add_argument("--order", default="")
told = told.parse_args()
out = pathlib.Path("out")
out.mkdir(exist_ok=True)
step = 0
def load(name):
    state = pickle.loads(pathlib.Path(name).read_bytes())
    print("loads", name, flush=True)
    return state["step"] if "weights" not in state else state["optimizer"]
if told.resume:
    step = load(told.resume)
if told.netG:
    step = load(told.netG)
    assert load(told.netD) == step
def save(name, state):
    (out / name).write_bytes(pickle.dumps(state))
while step < 6:
    time.sleep(0.02)
    step += 1
    for name in told.order.split(","):
        part = "best" in name or "optim" in name or name.startswith("checkpoint")
        save(name.replace("#", str(step)), {"step": step, "weights": 1} if part else {"step": step, "all": bytes(100)})
    if step == 4 and not (told.resume or told.netG):
        print("waits", flush=True)
        while True:
            time.sleep(0.05)
save("final.pkl", {"step": step})
print("ended at", step, flush=True)
"""
WATCH = ("--watch", "out", "--save-every", "1s", "--no-install", "--max-restarts", "4")


def resumed(fresh_machine: Callable[[], Machine], tmp_path: Path, order: str, arguments: str) -> str:
    """Return what is printed on the second machine: the first died when its saves were safe."""
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    options = (*WATCH, "--resume-args", arguments)
    first = fresh_machine()
    turn = first.start(script, *options, arguments=["--order", order])
    turn.until(lambda: "waits" in turn.text)
    turn.until(lambda: manifests(first))
    turn.kill("both")
    again = fresh_machine().start(script, *options, arguments=["--order", order])
    assert again.wait() == 0, again.text
    assert "ended at 6" in again.text
    return str(again.text)


def manifests(machine: Machine) -> list[Path]:
    return list(machine.store.glob("train/e*/step-*/manifest-*.json"))


@pytest.mark.parametrize("order", ["last.pkl,best.pkl", "model_#.pkl,optim_#.pkl", "state.pkl,best.pkl"])
def test_the_file_that_promises_the_whole_state_is_chosen(
    fresh_machine: Callable[[], Machine], tmp_path: Path, order: str
) -> None:
    text = resumed(fresh_machine, tmp_path, order, "--resume {checkpoint}")
    assert "failed with" not in text


def test_if_the_script_fails_on_it_the_next_one_is_tried_and_said(
    fresh_machine: Callable[[], Machine], tmp_path: Path
) -> None:
    text = resumed(fresh_machine, tmp_path, "state.pkl,checkpoint.pkl", "--resume {checkpoint}")
    assert "the script failed with KeyError: 'optimizer'; trying state.pkl" in text
    assert "(checkpoint.pkl was chosen by --resume-args: its name says 'checkpoint')" in text


def test_two_nets_come_from_one_save(fresh_machine: Callable[[], Machine], tmp_path: Path) -> None:
    text = resumed(
        fresh_machine, tmp_path, "netG_#.pkl,netD_#.pkl", "--netG {checkpoint:netG_*} --netD {checkpoint:netD_*}"
    )
    loaded = [line.rsplit("_", 1)[1] for line in text.splitlines() if line.startswith("loads")]
    assert len(loaded) == 2
    assert loaded[0] == loaded[1]
