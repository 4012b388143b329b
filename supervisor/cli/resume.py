"""resume [RUN]: the same as `start`, by the command that this machine remembers, or that the store tells and a person confirms."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supervisor.cli import start
from supervisor.cli.finding import one_run, opened, option, where
from supervisor.cli.options import Parser, parser
from supervisor.core import program
from supervisor.core.errors import UsageError
from supervisor.core.masking import MASK, holes, masked
from supervisor.core.shown import shown
from supervisor.views.wrapping import show

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator, Mapping, Sequence

    from supervisor.core.ports import Store
    from supervisor.engine.own_commands import OwnCommand
    from supervisor.engine.runs import Run


def run(arguments: Sequence[str]) -> int:
    """Find the run, complete the command line from this machine's own record or the confirmed one, and serve it."""
    own, script_arguments = start.split(arguments)
    line = command_line()
    line.behind = script_arguments
    options = line.parse_args(own)
    with opened(options) as store:
        from supervisor.engine import claims

        _refuse_a_name_behind(store, script_arguments, options)
        place, record = one_run(store, options, options.run or options.name, "resume")
        known = claims.ranks(store, place)
        claim = claims.read_claim(store, place, known[-1]) if known else {}
        mine = _own(store, place.name, record.id)
        there = Path(store.traits.where)
    told = [str(each) for each in claim.get("arguments", record.arguments)]
    if mine is not None and Path(mine.script).is_file():
        script, recorded, behind = Path(mine.script).resolve(), mine.options, list(mine.arguments)
        if not script_arguments and masked(told) != masked(behind):
            show(
                "the store tells other arguments of the script; those of this machine's last start are used", sys.stderr
            )
    else:
        script = find_script(record, str(claim.get("script", "")), place.name, options)
        recorded, behind = claim.get("options") or record.options, told
    refuse_of_store(script, there)
    _require_secrets(script_arguments or behind, place.name, recorded, options)
    if mine is None and not options.trust_store:
        _confirm(script, place.name, script_arguments or behind, recorded, options)
    complete(options, recorded)
    options.name, options.store = place.name, where(options)
    return start.serve(script, script_arguments or behind, options)


def _refuse_a_name_behind(store: Store, behind: Sequence[str], options: Namespace) -> None:
    """Raise UsageError where the only word behind ``--`` is the name of a run: what stands there is the script's."""
    from supervisor.engine import runs

    dashed = len(behind) == 1 and behind[0].startswith("-") and not (options.run or options.name)
    if dashed and behind[0] in runs.names(store):
        line = program.command_of_run("resume", behind[0], option=option(options))
        raise UsageError(f"{behind[0]} is a run here, and what stands behind -- goes to the script", line)


def _require_secrets(behind: Sequence[str], name: str, recorded: Mapping[str, Any], options: Namespace) -> None:
    """Raise UsageError where the store holds the arguments without their secrets: the script cannot run with the masks."""
    if not holes(behind):
        template = options.resume_args or str(recorded.get("resume_args") or "")
        if not holes([template]):
            return
        again = [f"--resume-args={template}", *(["--", *behind] if behind else [])]
    else:
        again = ["--", *behind]
    hidden = shown(" ".join(again).removeprefix("-- "))
    raise UsageError(
        f"the store keeps no secrets, and the command of {shown(name)} has some: {hidden}",
        f"write each {MASK} out: {shown(program.command('resume', name, *again, option=option(options)))}",
    )


def refuse_of_store(script: Path, store: Path) -> None:
    """Raise UsageError for a script that lies in the store: who may write there would choose what runs here."""
    if script.resolve().is_relative_to(Path(os.path.realpath(store))):
        raise UsageError(
            f"the script {script} lies in the store, and nothing that lies in a store is run",
            "copy it out of the store, and start that",
        )


def _own(store: Store, run: str, run_id: str) -> OwnCommand | None:
    from supervisor import wiring
    from supervisor.engine import own_commands
    from supervisor.engine.runs import ID

    if not ID.fullmatch(run_id):
        return None
    return own_commands.read(wiring.local_root(os.environ) / run_id, store.traits.where, run)


def _confirm(script: Path, name: str, behind: Sequence[str], recorded: Mapping[str, Any], options: Namespace) -> None:
    """Show the command that only the store tells, and have a person say that it is the right one. Raises UsageError."""
    hidden = masked(behind)
    words = ["start", str(script), "--name", name, *_as_words(recorded), *(["--", *hidden] if hidden else [])]
    command = shown(program.command(*words, option=option(options)))
    if sys.stdin.isatty() and sys.stderr.isatty():
        sys.stderr.write(
            f"only the store tells how {shown(name)} was started, and who writes there can change it:\n  {command}\nrun it? [y/N] "
        )
        sys.stderr.flush()
        if sys.stdin.readline().strip().lower() in {"y", "yes"}:
            options.confirmed = True
            return
        raise UsageError(
            "nothing was started",
            f"start it by its script: {program.command('start', 'SCRIPT', option=option(options))}",
        )
    raise UsageError(
        f"only the store tells how {name} was started, and who writes there can change it: {command}",
        "if that is right, run this command, or resume with --trust-store",
    )


def _as_words(recorded: Mapping[str, Any]) -> list[str]:
    """Return the options of a record that are not the defaults, as a person would type them."""
    words: list[str] = []
    for name, value in recorded.items():
        typed = _as_typed(name, value)
        if (
            name not in {"resume", "install", "keep_machine"}
            and name in start.DEFAULTS
            and typed != start.DEFAULTS[name]
        ):
            words += program.option_words(f"--{name.replace('_', '-')}", typed)
    return words + (["--no-install"] if recorded.get("install") is False else [])


def complete(options: Namespace, recorded: Mapping[str, Any]) -> None:
    """Fill the options that were not given from those of the last session.

    How it began is not repeated: a run that was once started with ``--resume never`` is resumed, not begun again.
    """
    for name, value in recorded.items():
        if name != "resume" and name in start.DEFAULTS and getattr(options, name, "") is None:
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
    if name == "budget" and (value is None or isinstance(value, int | float)):
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
