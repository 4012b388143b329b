"""A script that knows nothing of us, with files that only it can read: what it wrote outlives its machines."""

from __future__ import annotations

import hashlib
import json
import pickle
import signal
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from benchmarks.machines import Machine, Turn

pytestmark = pytest.mark.slow

SCRIPT = """
import argparse, glob, hashlib, os, pathlib, pickle, signal, sys, time
told = argparse.ArgumentParser()
told.add_argument("--resume")
told.add_argument("--die-at", type=int, default=0)
told.add_argument("--steps", type=int, default=120)
told.add_argument("--ms", type=int, default=20)
told.add_argument("--wait-at", type=int, default=0)
told = told.parse_args()
out = pathlib.Path("out")
out.mkdir(exist_ok=True)
state = {"step": 0, "hash": b""}
for name in glob.glob("out/*.pkl"):
    pickle.loads(pathlib.Path(name).read_bytes())  # a half-written one would end it here
if told.resume:
    state = pickle.loads(pathlib.Path(told.resume).read_bytes())
print("begins at", state["step"], "with", sorted(name.name for name in out.iterdir()), flush=True)
log = (out / "train.log").open("a")
while state["step"] < told.steps:
    time.sleep(told.ms / 1000)
    step = state["step"] + 1
    state = {"step": step, "hash": hashlib.sha256(state["hash"] + str(step).encode()).digest()}
    print("step", step, file=log, flush=True)
    if step % 10 == 0:
        body = pickle.dumps(state)
        with (out / f"step_{step}.pkl").open("wb") as file:
            file.write(body[:20])
            file.flush()
            if step == told.die_at and not os.path.exists("died"):
                pathlib.Path("died").touch()
                os.kill(os.getpid(), signal.SIGKILL)
            file.write(body[20:])
        for old in sorted(out.glob("*.pkl"), key=lambda path: int(path.stem[5:]))[:-3]:
            old.unlink()
    if step == told.wait_at and not told.resume:
        print("waits", flush=True)
        while not os.path.exists("go"):
            time.sleep(0.05)
(out / "final.pkl").write_bytes(pickle.dumps(state))
"""
WATCH = ("--watch", "out", "--resume-args", "--resume {checkpoint}", "--save-every", "1s", "--no-install")


def expected(steps: int) -> bytes:
    found = b""
    for step in range(1, steps + 1):
        found = hashlib.sha256(found + str(step).encode()).digest()
    return found


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "train.py"
    path.write_text(SCRIPT)
    return path


def safe(store: Path) -> Callable[[], list[Path]]:
    return lambda: sorted(store.glob("train/e*/step-*/manifest-*.json"))


def final(machine: Machine) -> dict[str, object]:
    return dict(pickle.loads((machine.work / "out" / "final.pkl").read_bytes()))


def files_of(manifest: Path) -> dict[str, object]:
    return dict(json.loads((manifest.parent / "files.json").read_bytes()))


def test_a_trainer_that_dies_in_the_midst_of_a_file_goes_on_from_its_last_whole_one(
    machine: Machine, store: Path, script: Path
) -> None:
    turn = machine.start(script, *WATCH, "--max-restarts", "5", arguments=["--die-at", "100", "--wait-at", "95"])
    turn.until(lambda: safe(store)() and "step_90.pkl" in str(files_of(safe(store)()[-1])))
    (machine.work / "go").touch()
    assert turn.wait() == 0, turn.text
    assert "put back into out" in turn.text
    assert "--resume" in turn.text
    assert final(machine)["hash"] == expected(120)
    assert files_of(safe(store)()[-1])["checkpoint"]
    aside = list(machine.local.glob("training-supervisor/*/aside/*/step_100.pkl"))
    assert len(aside) == 1, "the half-written file is kept aside"
    assert aside[0].stat().st_size == 20


def test_files_are_put_back_on_a_blank_machine_after_both_were_killed(
    fresh_machine: Callable[[], Machine], store: Path, script: Path
) -> None:
    first = fresh_machine()
    turn = first.start(script, *WATCH, arguments=["--wait-at", "65"])
    turn.until(lambda: "waits" in turn.text and safe(store)())
    assert turn.until(lambda: "step_60.pkl" in str(files_of(safe(store)()[-1])))
    turn.kill("both")
    second = fresh_machine()
    again = second.start(script, *WATCH, arguments=["--wait-at", "65"])
    assert again.wait() == 0, again.text
    exported = second.run("checkpoints", "train", "export", "latest", "there")
    assert exported.returncode == 0, exported.stderr
    assert pickle.loads((second.work / "there" / "files" / "final.pkl").read_bytes()) == final(second)
    assert "begins at 60 with" in again.text
    assert f"--resume {second.work}/out/step_60.pkl" in again.text
    assert final(second)["hash"] == expected(120)
    assert {path.name for path in (second.work / "out").iterdir()} == {
        "final.pkl", "step_100.pkl", "step_110.pkl", "step_120.pkl", "train.log",
    }  # fmt: skip


def test_who_is_stopped_in_its_turn_leaves_what_it_had_written(
    fresh_machine: Callable[[], Machine], store: Path, script: Path
) -> None:
    first = fresh_machine()
    turn = first.start(script, *WATCH[:-3], "--save-every", "1h", "--no-install", arguments=["--wait-at", "45"])
    turn.until("waits")
    turn.signal(signal.SIGTERM)
    assert turn.wait() == 143, turn.text
    second = fresh_machine()
    again = second.run("resume", "train", "--no-install", "--trust-store")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "begins at 40 with" in again.stdout + again.stderr, "the same options hold, without being given again"
    assert final(second)["hash"] == expected(120)


def test_a_supervisor_that_is_killed_alone_is_followed_by_another_on_the_same_machine(
    machine: Machine, store: Path, script: Path
) -> None:
    turn = machine.start(script, *WATCH, arguments=["--wait-at", "55"])
    turn.until(lambda: "waits" in turn.text and safe(store)() and "step_50.pkl" in str(files_of(safe(store)()[-1])))
    turn.kill("supervisor")
    again = machine.start(script, *WATCH, arguments=["--wait-at", "55"])
    assert again.wait() == 0, again.text
    assert "begins at 50" in again.text
    assert final(machine)["hash"] == expected(120)


def test_nothing_that_a_dead_script_left_before_its_first_snapshot_is_trusted(machine: Machine, script: Path) -> None:
    turn: Turn = machine.start(
        script, *WATCH[:-3], "--save-every", "1h", "--no-install", "--max-restarts", "5", arguments=["--die-at", "10"]
    )
    assert turn.wait() == 0, turn.text
    assert turn.text.count("begins at 0 with []") == 2
    assert final(machine)["hash"] == expected(120)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--watch", "."), "is the working folder"),
        (("--watch", "/"), "the whole machine"),
        (("--watch", "out", "--store", "out/runs"), "holds the store"),
        (("--watch", "out", "--resume-args", "--resume {newest}"), "{newest} is not known"),
        (("--watch", "out", "--resume-args", "'--resume"), "cannot be read"),
    ],
)
def test_what_cannot_be_watched_is_refused_in_two_lines(
    machine: Machine, script: Path, options: tuple[str, ...], words: str
) -> None:
    done = machine.run("start", str(script), *options)
    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 2


TORCH_LOOP = """
import argparse, glob, os, time, torch
told = argparse.ArgumentParser()
told.add_argument("--resume")
told = told.parse_args()
torch.manual_seed(0)
model = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
first = 0
if told.resume:
    kept = torch.load(told.resume)
    model.load_state_dict(kept["model"])
    optimizer.load_state_dict(kept["optimizer"])
    first = kept["step"]
print("begins at", first, "with", sorted(glob.glob("ckpt-*")), flush=True)
for step in range(first, 60):
    optimizer.zero_grad()
    (model(torch.full((8, 4), step / 60.0)) ** 2).mean().backward()
    optimizer.step()
    if step + 1 == 45 and not told.resume:
        open("ckpt-45.pt", "wb").write(b"half")
        print("waits", flush=True)
        while not os.path.exists("go"):
            time.sleep(0.05)
    if (step + 1) % 20 == 0:
        kept = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1}
        torch.save(kept, f"ckpt-{step + 1}.pt")
print("weights", [float(value).hex() for value in model.weight.flatten()])
"""


@pytest.mark.torch
def test_without_a_watched_folder_what_the_framework_saves_is_carried(
    fresh_machine: Callable[[], Machine], store: Path, tmp_path: Path
) -> None:
    script = tmp_path / "train.py"
    script.write_text(TORCH_LOOP)
    options = ("--resume-args", "--resume {checkpoint}", "--save-every", "1s", "--no-install")
    first = fresh_machine()
    turn = first.start(script, *options)
    turn.until(lambda: "waits" in turn.text and safe(store)() and "ckpt-40.pt" in str(files_of(safe(store)()[-1])))
    assert safe(store)()[-1].parent.name == "step-000000040", "the hook counts the steps"
    turn.kill("both")
    second = fresh_machine()
    again = second.start(script, *options)
    assert again.wait() == 0, again.text
    assert "begins at 40 with ['ckpt-20.pt', 'ckpt-40.pt']" in again.text
    whole = fresh_machine()
    (whole.work / "go").touch()
    alone = whole.start(script, "--name", "alone", *options[:2], "--no-install")
    assert alone.wait() == 0, alone.text
    assert _weights(again) == _weights(alone)
    assert safe(store)()[-1].parent.name == "step-000000060"


@pytest.mark.torch
def test_on_the_same_machine_a_half_written_one_beside_is_moved_aside(
    machine: Machine, store: Path, tmp_path: Path
) -> None:
    script = tmp_path / "train.py"
    script.write_text(TORCH_LOOP)
    options = ("--resume-args", "--resume {checkpoint}", "--save-every", "1s", "--no-install")
    turn = machine.start(script, *options)
    turn.until(lambda: "waits" in turn.text and safe(store)() and "ckpt-40.pt" in str(files_of(safe(store)()[-1])))
    turn.kill("trainer")
    assert turn.wait() == 0, turn.text
    assert "begins at 40 with ['ckpt-20.pt', 'ckpt-40.pt']" in turn.text
    assert "'ckpt-45.pt' moved aside" in turn.text


def _weights(turn: Turn) -> str:
    return next(line for line in turn.text.splitlines() if "weights" in line)


BESIDE = """
import csv, pathlib, sys, time
import torch
import supervisor

out = pathlib.Path("out")
out.mkdir(exist_ok=True)
torch.manual_seed(1)
model = torch.nn.Linear(300, 300)
optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
best = {"loss": 1e9}


class Best:
    def state_dict(self):
        return dict(best)

    def load_state_dict(self, kept):
        best.update(kept)


run = supervisor.attach(model=model, optimizer=optimizer, best=Best())
print("begins at", run.step, "with", sorted(path.name for path in out.iterdir()), flush=True)
for step in run.steps(40):
    loss = model(torch.ones(300)).square().mean() + (step > 5)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    with (out / "log.csv").open("a") as file:
        csv.writer(file).writerow([step, loss.item()])
    if loss.item() < best["loss"]:
        best["loss"] = loss.item()
        torch.save(model.state_dict(), out / "best.pt")
    while step == 25 and "--wait" in sys.argv and not pathlib.Path("go").exists():
        time.sleep(0.01)
rows = (out / "log.csv").read_text().splitlines()
print("rows", [int(row.split(",")[0]) for row in rows] == list(range(40)), flush=True)
print("best", float(torch.load(out / "best.pt")["weight"].sum()), flush=True)
"""
KEPT = ("--watch", "out", "--save-every", "4steps", "--no-install")


@pytest.mark.torch
@pytest.mark.parametrize("again", [KEPT, (*KEPT[2:], "--trust-store")], ids=["the same command", "as the store says"])
def test_the_files_of_a_script_that_attaches_come_along_at_the_step_of_its_state(
    machine: Machine, fresh_machine: Callable[[], Machine], store: Path, tmp_path: Path, again: tuple[str, ...]
) -> None:
    script = tmp_path / "train.py"
    script.write_text(BESIDE)
    turn = machine.start(script, *KEPT, arguments=["--wait"])
    turn.until(lambda: safe(store)() and "step 25" in turn.text)
    turn.kill("both")
    step = int(safe(store)()[-1].parent.name.removeprefix("step-"))
    second = fresh_machine()
    (second.work / "go").touch()
    resumed = second.start(script, *again, arguments=["--wait"])
    assert resumed.wait() == 0, resumed.text
    assert f"begins at {step} with ['best.pt', 'log.csv']" in resumed.text
    assert "rows True" in resumed.text
    alone = fresh_machine().start(script, "--name", "alone", *KEPT)
    assert alone.wait() == 0, alone.text
    assert _best(resumed) == _best(alone)


@pytest.mark.torch
def test_the_folder_that_only_a_checkpoint_names_is_not_put_back_on_another_machine(
    machine: Machine, fresh_machine: Callable[[], Machine], store: Path, tmp_path: Path
) -> None:
    script = tmp_path / "train.py"
    script.write_text(BESIDE)
    turn = machine.start(script, *KEPT, arguments=["--wait"])
    turn.until(lambda: safe(store)() and "step 25" in turn.text)
    turn.kill("both")
    second = fresh_machine()
    refused = second.start(script, *KEPT[2:], arguments=["--wait"])
    assert refused.wait() == 4, refused.text
    assert (
        "the checkpoint holds the files of the folder 'out', which no command on this machine has named" in refused.text
    )
    assert "--watch out" in refused.text
    assert not (second.work / "out").exists()
    (machine.work / "go").touch()
    resumed = machine.start(script, *KEPT[2:], arguments=["--wait"])
    assert resumed.wait() == 0, "its first command named it: " + resumed.text


@pytest.mark.torch
def test_a_script_that_attaches_and_saves_elsewhere_is_told_at_the_first_save(machine: Machine, tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(BESIDE)
    turn = machine.start(script, "--no-install")
    assert turn.wait() == 0, turn.text
    (line,) = [line for line in turn.text.splitlines() if "is not part of the checkpoints" in line]
    assert "out/best.pt" in line
    assert "--watch out" in line


def _best(turn: Turn) -> str:
    return next(line for line in turn.text.splitlines() if line.startswith("best"))


@pytest.mark.parametrize("forgets", [False, True])
def test_a_rehearsal_compares_the_files(machine: Machine, script: Path, forgets: bool) -> None:
    if forgets:
        loaded = "pickle.loads(pathlib.Path(told.resume).read_bytes())"
        script.write_text(script.read_text().replace(loaded, loaded + ' | {"hash": b""}'))
    watch = ("--watch", "out", "--resume-args", "--resume {checkpoint}")
    words = (*watch, "--no-install", "--", "--steps", "120", "--ms", "90")
    done = machine.run("rehearse", str(script), *words)
    assert done.returncode == int(forgets), done.stdout + done.stderr
    if forgets:
        assert "final.pkl" in done.stdout
        assert "it resumes from its own files" in done.stdout
    else:
        assert "resume is bit-exact" in done.stdout
    again = f"{script} --watch out --resume-args '--resume {{checkpoint}}' -- --steps 120 --ms 90"
    assert f"-m supervisor {'rehearse' if forgets else 'start'} {again}" in done.stdout
    assert not (machine.work / "out").exists()


def test_a_script_that_attaches_later_does_not_begin_anew(machine: Machine, store: Path, script: Path) -> None:
    turn = machine.start(script, *WATCH, arguments=["--steps", "20"])
    assert turn.wait() == 0, turn.text
    own = "import supervisor, torch\nrun = supervisor.attach(model=torch.nn.Linear(1, 1))\nfor step in run.steps(9): pass\n"
    script.write_text(own)
    turn = machine.start(script, *WATCH, "--resume", "auto", arguments=["--steps", "40"])
    assert turn.wait() != 0
    assert "attach() cannot read those" in turn.text, turn.text
    assert "start it under another --name" in turn.text
    assert safe(store)()


@pytest.mark.torch
def test_what_is_saved_outside_is_told_with_what_keeps_it(machine: Machine, store: Path, tmp_path: Path) -> None:
    script = tmp_path / "elsewhere.py"
    script.write_text(f"import torch\nfor step in range(2): torch.save(step, {str(tmp_path / 'elsewhere.pt')!r})\n")
    turn = machine.start(script, "--no-install")
    assert turn.wait() == 0, turn.text
    told = [line for line in turn.text.splitlines() if "is not kept" in line]
    assert len(told) == 1, turn.text
    assert told[0].endswith(f"is saved outside the working folder and is not kept: --watch {tmp_path} keeps it")
    assert not safe(store)()
