"""Public training scripts, run unchanged: what the supervisor said of each, and whether it was true.

python -m benchmarks.public_scripts --checkouts FOLDER [--only mnist,nanoGPT] [--python PYTHON] [--keras-python PYTHON]

FOLDER holds one checkout a repository, named owner+repository. Nothing is fetched: a script whose checkout is missing is
named and left out. Each script is started in a private copy, killed (supervisor and trainer, kill -9) when its first
checkpoint is durable or after --patience seconds (a script that can resume has 90 s
at least), and started by the same command on a blank machine. A script with a
proposed option is run a second time with that option, pasted as it was proposed.

An independent witness in the trainer (public/witness) records what is opened and how many optimizer steps are made. Each
row is held to these claims:
  resumed    "it resumes" was said exactly if the script read a file that was restored before its first step
  steps      the steps claimed are those that the script has made since it began, and never more than in all its lives
  safe       a checkpoint is called safe exactly if the store holds one; "nothing safe" exactly if it holds none
  ended      SUCCEEDED and exit code 0 exactly if the script itself ended with 0
  hint       a script that saves and does not resume is told how, or that it has no way to; an option that its author
             documents is proposed
  kept       the last checkpoint holds each state file that a finished script left, or the file is named as not kept
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.machines import Machine, Turn
from benchmarks.public import table
from benchmarks.public.data import MAKERS
from benchmarks.public.judging import (
    Seen,
    Verdict,
    Words,
    judge,
    judge_files,
    judge_proposal,
    last_words,
    pasted,
    resume_words,
)  # fmt: skip
from benchmarks.public.rows import ROWS, Row

if TYPE_CHECKING:
    from collections.abc import Sequence

WITNESS = Path(__file__).resolve().parent / "public" / "witness"
MANIFESTS = "*/*/step-*/manifest-*"
LIFE_S_MAX, COMMAND_S_MAX, FIRST_SAVE_S, START_S = 900.0, 300.0, 90.0, 20.0
NOT_STARTED = {2, 3, 4}
QUIET = {
    "OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "MPLBACKEND": "agg", "PYTHONUNBUFFERED": "1",
    "TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", "HF_HUB_OFFLINE": "1", "KERAS_BACKEND": "tensorflow",
}  # fmt: skip


def tried(row: Row, checkouts: Path, place: Path, python: str, *, resume: str, patience_s: float) -> Verdict:
    """Run the script in two lives and judge what was said; ``resume`` is for ``--resume-args``, "" for none."""
    verdict = Verdict(row.name, f"--resume-args '{resume}'" if resume else "as it is")
    verdict.source, verdict.commit = row.checkout.replace("+", "/"), table.commit_of(checkouts / row.checkout)
    verdict.at = table.commit_of(table.ROOT)
    verdict.command = shlex.join(["start", Path(row.script).name, *row.options])
    verdict.command += f" -- {row.arguments}" if row.arguments else ""
    store = place / "store"
    options = ["--no-install", *row.options, *(["--resume-args", resume] if resume else [])]
    lives: list[Seen] = []
    told = ""
    had = ended = False
    while len(lives) < 2 and not ended:
        machine, work, known = blank(row, checkouts, place / f"machine-{len(lives) + 1}", store, python)
        record = machine.folder / "witness.txt"
        record.touch()
        environ = {**QUIET, **surroundings(row, machine, work), "PUBLIC_WITNESS": str(record), "PUBLIC_WORK": str(work)}
        script = work / row.script
        command = machine.command("start", script.name, *options, "--", *shlex.split(row.arguments))
        turn = Turn(command, script.parent, machine.environ(**environ), machine.folder / "printed.txt")
        if lives:
            code = finished(turn)
            verdict.second, verdict.resumed = last_words(turn.text), resume_words(turn.text)
        else:
            ended = not wait_for_kill(turn, store, record, patience_s)
            code, had = turn.process.returncode, any(store.glob(MANIFESTS))
            verdict.first = last_words(turn.text)
        lives.append(seen(record, known))
        told += turn.text
    if code is None:
        verdict.error = f"still running after {LIFE_S_MAX:.0f} s"
        return verdict
    if code in NOT_STARTED or (code and not any(life.steps for life in lives) and row.needs == "torch"):
        why = next((line for line in turn.text.splitlines() if line.startswith("error: ")), verdict.first)
        verdict.error = f"it fails here before its first step (exit code {code}): {why.removeprefix('error: ')[:160]}"
        return verdict
    words = Words(turn.text, code, status(machine, environ, script))
    judge(verdict, words, lives, had=had, holds=any(store.glob(MANIFESTS)))
    judge_proposal(verdict, told, "" if resume else row.resume)
    if code == 0:
        judge_files(verdict, told, work, exported(machine, environ, script), known)
    return verdict


def exported(machine: Machine, environ: dict[str, str], script: Path) -> Path:
    """Return the folder that the last checkpoint is exported to; it stays empty where there is none."""
    folder = machine.folder / "exported"
    command = machine.command("checkpoints", script.stem, "export", "latest", str(folder))
    subprocess.run(
        command,
        cwd=machine.work,
        env=machine.environ(**environ),
        capture_output=True,
        timeout=COMMAND_S_MAX,
        check=False,
    )
    return folder / "files"


def blank(row: Row, checkouts: Path, folder: Path, store: Path, python: str) -> tuple[Machine, Path, set[str]]:
    """Return a machine that never saw the run, the private copy of the script's folder on it, and the files in that copy."""
    machine = Machine(folder, store, python=python)
    work = machine.work / (row.keep.split("/")[-1] or row.checkout.split("+")[1])
    skip = shutil.ignore_patterns(".git", "docs", "*.ipynb", "tests")
    shutil.copytree(checkouts / row.checkout / row.keep, work, symlinks=True, ignore=skip, dirs_exist_ok=True)
    for maker, place in row.data.items():
        target = work / place
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


def wait_for_kill(turn: Turn, store: Path, record: Path, patience_s: float) -> bool:
    """Kill supervisor and trainer when a checkpoint is durable, or after ``patience_s``; False if it ended before that.

    The time counts from the script's first step, or from START_S on where it makes none that is counted.
    """
    end_s, stepped = time.perf_counter() + START_S + patience_s, False
    while turn.running and time.perf_counter() < end_s:
        if any(store.glob(MANIFESTS)):
            time.sleep(1.0)  # so that the script is a little beyond its checkpoint
            break
        if not stepped and "step " in record.read_text("utf-8", "replace"):
            end_s, stepped = time.perf_counter() + patience_s, True
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
        timeout=COMMAND_S_MAX,
        check=False,
    )
    try:
        told = json.loads(got.stdout)
    except ValueError:
        return {"state": f"status failed: {got.stderr.strip()[-200:]}"}
    return told if isinstance(told, dict) else {}


def main(words: Sequence[str] | None = None, rows: Sequence[Row] = ROWS) -> int:
    """Print a table; 0 only if everything that was said was true."""
    options = arguments().parse_args(words)
    wanted = set(filter(None, options.only.split(",")))
    place = Path(tempfile.mkdtemp(prefix="public-scripts-"))
    verdicts = earlier(options.json, wanted, {row.name for row in rows})
    known = {each.name for each in verdicts}
    left_out: dict[str, str] = {}
    for row in rows:
        if (wanted and row.name not in wanted) or row.name in known:
            continue
        if not (options.checkouts / row.checkout).is_dir():
            left_out[row.name] = f"no checkout {row.checkout}"
            print(f"left out: {row.name}: {left_out[row.name]}", flush=True)
            continue
        python = options.keras_python if row.needs == "keras" else options.python
        resume, patience_s = "", max(options.patience, FIRST_SAVE_S if row.resume else 0.0)
        for number in (1, 2):
            folder = place / f"{row.name}-{number}"
            verdict = tried(row, options.checkouts, folder, python, resume=resume, patience_s=patience_s)
            verdicts.append(verdict)
            print(told_of(verdict), flush=True)
            keep(verdicts, options.json)
            if not (verdict.untrue or verdict.error or options.keep):
                shutil.rmtree(folder, ignore_errors=True)
            resume = pasted(verdict.proposed) or row.resume
            if not resume:
                break
    order = [row.name for row in rows]
    left_out |= {
        name: "not run this time" for name in order if name not in {*left_out, *(each.name for each in verdicts)}
    }
    verdicts.sort(key=lambda each: order.index(each.name))
    if options.markdown:
        pythons = [options.python, *([options.keras_python] if any(row.needs == "keras" for row in rows) else [])]
        options.markdown.write_text(table.page(verdicts, left_out, pythons), encoding="utf-8")
    bad = [each for each in verdicts if each.untrue or each.error]
    print(
        f"{len({each.name for each in verdicts})} scripts, {len(verdicts)} runs, {len(bad)} with untrue words ({place})"
    )
    return 1 if bad else 0


def earlier(report: Path | None, wanted: set[str], names: set[str]) -> list[Verdict]:
    """Return the verdicts that the report holds already, without those of the rows that are wanted again."""
    if report is None or not report.is_file():
        return []
    known = [Verdict(**each) for each in json.loads(report.read_text())]
    return [each for each in known if each.name in names - wanted]


def keep(verdicts: Sequence[Verdict], report: Path | None) -> None:
    """Write the report, so that a run that is interrupted can go on."""
    if report is not None:
        report.write_text(json.dumps([{k: getattr(v, k) for k in Verdict.__slots__} for v in verdicts], indent=1))


def arguments() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkouts", type=Path, required=True)
    parser.add_argument("--only", default="", help="names of rows, by commas")
    parser.add_argument("--python", default=sys.executable, help="interpreter that has torch and the scripts' packages")
    parser.add_argument("--keras-python", default=sys.executable, help="interpreter that has Keras and TensorFlow")
    parser.add_argument(
        "--patience", type=float, default=15.0, help="seconds until a script that saves nothing is killed"
    )
    parser.add_argument(
        "--json",
        type=Path,
        help="write the verdicts here; those that it has are not run again, unless --only names them",
    )
    parser.add_argument("--markdown", type=Path, help="write the page of docs/public_scripts.md here")
    parser.add_argument("--keep", action="store_true", help="leave the folders of true runs, too")
    return parser


def told_of(verdict: Verdict) -> str:
    """Return a row of the table, as text."""
    state = "; ".join(verdict.untrue) or verdict.error or "true"
    return (
        f"| {verdict.name} | {verdict.form} | {verdict.first} | {verdict.second or '(it ended before the kill)'} "
        f"| {verdict.steps} | {state} |"
    )


if __name__ == "__main__":
    raise SystemExit(main())
