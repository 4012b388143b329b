"""Public training scripts, run unchanged: what the supervisor said of each, and whether it was true.

python -m benchmarks.public_scripts --checkouts FOLDER [--only mnist,nanoGPT] [--python PYTHON] [--keras-python PYTHON]

FOLDER holds one checkout a repository, named owner+repository. Nothing is fetched: a script whose checkout is missing is
named and left out. Each script is started in a private copy, killed (supervisor and trainer, kill -9) when its first
checkpoint is durable or after --patience seconds, and started by the same command on a blank machine. Scripts whose author
documents how to go on are run a second time with that, by --resume-args.

An independent witness in the trainer (public/witness) records what is opened and how many optimizer steps are made. Each
row is held to these claims:
  resumed    "it resumes" was said exactly if the script read a file that was restored before its first step
  steps      no more steps are claimed than the script has made in all its lives
  safe       a checkpoint is called safe exactly if the store holds one; "nothing safe" exactly if it holds none
  ended      SUCCEEDED and exit code 0 exactly if the script itself ended with 0
  hint       a script that saves and does not resume is told how, or that it has no way to
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.machines import Machine, Turn
from benchmarks.public.data import MAKERS
from benchmarks.public.rows import ROWS, Row

WITNESS = Path(__file__).resolve().parent / "public" / "witness"
RESUMED = re.compile(r"going on from (?:step|snapshot) ([\d,]+)")
BEGAN = re.compile(
    r"read (?:nothing|none) (?:of what|that) was (?:put back|restored)|read no restored file|begins at its first step"
)
HINT = re.compile(r"--resume-args|no (?:known )?option to resume")
ALREADY = re.compile(r"finished already")
MANIFESTS = "*/*/step-*/manifest-*"
LIFE_S_MAX = 240.0
QUIET = {
    "OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "MPLBACKEND": "agg", "PYTHONUNBUFFERED": "1",
    "TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", "HF_HUB_OFFLINE": "1", "KERAS_BACKEND": "tensorflow",
}  # fmt: skip


@dataclass(slots=True)
class Seen:
    """The witness's record of one life: restored files read before the first step, and the number of steps."""

    read: tuple[str, ...] = ()
    steps: int = 0


@dataclass(slots=True)
class Verdict:
    """One script in one form (with or without --resume-args): words of the product, and what of them was untrue."""

    name: str
    form: str
    first: str = ""
    second: str = ""
    steps: str = ""
    untrue: list[str] = field(default_factory=list)
    error: str = ""


@dataclass(frozen=True, slots=True)
class Words:
    """The supervisor's words in one life: what it printed, its exit code, and what ``status --json`` says after it."""

    text: str
    code: int
    status: dict[str, Any]


def tried(row: Row, checkouts: Path, place: Path, python: str, *, resume: str, patience_s: float) -> Verdict:
    """Run the script in two lives and judge what was said."""
    verdict = Verdict(row.name, f"--resume-args '{resume}'" if resume else "as it is")
    store = place / "store"
    options = ["--no-install", *row.options, *(["--resume-args", resume] if resume else [])]
    lives: list[Seen] = []
    text, code, had = "", None, False
    for number in (1, 2):
        machine, work, known = blank(row, checkouts, place / f"machine-{number}", store, python)
        record = machine.folder / "witness.txt"
        record.touch()
        environ = {**QUIET, **surroundings(row, machine, work), "PUBLIC_WITNESS": str(record), "PUBLIC_WORK": str(work)}
        script = work / row.script
        command = machine.command("start", script.name, *options, "--", *shlex.split(row.arguments))
        turn = Turn(command, script.parent, machine.environ(**environ), machine.folder / "printed.txt")
        if number == 1:
            killed = wait_for_kill(turn, store, patience_s)
            had = any(store.glob(MANIFESTS))
            lives.append(seen(record, known))
            verdict.first = last_words(turn.text)
            if not killed:
                code, text = turn.process.returncode, turn.text
                break
        else:
            code = finished(turn)
            lives.append(seen(record, known))
            text = turn.text
            verdict.second = last_words(text)
    if code is None:
        verdict.error = f"still running after {LIFE_S_MAX:.0f} s"
    else:
        judge(
            verdict,
            Words(text, code, status(machine, environ, script)),
            lives,
            had=had,
            holds=any(store.glob(MANIFESTS)),
        )
    return verdict


def judge(verdict: Verdict, words: Words, lives: list[Seen], *, had: bool, holds: bool) -> None:
    """Hold the words against the witness; each claim that does not hold is one line in ``verdict.untrue``.

    Args:
        verdict: Gets the findings.
        words: The supervisor's words in the last life.
        lives: The witness's record of each life.
        had: The store held a checkpoint when the last life began.
        holds: The store holds a checkpoint now.
    """
    text, told, last = words.text, words.status, lives[-1]
    total = sum(life.steps for life in lives)
    claimed = told.get("step")
    verdict.steps = f"{claimed} said, {'+'.join(str(life.steps) for life in lives)} made"
    says_begins = bool(BEGAN.search(text))
    says_resumes = bool(RESUMED.search(text)) and not says_begins
    if had and not ALREADY.search(text):
        if says_resumes and not last.read:
            verdict.untrue.append("resumed: said, but the script read no restored file before its first step")
        if says_begins and last.read:
            verdict.untrue.append(f"resumed: denied, but the script read {last.read[0]}")
        if not last.read and not HINT.search(text):
            verdict.untrue.append("hint: the script began again and the way out is not named")
    if claimed and total and claimed > total:
        verdict.untrue.append(f"steps: {claimed} said, {total} made in all lives")
    if claimed and last.steps and not last.read and len(lives) > 1 and claimed > last.steps:
        verdict.untrue.append(f"steps: {claimed} said, {last.steps} made since it began again")
    if ("nothing safe" in last_words(text)) == holds:
        verdict.untrue.append(f"safe: {last_words(text)!r}, and the store holds {'a' if holds else 'no'} checkpoint")
    if (told.get("state") == "SUCCEEDED") != (words.code == 0):
        verdict.untrue.append(f"ended: {told.get('state')} with exit code {words.code}")


def blank(row: Row, checkouts: Path, folder: Path, store: Path, python: str) -> tuple[Machine, Path, set[str]]:
    """Return a machine that never saw the run, the private copy of the script's folder on it, and the files in that copy."""
    machine = Machine(folder, store, python=python)
    work = machine.work / (row.keep.split("/")[-1] or row.checkout.split("+")[1])
    skip = shutil.ignore_patterns(".git", "docs", "*.ipynb", "tests")
    shutil.copytree(checkouts / row.checkout / row.keep, work, symlinks=True, ignore=skip, dirs_exist_ok=True)
    for maker, place in row.data.items():
        target = machine.folder / "home" if place == "~" else work / place
        target.mkdir(parents=True, exist_ok=True)
        MAKERS[maker](target)
    return machine, work, {str(path) for path in work.rglob("*")}


def surroundings(row: Row, machine: Machine, work: Path) -> dict[str, str]:
    """Return the script's own environment: the witness first on PYTHONPATH, a home of its own."""
    (machine.folder / "home").mkdir(parents=True, exist_ok=True)
    own = {name: value.format(work=work) for name, value in row.environ.items()}
    paths = [str(WITNESS), own.pop("PYTHONPATH", ""), machine.environ()["PYTHONPATH"]]
    return {**own, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "HOME": str(machine.folder / "home")}


def seen(record: Path, known: set[str]) -> Seen:
    """Read the witness's record. A file is restored if the copy did not hold it and the script had not written it before."""
    written: set[str] = set()
    read: list[str] = []
    steps = 0
    for line in record.read_text("utf-8", "replace").splitlines():
        kind, _, rest = line.partition(" ")
        _, _, what = rest.partition(" ")
        if kind == "step":
            steps = max(steps, int(what))
        elif kind == "write":
            written.add(what)
        elif not steps and what not in known and what not in written and Path(what).is_file():
            read.append(what)
    return Seen(tuple(dict.fromkeys(read)), steps)


def wait_for_kill(turn: Turn, store: Path, patience_s: float) -> bool:
    """Kill supervisor and trainer when a checkpoint is durable, or after ``patience_s``; False if it ended before that."""
    end_s = time.perf_counter() + patience_s
    while turn.running and time.perf_counter() < end_s:
        if any(store.glob(MANIFESTS)):
            time.sleep(1.0)  # so that the script is a little beyond its checkpoint
            break
        time.sleep(0.05)
    if not turn.running:
        return False
    turn.kill("both")
    return True


def finished(turn: Turn) -> int | None:
    """Return the exit code, or None after ending what does not end."""
    try:
        return turn.process.wait(LIFE_S_MAX)
    except subprocess.TimeoutExpired:
        turn.end()
        return None


def status(machine: Machine, environ: dict[str, str], script: Path) -> dict[str, Any]:
    """Return what ``status --json`` says of the run."""
    command = machine.command("status", script.stem, "--json")
    got = subprocess.run(
        command,
        cwd=machine.work,
        env=machine.environ(**environ),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    try:
        told = json.loads(got.stdout)
    except ValueError:
        return {"state": f"status failed: {got.stderr.strip()[-200:]}"}
    return told if isinstance(told, dict) else {}


def last_words(text: str) -> str:
    """Return the last line that the supervisor itself printed with a state in it, else its last line."""
    lines = [line for line in text.splitlines() if line.startswith("[supervisor]")]
    ends = [line for line in lines if re.search(r"\b(SUCCEEDED|FAILED|CANCELLED|HANDED_OVER|FENCED)\b", line)]
    return (ends or lines or [""])[-1].removeprefix("[supervisor] ")[:200]


def main() -> int:
    """Print a table; 0 only if everything that was said was true."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkouts", type=Path, required=True)
    parser.add_argument("--only", default="", help="names of rows, by commas")
    parser.add_argument("--python", default=sys.executable, help="interpreter that has torch and the scripts' packages")
    parser.add_argument("--keras-python", default=sys.executable, help="interpreter that has Keras and TensorFlow")
    parser.add_argument(
        "--patience", type=float, default=15.0, help="seconds until a script that saves nothing is killed"
    )
    parser.add_argument("--json", type=Path, help="write the verdicts here, too")
    options = parser.parse_args()
    wanted = set(filter(None, options.only.split(",")))
    place = Path(tempfile.mkdtemp(prefix="public-scripts-"))
    verdicts: list[Verdict] = []
    for row in ROWS:
        if wanted and row.name not in wanted:
            continue
        if not (options.checkouts / row.checkout).is_dir():
            print(f"left out: {row.name}: no checkout {row.checkout}", flush=True)
            continue
        python = options.keras_python if row.needs == "keras" else options.python
        for number, resume in enumerate(("", row.resume) if row.resume else ("",)):
            folder = place / f"{row.name}-{number}"
            verdict = tried(row, options.checkouts, folder, python, resume=resume, patience_s=options.patience)
            verdicts.append(verdict)
            print(told_of(verdict), flush=True)
            if not (verdict.untrue or verdict.error):
                shutil.rmtree(folder, ignore_errors=True)
    if options.json:
        options.json.write_text(json.dumps([{k: getattr(v, k) for k in Verdict.__slots__} for v in verdicts], indent=1))
    bad = [each for each in verdicts if each.untrue or each.error]
    print(
        f"{len({each.name for each in verdicts})} scripts, {len(verdicts)} runs, {len(bad)} with untrue words ({place})"
    )
    return 1 if bad else 0


def told_of(verdict: Verdict) -> str:
    """Return a row of the table, as text."""
    state = "; ".join(verdict.untrue) or verdict.error or "true"
    return (
        f"| {verdict.name} | {verdict.form} | {verdict.first} | {verdict.second or '(it ended before the kill)'} "
        f"| {verdict.steps} | {state} |"
    )


if __name__ == "__main__":
    raise SystemExit(main())
