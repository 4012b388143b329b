"""rehearse SCRIPT: kill and resume it in a minute or two, and compare with a run that nothing happened to."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from supervisor.bootstrap import ensure
from supervisor.cli import targets
from supervisor.cli.options import Parser, count, duration, parser
from supervisor.cli.start import script_path, split
from supervisor.core import program, resume_arguments
from supervisor.core.errors import FAILED, TERMINATED, UsageError, UserError
from supervisor.views import rehearsal as view
from supervisor.views.status import next_commands
from supervisor.views.wrapping import show

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator, Sequence

PEACE_SHARE = 4
REMOVALS_MAX, REMOVE_AGAIN_S = 20, 0.1


def run(arguments: Sequence[str]) -> int:
    """Rehearse, and print the verdict: exit code 0 only for a bit-exact resume, NOT_TESTED where nothing was shown."""
    own, script_arguments = split(arguments)
    if "-m" in own:
        hint = "give the path of its file, and have it import its package by name"
        raise UsageError("rehearse takes a script, and runs no module by -m", hint)
    line = _parser()
    targets.refuse_launchers(line, own, script_arguments)
    options = line.parse_args(own)
    script = script_path(options.script)
    limit_s = duration(options.limit)
    ensure()
    # so that the runs are ended and their folder is removed
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
    from supervisor import wiring
    from supervisor.engine.clock import BootClock
    from supervisor.engine.rehearsal import Plan, Rehearsal

    with _made_for_it(wiring.local_root(os.environ)) as folder:
        plan = Plan(
            script=script,
            arguments=script_arguments,
            working=Path.cwd(),
            folder=folder,
            steps=options.steps,
            save_every=options.save_every,
            install=not options.no_install,
            peace_s=limit_s / PEACE_SHARE,
            limit_s=limit_s,
            watch=_fresh(options.watch),
            resume_arguments=resume_arguments.checked(options.resume_args or ""),
        )
        acts = Rehearsal(plan, wiring.open_store, BootClock(), show)
        peaceful = acts.in_peace()
        show(f"    {peaceful.step:,} steps in {peaceful.seconds:.1f} s")
        acts.with_kills(peaceful)
        found = acts.compared()
        outside = acts.outside()
    show("\n".join([*view.lines(found), *view.unprotected(outside)]))
    show("\n".join(next_commands([_next("start" if found.exact else "rehearse", options, script_arguments)])))
    return 0 if found.exact else FAILED


def _fresh(watch: str | None) -> str:
    """Return the folder to watch. One outside the working folder, which is not copied, must be empty: it is thrown away."""
    if not watch:
        return ""
    inside, there = os.path.relpath(watch), Path(watch).absolute()
    if not inside.startswith(".."):
        return inside
    if (there.is_symlink() or there.exists()) and not (there.is_dir() and not any(there.iterdir())):
        words = f"{watch} is not empty, and a rehearsal throws away what it leaves there"
        raise UserError(words, "have the script save into another folder: rehearse SCRIPT --watch NEW -- ARGUMENTS")
    return str(there)


def _next(verb: str, options: Namespace, script_arguments: Sequence[str]) -> str:
    words: list[str] = [verb, options.script]
    for name, value in (("--watch", options.watch), ("--resume-args", options.resume_args)):
        words += [name, value] if value else []
    return program.line(*words, *(["--", *script_arguments] if script_arguments else []))


@contextmanager
def _made_for_it(above: Path) -> Iterator[Path]:
    """Make a folder and remove it in the end, also where a process that was killed is still writing its last file there."""
    try:
        above.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{above} cannot be made: {error.strerror}", "name another in SUPERVISOR_RUN_LOCAL") from error
    folder, pause = Path(tempfile.mkdtemp(dir=above, prefix="rehearsal-")), Event()
    try:
        yield folder
    finally:
        for _ in range(REMOVALS_MAX):
            shutil.rmtree(folder, ignore_errors=True)
            if not folder.exists():
                break
            pause.wait(REMOVE_AGAIN_S)


def _parser() -> Parser:
    made = parser("rehearse", "Kill and resume a script in a minute or two: is its resume bit-exact?")
    made.usage = "%(prog)s SCRIPT [options] [-- ARGUMENTS OF THE SCRIPT]"
    made.epilog = "It runs in a copy of the working folder; the folder itself stays as it is."
    made.add_argument("script", metavar="SCRIPT")
    made.add_argument("--steps", type=count, metavar="N", help="only the first N steps (default: what fits)")
    made.add_argument("--save-every", metavar="TIME", default="1s", help="in the peaceful run (default: 1s)")
    made.add_argument("--limit", metavar="TIME", default="2m", help="how long a run may take (default: 2m)")
    made.add_argument("--watch", metavar="DIR", help="of a script that saves by itself: the folder in which it does")
    made.add_argument("--resume-args", metavar="TEMPLATE", help='what it is given to go on: "--resume {checkpoint}"')
    made.add_argument("--no-install", action="store_true", help="use the packages that are here")
    return made
