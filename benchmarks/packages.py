"""The packages of a benchmark in a bare clone, found in the same way as ``start`` finds a script's.

The supervisor's own packages come from its private folder. What a benchmark needs besides (torch, NumPy) stands in its
PEP 723 block. Where this Python lacks it, the benchmark runs again in a private environment that has it.
"""

from __future__ import annotations

import os
import re
import sys
from importlib.util import find_spec
from pathlib import Path

from supervisor.bootstrap import ensure
from supervisor.core.errors import FAILED_SETUP, UserError

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parent
SECOND_TRY = "BENCHMARKS_SECOND_TRY"
HELP = frozenset({"-h", "--help"})
_NAME = re.compile(r"[A-Za-z0-9_.-]+")


def find_packages() -> None:
    """Make the packages of the benchmark that this process runs importable; in any other process nothing happens.

    A benchmark whose packages this Python lacks replaces this process by one that has them. An error ends it in two lines.
    """
    file = running(sys.argv, sys.orig_argv)
    if file is None:
        return
    if HELP.intersection(sys.argv[1:] if sys.argv[0] != "-m" else sys.orig_argv):
        return  # help needs no package, so that none is fetched for it
    try:
        ensure()
        if lacking := missing(file):
            _run_again(file, lacking)
    except UserError as error:
        print(f"error: {error.what}\n  try: {error.hint}", file=sys.stderr)
        sys.exit(error.exit_code)


def running(argv: list[str], orig_argv: list[str]) -> Path | None:
    """Return the benchmark's file if this process was started for one, as a module or as a file."""
    if argv and argv[0] == "-m":  # its package is imported before runpy has found the module
        name = orig_argv[orig_argv.index("-m") + 1] if "-m" in orig_argv else ""
        file = ROOT.joinpath(*name.split(".")).with_suffix(".py")
    else:
        file = Path(argv[0]).resolve() if argv and argv[0] else Path()
    return file if file.is_relative_to(FOLDER) and file.is_file() else None


def missing(file: Path) -> list[str]:
    """Return the packages of the file's PEP 723 block that this Python lacks."""
    from supervisor.environments import wish

    wanted = [_NAME.match(line) for line in wish.read(file).wanted.requirements]
    return [each[0] for each in wanted if each and find_spec(each[0].replace("-", "_")) is None]


def _run_again(file: Path, lacking: list[str]) -> None:
    if os.environ.get(SECOND_TRY):
        raise UserError(
            f"{file.name} needs {', '.join(lacking)}, which {sys.executable} does not have",
            "run it with a Python that has them, or remove .supervisor/envs and try again",
            FAILED_SETUP,
        )
    from supervisor.environments.prepare import prepare

    print(
        f"{file.name} needs {', '.join(lacking)}: it runs in a private environment below .supervisor", file=sys.stderr
    )
    made = prepare(file, python=sys.executable, root=ROOT, recorded=None, wheels=None, say=_say)
    path = os.pathsep.join(filter(None, (str(ROOT), made.env.get("PYTHONPATH", ""))))
    sys.stdout.flush()
    os.execve(made.python, [made.python, *sys.orig_argv[1:]], {**made.env, "PYTHONPATH": path, SECOND_TRY: "1"})


def _say(words: str) -> None:
    print(words, file=sys.stderr)
