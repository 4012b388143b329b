"""The judge of the public scripts: it holds the supervisor's words against the witness, and finds each untrue one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.public.data import MAKERS
from benchmarks.public.judging import Seen, Verdict, Words, judge
from benchmarks.public.rows import ROWS
from benchmarks.public.table import page
from benchmarks.public_scripts import WITNESS, seen

RESUMED = "[supervisor] going on from step 400, verified\n[supervisor] SUCCEEDED: The script finished · safe: step 900"
OPENED = (
    "[supervisor] the script opened 'ckpt.pt', which was put back, before its first step: its steps are counted on from "
    "there\n[supervisor] SUCCEEDED: The script finished at step 900 · safe: step 900"
)
BEGAN = "[supervisor] the script read no restored file: add --resume-args\n[supervisor] SUCCEEDED: finished · safe: step 500"
NOTHING = "[supervisor] SUCCEEDED: The script finished · nothing safe yet · exit code 0"


def judged(text, lives, *, step=500, state="SUCCEEDED", code=0, had=True, holds=True):
    verdict = Verdict("a script", "as it is")
    judge(verdict, Words(text, code, {"step": step, "state": state}), lives, had=had, holds=holds)
    return [line.partition(":")[0] for line in verdict.untrue]


def test_true_words_are_not_complained_of():
    assert judged(RESUMED, [Seen((), 400), Seen(("ckpt.pt",), 500)], step=900) == []
    assert judged(OPENED, [Seen((), 400), Seen(("ckpt.pt",), 500)], step=900) == []
    assert judged(BEGAN, [Seen((), 400), Seen((), 500)]) == []
    assert judged(NOTHING, [Seen((), 400), Seen((), 500)], had=False, holds=False) == []


@pytest.mark.parametrize(
    ("found", "text", "lives", "more"),
    [
        ("resumed", RESUMED, [Seen((), 400), Seen((), 500)], {}),
        ("resumed", OPENED, [Seen((), 400), Seen((), 500)], {"step": 900}),
        ("resumed", BEGAN, [Seen((), 400), Seen(("ckpt.pt",), 500)], {}),
        ("hint", "[supervisor] SUCCEEDED: finished · safe: step 5", [Seen((), 400), Seen((), 500)], {}),
        ("steps", RESUMED, [Seen((), 400), Seen(("ckpt.pt",), 500)], {"step": 901}),
        ("steps", BEGAN, [Seen((), 400), Seen((), 500)], {"step": 900}),
        ("safe", NOTHING, [Seen((), 400), Seen((), 500)], {"had": False}),
        ("safe", BEGAN, [Seen((), 400), Seen((), 500)], {"holds": False}),
        ("ended", BEGAN, [Seen((), 400), Seen((), 500)], {"code": 1}),
        ("ended", BEGAN, [Seen((), 400), Seen((), 500)], {"state": "FAILED"}),
    ],
)
def test_each_untrue_claim_is_found(found, text, lives, more):
    assert found in judged(text, lives, **more)


def test_the_witness_tells_restored_files_from_those_that_the_script_wrote_or_that_were_there(tmp_path):
    work, record = tmp_path / "work", tmp_path / "record"
    work.mkdir()
    record.touch()
    for name in ("data.txt", "restored.pt"):
        (work / name).write_text("x")
    code = "open('data.txt').read(); open('own.pt', 'w').close(); open('own.pt').read(); open('restored.pt').read()"
    environ = {**os.environ, "PYTHONPATH": str(WITNESS), "SUPERVISOR_RUN_ATTEMPT": "1"}
    environ |= {"PUBLIC_WITNESS": str(record), "PUBLIC_WORK": str(work)}
    subprocess.run([sys.executable, "-c", code], cwd=work, env=environ, check=True)
    assert seen(record, {str(work / "data.txt")}) == Seen((str(work / "restored.pt"),), 0)


def test_a_file_that_is_read_after_the_first_step_is_not_what_the_script_resumed_from(tmp_path):
    late = tmp_path / "late.pt"
    late.touch()
    record = tmp_path / "record"
    record.write_text(f"step 7 1\nread 7 {late}\nstep 7 2\n")
    assert seen(record, set()) == Seen((), 2)


def test_there_are_rows_enough_and_each_has_its_data():
    assert len({row.name for row in ROWS}) == len(ROWS) >= 25
    assert {maker for row in ROWS for maker in row.data} <= set(MAKERS)
    assert not [row.name for row in ROWS if Path(row.script).suffix != ".py"]


def test_the_page_names_the_rows_of_another_commit() -> None:
    rows = [Verdict(name, "as it is", at="b" if name == "vae" else "a") for name in ("mnist", "vae", "dcgan")]
    assert ", at a; vae at b, " in page(rows, {}, [])
    assert ", at a, " in page(rows[:1], {}, [])
