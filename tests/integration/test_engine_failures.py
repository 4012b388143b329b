"""The checkpoint engine in a real process whose disk is full, whose memory is short, whose state changes, that forks, that is killed."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from supervisor.trainer import writer
from supervisor.trainer.folder import open_folder, read

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow

MODEL = """
import errno, os, sys, threading, time, supervisor
from array import array

class Model:
    '''Every number of it is the number of steps done, so that a torn copy shows.'''
    def __init__(self, size=100_000):
        self.weights = array('d', [0.0]) * size
        self.extra = {}
    def state_dict(self):
        return {'weights': self.weights, 'extra': dict(self.extra)}
    def load_state_dict(self, state):
        self.weights, self.extra = state['weights'], state['extra']
    def update(self, step):
        self.weights[:] = array('d', [step + 1.0]) * len(self.weights)

model = Model()
"""


class Ran:
    """A script run without a supervisor, to its end."""

    def __init__(self, folder: Path, text: str, *, expect: int = 0):
        path = folder / "script.py"
        path.write_text(MODEL + text)
        ran = subprocess.run(
            [sys.executable, str(path)],
            cwd=folder, capture_output=True, text=True, check=False, timeout=400,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        self.words, self.printed = ran.stderr, ran.stdout
        assert ran.returncode == expect, ran.stderr
        self.staging = folder / "checkpoints" / "script"

    def folders(self):
        return sorted(path for path in self.staging.iterdir() if path.name.startswith("step-"))

    def leftovers(self):
        return [path for path in self.staging.iterdir() if path.name.startswith(writer.TEMPORARY)]


def assert_whole(folder: Path) -> int:
    """Every number in it is of the step that it says; return the step."""
    step, weights = open_folder(folder).step, read(folder)["model"]["weights"]
    assert set(weights) == {float(step)}, folder
    return step


@pytest.mark.parametrize("code", ["ENOSPC", "EIO"])
@pytest.mark.parametrize("call", ["pwrite", "fsync", "rename"])
def test_a_disk_that_fails_during_a_background_write_is_told_and_the_next_save_works(tmp_path, code, call):
    ran = Ran(
        tmp_path,
        f"real, broken = os.{call}, [1]\n"
        "def failing(*args, **kw):\n"
        "    if threading.current_thread() is not threading.main_thread() and broken:\n"
        f"        broken.clear(); raise OSError(errno.{code}, os.strerror(errno.{code}))\n"
        "    return real(*args, **kw)\n"
        f"os.{call} = failing\n"
        "run = supervisor.attach(model=model)\n"
        "for step in run.steps(6):\n    model.update(step)\n"
        "    if step in (1, 3): run.save()\n    if step in (2, 4): run.flush()\n"
        "print('went on')\n",
    )
    assert "step 2 could not be saved" in ran.words
    assert os.strerror({"ENOSPC": 28, "EIO": 5}[code]) in ran.words
    assert "went on" in ran.printed
    assert [assert_whole(folder) for folder in ran.folders()] == [4, 6]
    assert not ran.leftovers()


def test_a_refused_buffer_is_told_and_the_state_is_saved_while_training_waits(tmp_path):
    ran = Ran(
        tmp_path,
        "import mmap\nreal = mmap.mmap\n"
        "def refused(*args, **kw):\n    raise OSError(errno.ENOMEM, 'Cannot allocate memory')\n"
        "mmap.mmap = refused\nrun = supervisor.attach(model=model)\n"
        "for step in run.steps(6):\n    model.update(step)\n"
        "    if step in (1, 3): run.save()\n"
        "    if step == 2: mmap.mmap = real\n    if step == 4: run.flush()\n",
    )
    assert ran.words.count("is saved while training waits") == 1, "once there is room, it is copied again"
    assert [assert_whole(folder) for folder in ran.folders()] == [4, 6]


def test_a_copy_that_fails_is_told_and_training_goes_on(tmp_path):
    ran = Ran(
        tmp_path,
        "import supervisor.trainer.frameworks.plain as plain\nreal, broken = plain.Plain.read, [1]\n"
        "def failing(self, *args):\n    if broken:\n        broken.clear(); raise RuntimeError('no such memory')\n"
        "    real(self, *args)\nplain.Plain.read = failing\nrun = supervisor.attach(model=model)\n"
        "for step in run.steps(6):\n    model.update(step)\n    if step in (1, 3): run.save()\n    if step == 4: run.flush()\n",
    )
    assert "step 2 could not be saved: RuntimeError: no such memory" in ran.words
    assert [assert_whole(folder) for folder in ran.folders()] == [4, 6]


def test_a_state_that_grows_and_changes_its_form_between_saves_is_saved_as_it_is_each_time(tmp_path):
    ran = Ran(
        tmp_path,
        "import supervisor.trainer.alone as alone\nalone.KEEP = 99\nrun = supervisor.attach(model=model)\n"
        "for step in run.steps(8):\n"
        "    if step == 1: model.weights = array('d', [0.0]) * 300_000\n"
        "    if step == 2: model.extra['new'] = bytearray(b'x' * 5000)\n"
        "    if step == 3: model.weights = array('f', [0.0]) * 7\n"
        "    if step == 4: model.extra = {'count': 1}\n"
        "    if step == 5: model.weights = array('d', [0.0]) * 1_000_000\n"
        "    if step == 6: model.extra = {}\n"
        "    model.weights[:] = array(model.weights.typecode, [step + 1.0]) * len(model.weights)\n"
        "    run.save()\n    run.flush()\n",
    )
    assert [assert_whole(folder) for folder in ran.folders()] == list(range(1, 9))
    kept = [read(folder)["model"] for folder in ran.folders()]
    assert [len(each["weights"]) for each in kept] == [100_000, 300_000, 300_000, 7, 7, 1_000_000, 1_000_000, 1_000_000]
    assert [each["weights"].typecode for each in kept] == list("dddffddd")
    assert [sorted(each["extra"]) for each in kept] == [[], [], ["new"], ["new"], ["count"], ["count"], [], []]


def test_of_saves_asked_for_while_one_is_written_the_newest_is_made(tmp_path):
    """The first write is held until two more saves were asked for; what is saved then is the state of that moment."""
    ran = Ran(
        tmp_path,
        "import supervisor.trainer.alone as alone\nalone.KEEP = 99\n"
        "held, real = threading.Event(), os.fsync\n"
        "def holding(fd):\n"
        "    if threading.current_thread() is not threading.main_thread(): held.wait()\n    real(fd)\n"
        "os.fsync = holding\nrun = supervisor.attach(model=model)\n"
        "for step in run.steps(20):\n    model.update(step)\n"
        "    if step in (1, 3, 5): run.save()\n"
        "    if step == 7: held.set()\n"
        "    if step == 7: run.flush()\n    if step == 12: run.flush()\n",
    )
    assert [assert_whole(folder) for folder in ran.folders()] == [2, 8, 20]


def test_children_forked_during_a_save_end_and_the_parent_loses_and_doubles_nothing(tmp_path):
    ran = Ran(
        tmp_path,
        "import supervisor.trainer.alone as alone\nalone.KEEP = 99\n"
        "real, writing = os.fsync, threading.Event()\n"
        "def noted(fd):\n    writing.set(); time.sleep(0.02); real(fd)\n"
        "os.fsync = noted\nrun = supervisor.attach(model=model)\nchildren = []\n"
        "for step in run.steps(9):\n    model.update(step)\n"
        "    if step in (1, 4): run.save()\n"
        "    if step in (2, 5):\n"
        "        writing.wait(); writing.clear()\n"
        "        for way in ('exit', 'return', 'save'):\n"
        "            child = os.fork()\n"
        "            if child == 0:\n"
        "                if way == 'exit': os._exit(0)\n"
        "                if way == 'return': sys.exit(0)\n"
        "                run.flush(); os._exit(0)\n"
        "            children.append(child)\n"
        "    if step in (3, 6): run.flush()\n"
        "print([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children])\n",
    )
    assert ran.printed.strip() == str([0] * 6)
    assert [assert_whole(folder) for folder in ran.folders()] == [2, 5, 9]
    assert not ran.leftovers()


def test_a_forked_child_that_goes_on_with_the_loop_saves_nothing_and_ends(tmp_path):
    ran = Ran(
        tmp_path,
        "import supervisor.trainer.alone as alone\nalone.KEEP = 99\nrun = supervisor.attach(model=model)\nchild = None\n"
        "for step in run.steps(8):\n    run.before_update()\n    model.update(step)\n    run.save()\n"
        "    if step == 3: child = os.fork()\n"
        "if child:\n    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n",
    )
    assert ran.printed.strip() == "0"
    steps = [assert_whole(folder) for folder in ran.folders()]
    assert steps == sorted(set(steps)), "no step is saved twice"
    assert steps[-1] == 8
    assert not ran.leftovers()


@pytest.mark.torch
def test_workers_of_a_data_loader_end_and_every_save_beside_them_is_whole(tmp_path):
    pytest.importorskip("torch")
    ran = Ran(
        tmp_path,
        "import torch\nimport supervisor.trainer.alone as alone\nalone.KEEP = 99\ntorch.set_num_threads(1)\n"
        "class Numbers(torch.utils.data.Dataset):\n"
        "    def __len__(self): return 12\n    def __getitem__(self, index): return torch.tensor([float(index), os.getpid()])\n"
        "net = torch.nn.Linear(1, 1)\noptimizer = torch.optim.Adam(net.parameters())\n"
        "run = supervisor.attach(model=model, net=net, optimizer=optimizer)\nworkers, steps = set(), run.steps(18)\n"
        "for epoch in range(3):\n"
        "    loader = torch.utils.data.DataLoader(Numbers(), batch_size=2, num_workers=2, multiprocessing_context='fork')\n"
        "    for batch, step in zip(loader, steps):\n"
        "        workers |= set(batch[:, 1].int().tolist())\n"
        "        net(batch[:, :1]).sum().backward(); optimizer.step(); model.update(step); run.save()\n"
        "for _ in steps: pass\n"
        "import subprocess\n"
        "print(len(workers), [pid for pid in workers if os.path.exists(f'/proc/{pid}')])\n",
    )
    assert ran.printed.strip() == "6 []"
    steps = [assert_whole(folder) for folder in ran.folders()]
    assert steps == sorted(set(steps))
    assert steps[-1] == 18
    assert not ran.leftovers()


KILLED = """
model = Model(400_000)
run = supervisor.attach(model=model)
for step in run.steps(10**6):
    model.update(step)
    run.log(loss=1.0)
    run.save()
    print(step, flush=True)
"""


def test_a_trainer_killed_at_any_moment_of_a_background_write_leaves_only_whole_checkpoints(tmp_path):
    path = tmp_path / "script.py"
    path.write_text(MODEL + KILLED)
    chance, staging, reached = random.Random(7), tmp_path / "checkpoints" / "script", []
    for number in range(12):
        process = subprocess.Popen(
            [sys.executable, str(path)],
            cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        process.stdout.readline()
        newest = max(staging.glob("step-*"), default=None)
        while number % 3 == 0 and max(staging.glob("step-*"), default=None) == newest:
            process.stdout.readline()
        time.sleep(chance.random() * 0.1)  # because where in a write it falls is what the test is about
        process.send_signal(signal.SIGKILL)
        _, words = process.communicate()
        assert "damaged" not in words
        whole = [assert_whole(folder) for folder in sorted(staging.glob("step-*"))]
        assert whole == sorted(whole)
        reached.append(whole[-1] if whole else 0)
        if len(reached) > 1 and reached[-2]:
            assert f"resumed after step {reached[-2]} " in words
    assert reached[-1] > reached[0]


RESUMED = """
run = supervisor.attach(model=model)
print('restored', run.step, sorted(set(model.weights)), model.extra)
for step in run.steps(5 + run.step):
    model.update(step)
    model.extra = {f'key{step}': bytearray(3)}
    run.log(loss=1.0)
    run.save()
    run.flush()
"""


def restored(ran):
    return ran.printed.splitlines()[0]


def damage(folder, name="state-00000.safetensors"):
    raw = bytearray((folder / name).read_bytes())
    raw[-1] ^= 1
    (folder / name).write_bytes(raw)


@pytest.mark.parametrize("name", ["state-00000.safetensors", "state.json", "rng.json", "checkpoint.json", "log.jsonl"])
def test_when_the_newest_is_damaged_the_one_before_is_restored_whole(tmp_path, name):
    before, newest = Ran(tmp_path, RESUMED).folders()
    assert [open_folder(folder).step for folder in (before, newest)] == [4, 5]
    damage(newest, name)
    second = Ran(tmp_path, RESUMED)
    assert restored(second) == f"restored 4 [4.0] {{'key3': {bytearray(3)!r}}}"
    assert "damaged" in second.words
    assert [assert_whole(folder) for folder in second.folders()] == [8, 9]
    assert [path.name for path in second.staging.glob("damaged-*")] == [f"damaged-{newest.name}"]


@pytest.mark.torch
def test_nothing_of_a_damaged_checkpoint_stays_in_tensors_that_it_was_read_into(tmp_path):
    pytest.importorskip("torch")
    text = (
        "import torch\ntorch.set_num_threads(1)\nnet = torch.nn.Sequential(torch.nn.Linear(30, 30), torch.nn.BatchNorm1d(30))\n"
        "optimizer = torch.optim.Adam(net.parameters())\n"
        "run = supervisor.attach(model=model, net=net, optimizer=optimizer)\n"
        "held = [*net.state_dict().values(), *(each for state in optimizer.state.values() for each in state.values())]\n"
        "print(run.step, len(held), all((each == run.step).all() for each in held) if run.step else None)\n"
        "for step in run.steps(3 + run.step):\n    model.update(step)\n"
        "    net(torch.randn(4, 30)).sum().backward(); optimizer.step()\n"
        "    with torch.no_grad():\n"
        "        for each in (*net.state_dict().values(), *(t for s in optimizer.state.values() for t in s.values())): each.fill_(step + 1)\n"
        "    run.save()\n    run.flush()\n"
    )
    first = Ran(tmp_path, text)
    damage(first.folders()[-1])
    second = Ran(tmp_path, text)
    assert second.printed.strip() == "2 19 True"
    assert "damaged" in second.words


def test_when_all_are_damaged_it_is_said_and_nothing_begins_anew(tmp_path):
    first = Ran(tmp_path, RESUMED)
    for folder in first.folders():
        damage(folder)
    for _ in range(2):  # the second time there are only folders that were set aside
        second = Ran(tmp_path, RESUMED, expect=1)
        assert "restored" not in second.printed
        assert "is whole" in second.words


def test_rows_of_a_save_that_failed_are_in_the_next_one(tmp_path):
    ran = Ran(
        tmp_path,
        "real, broken = os.fsync, [1]\n"
        "def failing(fd):\n    if broken:\n        broken.clear(); raise OSError(errno.ENOSPC, 'No space left')\n    real(fd)\n"
        "os.fsync = failing\nrun = supervisor.attach(model=model)\n"
        "for step in run.steps(6):\n    model.update(step)\n    run.log(loss=step)\n"
        "    if step in (1, 3): run.save()\n    if step in (2, 4): run.flush()\n",
    )
    rows = [json.loads(line) for folder in ran.folders() for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(6))
