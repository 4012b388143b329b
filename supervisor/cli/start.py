"""start SCRIPT: start or resume its run, and stay until this machine's turn ends."""

from __future__ import annotations

import gc
import os
import shlex
import sys
import warnings
from argparse import SUPPRESS
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supervisor.bootstrap import ensure
from supervisor.cli import shipped, targets
from supervisor.cli.calling import example_script
from supervisor.cli.options import Parser, byte_count, count, duration, one_of, parser, save_every
from supervisor.core import masking, program, resume_arguments
from supervisor.core.errors import SetupError, UsageError
from supervisor.core.spelling import meant
from supervisor.views.wrapping import show

if TYPE_CHECKING:
    from argparse import Namespace
    from argparse import _ArgumentGroup as Group
    from collections.abc import Callable, Mapping, Sequence

KEEP_MIN = 2
DEFAULTS: dict[str, str] = {
    "save_every": "auto",
    "keep_last": "3",
    "max_restarts": "3",
    "max_preemptions": "none",
    "budget": "",
    "resume": "auto",
    "hang_after": "auto",
    "settle": "",
    "keep_machine": "no",
    "keep_packages": "100MB",
    "on_nan": "ignore",
    "on_spike": "ignore",
    "nan_rate": "1",
    "nan_watch": "",
    "watch": "",
    "attach": "no",
    "resume_args": "",
    "module": "",
}
NOT_OF_A_SCRIPT = "module"  # the command line alone says it


def run(arguments: Sequence[str]) -> int:
    """Parse, merge with the script's own options, and serve the run."""
    own, script_arguments = split(arguments)
    line = command_line()
    targets.refuse_launchers(line, own, script_arguments)
    options = line.parse_args(own)
    script = target(options)
    if options.script and not Path(options.script).is_file():
        show(f"{options.script} is not in this folder: the one that was installed runs, {script}", sys.stderr)
    return serve(script, script_arguments, options)


def serve(script: Path, script_arguments: Sequence[str], options: Namespace) -> int:
    """Run one session of this job to its end."""
    gc.disable()  # because all that is made until the loop runs also stays: looking it through delays the trainer
    ensure()
    if gaps := masking.holes([*script_arguments, options.resume_args or ""]):
        words = f"{' '.join(gaps)}: {masking.MASK} stands where a secret was, and the script would get it as it is"
        raise UsageError(words, f"put the value itself in the place of {masking.MASK}")
    from supervisor import wiring
    from supervisor.environments import wish

    read = wish.read(script, install=not options.no_install)
    name, store = named(script, options, read.options)
    read_settings = settings(options, read.options, script.name)
    _check_watch(read_settings["watch"], script, store)
    chosen = wiring.Choice(
        script=script,
        arguments=tuple(script_arguments),
        store=store,
        name=name,
        settings=read_settings,
        takeover=options.takeover,
        install=not options.no_install,
        json_lines=options.json,
        same_run=options.same_run,
        trust_store=options.trust_store or options.confirmed,
        trust_all=options.trust_store,
    )
    return wiring.serve(chosen)


def _check_watch(called: str, script: Path, store: str | None) -> None:
    """Raise UsageError for a folder that must not be watched, before anything is made for it."""
    from supervisor import wiring
    from supervisor.engine.files import watched_folder

    if called:
        there = (store or wiring.default_store(os.environ)).removeprefix(wiring.RELAY)
        others = {
            watched_folder.STORE: Path(there),
            "the working folder": Path.cwd(),
            "the script": script,
            "the supervisor": wiring.CHECKOUT,
            "the folder of its sessions": wiring.local_root(os.environ),
            "your home": Path.home(),
        }
        watched_folder.refuse(called, others)


def named(script: Path, options: Namespace, own: Mapping[str, Any]) -> tuple[str, str | None]:
    """Return the run's name and its store, None for the platform's; ``own``: what the script says in itself."""
    return options.name or _text(own, "name") or options.module or script.stem, options.store or _text(own, "store")


def settings(options: Namespace, own: Mapping[str, Any], script_name: str) -> dict[str, Any]:
    """Merge defaults, the script's ``[tool.supervisor]`` and the command line (which wins) into checked values."""
    known = {key.replace("_", "-") for key in DEFAULTS if key != NOT_OF_A_SCRIPT} | {"store", "name"}
    unknown = sorted(set(own) - known)
    if unknown:
        hint = f"{meant(unknown[0], known)}known are {', '.join(sorted(known))}"
        raise UsageError(f"{script_name}: [tool.supervisor] has an unknown option {unknown[0]!r}", hint)
    read: dict[str, Any] = {}
    for key, default in DEFAULTS.items():
        given = getattr(options, key)
        option = key.replace("_", "-")
        text = str(given if given is not None else own.get(option, default))
        try:
            read[key] = _READERS[key](text)
        except UsageError as error:
            raise UsageError(f"--{option}: {error.what}", error.hint) from None
    return read


def script_path(text: str) -> Path:
    """Return the path of a script that can be read: where ``text`` says, else of the shipped one; or raise UsageError."""
    script = Path(text) if Path(text).exists() else shipped.script(text) or Path(text)
    if not script.is_file():
        there = "is a folder" if script.is_dir() else "does not exist"
        known = example_script()
        like = "" if known == "SCRIPT" else f", like {shlex.quote(known)}"
        raise UsageError(f"the script {text} {there}", f"give the path of a training script{like}")
    _check_syntax(script)
    return script.resolve()


def target(options: Namespace) -> Path:
    """Return the file that runs: the script's, or with ``-m`` the module's. Raises UsageError."""
    if options.module and options.script:
        line = program.command("start", "-m", options.module, "--", options.script)
        raise UsageError(
            f"{options.script} and -m {options.module}: one of them runs", f"arguments go after --: {line}"
        )
    if options.module:
        found = targets.module_path(options.module)
        _check_syntax(found)
        return found
    if not options.script:
        raise UsageError("SCRIPT is missing", program.command("start", example_script()))
    return script_path(options.script)


def split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return our own arguments and, from behind ``--``, the script's."""
    own = list(arguments)
    at = own.index("--") if "--" in own else len(own)
    own, behind = own[:at], own[at + 1 :]
    if "--resume-args" in own[:-1]:
        at = own.index("--resume-args")  # what it is given begins with a dash itself
        own[at : at + 2] = [f"--resume-args={own[at + 1]}"]
    return own, behind


def _resume(text: str) -> str:
    return one_of(text, ("auto", "must", "never"))


def _what_follows(text: str) -> str:
    return one_of(text, ("ignore", "stop", "rollback"))


def _rate(text: str) -> str:
    try:
        fits = 0.0 < float(text) <= 1.0
    except ValueError:
        fits = False
    if not fits:
        raise UsageError(f"{text!r} is no part of a learning rate", "give a number over 0 and up to 1, like 0.5")
    return text


def _attach(text: str) -> str:
    return one_of(text, ("auto", "no"))


def _keep_last(text: str) -> int:
    if count(text) < KEEP_MIN:
        raise UsageError(f"{text} is too few", "keep at least 2: one checkpoint alone has none to walk back to")
    return count(text)


def _yes_or_no(text: str) -> bool:
    if text.lower() not in {"yes", "no", "true", "false"}:
        raise UsageError(f"{text!r} is neither true nor false", "write keep-machine = true or leave it out")
    return text.lower() in {"yes", "true"}


_READERS: dict[str, Callable[[str], Any]] = {
    "save_every": save_every,
    "keep_last": _keep_last,
    "max_restarts": count,
    "max_preemptions": lambda text: None if text == "none" else count(text),
    "budget": lambda text: None if text == "" else 0.0 if text == "none" else duration(text),
    "resume": _resume,
    "hang_after": lambda text: text if text in {"auto", "none"} else duration(text),
    "settle": lambda text: None if text == "" else 0.0 if text in {"0", "0s"} else duration(text),
    "keep_machine": _yes_or_no,
    "keep_packages": byte_count,
    "on_nan": _what_follows,
    "on_spike": _what_follows,
    "nan_rate": _rate,
    "watch": str,
    "attach": _attach,
    "module": str,
    "resume_args": resume_arguments.checked,
    "nan_watch": lambda text: ",".join(name.strip() for name in text.split(",") if name.strip()),
}


def _check_syntax(script: Path) -> None:
    """Raise SetupError for what no attempt could run: found here it costs nothing, and nothing is written for it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the trainer's own compilation says them
        try:
            compile(script.read_bytes(), script.name, "exec", dont_inherit=True)
        except OSError as error:
            raise UsageError(
                f"the script {script} cannot be read: {error.strerror}", "see to its permissions"
            ) from error
        except (SyntaxError, ValueError) as error:
            where = f" in line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
            words = error.msg if isinstance(error, SyntaxError) else str(error)
            raise SetupError(
                f"the script {script} is not Python{where}: {words}", "correct it and start again"
            ) from error


def _text(own: Mapping[str, Any], key: str) -> str | None:
    value = own.get(key)
    return None if value is None else str(value)


def command_line() -> Parser:
    """Return what reads the verb's own arguments."""
    made = parser("start", "Start the run of SCRIPT, or resume it: the same command every time, on any machine.")
    made.usage = "%(prog)s SCRIPT [options] [-- ARGUMENTS OF THE SCRIPT]"
    made.add_argument("script", metavar="SCRIPT", nargs="?", help="the training script")
    made.add_argument("-m", dest="module", metavar="MODULE", help="run a module instead, as python -m does")
    add_options(made)
    return made


def add_options(made: Parser, *, named: bool = True) -> None:
    """Add the options of a session; they stay None where not given, so that the script's own can stand.

    ``named``: the verb shows ``--name``; `resume` takes the run's name by its place.
    """
    made.set_defaults(module=None, confirmed=False)
    _add_options_of_the_run(made.add_argument_group("the run"), named=named)
    _add_options_of_saving(made.add_argument_group("saving and this machine"))
    _add_options_of_trouble(made.add_argument_group("failures, and losses that go wrong"))
    unchanged = made.add_argument_group("scripts that nobody changed")
    unchanged.add_argument("--watch", metavar="DIR", help="keep what the script, unchanged, writes into DIR")
    unchanged.add_argument(
        "--attach",
        metavar="HOW",
        help="auto: add our callback to the loop of Keras, transformers or Lightning (default: no)",
    )
    unchanged.add_argument(
        "--resume-args",
        metavar="ARGS",
        help='added to the script\'s when it goes on, like "--resume {checkpoint}", or auto',
    )


def _add_options_of_the_run(group: Group, *, named: bool) -> None:
    group.add_argument("--name", help="name of the run (default: the script's)" if named else SUPPRESS)
    group.add_argument("--resume", metavar="HOW", help="auto, must (there is something) or never (begin at step 0)")
    group.add_argument("--takeover", action="store_true", help="take the run from a machine that seems to live")
    group.add_argument(
        "--same-run", action="store_true", help="the script is this run's, though its folder and its bytes are others"
    )
    group.add_argument(
        "--trust-store",
        action="store_true",
        help="believe the store: its packages, rollbacks, the watched folder, and for resume the script, its arguments and options",
    )
    group.add_argument("--no-install", action="store_true", help="use the packages that are here")
    group.add_argument("--json", action="store_true", help="events as JSON lines on stdout")


def _add_options_of_saving(group: Group) -> None:
    group.add_argument(
        "--save-every", metavar="WHEN", help="10m, 500steps, 1ep or auto (default: auto, from measured cost)"
    )
    group.add_argument("--keep-last", metavar="N", help="how many safe checkpoints to keep (default: 3)")
    group.add_argument("--budget", metavar="TIME", help="this machine's life, like 12h; none (default: the platform's)")
    group.add_argument(
        "--settle",
        metavar="TIME",
        help="how long others' names may take to show in the store (default: 60s on a drive)",
    )
    group.add_argument(
        "--keep-machine",
        action="store_const",
        const="yes",
        help="do not give a Colab machine back when the run is finished",
    )
    group.add_argument(
        "--keep-packages",
        metavar="SIZE",
        help="keep the script's packages in the store for the next machine up to this size; none (default: 100MB)",
    )


def _add_options_of_trouble(group: Group) -> None:
    group.add_argument(
        "--max-restarts", metavar="N", help="failures of the script in a row without progress (default: 3)"
    )
    group.add_argument("--max-preemptions", metavar="N", help="machines lost in a row without progress (default: none)")
    group.add_argument(
        "--hang-after", metavar="TIME", help="no sign of life for so long is a hang (default: auto, learned)"
    )
    group.add_argument(
        "--on-nan",
        metavar="WHAT",
        help="a loss that is NaN or infinite: ignore (default: only say it), stop or rollback",
    )
    group.add_argument("--on-spike", metavar="WHAT", help="the same for a loss over 20 times its running median")
    group.add_argument("--nan-rate", metavar="R", help="multiply learning rates by it at each rollback (default: 1)")
    group.add_argument("--nan-watch", metavar="NAMES", help="logged names to watch (default: all that contain loss)")
