"""resume [RUN]: like `start`, with the command recorded on this machine, or one from the store that a person confirms."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supervisor.cli.options import Parser, parser
from supervisor.cli.run_lookup import opened, option, select_run, where
from supervisor.cli.verbs import start
from supervisor.core import shell_commands
from supervisor.core.errors import UsageError
from supervisor.core.escape import shown
from supervisor.core.masking import MASK, holes, masked
from supervisor.views.wrapping import show

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator, Mapping, Sequence

    from supervisor.core.ports import Store
    from supervisor.engine.host.command_records import OwnCommand
    from supervisor.engine.run_catalog.runs import RunRecord


def run(arguments: Sequence[str]) -> int:
    """Find the run, complete the command line from the local or the confirmed record, and serve it."""
    own, script_arguments = start.split(arguments)
    line = command_line()
    line.script_arguments = script_arguments
    options = line.parse_args(own)
    with opened(options) as store:
        from supervisor.engine.run_catalog import claims

        _reject_name_after_dashes(store, script_arguments, options)
        place, record = select_run(store, options, options.run or options.name, "resume")
        known = claims.ranks(store, place)
        claim = claims.read_claim(store, place, known[-1]) if known else {}
        own_command = _local_command(store, place.name, record.id)
        there = Path(store.traits.where)
    recorded_arguments = [str(each) for each in claim.get("arguments", record.arguments)]
    if own_command is not None and Path(own_command.script).is_file():
        script, recorded, behind = Path(own_command.script).resolve(), own_command.options, list(own_command.arguments)
        if not script_arguments and masked(recorded_arguments) != masked(behind):
            show(
                "the store tells other arguments of the script; those of this machine's last start are used", sys.stderr
            )
    else:
        script = find_script(record, str(claim.get("script", "")), place.name, options)
        recorded, behind = claim.get("options") or record.options, recorded_arguments
    reject_script_in_store(script, there)
    _require_secrets(script_arguments or behind, place.name, recorded, options)
    if own_command is None and not options.trust_store:
        _confirm(script, place.name, script_arguments or behind, recorded, options)
    complete(options, recorded)
    options.name, options.store = place.name, where(options)
    return start.serve(script, script_arguments or behind, options)


def _reject_name_after_dashes(store: Store, behind: Sequence[str], options: Namespace) -> None:
    """Raise UsageError if the only word behind ``--`` is the name of a run: words there are the script's."""
    from supervisor.engine.run_catalog import runs

    dashed = len(behind) == 1 and behind[0].startswith("-") and not (options.run or options.name)
    if dashed and behind[0] in runs.names(store):
        line = shell_commands.command_of_run("resume", behind[0], option=option(options))
        raise UsageError(f"{behind[0]} is a run here, and what stands behind -- goes to the script", line)


def _require_secrets(behind: Sequence[str], name: str, recorded: Mapping[str, Any], options: Namespace) -> None:
    """Raise UsageError if the store holds the arguments with masked secrets: the script cannot run with the masks."""
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
        f"write each {MASK} out: {shown(shell_commands.command('resume', name, *again, option=option(options)))}",
    )


def reject_script_in_store(script: Path, store: Path) -> None:
    """Raise UsageError for a script in the store: anyone who can write there would choose the code that runs here."""
    if script.resolve().is_relative_to(Path(os.path.realpath(store))):
        raise UsageError(
            f"the script {script} lies in the store, and nothing that lies in a store is run",
            "copy it out of the store, and start that",
        )


def _local_command(store: Store, run: str, run_id: str) -> OwnCommand | None:
    from supervisor import composition
    from supervisor.engine.host import command_records
    from supervisor.engine.run_catalog.runs import ID

    if not ID.fullmatch(run_id):
        return None
    return command_records.read(composition.local_root(os.environ) / run_id, store.traits.where, run)


def _confirm(script: Path, name: str, behind: Sequence[str], recorded: Mapping[str, Any], options: Namespace) -> None:
    """Show the command that only the store records, and ask a person to confirm it. Raises UsageError."""
    hidden = masked(behind)
    words = ["start", str(script), "--name", name, *_option_words(recorded), *(["--", *hidden] if hidden else [])]
    command = shown(shell_commands.command(*words, option=option(options)))
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
            f"start it by its script: {shell_commands.command('start', 'SCRIPT', option=option(options))}",
        )
    raise UsageError(
        f"only the store tells how {name} was started, and who writes there can change it: {command}",
        "if that is right, run this command, or resume with --trust-store",
    )


def _option_words(recorded: Mapping[str, Any]) -> list[str]:
    """Return a record's options that differ from the defaults, as a user would type them."""
    words: list[str] = []
    for name, value in recorded.items():
        typed = _typed_value(name, value)
        if (
            name not in {"resume", "install", "keep_machine"}
            and name in start.DEFAULTS
            and typed != start.DEFAULTS[name]
        ):
            words += shell_commands.option_words(start.option_of(name), typed)
    return words + (["--no-install"] if recorded.get("install") is False else [])


def complete(options: Namespace, recorded: Mapping[str, Any]) -> None:
    """Fill the options that were not given from those of the last session.

    ``--resume never`` is not repeated: a run started with it is resumed, not restarted.
    """
    for name, value in recorded.items():
        if name != "resume" and name in start.DEFAULTS and getattr(options, name, "") is None:
            setattr(options, name, _typed_value(name, value))
    if recorded.get("install") is False:
        options.no_install = True


def find_script(record: RunRecord, absolute: str, name: str, options: Namespace) -> Path:
    """Return the run's script on this machine: the file with the same digest, else the one at the same path."""
    from supervisor.core.digest import SHA256, digest_of

    there = [each for each in dict.fromkeys(_places(record.script, absolute)) if each.is_file()]
    same = [each for each in there if digest_of((each.read_bytes(),), SHA256) == record.digest]
    if not there:
        again = ("start", f"PATH/TO/{Path(record.script).name}", *shell_commands.option_words("--name", name))
        raise UsageError(
            f"the script {record.script} of the run {name!r} is not here",
            f"go to the folder it lies in, or: {shell_commands.command(*again, option=option(options))}",
        )
    return (same or there)[0].resolve()


def _places(recorded: str, absolute: str) -> Iterator[Path]:
    from supervisor.composition import CHECKOUT

    if absolute:
        yield Path(absolute)
    here = Path.cwd()
    for folder in (here, *here.parents, CHECKOUT):
        yield folder / recorded
    yield here / Path(recorded).name


def _typed_value(name: str, value: Any) -> str:
    """Return an option's value as a user would type it."""
    if name == "budget" and (value is None or isinstance(value, int | float)):
        return "" if value is None else f"{value:.3f}s" if value else "none"
    if name == "settle" and not value:
        return "" if value is None else "0s"
    if isinstance(value, float):
        return f"{value:.3f}s"
    return "none" if value is None else str(value)


def command_line() -> Parser:
    """Return the verb's parser."""
    made = parser("resume", "Resume a run that the store knows; with one run in the store no name is needed.")
    made.usage = "%(prog)s [RUN] [options] [-- OTHER ARGUMENTS OF THE SCRIPT]"
    made.add_argument("run", metavar="RUN", nargs="?", help="name of the run (default: the live run, else the newest)")
    start.add_options(made, named=False)
    return made
