"""resume [RUN]: the same as `start`, for a run that the store knows: its script, arguments and options are recorded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from supervisor.cli import start
from supervisor.cli.finding import one_run, opened, option, where
from supervisor.cli.options import Parser, parser
from supervisor.core import program
from supervisor.core.errors import UsageError

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator, Mapping, Sequence

    from supervisor.engine.runs import Run


def run(arguments: Sequence[str]) -> int:
    """Find the run, complete the command line from its record, and serve it."""
    own, script_arguments = start.split(arguments)
    line = command_line()
    line.behind = script_arguments
    options = line.parse_args(own)
    with opened(options) as store:
        from supervisor.engine import claims

        place, record = one_run(store, options, options.run or options.name, "resume")
        known = claims.ranks(store, place)
        claim = claims.read_claim(store, place, known[-1]) if known else {}
    script = find_script(record, str(claim.get("script", "")), place.name, options)
    complete(options, claim.get("options") or record.options)
    options.name, options.store = place.name, where(options)
    recorded = claim.get("arguments", record.arguments)
    return start.serve(script, script_arguments or [str(each) for each in recorded], options)


def complete(options: Namespace, recorded: Mapping[str, Any]) -> None:
    """Fill the options that were not given from those of the last session.

    How it began is not repeated: a run that was once started with ``--resume never`` is resumed, not begun again.
    """
    for name, value in recorded.items():
        if name != "resume" and getattr(options, name, "") is None:
            setattr(options, name, _as_typed(name, value))
    if recorded.get("install") is False:
        options.no_install = True


def find_script(record: Run, absolute: str, name: str, options: Namespace) -> Path:
    """Return the script of a run on this machine: the file that is the same, else the one of the same path."""
    from supervisor.core.digest import SHA256, digest_of

    there = [each for each in dict.fromkeys(_places(record.script, absolute)) if each.is_file()]
    same = [each for each in there if digest_of((each.read_bytes(),), SHA256) == record.digest]
    if not there:
        again = ("start", f"PATH/TO/{Path(record.script).name}", *program.option_words("--name", name))
        raise UsageError(
            f"the script {record.script} of the run {name!r} is not here",
            f"go to the folder it lies in, or: {program.command(*again, option=option(options))}",
        )
    return (same or there)[0].resolve()


def _places(recorded: str, absolute: str) -> Iterator[Path]:
    from supervisor.wiring import CHECKOUT

    if absolute:
        yield Path(absolute)
    here = Path.cwd()
    for folder in (here, *here.parents, CHECKOUT):
        yield folder / recorded
    yield here / Path(recorded).name


def _as_typed(name: str, value: Any) -> str:
    """Return an option as a person would have typed it."""
    if name == "budget":
        return "" if value is None else f"{value:.3f}s" if value else "none"
    if name == "settle" and not value:
        return "" if value is None else "0s"
    if isinstance(value, float):
        return f"{value:.3f}s"
    return "none" if value is None else str(value)


def command_line() -> Parser:
    """Return what reads the verb's own arguments."""
    made = parser("resume", "Resume a run that the store knows; with one run in the store no name is needed.")
    made.usage = "%(prog)s [RUN] [options] [-- OTHER ARGUMENTS OF THE SCRIPT]"
    made.add_argument("run", metavar="RUN", nargs="?", help="name of the run (default: the live run, else the newest)")
    start.add_options(made, named=False)
    return made
