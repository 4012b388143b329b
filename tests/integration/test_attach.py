"""The real runner in a real process, told what to do over a real socket by a supervisor that the test plays."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from supervisor.core import messages
from supervisor.core.messages import (
    Beat,
    Finished,
    Hello,
    Note,
    Restored,
    Save,
    SaveFailed,
    ScriptFailed,
    Staged,
    Stop,
    Stopped,
)
from supervisor.trainer.folder import open_folder, read

ROOT = Path(__file__).resolve().parents[2]
TOY = ROOT / "trainers" / "toy.py"
WAIT_S_MAX = 400.0

pytestmark = pytest.mark.slow


class Played:
    """A supervisor of one attempt: starts the trainer, hears its messages, says what the test wants."""

    def __init__(self, folder: Path, script: Path, *arguments: str, checkpoint: Path | None = None, **environ: str):
        self.staging = folder / "staging"
        self.staging.mkdir(parents=True, exist_ok=True)
        number = len(list(folder.glob("channel-*")))
        path = folder / f"channel-{number}"
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(path))
        self._server.listen(1)
        self.heard: list = []
        self._buffer = b""
        settings = {
            "SUPERVISOR_RUN_CHANNEL": str(path),
            "SUPERVISOR_RUN_NAME": "played",
            "SUPERVISOR_RUN_STAGING": str(self.staging),
            "SUPERVISOR_RUN_SCRATCH": str(folder / "scratch"),
            "SUPERVISOR_RUN_CHECKPOINT": str(checkpoint or ""),
            "SUPERVISOR_RUN_ATTEMPT": str(number + 1),
            "SUPERVISOR_RUN_SAVE_EVERY": "asked",
            "SUPERVISOR_RUN_GRACE_S": "20",
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "supervisor.trainer", str(script), *arguments],
            env={**os.environ, **settings, **environ},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._server.settimeout(WAIT_S_MAX)
        self._connection, _ = self._server.accept()
        self._connection.settimeout(WAIT_S_MAX)

    def say(self, message: messages.Message) -> None:
        self._connection.sendall(messages.encode(message))

    def hear(self, kind: type, *, beyond_step: int = -1):
        """Return the first message of that kind that has not been returned before, waiting for it."""
        while True:
            for index, message in enumerate(self.heard):
                if isinstance(message, kind) and getattr(message, "step", 0) > beyond_step:
                    return self.heard.pop(index)
            assert self._listen(), f"the trainer ended without a {kind.__name__}: {self.heard}"

    def end(self) -> int:
        """Hear everything until the trainer is gone; return its exit code."""
        while self._listen():
            pass
        self.output = self.process.communicate(timeout=WAIT_S_MAX)[0]
        self.hang_up()
        return self.process.returncode

    def hang_up(self) -> None:
        self._connection.close()
        self._server.close()

    def all_of(self, kind: type) -> list:
        return [message for message in self.heard if isinstance(message, kind)]

    def _listen(self) -> bool:
        received = self._connection.recv(65536)
        self._buffer, heard = messages.feed(self._buffer, received)
        self.heard += heard
        return bool(received)


def script(folder: Path, text: str) -> Path:
    path = folder / "script.py"
    path.write_text(text)
    return path


def rows(*folders: Path) -> list[dict]:
    return [json.loads(line) for folder in folders for line in (folder / "log.jsonl").read_text().splitlines()]


def bits(folder: Path) -> dict[str, str]:
    """Return the digests of everything but the log, which holds only the rows since the save before."""
    return {name: digest for name, (_, digest) in open_folder(folder).manifest.files.items() if name != "log.jsonl"}


@pytest.fixture
def uninterrupted(tmp_path):
    played = Played(tmp_path / "whole", TOY, "--steps", "60", "--step-ms", "0")
    assert played.end() == 0
    (staged,) = played.all_of(Staged)
    return played.staging / staged.folder


def test_a_normal_life_is_told_from_hello_to_finished(tmp_path):
    played = Played(tmp_path, TOY, "--steps", "30", "--step-ms", "1")
    assert played.end() == 0
    assert [hello.attached for hello in played.all_of(Hello)] == [False, True]
    assert played.all_of(Finished) == [Finished(30)]
    (staged,) = played.all_of(Staged)
    assert (staged.step, staged.reason) == (30, "final")
    assert read(played.staging / staged.folder)["data"]["position"] == 30
    assert {beat.section for beat in played.all_of(Beat)} >= {"start"}
    assert "30 steps done" in played.output


def test_a_checkpoint_is_staged_when_asked_and_holds_the_rows_before_it(tmp_path):
    played = Played(tmp_path, TOY, "--steps", "100000", "--step-ms", "1")
    played.hear(Beat, beyond_step=3)
    played.say(Save("due"))
    first = played.hear(Staged)
    played.say(Save("due"))
    second = played.hear(Staged)
    played.process.kill()
    played.end()
    assert first.reason == "due"
    found = rows(played.staging / first.folder, played.staging / second.folder)
    assert [row["step"] for row in found] == list(range(second.step))


@pytest.mark.parametrize("ending", ["stop", "sigterm", "eof", "kill"])
def test_an_interrupted_run_ends_like_an_uninterrupted_one_bit_for_bit(tmp_path, uninterrupted, ending):
    played = Played(tmp_path, TOY, "--steps", "60", "--step-ms", "20")
    played.hear(Beat, beyond_step=5)
    expected = {"stop": 0, "sigterm": 143, "eof": 75, "kill": -signal.SIGKILL}[ending]
    if ending == "stop":
        played.say(Stop("user", save=True, grace_s=20))
    elif ending == "sigterm":
        played.process.terminate()
    elif ending == "eof":
        played.hang_up()
    else:
        played.say(Save("due"))
        played.hear(Staged)
        played.process.kill()
    if ending == "eof":
        played.output = played.process.communicate(timeout=WAIT_S_MAX)[0]
        code = played.process.returncode
    else:
        code = played.end()
    assert code == expected, played.output
    assert "steps done" not in played.output, "code after the loop ran although the work is not done"
    (first,) = sorted(path for path in played.staging.iterdir() if path.name.startswith("step-"))
    if ending in {"stop", "sigterm"}:
        assert played.all_of(Stopped) == [Stopped(open_folder(first).step)]
        assert not played.all_of(Finished)

    resumed = Played(tmp_path, TOY, "--steps", "60", "--step-ms", "0", checkpoint=first)
    assert resumed.end() == 0, resumed.output
    assert resumed.all_of(Restored)[0].step == open_folder(first).step
    last = resumed.staging / resumed.all_of(Staged)[-1].folder
    assert bits(last) == bits(uninterrupted)
    assert rows(first, last) == rows(uninterrupted)


def test_steps_are_saved_at_exact_multiples(tmp_path):
    played = Played(
        tmp_path, TOY, "--steps", "25", "--step-ms", "20", "--state-mb", "0.1", SUPERVISOR_RUN_SAVE_EVERY="10steps"
    )
    assert played.end() == 0
    assert [(staged.step, staged.reason) for staged in played.all_of(Staged)] == [
        (10, "due"),
        (20, "due"),
        (25, "final"),
    ]


def test_a_finished_run_does_nothing_when_started_again(tmp_path, uninterrupted):
    played = Played(tmp_path, TOY, "--steps", "60", checkpoint=uninterrupted)
    assert played.end() == 0
    assert not played.all_of(Staged)
    assert played.all_of(Finished) == [Finished(60)]


@pytest.mark.parametrize(
    ("text", "code", "kind"),
    [
        ("def broken(:\n", 1, "setup"),
        ("import no_such_module_here\n", 1, "setup"),
        ("raise ValueError('bad luck')\n", 1, "script"),
        ("import supervisor\nsupervisor.attach(model=object())\n", 3, "refused"),
        ("import sys\nsys.exit(7)\n", 7, "exit"),
        ("import sys\nsys.exit('words')\n", 1, "exit"),
        ("from supervisor.core.errors import SetupError\nraise SetupError('no plates', 'get some')\n", 3, "setup"),
    ],
)
def test_the_way_a_script_ends_is_told_and_kept(tmp_path, text, code, kind):
    played = Played(tmp_path, script(tmp_path, text))
    assert played.end() == code, played.output
    assert [failed.kind for failed in played.all_of(ScriptFailed)] == ([kind] if kind else [])
    assert not played.all_of(Finished)
    assert "runner.py" not in played.output


def test_a_traceback_shows_the_script_and_nothing_of_the_runner(tmp_path):
    path = script(tmp_path, "def inner():\n    raise ValueError('bad luck')\ninner()\n")
    played = Played(tmp_path, path)
    alone = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, check=False)
    assert played.end() == 1
    assert played.output == alone.stderr


def test_the_script_sees_what_it_would_see_if_run_alone(tmp_path):
    path = script(
        tmp_path,
        "import sys, multiprocessing as mp, neighbour\n"
        "def double(x):\n    return 2 * x\n"
        "if __name__ == '__main__':\n"
        "    print(sys.argv, __file__, sys.path[0], __spec__)\n"
        "    with mp.get_context('spawn').Pool(1) as pool:\n        print(pool.map(double, [neighbour.NUMBER]))\n",
    )
    (tmp_path / "neighbour.py").write_text("NUMBER = 21\n")
    played = Played(tmp_path, path, "--one", "two")
    assert played.end() == 0, played.output
    alone = subprocess.run([sys.executable, str(path), "--one", "two"], capture_output=True, text=True, check=True)
    assert played.output == alone.stdout
    assert "[42]" in played.output


def test_a_script_that_never_attaches_ends_when_its_supervisor_is_gone(tmp_path):
    path = script(tmp_path, "import time\nprint('up', flush=True)\ntime.sleep(100)\n")
    played = Played(tmp_path, path)
    played.process.stdout.readline()
    played.hang_up()
    assert played.process.wait(WAIT_S_MAX) == -signal.SIGTERM
    played.process.stdout.close()


def test_a_script_stuck_in_a_step_is_ended_after_the_grace_when_its_supervisor_is_gone(tmp_path):
    path = script(
        tmp_path,
        "import time, signal, supervisor\nfrom supervisor.trainer.order import Order\n"
        "run = supervisor.attach(data=Order(9))\nfor step in run.steps(9):\n    time.sleep(100)\n",
    )
    played = Played(tmp_path, path, SUPERVISOR_RUN_GRACE_S="0.2")
    played.hear(Beat)
    while not any(hello.attached for hello in played.all_of(Hello)):
        played.hear(Beat)
    played.hang_up()
    assert played.process.wait(WAIT_S_MAX) == 75
    played.process.stdout.close()


def test_an_early_break_is_saved_at_the_end(tmp_path):
    path = script(
        tmp_path,
        "import supervisor\nfrom supervisor.trainer.order import Order\norder = Order(9)\n"
        "run = supervisor.attach(data=order)\n"
        "for step in run.steps(9):\n    run.log(sample=next(order))\n    if step == 4:\n        break\n",
    )
    played = Played(tmp_path, path)
    assert played.end() == 0, played.output
    (staged,) = played.all_of(Staged)
    assert (staged.step, staged.reason) == (5, "final")
    assert read(played.staging / staged.folder)["data"]["position"] == 5
    assert len(rows(played.staging / staged.folder)) == 5


def test_an_exception_saves_nothing(tmp_path):
    path = script(
        tmp_path,
        "import supervisor\nfrom supervisor.trainer.order import Order\nrun = supervisor.attach(data=Order(9))\n"
        "for step in run.steps(9):\n    if step == 4:\n        raise RuntimeError('bad luck')\n",
    )
    played = Played(tmp_path, path)
    assert played.end() == 1
    assert not played.all_of(Staged)
    assert list(played.staging.iterdir()) == []


def test_a_save_that_fails_is_told_and_training_goes_on(tmp_path):
    path = script(
        tmp_path,
        "import os, errno, supervisor\nfrom supervisor.trainer.order import Order\nreal, calls = os.fsync, []\n"
        "def full(fd):\n    calls.append(fd)\n    if len(calls) == 1:\n        raise OSError(errno.ENOSPC, 'No space left')\n    real(fd)\n"
        "os.fsync = full\nrun = supervisor.attach(data=Order(9))\n"
        "for step in run.steps(9):\n    run.log(loss=1.5)\n    if step == 2:\n        run.save()\n",
    )
    played = Played(tmp_path, path)
    assert played.end() == 0, played.output
    (failed,) = played.all_of(SaveFailed)
    assert failed.step == 3
    assert "No space left" in failed.error
    (staged,) = played.all_of(Staged)
    assert [row["step"] for row in rows(played.staging / staged.folder)] == list(range(9))
    assert [path.name for path in played.staging.iterdir()] == [staged.folder]


def test_a_number_that_is_not_finite_is_told_once(tmp_path):
    path = script(
        tmp_path,
        "import supervisor\nfrom supervisor.trainer.order import Order\nrun = supervisor.attach(data=Order(9))\n"
        "for step in run.steps(9):\n    run.log(loss=float('nan') if step > 2 else 1.0)\n",
    )
    played = Played(tmp_path, path)
    assert played.end() == 0
    assert [note.text for note in played.all_of(Note)] == ["loss is nan at step 3"]
    (staged,) = played.all_of(Staged)
    assert rows(played.staging / staged.folder)[3] == {"step": 3, "loss": "NaN"}


def test_a_worker_forked_by_the_script_ends_at_sigterm_and_does_not_hold_the_channel(tmp_path):
    path = script(
        tmp_path,
        "import os, signal, time, supervisor\nfrom supervisor.trainer.order import Order\n"
        "run = supervisor.attach(data=Order(9))\nready, says = os.pipe()\nchild = os.fork()\n"
        "if child == 0:\n    os.write(says, b'x')\n    time.sleep(100)\n    os._exit(1)\n"
        "os.read(ready, 1)\nos.kill(child, signal.SIGTERM)\n"
        "print('ended by', os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n",
    )
    played = Played(tmp_path, path)
    assert played.end() == 0
    assert "ended by -15" in played.output


def test_without_a_supervisor_ctrl_c_saves_and_the_next_start_goes_on(tmp_path):
    path = script(
        tmp_path,
        "import sys, time, supervisor\nfrom supervisor.trainer.order import Order\nrun = supervisor.attach(data=Order(9))\n"
        "for step in run.steps(400):\n    print('step', step, flush=True)\n    time.sleep(float(sys.argv[1]))\n"
        "print(run.step, 'steps done')\n",
    )
    slowly, quickly = ([sys.executable, str(path), step_s] for step_s in ("0.1", "0"))
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    first = subprocess.Popen(
        slowly, cwd=tmp_path, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while first.stdout.readline() != "step 3\n":
        assert first.poll() is None
    first.send_signal(signal.SIGINT)
    assert "saving after this step" in first.communicate(timeout=WAIT_S_MAX)[1]
    assert first.returncode == 130
    second = subprocess.run(quickly, cwd=tmp_path, env=environ, capture_output=True, text=True, check=True)
    assert "resumed after step" in second.stderr
    assert "400 steps done" in second.stdout
    names = sorted(path.name for path in (tmp_path / "checkpoints" / "script").iterdir())
    assert len(names) == 2
    assert names[-1].startswith("step-000000400-")

    (tmp_path / "checkpoints" / "script" / names[-1] / "state.json").write_text("{}")
    third = subprocess.run(quickly, cwd=tmp_path, env=environ, capture_output=True, text=True, check=True)
    assert "damaged" in third.stderr
    assert "resumed after step" in third.stderr
    assert "400 steps done" in third.stdout


def test_a_last_save_that_keeps_failing_does_not_keep_the_script_from_ending(tmp_path):
    path = script(
        tmp_path,
        "import os, errno, supervisor\nfrom supervisor.trainer.order import Order\n"
        "def full(fd):\n    raise OSError(errno.ENOSPC, 'No space left')\nos.fsync = full\n"
        "run = supervisor.attach(data=Order(9))\nfor step in run.steps(9):\n    pass\nprint('the end')\n",
    )
    played = Played(tmp_path, path)
    assert played.end() == 0
    assert "the end" in played.output
    assert [failed.step for failed in played.all_of(SaveFailed)] == [9, 9, 9]
    assert any("could not be saved" in note.text for note in played.all_of(Note))
    assert played.all_of(Finished) == [Finished(9)]
    assert list(played.staging.iterdir()) == []


def test_without_room_for_a_copy_it_saves_while_training_waits_and_says_so(tmp_path):
    path = script(
        tmp_path,
        "import supervisor, supervisor.trainer.buffer as buffer\nfrom array import array\n"
        "buffer.has_room_for = lambda size: False\n"
        "class Model:\n    def state_dict(self):\n        return {'a': array('d', [1.5])}\n"
        "    def load_state_dict(self, state):\n        pass\n"
        "run = supervisor.attach(model=Model())\n"
        "for step in run.steps(4):\n    if step == 1:\n        run.save()\n",
    )
    played = Played(tmp_path, path)
    assert played.end() == 0, played.output
    assert [staged.step for staged in played.all_of(Staged)] == [2, 4]
    assert "saved while training waits" in played.all_of(Note)[0].text
    assert read(played.staging / played.all_of(Staged)[0].folder)["model"]["a"].tolist() == [1.5]


def prints_to_nowhere(pid: int) -> bool:
    try:
        return str(Path(f"/proc/{pid}/fd/1").readlink()) == os.devnull
    except FileNotFoundError:
        return True  # it has ended already, while its output was still open


def test_a_script_that_prints_still_saves_once_more_when_its_supervisor_was_killed(tmp_path):
    path = script(
        tmp_path,
        "import time, supervisor\nfrom supervisor.trainer.order import Order\nrun = supervisor.attach(data=Order(9))\n"
        "for step in run.steps(10**6):\n    time.sleep(0.1)\n    print(step, flush=True)\n",
    )
    played = Played(tmp_path, path)
    played.hear(Beat, beyond_step=1)
    played.hang_up()
    while not prints_to_nowhere(played.process.pid):
        time.sleep(0.01)  # because only the system tells where another process prints
    played.process.stdout.close()
    assert played.process.wait(WAIT_S_MAX) == 75
    (last,) = played.staging.iterdir()
    assert open_folder(last).step > 1


def test_a_second_ctrl_c_ends_at_once(tmp_path):
    path = script(
        tmp_path,
        "import time, supervisor\nfrom supervisor.trainer.order import Order\nrun = supervisor.attach(data=Order(9))\n"
        "for step in run.steps(9):\n    print('up', flush=True)\n    time.sleep(100)\n",
    )
    process = subprocess.Popen(
        [sys.executable, str(path)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    process.stderr.readline()
    process.send_signal(signal.SIGINT)
    assert "KeyboardInterrupt" in process.communicate(timeout=WAIT_S_MAX)[1]
    assert process.returncode == -signal.SIGINT


def test_many_short_sections_do_not_flood_the_channel(tmp_path):
    path = script(
        tmp_path,
        "import supervisor\nfrom supervisor.trainer.order import Order\nrun = supervisor.attach(data=Order(9))\n"
        "for step in run.steps(3000):\n    with run.section('eval'):\n        run.log(loss=1.0)\n",
    )
    played = Played(tmp_path, path)
    assert played.end() == 0, played.output
    beats = played.all_of(Beat)
    assert len(beats) < 100
    assert beats[-1].step == 3000
    assert beats[-1].seconds["eval"] > 0
    assert played.heard.index(beats[-1]) < played.heard.index(played.all_of(Finished)[0])


@pytest.mark.torch
def test_a_torch_run_killed_and_resumed_ends_like_an_uninterrupted_one(tmp_path):
    pytest.importorskip("torch")
    path = script(
        tmp_path,
        "import time, torch, supervisor\nfrom supervisor.trainer.order import Order\ntorch.set_num_threads(1)\n"
        "import random, numpy\nrandom.seed(0)\nnumpy.random.seed(0)\ntorch.manual_seed(0)\nmodel = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Dropout(), torch.nn.Linear(8, 1))\n"
        "optimizer = torch.optim.AdamW(model.parameters())\n"
        "scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, 40)\norder = Order(9)\n"
        "run = supervisor.attach(model=model, optimizer=optimizer, scheduler=scheduler, data=order)\n"
        "for step in run.steps(40):\n    loss = model(torch.randn(4, 8) + next(order)).square().mean()\n"
        "    optimizer.zero_grad()\n    loss.backward()\n    optimizer.step()\n    scheduler.step()\n"
        "    run.log(loss=loss, lr=scheduler.get_last_lr()[0])\n    time.sleep(0.01)\n",
    )
    whole = Played(tmp_path / "whole", path)
    assert whole.end() == 0, whole.output
    wanted = whole.staging / whole.all_of(Staged)[-1].folder
    killed = Played(tmp_path / "cut", path, SUPERVISOR_RUN_SAVE_EVERY="10steps")
    first = killed.hear(Staged)
    killed.process.kill()
    killed.end()
    assert killed.all_of(Hello)[-1].framework.startswith("torch ")
    resumed = Played(tmp_path / "cut", path, checkpoint=killed.staging / first.folder)
    assert resumed.end() == 0, resumed.output
    last = resumed.staging / resumed.all_of(Staged)[-1].folder
    assert bits(last) == bits(wanted)
    assert rows(killed.staging / first.folder, last) == rows(wanted)


def test_values_logged_after_the_loop_are_told(tmp_path):
    path = script(
        tmp_path,
        "import supervisor\nfrom supervisor.trainer.order import Order\nrun = supervisor.attach(data=Order(9))\n"
        "for step in run.steps(3):\n    run.log(loss=1.0)\nrun.log(accuracy=0.75)\n",
    )
    played = Played(tmp_path, path)
    assert played.end() == 0, played.output
    assert played.all_of(Beat)[-1].metrics == {"loss": 1.0, "accuracy": 0.75}
    assert len(rows(*played.staging.iterdir())) == 3


@pytest.mark.slow
def test_the_toy_runs_and_resumes_from_a_checkout_that_nobody_installed(tmp_path):
    environ = {key: value for key, value in os.environ.items() if key != "PYTHONPATH" and "SUPERVISOR_RUN" not in key}
    for steps in ("5", "9"):
        command = [sys.executable, str(TOY), "--steps", steps, "--step-ms", "0"]
        played = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
        assert played.returncode == 0, played.stderr
    assert "resumed after step 5" in played.stderr


def test_who_resumes_on_another_device_is_told_what_that_means(tmp_path):
    path = script(
        tmp_path,
        "import os, supervisor\nfrom supervisor.trainer import frameworks\nfrom supervisor.trainer.order import Order\n"
        "frameworks.described = lambda _: {'framework': 'torch 2', 'device': os.environ['DEVICE']}\n"
        "run = supervisor.attach(data=Order(9))\nfor step in run.steps(3):\n    run.log(loss=1.0)\n",
    )
    first = Played(tmp_path, path, DEVICE="Tesla T4")
    assert first.end() == 0, first.output
    saved = first.staging / first.all_of(Staged)[-1].folder
    again = Played(tmp_path, path, checkpoint=saved, DEVICE="Tesla T4")
    assert again.end() == 0, again.output
    assert again.all_of(Note) == []
    elsewhere = Played(tmp_path, path, checkpoint=saved, DEVICE="cpu")
    assert elsewhere.end() == 0, elsewhere.output
    told = [note.text for note in elsewhere.all_of(Note)]
    assert told[0].startswith("saved on Tesla T4, going on on the CPU")
    assert "no accelerator here" in told[1]
