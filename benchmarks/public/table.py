"""Writes the verdicts as a page in Markdown: what was run, what was said of it, and whether it was true."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.public.judging import Verdict

_PLACE = re.compile(r"/[\w./+-]*/machine-\d/w[o]rk/")  # the private copy of a script's folder
ROOT = Path(__file__).resolve().parents[2]
HEAD = """# Public training scripts, run unchanged

{scripts} public training scripts, {runs} runs, {untrue} with something untrue said of them. Each script runs unchanged in a
private copy of its folder. It is killed (supervisor and trainer, `kill -9`) unless it ended before, and started by the same
command on a blank machine. An independent witness in the trainer records what the script reads and how many steps torch's
optimizers make (of other frameworks it counts none); the disks show what it saved. Everything that was said is compared with
both: resumed or not, steps, safe, saved, finished, and the option to add. A script with a proposed option is run a second
time with that option pasted as it was proposed; of the others it was said that they have no known option to resume.

The command, with one checkout a repository in FOLDER, named `owner+repository`; it fetches nothing. `--python` and
`--keras-python` name the interpreters that have the packages, `--patience 10` the seconds before the kill; with `--json REPORT` it
goes on where an earlier pass ended:

```
python3 -m benchmarks.public_scripts --checkouts FOLDER --markdown FILE
```

{date}, at {commit}, {machine}; {versions}. Stand-in data is drawn from a seed (`benchmarks/public/data.py`).

"""


def commit_of(folder: Path) -> str:
    """Return the short commit of a checkout, "" where it is none."""
    got = subprocess.run(["git", "-C", str(folder), "rev-parse", "--short=10", "HEAD"], capture_output=True, text=True, check=False)  # fmt: skip
    return got.stdout.strip() if got.returncode == 0 else ""


def page(verdicts: Sequence[Verdict], left_out: Mapping[str, str], pythons: Sequence[str]) -> str:
    """Return the whole page. ``left_out``: rows that could not be run, and why; they do not count."""
    good = [each for each in verdicts if not each.error]
    head = HEAD.format(
        scripts=len({each.name for each in good}),
        runs=len(good),
        untrue=sum(bool(each.untrue) for each in good),
        date=time.strftime("%Y-%m-%d", time.gmtime()),
        commit=_commits(verdicts),
        machine=f"{os.cpu_count()} cores of {platform.machine()} without an accelerator",
        versions="; ".join(dict.fromkeys(filter(None, map(versions, pythons)))),
    )
    lines = [
        head,
        "| script | behind `start` | killed, then | at its end | steps | true | to add |\n",
        "|" + "-|" * 7 + "\n",
    ]
    lines += [_row(each) for each in verdicts]
    if left_out:
        lines.append("\nNot run, and not counted:\n\n")
        lines += [f"- {name}: {why}\n" for name, why in left_out.items()]
    return "".join(lines)


def _commits(verdicts: Sequence[Verdict]) -> str:
    """Return the supervisor's commit; where several passes make the page, the rows of each but the largest are named."""
    rows: dict[str, list[str]] = {}
    for each in verdicts:
        rows.setdefault(each.at or "no commit", []).append(each.name)
    first, *others = sorted(rows, key=lambda commit: -len(rows[commit])) or ["no commit"]
    named = [f"{', '.join(dict.fromkeys(rows[commit]))} at {commit}" for commit in others]
    return "; ".join([first, *named])


def _row(each: Verdict) -> str:
    script = (
        f"{each.name} ({each.source} {each.commit})" if each.form == "as it is" else f"{each.name}, with the option"
    )
    said = each.resumed or "(it ended before the kill)"
    true = "not run: " + each.error if each.error else "; ".join(each.untrue) or "true"
    add = f'`--resume-args "{each.proposed}"`' if each.proposed and each.form == "as it is" else ""
    end = re.sub(r", \d[^·]* ago", "", each.second or each.first)
    started, dashes, arguments = each.command.removeprefix("start ").partition(" -- ")
    command = f"{started}{'' if each.form == 'as it is' else f' {each.form}'}{dashes}{arguments}"
    cells = (script, f"`{command}`", said, end, each.steps, true, add)
    return "| " + " | ".join(_PLACE.sub("", cell).replace("|", "\\|") for cell in cells) + " |\n"


def versions(python: str) -> str:
    """Return the versions of Python and of the frameworks in it."""
    code = (
        "import sys,importlib.metadata as m\n"
        "def v(n):\n try: return n+' '+m.version(n)\n except Exception: return ''\n"
        "print(', '.join(filter(None, ['Python '+sys.version.split()[0], *map(v, sys.argv[1:])])))"
    )
    names = (
        "torch",
        "torchvision",
        "timm",
        "lightning",
        "pytorch-ignite",
        "xgboost",
        "lightgbm",
        "keras",
        "tensorflow",
    )
    got = subprocess.run([python, "-c", code, *names], capture_output=True, text=True, check=False)
    return got.stdout.strip()
