"""The examples and the exit codes that `VERB --help` prints below the options."""

from __future__ import annotations

import argparse

from supervisor.core import program

COLUMN = 22
RUN = "plates"
_SESSION = {
    0: "the run is finished",
    1: "the script failed",
    2: "the command line is wrong",
    3: "the job cannot start here (import error, impossible packages)",
    4: "the store or the run is not usable",
    42: "handed over: this machine's time is up, start it again",
    75: "another machine has the run",
    93: "gave up: no progress; do not start it again",
    130: "stopped by Ctrl-C, after saving",
    143: "stopped by SIGTERM or stop, after saving",
}
_LOOK = {0: "shown", 2: "the command line is wrong, or there is no such run", 4: "the store is not usable"}
_DONE = {0: "done", 2: "the command line is wrong", 4: "it cannot be done here"}
CODES: dict[str, dict[int, str]] = {
    "start": _SESSION,
    "resume": _SESSION,
    "launch": _SESSION,
    "agent": _SESSION,
    "status": _LOOK,
    "list": _LOOK,
    "logs": _LOOK,
    "stop": {0: "the session has ended", 1: "no answer: it may be gone", **{code: _LOOK[code] for code in (2, 4)}},
    "checkpoints": {
        0: "done; for verify: all are verified",
        1: "damaged, or nothing was exported",
        2: "the command line is wrong, or there is no such run or step",
        4: "the store is not usable; for verify: some cannot be read",
    },
    "rm": {0: "removed, or nothing to remove", 1: "the answer was no", **{code: _LOOK[code] for code in (2, 4)}},
    "clean": {0: "removed, or nothing to remove", 1: "the answer was no", **{code: _DONE[code] for code in (2, 4)}},
    "doctor": {0: "a run can live here", 2: "the command line is wrong", 4: "a run could not live here"},
    "rehearse": {
        0: "the resume is bit-exact",
        1: "it differs, or does not resume",
        **{code: _SESSION[code] for code in (2, 3, 4)},
        5: "not tested: over too soon, no kill in the middle, or nothing to compare",
    },
    "examples": _DONE,
    "pack": _DONE,
}
EXAMPLES: dict[str, tuple[tuple[str, ...], ...]] = {
    "start": (
        ("start", "train.py"),
        ("start", "train.py", "--save-every", "10m", "--budget", "8h", "--", "--epochs", "20"),
        ("start", "-m", "package.train"),
        ("start", "train.py", "--watch", "out", "--resume-args", "auto"),
    ),
    "resume": (("resume",), ("resume", RUN), ("resume", RUN, "--", "--lr", "0.01")),
    "status": (("status",), ("status", RUN, "--watch"), ("status", RUN, "--json")),
    "list": (("list",), ("list", "--json")),
    "logs": (("logs",), ("logs", RUN, "-f"), ("logs", RUN, "--steps", "--json")),
    "stop": (("stop",), ("stop", RUN, "--now")),
    "checkpoints": (
        ("checkpoints",),
        ("checkpoints", RUN, "verify"),
        ("checkpoints", RUN, "export", "latest", "trained"),
        ("checkpoints", RUN, "pin", "4000"),
    ),
    "rm": (("rm", RUN, "--dry-run"), ("rm", RUN)),
    "clean": (("clean", "--dry-run"), ("clean", "--all")),
    "doctor": (("doctor",), ("doctor", "--store", "/mnt/gdrive/supervisor")),
    "rehearse": (("rehearse", "train.py"), ("rehearse", "train.py", "--limit", "5m", "--", "--epochs", "1")),
    "launch": (
        ("launch", "trainers/toy.py", "--on", "local"),
        ("launch", "train.py", "--on", "colab", "--gpu", "T4", "--until", "07:30"),
        ("launch", "train.py", "--on", "ssh:HOST", "--", "--epochs", "20"),
        ("launch", "--list", "--on", "colab"),
    ),
    "examples": (("examples",), ("examples", "my-examples")),
    "pack": (("pack",), ("pack", "-o", "product.zip")),
}


class Format(argparse.HelpFormatter):
    """argparse's layout with lines that are broken between words only."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=COLUMN)

    def _split_lines(self, text: str, width: int) -> list[str]:
        from textwrap import wrap

        return wrap(" ".join(text.split()), width, break_long_words=False, break_on_hyphens=False)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        lines = (
            self._split_lines(line, width - len(indent)) if line[:1] != " " else [line] for line in text.split("\n")
        )
        return "\n".join(f"{indent}{line}" for part in lines for line in part)


def below(verb: str) -> str:
    """Return what stands below the options: examples and exit codes."""
    parts = []
    if examples := EXAMPLES.get(verb):
        parts += ["examples:", *(f"  {program.command(*words)}" for words in examples), ""]
    if codes := CODES.get(verb):
        parts += ["exit codes:", *(f"  {code:<3}  {words}" for code, words in sorted(codes.items())), ""]
    return "\n".join(["", *parts]) if parts else ""
