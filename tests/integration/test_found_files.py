"""Without a hook and without --watch, what looks like a script's state is kept; what is not kept is named at the end."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from benchmarks.machines import Machine

pytestmark = pytest.mark.slow

SCRIPT = """
import argparse, os, pathlib, pickle, shutil, tempfile, time
told = argparse.ArgumentParser()
told.add_argument("--resume", help="a checkpoint to resume from")
told.add_argument("--how", default="dump")
told = told.parse_args()
pathlib.Path("ck").mkdir(exist_ok=True)
step = 0
if told.resume:
    step = pickle.loads(pathlib.Path(told.resume).read_bytes())["step"]
print("begins at", step, "with a log of", len(open("ck/log.csv").readlines()) if os.path.exists("ck/log.csv") else 0, flush=True)
log = open("ck/log.csv", "a")
while step < 6:
    step += 1
    print(step, 0.5, sep=",", file=log, flush=True)
    name, body = f"ck/model_{step}.pkl", pickle.dumps({"step": step})
    if told.how == "dump":
        with open(name, "wb") as file:
            pickle.dump({"step": step}, file)
    elif told.how == "moved":
        with tempfile.NamedTemporaryFile(delete=False) as file:
            file.write(body)
        shutil.move(file.name, name)
    elif told.how == "linked":
        pathlib.Path("ck/new").write_bytes(body)
        os.link("ck/new", name)
        os.unlink("ck/new")
    elif told.how == "replaced":
        pathlib.Path("ck/new.tmp").write_bytes(body)
        os.replace("ck/new.tmp", "ck/latest.bin")
    elif told.how == "unknown":
        pathlib.Path("ck/blob.xyz").write_bytes(body)
    if step == 3 and not told.resume and told.how != "unknown":
        print("waits", flush=True)
        while True:
            time.sleep(0.05)
print("ended", flush=True)
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "train.py"
    path.write_text(SCRIPT)
    return path


@pytest.mark.parametrize("how", ["dump", "moved", "linked"])
def test_what_no_hook_knows_is_kept_and_gone_on_from(
    fresh_machine: Callable[[], Machine], store: Path, script: Path, how: str
) -> None:
    options = ("--resume-args", "auto", "--no-install")
    turn = fresh_machine().start(script, *options, arguments=["--how", how])
    turn.until(lambda: "waits" in turn.text)
    turn.until(lambda: any("model_3" in each.read_text() for each in store.glob("train/e*/step-*/files.json")))
    turn.until(lambda: list(store.glob("train/e*/step-*/manifest-*.json")))
    turn.kill("both")
    again = fresh_machine().start(script, *options, arguments=["--how", how])
    assert again.wait() == 0, again.text
    assert "begins at 3 with a log of 3" in again.text, again.text
    assert "looks like state that the script saves: it is kept" in turn.text
    assert '--resume-args auto: "--resume {checkpoint}" is added' in turn.text


def test_what_is_not_kept_is_named_at_the_end_with_the_option_that_keeps_it(machine: Machine, script: Path) -> None:
    turn = machine.start(script, "--no-install", arguments=["--how", "unknown"])
    assert turn.wait() == 0, turn.text
    assert "nothing that the script wrote is kept" in turn.text
    assert "ck/blob.xyz" in turn.text
    assert "--watch ck keeps it" in turn.text


def test_one_file_that_is_written_again_on_the_next_machine_is_kept_there_too(
    fresh_machine: Callable[[], Machine], store: Path, script: Path, tmp_path: Path
) -> None:
    options = ("--resume-args", "--resume {checkpoint}", "--no-install")
    turn = fresh_machine().start(script, *options, arguments=["--how", "replaced"])
    turn.until(lambda: "waits" in turn.text)
    turn.until(lambda: list(store.glob("train/e*/step-*/manifest-*.json")))
    turn.kill("both")
    machine = fresh_machine()
    again = machine.start(script, *options, arguments=["--how", "replaced"])
    assert again.wait() == 0, again.text
    assert "begins at 3" in again.text
    exported = machine.run("checkpoints", "train", "export", "latest", str(tmp_path / "last"))
    assert exported.returncode == 0, exported.stderr
    assert pickle.loads((tmp_path / "last" / "files" / "ck" / "latest.bin").read_bytes()) == {"step": 6}
