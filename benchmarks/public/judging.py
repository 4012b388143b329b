"""Judges what the supervisor said of one script, by the witness's record and the files on the machines' disks."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

RESUMED = re.compile(
    r"going on from (?:step|snapshot) [\d,]+|the script opened .+, which was (?:put back|restored), before its first step"
)
BEGAN = re.compile(
    r"read (?:nothing|none) (?:of what|that) was (?:put back|restored)|read no restored file|begins at its first step again"
)
PROPOSED = re.compile(r'add --resume-args "((?:[^"\\]|\\.)+)"')
HINT = re.compile(r"--resume-args|no (?:known )?option to resume")
ALREADY = re.compile(r"finished already")
STATE = re.compile(r"(?i).*\.(pt|pth|ckpt|tar|h5|keras|zip|npz|ubj|safetensors)")
STATES = re.compile(r"\b(SUCCEEDED|FAILED|CANCELLED|HANDED_OVER|FENCED)\b")


@dataclass(slots=True)
class Seen:
    """The witness's record of one life: restored files read before the first step, and the number of steps."""

    read: tuple[str, ...] = ()
    steps: int = 0


@dataclass(slots=True)
class Verdict:
    """One script in one form (with or without --resume-args): words of the product, and the untrue ones.

    ``proposed``: the option that the product says to add. ``resumed``: its words about going on, in the second life.
    ``source`` and ``commit``: the script's repository; ``at``: the supervisor's own commit.
    """

    name: str
    form: str
    first: str = ""
    second: str = ""
    steps: str = ""
    untrue: list[str] = field(default_factory=list)
    error: str = ""
    proposed: str = ""
    resumed: str = ""
    source: str = ""
    commit: str = ""
    command: str = ""
    at: str = ""


@dataclass(frozen=True, slots=True)
class Words:
    """The supervisor's words in one life: what it printed, its exit code, and what ``status --json`` says after it."""

    text: str
    code: int
    status: dict[str, Any]


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
    verdict.steps = f"{claimed} {told.get('unit', 'step')}s said, {'+'.join(str(life.steps) for life in lives)} made"
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
    if claimed and last.steps and not last.read and told.get("unit", "step") == "step" and claimed != last.steps:
        verdict.untrue.append(f"steps: {claimed} said, {last.steps} made since it began at its first step")
    if ("nothing safe" in last_words(text)) == holds:
        verdict.untrue.append(f"safe: {last_words(text)!r}, and the store holds {'a' if holds else 'no'} checkpoint")
    if (told.get("state") == "SUCCEEDED") != (words.code == 0):
        verdict.untrue.append(f"ended: {told.get('state')} with exit code {words.code}")


def judge_proposal(verdict: Verdict, text: str, documented: str) -> None:
    """Note the option that the product proposes, and compare it with the one that the script's author documents."""
    found = PROPOSED.search(text)
    verdict.proposed = found[1] if found else ""
    if documented and not found:
        verdict.untrue.append(f"hint: the author documents {documented!r}, and no option is proposed")


def judge_files(verdict: Verdict, text: str, work: Path, exported: Path, known: set[str]) -> None:
    """Hold the last checkpoint against the state files that a finished script left: each is kept as it is, or named."""
    kept = {path.relative_to(exported).as_posix(): path for path in exported.rglob("*") if path.is_file()}
    for path in sorted(work.rglob("*")):
        if str(path) in known or not path.is_file() or not STATE.fullmatch(path.name):
            continue
        found = next((kept[name] for name in kept if path.as_posix().endswith(f"/{name}")), None)
        if found is None and path.name not in text and "not kept" not in text:
            verdict.untrue.append(f"kept: {path.relative_to(work)} is in no checkpoint, and nothing names it")
        elif found is not None and found.read_bytes() != path.read_bytes():
            verdict.untrue.append(f"kept: {path.relative_to(work)} is kept with other content than the script left")


def pasted(proposed: str) -> str:
    """Return what a shell makes of the proposed option between its double quotes."""
    return shlex.split(f'"{proposed}"')[0] if proposed else ""


def last_words(text: str) -> str:
    """Return the last line that the supervisor itself printed with a state in it, else its last line."""
    lines = [line for line in text.splitlines() if line.startswith("[supervisor]")]
    ends = [line for line in lines if STATES.search(line)]
    return (ends or lines or [""])[-1].removeprefix("[supervisor] ")[:200]


def resume_words(text: str) -> str:
    """Return what was said of going on, without what a script prints itself."""
    lines = [line.removeprefix("[supervisor] ") for line in text.splitlines() if line.startswith("[supervisor]")]
    told = [
        line
        for line in lines
        if RESUMED.search(line)
        or BEGAN.search(line)
        or re.search("beginning at|script (?:has )?opened|finished already", line)
    ]
    return "; ".join(dict.fromkeys(line.split(": add --resume-args")[0] for line in told))[:260]
